"""Tests of talim.progress: plain lines in pipes, updated output in notebooks, durations."""

from __future__ import annotations

import io
import sys
import types

import pytest

from talim import progress
from talim.progress import PlainProgress, Progress, format_duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7800, "2 h 10 min"), (-3, "0 s")],
)
def test_format_duration_rounds_to_two_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_plain_progress_limits_lines_and_always_prints_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress.time, "monotonic", lambda: 5.0)
    stream = io.StringIO()
    shown = PlainProgress(stream, every_seconds=1000)
    for done in range(101):
        shown.step("training", done, 100, "loss 1.000")
    shown.log("done")
    assert stream.getvalue().splitlines() == ["training 1/100, loss 1.000", "training 100/100, loss 1.000", "done"]


def test_plain_progress_after_resuming_estimates_time_left_from_new_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    shown = PlainProgress(stream, every_seconds=1)
    shown.step("training", 50, 100)  # resumed: the first fifty were done by an earlier process
    now[0] = 20.0
    shown.step("training", 60, 100)
    assert stream.getvalue().splitlines()[-1] == "training 60/100, 1 min 20 s left"


def test_progress_base_class_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    quiet = Progress()
    quiet.log("a")
    quiet.step("b", 1, 2)
    quiet.close()
    assert capsys.readouterr() == ("", "")


def test_default_in_a_pipe_prints_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    progress.default().log("to stderr")
    assert capsys.readouterr() == ("", "to stderr\n")


def test_default_on_a_terminal_redraws_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True)
    shown = progress.default()
    assert isinstance(shown, progress.TerminalProgress)
    shown.close()


def test_default_in_a_notebook_updates_one_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs: list[list[str]] = []

    class Handle:
        def update(self, line: str) -> None:
            outputs[-1].append(line)

    def display(line: str, display_id: bool) -> Handle:
        outputs.append([line])
        return Handle()

    ipython = types.SimpleNamespace(get_ipython=lambda: types.SimpleNamespace(kernel=object()))
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(Pretty=str, display=display))
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    shown = progress.default()
    assert isinstance(shown, progress.NotebookProgress)
    for done in (1, 2, 3):
        now[0] += 10.0
        shown.step("training", done, 3)
    shown.log("stored")
    shown.step("encoding", 1, 1)
    assert outputs == [["training 1/3", "training 2/3, 10 s left", "training 3/3"], ["encoding 1/1"]]
    assert capsys.readouterr() == ("stored\n", "")


def test_in_notebook_in_an_ipython_terminal_is_false(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: object()))
    assert not progress.in_notebook()
    monkeypatch.setitem(sys.modules, "IPython", None)
    assert not progress.in_notebook()
