"""How a stage tells what it is doing: one moving line on a terminal, few plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO


class Progress:
    """Says nothing; what a library caller gets when no other reporter is passed."""

    def log(self, text: str) -> None:
        """Tell one lasting fact, such as a licence or a choice that was made."""

    def step(self, title: str, done: int, total: int, facts: str = "") -> None:
        """Tell that `done` of `total` are finished; `facts` is loss, speed and the like."""

    def close(self) -> None:
        """End a moving line, so that whatever is printed next starts on a fresh one."""


class PlainProgress(Progress):
    """Whole lines on stderr: for log files and pipes. A line at most every `every_seconds`, and the last."""

    def __init__(self, stream: TextIO | None = None, every_seconds: float = 10.0) -> None:
        self.stream = stream or sys.stderr
        self.every_seconds = every_seconds
        self._began: dict[str, tuple[float, int]] = {}
        self._last = -float("inf")

    def log(self, text: str) -> None:
        self.close()
        print(text, file=self.stream, flush=True)

    def step(self, title: str, done: int, total: int, facts: str = "") -> None:
        now = time.monotonic()
        began, first = self._began.setdefault(title, (now, done))
        if not done or (done < total and now - self._last < self.every_seconds):
            return
        self._last = now
        left = ""
        if first < done < total and now > began:
            left = f", {format_duration((now - began) / (done - first) * (total - done))} left"
        self._show(f"{title} {done}/{total}{', ' + facts if facts else ''}{left}", done >= total)
        if done >= total:
            self._began.pop(title)
            self._last = -float("inf")

    def _show(self, line: str, final: bool) -> None:
        print(line, file=self.stream, flush=True)


class RichProgress(PlainProgress):
    """One line that is redrawn in place, for a terminal."""

    def __init__(self) -> None:
        import atexit

        from rich.console import Console

        super().__init__(every_seconds=0.2)
        atexit.register(self.close)  # an error may end the command in the middle of a line
        self._console = Console(stderr=True)
        self._status = None

    def _show(self, line: str, final: bool) -> None:
        if self._status is None:
            self._status = self._console.status("")
            self._status.start()
        self._status.update(line.replace("[", r"\["))
        if final:
            self.close()
            print(line, file=self.stream, flush=True)

    def close(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None


def for_terminal() -> Progress:
    """The reporter that suits stderr."""
    return RichProgress() if sys.stderr.isatty() else PlainProgress()


def format_duration(seconds: float) -> str:
    """A duration for people: 42 s, 3 min 05 s, 2 h 10 min."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def prepare_progress(progress: Progress) -> Callable[..., None]:
    """`prepare`'s callback (done, total, file) as a step of the progress line."""

    def tell(done: int, total: int, *what: object) -> None:
        progress.step("preparing recordings", done, total, " ".join(str(w) for w in what))

    return tell
