"""Elapsed seconds of work that may be interrupted, kept in a JSON file over all sessions."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from talim.atomic_io import read_json, write_json
from talim.progress import Progress

SAVE_INTERVAL_SECONDS = 5.0  # between two entries of the time log: the most that a kill leaves uncounted


class TimeLog:
    """Elapsed seconds by purpose (preparing, one plan, one evaluation), over all sessions, in a JSON file."""

    def __init__(self, path: Path, purpose: str) -> None:
        self.path, self.purpose = path, purpose
        self._last: float | None = None

    @property
    def seconds(self) -> float:
        return float(self._read().get(self.purpose, 0.0))

    @property
    def plan_seconds(self) -> float:
        """Seconds of this plan with all that continued from it."""
        plan = self.purpose.partition(" ")[2]
        return sum(value for purpose, value in self._read().items() if purpose.partition(" ")[2] == plan)

    @property
    def other_seconds(self) -> float:
        """Seconds of plans with other options, as far as this one has not begun."""
        if self.seconds:
            return 0.0
        kind = self.purpose.partition(" ")[0]
        return sum(value for purpose, value in self._read().items() if purpose.partition(" ")[0] == kind)

    @contextlib.contextmanager
    def counting(self, progress: Progress) -> Iterator[Progress]:
        """Count the time inside; reporting through the yielded progress saves it every few seconds."""
        self._last = time.monotonic()
        try:
            yield _TimedProgress(progress, self)
        finally:
            self.save_if_due(0.0)
            self._last = None

    def save_if_due(self, interval_seconds: float = SAVE_INTERVAL_SECONDS) -> None:
        """Save the time since the last entry, if it is at least the interval."""
        now = time.monotonic()
        if self._last is None or now - self._last < interval_seconds:
            return
        self.add(now - self._last)
        self._last = now

    def add(self, seconds: float) -> None:
        """Save seconds that were counted elsewhere."""
        write_json(self.path, {**self._read(), self.purpose: round(self.seconds + seconds, 3)})

    def _read(self) -> dict[str, float]:
        return read_json(self.path) if self.path.is_file() else {}


class _TimedProgress(Progress):
    """Passes everything on, and saves the elapsed time."""

    def __init__(self, progress: Progress, time_log: TimeLog) -> None:
        self.progress, self.time_log = progress, time_log

    def log(self, text: str) -> None:
        self.progress.log(text)
        self.time_log.save_if_due()

    def step(self, title: str, done: int, total: int, facts: str = "") -> None:
        self.progress.step(title, done, total, facts)
        self.time_log.save_if_due()

    def close(self) -> None:
        self.progress.close()
