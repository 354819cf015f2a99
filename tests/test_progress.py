"""Tests of talim.progress: plain lines in pipes, updated output in notebooks, durations."""

from __future__ import annotations

import io
import itertools
import re
import sys
import types
from collections.abc import Sequence

import numpy as np
import pytest

from talim import progress
from talim.progress import PlainProgress, Progress, format_duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7800, "2 h 10 min"), (-3, "0 s")],
)
def test_format_duration_rounds_to_two_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


class Clock:
    """Stands in for `time.monotonic`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 0.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.seconds)


def test_plain_progress_of_long_work_is_a_line_every_ten_seconds_and_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, stream = Clock(monkeypatch), io.StringIO()
    shown = PlainProgress(stream)
    for done in range(101):
        shown.step("training", done, 100, "loss 1.000")
        clock.seconds += 0.25
    shown.log("done")
    assert stream.getvalue().splitlines() == [
        "training 40/100, loss 1.000, 15 s left",
        "training 80/100, loss 1.000, 5 s left",
        "training 100/100, loss 1.000",
        "done",
    ]


def test_plain_progress_of_much_short_work_is_a_line_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, stream = Clock(monkeypatch), io.StringIO()
    shown = PlainProgress(stream)
    for title in ("encoding clips", "encoding clips", "measuring"):
        for done in range(9):
            shown.step(title, done, 8)
            clock.seconds += 1.0
    shown.step("encoding clips", 24, 24)  # all of it was there already
    assert stream.getvalue().splitlines() == [
        "encoding clips 1/8",
        "encoding clips 8/8",
        "measuring 0/8",
        "measuring 8/8",
    ]


def test_plain_progress_of_short_work_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, stream = Clock(monkeypatch), io.StringIO()
    shown = PlainProgress(stream)
    for title in ("encoding clips", "measuring"):
        for done in range(5):
            shown.step(title, done, 4)
            clock.seconds += 0.9
    assert stream.getvalue() == ""


def test_plain_progress_names_what_begins_after_a_silence_and_after_an_end_that_was_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, stream = Clock(monkeypatch), io.StringIO()
    shown = PlainProgress(stream)
    shown.log("loaded")
    for title, before, lasts in (("encoding", 9.0, 0.5), ("training", 1.0, 30.0), ("measuring", 0.0, 40.0)):
        clock.seconds += before
        shown.step(title, 0, 1)
        assert (f"{title} 0/1" in stream.getvalue()) == (title != "encoding")
        clock.seconds += lasts
        shown.step(title, 1, 1)
    shown.step("nothing", 0, 0)
    assert stream.getvalue().splitlines() == [
        "loaded",
        *("training 0/1", "training 1/1"),
        *("measuring 0/1", "measuring 1/1"),
    ]


@pytest.mark.parametrize("repeats", [1, 4])
def test_plain_progress_tells_the_last_step_once_however_often_it_comes(
    monkeypatch: pytest.MonkeyPatch, repeats: int
) -> None:
    clock, stream = Clock(monkeypatch), io.StringIO()
    shown = PlainProgress(stream)
    for piece in ("0001.flac", "0002.flac"):
        for done in [*range(1, 501), *[500] * repeats]:
            shown.step(f"generating {piece}", done, 500)
            clock.seconds += 0.05
    lines = stream.getvalue().splitlines()
    assert [line for line in lines if "500/500" in line] == [
        "generating 0001.flac 500/500",
        "generating 0002.flac 500/500",
    ]
    assert len(lines) == len(set(lines)) == 6


def test_plain_progress_of_the_same_title_again_is_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, stream = Clock(monkeypatch), io.StringIO()
    shown = PlainProgress(stream)
    for _ in range(2):
        for done in range(3):
            shown.step("training", done, 2)
            clock.seconds += 30.0
    again = ["training 1/2", "training 2/2"]
    assert stream.getvalue().splitlines() == [*again, "training 0/2", *again]


def test_progress_lines_hold_no_control_codes_and_keep_other_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, stream = Clock(monkeypatch), io.StringIO()
    shown = PlainProgress(stream)
    shown.log("録音\u3000フォルダ \x1b[2J\x9b")
    clock.seconds += 60.0
    shown.step("reading a\x1b]0;b.wav", 0, 2)
    clock.seconds += 60.0
    shown.step("reading a\x1b]0;b.wav", 1, 2)
    reading = "reading a\\x1b]0;b.wav"
    assert stream.getvalue().splitlines() == ["録音\u3000フォルダ \\x1b[2J\\x9b", f"{reading} 0/2", f"{reading} 1/2"]


def test_plain_progress_after_resuming_estimates_time_left_from_new_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    shown = PlainProgress(stream, every_seconds=1)
    shown.step("training", 50, 100)  # resumed: the first fifty were done by an earlier process
    now[0] = 20.0
    shown.step("training", 60, 100)
    now[0] = 40.0
    shown.step("training", 70, 100)
    assert stream.getvalue().splitlines()[-2:] == ["training 60/100", "training 70/100, 1 min 00 s left"]


def seconds_left(step_seconds: Sequence[float]) -> list[tuple[float, float, float | None]]:
    """(time, true time left, told time left) while steps of these lengths are done, told four times a second."""
    estimate, now, rows = progress.TimeLeft(), 0.0, []
    for done, seconds in enumerate(step_seconds):
        times = max(1, round(4 * seconds))
        for _ in range(times):
            told = re.fullmatch(r", (?:(\d+) min )?(\d+) s left", estimate.after(done, len(step_seconds), now))
            rows.append((now, sum(step_seconds) - now, int(told[1] or 0) * 60 + int(told[2]) if told else None))
            now += seconds / times
    return rows


def test_time_left_of_uneven_steps_is_near_the_truth_and_hardly_counts_upwards() -> None:
    for seed in range(20):
        rows = seconds_left(np.random.default_rng(seed).uniform(0.85, 1.15, 40).tolist())
        told = [(true, left) for _, true, left in rows if left is not None]
        assert len(told) > 0.6 * len(rows)
        upwards = [later - left for (_, left), (_, later) in itertools.pairwise(told) if later > left]
        assert len(upwards) <= 1
        assert sum(upwards) <= 3  # seconds: where an end that was told is contradicted
        assert all(abs(left - true) <= 0.25 * true + 2.5 for true, left in told)


def test_time_left_that_was_told_is_told_at_every_later_step_also_where_some_take_longer() -> None:
    estimate, now, told = progress.TimeLeft(), 0.0, []
    for done in range(1, 40):  # of 40; every tenth with a validation
        now += 10.0 if done % 10 == 0 else 2.0
        told.append(bool(estimate.after(done, 40, now)))
    assert all(told[told.index(True) :])
    assert told.index(True) < 10


def test_time_left_while_a_step_is_waited_for_counts_down_and_ends() -> None:
    estimate = progress.TimeLeft()
    for done in range(6):
        estimate.after(done, 10, float(done))
    told = [estimate.after(5, 10, 5.0 + waited) for waited in (0.0, 2.0, 4.0, 6.0, 60.0)]
    assert told == [", 5 s left", ", 3 s left", ", 1 s left", "", ""]


def test_time_left_after_a_slow_first_step_is_not_told_before_it_is_known() -> None:
    rows = seconds_left([20.0, *[0.25] * 400])
    assert all(left is None or left <= true + 2.5 for _, true, left in rows)
    assert any(left is not None for _, _, left in rows)
    assert next(time for time, _, left in seconds_left([0.25] * 400) if left is not None) == 0.5  # two steps agree


def test_time_left_of_work_that_becomes_slower_is_corrected() -> None:
    late = [
        (true, left) for time, true, left in seconds_left([1.0] * 20 + [4.0] * 20) if time > 60 and left is not None
    ]
    assert late
    assert all(abs(left - true) <= 0.25 * true + 2.5 for true, left in late)


def test_time_left_of_steps_with_a_long_validation_among_them_does_not_jump() -> None:
    steps = [21.0 if number % 25 == 24 else 1.0 for number in range(300)]
    told = [(true, left) for _, true, left in seconds_left(steps) if left is not None and true > 60]
    assert all(abs(left - true) <= 0.2 * true for true, left in told[len(told) // 2 :])
    moved = [later - left for (_, left), (_, later) in itertools.pairwise(told)]
    assert max(moved) <= 300  # seconds: at the first, which nothing foretold
    assert sum(each for each in moved if each > 0) <= 450


def test_counted_passes_items_on_and_tells_each_when_it_is_done_with(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, stream = Clock(monkeypatch), io.StringIO()
    shown = PlainProgress(stream)
    for item in progress.counted(iter("abc"), 3, shown, "reading"):
        assert item == "abc"[int(clock.seconds / 20)]
        clock.seconds += 20.0
    assert stream.getvalue().splitlines() == ["reading 1/3", "reading 2/3, 20 s left", "reading 3/3"]
    assert [*progress.counted([], 0, Progress(), "nothing")] == []


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


def test_terminal_progress_moves_from_the_first_step_and_keeps_nothing_of_short_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock, shown = Clock(monkeypatch), progress.TerminalProgress()
    for title, seconds in (("measuring", 0.05), ("comparing", 30.0)):
        shown.step(title, 0, 2)
        assert shown._status is not None  # its spinner turns while the first of two is waited for
        assert shown._status.status == f"{title} 0/2"
        for done in (1, 2):
            clock.seconds += seconds
            shown.step(title, done, 2)
        assert shown._status is None
    assert "comparing 2/2\n" in (told := capsys.readouterr().err)
    assert "measuring 2/2" not in told


def test_terminal_progress_shows_at_once_what_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A validation after a step of the training, whose first batch may take a minute."""
    Clock(monkeypatch)
    shown = progress.TerminalProgress()
    shown.step("training", 40, 100)
    shown.step("validation", 0, 24)
    assert shown._status is not None
    assert shown._status.status == "validation 0/24"
    shown.step("training", 41, 100)  # the step after it may take as long
    assert shown._status.status == "training 41/100"
    shown.close()


def test_terminal_progress_is_not_redrawn_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, shown, drawn = Clock(monkeypatch), progress.TerminalProgress(), list[str]()
    show = progress.TerminalProgress._show
    monkeypatch.setattr(
        progress.TerminalProgress, "_show", lambda self, line, final: (drawn.append(line), show(self, line, final))
    )
    for done in range(1000):
        clock.seconds += 0.003
        shown.step("generating", done, 10_000)
    shown.close()
    assert len(drawn) <= 1 + 3.0 / shown.every_seconds


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
    for title, total in (("training", 3), ("encoding", 1)):
        for done in range(total + 1):
            shown.step(title, done, total)
            now[0] += 10.0
        shown.log("stored")
    assert outputs == [["training 1/3", "training 2/3, 10 s left", "training 3/3"], ["encoding 1/1"]]
    assert capsys.readouterr() == ("stored\nstored\n", "")


def test_in_notebook_in_an_ipython_terminal_is_false(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: object()))
    assert not progress.in_notebook()
    monkeypatch.setitem(sys.modules, "IPython", None)
    assert not progress.in_notebook()


def test_log_once_says_a_text_once_a_process(capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("a fact of this test", "a fact of this test", "another fact of this test"):
        progress.log_once(text)
    assert capsys.readouterr().err == "a fact of this test\nanother fact of this test\n"


def test_line_that_an_interrupt_kept_from_beginning_is_closed_without_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the cursor, which the line hides, is shown again."""
    shown = progress.TerminalProgress()

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    cursor: list[bool] = []
    monkeypatch.setattr(shown._console, "set_live", interrupted)
    monkeypatch.setattr(shown._console, "show_cursor", lambda show=True: cursor.append(show))
    with pytest.raises(KeyboardInterrupt):
        shown._show("training 1/9", False)
    shown.close()
    shown.close()
    assert cursor[-1] is True
