"""Progress: whole lines in pipes, not too many, always the last one."""

from __future__ import annotations

import io

import pytest

from talim import progress
from talim.progress import PlainProgress, Progress, format_duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7800, "2 h 10 min"),
        (-3, "0 s"),
    ],
)
def test_durations_for_people(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_few_lines_and_always_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress.time, "monotonic", lambda: 5.0)
    stream = io.StringIO()
    shown = PlainProgress(stream, every_seconds=1000)
    for done in range(101):
        shown.step("training", done, 100, "loss 1.000")
    shown.log("done")
    assert stream.getvalue().splitlines() == [
        "training 1/100, loss 1.000",
        "training 100/100, loss 1.000",
        "done",
    ]


def test_time_left_is_told_from_the_pace_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    shown = PlainProgress(stream, every_seconds=1)
    shown.step("training", 50, 100)  # resumed half way: the first fifty were another process's
    now[0] = 20.0
    shown.step("training", 60, 100)
    assert stream.getvalue().splitlines()[-1] == "training 60/100, 1 min 20 s left"


def test_silence_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    quiet = Progress()
    quiet.log("a")
    quiet.step("b", 1, 2)
    quiet.close()
    assert capsys.readouterr() == ("", "")


def test_a_pipe_gets_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    progress.for_terminal().log("to stderr")
    assert capsys.readouterr() == ("", "to stderr\n")
