"""Shows a running study: on a terminal a table of its grids that is redrawn in place, elsewhere plain lines."""

from __future__ import annotations

import atexit
import sys
import time
from collections.abc import Sequence
from typing import Any

from talim.experiments.results_log import ResultRecord
from talim.experiments.study_file import TrialSpec
from talim.html.formatting import format_counted
from talim.progress import PlainProgress, Progress, TimeLeft


class StudyProgress(Progress):
    """Receives every line of a study, and passes its messages on to another reporter."""

    def __init__(self, inner: Progress | None = None) -> None:
        self.inner = inner or Progress()

    def log(self, text: str) -> None:
        self.inner.log(text)

    def step(self, title: str, done: int, total: int, facts: str = "") -> None:
        self.inner.step(title, done, total, facts)

    def close(self) -> None:
        self.inner.close()

    def begin(self, trials: Sequence[TrialSpec], known: dict[str, ResultRecord]) -> None:
        """All trials of the study, and the lines of those that are not run now."""

    def add(self, line: ResultRecord, text: str) -> None:
        """A trial has finished or failed: its line, and the same as a message."""
        self.log(text)


class PlainStudyProgress(PlainProgress):
    """Plain lines without the steps of each trial."""

    def step(self, title: str, done: int, total: int, facts: str = "") -> None:
        return


class LiveStudyTable(StudyProgress):
    """The table; messages of failed trials scroll above it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        super().__init__()
        self.trials: Sequence[TrialSpec] = ()
        self.lines: dict[str, ResultRecord] = {}
        self.left, self.current_step = TimeLeft(), ""
        self._live = Live(console=Console(stderr=True), refresh_per_second=4, get_renderable=self.table)
        atexit.register(self.close)

    def begin(self, trials: Sequence[TrialSpec], known: dict[str, ResultRecord]) -> None:
        self.trials, self.lines = trials, dict(known)
        self.left = TimeLeft()
        self._title()  # the time begins now
        self._live.start()

    def add(self, line: ResultRecord, text: str) -> None:
        self.lines[line["id"]] = line
        if line["status"] == "failed":
            self._live.console.print(text, markup=False)

    def step(self, title: str, done: int, total: int, facts: str = "") -> None:
        self.current_step = f"{title} {done}/{total}{', ' + facts if facts else ''}"

    def close(self) -> None:
        if self._live.is_started:
            self._live.stop()

    def table(self) -> Any:
        """A rich table with a row for each grid: trials done and failed, and the mean loss reduction."""
        from rich.table import Table

        table = Table(title=self._title(), caption=self.current_step, caption_justify="left", title_justify="left")
        for name in ("grid", "done", "failed", "of", "mean loss reduction"):
            table.add_column(name, justify="left" if name == "grid" else "right")
        for grid in dict.fromkeys(trial.grid for trial in self.trials):
            trials = [trial for trial in self.trials if trial.grid == grid]
            lines = self._lines_of(trials)
            reductions = [mean_loss_reduction(line) for line in lines if line["status"] == "done"]
            failed = len(lines) - len(reductions)
            mean = f"{sum(reductions) / len(reductions):.4f}" if reductions else "-"
            table.add_row(grid, str(len(reductions)), str(failed), str(len(trials)), mean)
        return table

    def _lines_of(self, trials: Sequence[TrialSpec]) -> list[ResultRecord]:
        return [self.lines[trial.id] for trial in trials if trial.id in self.lines]

    def _title(self) -> str:
        count, total = len(self._lines_of(self.trials)), len(self.trials)
        return f"{count} of {format_counted(total, 'trial')}{self.left.after(count, total, time.monotonic())}"


def mean_loss_reduction(line: ResultRecord) -> float:
    """The mean of a finished trial's loss reduction over the held-out recordings."""
    values = line["measures"]["loss_reduction"].values()
    return sum(values) / len(values)


def for_terminal() -> StudyProgress:
    """A live table on a terminal, plain lines elsewhere."""
    return LiveStudyTable() if sys.stderr.isatty() else StudyProgress(PlainStudyProgress())
