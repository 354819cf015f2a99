"""A study as it runs, on a terminal: a table of its grids that is redrawn in place, and what happened last."""

from __future__ import annotations

import atexit
import sys
import time
from collections.abc import Sequence
from typing import Any

from talim.experiments.results_log import ResultRecord
from talim.experiments.study_file import TrialSpec
from talim.progress import PlainProgress, Progress, format_duration


class StudyProgress(Progress):
    """Told of every line of a study; this one tells nothing of it but what a `Progress` is told."""

    def __init__(self, inner: Progress | None = None) -> None:
        self.inner = inner or Progress()

    def log(self, text: str) -> None:
        self.inner.log(text)

    def step(self, title: str, done: int, total: int, facts: str = "") -> None:
        self.inner.step(title, done, total, facts)

    def close(self) -> None:
        self.inner.close()

    def begin(self, planned: Sequence[TrialSpec], known: dict[str, ResultRecord]) -> None:
        """Which trials there are, and what is known of them."""

    def add(self, line: ResultRecord, text: str) -> None:
        """A trial has come to its end."""
        self.log(text)


class PlainStudyProgress(PlainProgress):
    """Whole lines, but none about the steps of a trial: a study has many."""

    def step(self, title: str, done: int, total: int, facts: str = "") -> None:
        return


class LiveStudyTable(StudyProgress):
    """The table; lasting lines scroll by above it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        super().__init__()
        self.planned: Sequence[TrialSpec] = ()
        self.lines: dict[str, ResultRecord] = {}
        self.began, self.at_first, self.now = time.monotonic(), 0, ""
        self._live = Live(console=Console(stderr=True), refresh_per_second=4, get_renderable=self.table)
        atexit.register(self.close)

    def begin(self, planned: Sequence[TrialSpec], known: dict[str, ResultRecord]) -> None:
        self.planned, self.lines = planned, dict(known)
        self.began, self.at_first = time.monotonic(), len(self._of(planned))
        self._live.start()

    def add(self, line: ResultRecord, text: str) -> None:
        self.lines[line["id"]] = line
        if line["status"] == "failed":
            self._live.console.print(text, markup=False)

    def step(self, title: str, done: int, total: int, facts: str = "") -> None:
        self.now = f"{title} {done}/{total}{', ' + facts if facts else ''}"

    def close(self) -> None:
        if self._live.is_started:
            self._live.stop()

    def table(self) -> Any:
        """A row for every grid: how many trials are done, how many failed, the mean fall of the loss so far."""
        from rich.table import Table

        table = Table(title=self._title(), caption=self.now, caption_justify="left", title_justify="left")
        for name in ("grid", "done", "failed", "of", "mean fall"):
            table.add_column(name, justify="left" if name == "grid" else "right")
        for grid in dict.fromkeys(each.grid for each in self.planned):
            mine = [each for each in self.planned if each.grid == grid]
            lines = self._of(mine)
            falls = [mean_loss_reduction(line) for line in lines if line["status"] == "done"]
            failed = len(lines) - len(falls)
            mean = f"{sum(falls) / len(falls):.4f}" if falls else "-"
            table.add_row(grid, str(len(falls)), str(failed), str(len(mine)), mean)
        return table

    def _of(self, planned: Sequence[TrialSpec]) -> list[ResultRecord]:
        return [self.lines[each.id] for each in planned if each.id in self.lines]

    def _title(self) -> str:
        there = len(self._of(self.planned))
        fresh, left = there - self.at_first, len(self.planned) - there
        rest = (
            f", {format_duration((time.monotonic() - self.began) / fresh * left)} left"
            if fresh and left
            else ""
        )
        return f"{there} of {len(self.planned)} trials{rest}"


def mean_loss_reduction(line: ResultRecord) -> float:
    """Of a finished trial's held-out loss, over recordings."""
    falls = line["measures"]["fall"].values()
    return sum(falls) / len(falls)


def for_terminal() -> StudyProgress:
    """A live table on a terminal, plain lines elsewhere."""
    return LiveStudyTable() if sys.stderr.isatty() else StudyProgress(PlainStudyProgress())
