"""The table of a running study: counts by grid, failures, the mean loss reduction, and the time left."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from talim.experiments import progress_table
from talim.experiments.progress_table import LiveStudyTable, PlainStudyProgress, StudyProgress, mean_loss_reduction
from talim.progress import Progress


def done(id_: str, *reductions: float) -> dict[str, Any]:
    values = {f"r{n}": value for n, value in enumerate(reductions)}
    return {"id": id_, "status": "done", "measures": {"loss_reduction": values}}


def cells(table: Any) -> list[tuple[str, ...]]:
    return list(zip(*(tuple(column.cells) for column in table.columns), strict=True))


def test_table_counts_trials_by_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rich.live.Live.start", lambda self: None)
    trials: Any = [SimpleNamespace(id=name, grid=name[0]) for name in ("a1", "a2", "a3", "b1")]
    shown = LiveStudyTable()
    shown.begin(trials, {"a1": done("a1", 0.1, 0.3)})
    assert cells(shown.table()) == [("a", "1", "0", "3", "0.2000"), ("b", "0", "0", "1", "-")]
    shown.add(done("a2", 0.4), "a2: done")
    shown.add({"id": "a3", "status": "failed", "error": "[out] of memory"}, "a3: [out] of memory")
    assert cells(shown.table()) == [("a", "2", "1", "3", "0.3000"), ("b", "0", "0", "1", "-")]
    title = shown.table().title
    assert title == "3 of 4 trials"  # after no time at all
    shown.step("training", 3, 9, "loss 2.1")
    assert shown.table().caption == "training 3/9, loss 2.1"
    shown.add(done("b1", 0.5), "b1: done")
    assert shown.table().title == "4 of 4 trials"


def test_title_tells_the_time_left_of_trials_that_this_call_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rich.live.Live.start", lambda self: None)
    now = [0.0]
    monkeypatch.setattr("talim.experiments.progress_table.time.monotonic", lambda: now[0])
    trials: Any = [SimpleNamespace(id=f"a{number}", grid="a") for number in range(9)]
    shown, titles = LiveStudyTable(), []
    shown.begin(trials, {f"a{number}": done(f"a{number}", 0.1) for number in range(4)})
    for number in range(4, 8):
        now[0] += 60.0
        shown.add(done(f"a{number}", 0.1), "done")
        titles.append(shown.table().title)
    assert titles == ["5 of 9 trials", *(f"{6 + n} of 9 trials, {3 - n} min 00 s left" for n in range(3))]


def test_mean_loss_reduction_is_over_recordings() -> None:
    assert mean_loss_reduction(done("a", 0.1, 0.2, 0.6)) == pytest.approx(0.3)


class Log(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, text: str) -> None:
        self.lines.append(text)


def test_study_progress_passes_every_line_on() -> None:
    inner = Log()
    StudyProgress(inner).add(done("a", 0.1), "a: done")
    StudyProgress(inner).log("note")
    assert inner.lines == ["a: done", "note"]


def test_for_terminal_is_plain_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    plain = progress_table.for_terminal()
    assert not isinstance(plain, LiveStudyTable)
    assert isinstance(plain.inner, PlainStudyProgress)
    plain.step("training", 1, 2)
    assert capsys.readouterr().err == ""
