"""Progress reporting: one moving line on a terminal or in a notebook, few plain lines in log files and pipes."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import TextIO, TypeVar

from talim.terminal_text import printable

Item = TypeVar("Item")
TOLERANCE, LEAST_SECONDS = 0.25, 2.0  # by which estimates of an end may differ: of the time left, and at least
SKIPPED = 1 / 3  # of the time: how fast the first steps were says little of the last


class Progress:
    """Reports nothing; the default of library functions. Subclasses show what they are told."""

    def log(self, text: str) -> None:
        """Report one lasting fact, such as a licence or a choice that was made."""

    def step(self, title: str, done: int, total: int, facts: str = "") -> None:
        """Report that `done` of `total` are finished; `facts` is loss, speed and the like."""

    def close(self) -> None:
        """End a moving line, so that whatever is printed next starts on a fresh one."""


def counted(items: Iterable[Item], total: int, progress: Progress, title: str) -> Iterator[Item]:
    """The `total` items, each reported as a step of `title` when it is done with: when the next one is asked for."""
    for number, item in enumerate(items):
        progress.step(title, number, total)
        yield item
    progress.step(title, total, total)


class TimeLeft:
    """The time left of work in steps, by the speed of the last two thirds of the time, of this process alone.

    It counts down to an end that is moved only where a later step contradicts it, and then halfway, so that one slow
    step does not make it jump and waiting for a step makes it no longer. It is known, and stays so, once an end stood
    for a quarter of the time and another step agrees with it.
    """

    def __init__(self) -> None:
        self._steps: deque[tuple[int, float]] = deque()  # how many were done, and since when
        self._start, self._end, self._end_since, self._known = 0.0, -math.inf, 0.0, False

    def after(self, done: int, total: int, now: float) -> str:
        """What to add to a line, `, 42 s left`, or nothing while it is not known; `now` is a clock's seconds."""
        if not self._steps:
            self._start = now
            self._steps.append((done, now))
        elif done > self._steps[-1][0]:
            self._steps.append((done, now))
            while len(self._steps) > 2 and self._steps[1][1] <= self._start + SKIPPED * (now - self._start):
                self._steps.popleft()
            before, since = self._steps[0]
            self._estimate(now + (now - since) / (done - before) * (total - done), now)
        left = self._end - now
        return f", {format_duration(left)} left" if self._known and done < total and left > 0 else ""

    def _estimate(self, end: float, now: float) -> None:
        if abs(end - self._end) > max(TOLERANCE * (end - now), LEAST_SECONDS):
            self._end = (self._end + end) / 2 if self._known else end
            self._end_since = now
        elif not self._known and now - self._end_since >= (now - self._start) / 4:
            self._end, self._known = end, True


@dataclass
class _Task:
    """One title's steps: when it began, and how far it has come."""

    start: float
    done: int
    total: int
    shown: bool = False
    left: TimeLeft = field(default_factory=TimeLeft)


class PlainProgress(Progress):
    """Whole lines on a stream (stderr): one where `every_seconds` passed without any, and the end of what was told.

    Work that begins (0 done) right after an end that was told is named at once, as its first step may take long.
    """

    redraws = False  # whether a line takes the place of the last one, and only the last of long work stays

    def __init__(self, stream: TextIO | None = None, every_seconds: float = 10.0) -> None:
        self.stream = stream or sys.stderr
        self.every_seconds = every_seconds
        self._tasks: dict[str, _Task] = {}
        self._last_shown, self._end_shown = time.monotonic(), False
        self._title = ""  # of the last step

    def log(self, text: str) -> None:
        self.close()
        self._last_shown, self._end_shown = time.monotonic(), False
        self._print(text)

    def step(self, title: str, done: int, total: int, facts: str = "") -> None:
        now = time.monotonic()
        task = self._tasks.get(title)
        if task is None or done < task.done or total != task.total:  # first, or for something else
            task = self._tasks[title] = _Task(now, done, total)
        elif task.done >= total:
            return  # finished before
        task.done = done
        left = task.left.after(done, total, now)
        final, other, self._title = done >= total, title != self._title, title
        line = f"{title} {done}/{total}{', ' + facts if facts else ''}{left}"
        if not self._due(task, final, now):
            self._pass(line, final, other)
            return
        self._last_shown, self._end_shown, task.shown = now, final, True
        self._show(line, final)

    def _due(self, task: _Task, final: bool, now: float) -> bool:
        """Whether a line is due: the end of what was told, what follows that, and one from time to time."""
        follows = self._end_shown and not (task.done or task.shown or self.redraws)
        if task.shown if final else follows:
            return True
        since = max(task.start, self._last_shown) if self.redraws else self._last_shown
        return now - since >= self.every_seconds

    def _pass(self, line: str, final: bool, other: bool) -> None:
        """What is done with a line that is not due; `other`: of other work than the line before."""

    def _show(self, line: str, final: bool) -> None:
        self._print(line)

    def _print(self, text: str) -> None:
        print(printable(text, keep="\n\t"), file=self.stream, flush=True)


class TerminalProgress(PlainProgress):
    """One line with a spinner that is redrawn in place."""

    redraws = True

    def __init__(self) -> None:
        import atexit

        from rich.console import Console

        super().__init__(every_seconds=0.2)
        atexit.register(self.close)  # an error may end the command in the middle of a line
        self._console = Console(stderr=True)
        self._status = None

    def _pass(self, line: str, final: bool, other: bool) -> None:
        """Work is shown from its beginning: its first step may take minutes. Of work that was short nothing stays."""
        if final:
            self.close()
        elif other or self._status is None:  # not at each of thousands of steps
            self._show(line, False)

    def _show(self, line: str, final: bool) -> None:
        if self._status is None:
            self._status = self._console.status("")
            self._status.start()
        self._status.update(printable(line).replace("[", r"\["))
        if final:
            self.close()
            self._print(line)

    def close(self) -> None:
        status, self._status = self._status, None
        if status is not None:
            with suppress(IndexError):  # rich removes a line that an interrupt kept it from adding
                status.stop()
            self._console.show_cursor()


class NotebookProgress(PlainProgress):
    """One output line of a notebook's cell that is updated in place; final lines stay."""

    redraws = True

    def __init__(self) -> None:
        super().__init__(sys.stdout, every_seconds=0.5)
        self._handle = None

    def _show(self, line: str, final: bool) -> None:
        from IPython.display import Pretty, display  # pyright: ignore[reportMissingImports]

        line = printable(line)
        if self._handle is None:
            self._handle = display(Pretty(line), display_id=True)
        else:
            self._handle.update(Pretty(line))
        if final:
            self.close()

    def close(self) -> None:
        self._handle = None  # the next line gets an output of its own


def default() -> Progress:
    """The reporter for where this process writes: a notebook's cell, a terminal, or a log."""
    if in_notebook():
        return NotebookProgress()
    return TerminalProgress() if sys.stderr.isatty() else PlainProgress()


@cache
def log_once(text: str) -> None:
    """Report a lasting fact where this process writes, the first time only."""
    default().log(text)


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook (IPython is not imported to find out)."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and hasattr(shell, "kernel")


def format_duration(seconds: float) -> str:
    """A duration for people: 42 s, 3 min 05 s, 2 h 10 min."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
