"""What is kept in DIR besides runs: which stage was done with what, the time spent, the plan, what was decided."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from talim.atomic_io import friendly_os_errors, read_json, write_json
from talim.errors import UsageError
from talim.progress import Progress
from talim.reporting import run_results

STAMPS, SPENT, PLAN, GATES, STAGES, EARLIER = (
    "poc.json",
    "spent.json",
    "plan.json",
    "gates.json",
    "stages.json",
    "earlier",
)
PLAN_FILES = (GATES, STAGES, PLAN)  # go with it; the plan's own file last
SAVE_INTERVAL_SECONDS = 5.0  # between two entries of the time spent: the most that a kill leaves uncounted


class StageCache:
    """Which stage was done with which inputs, in DIR/poc.json; a stage is skipped while both still hold."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._keys: dict[str, str] = read_json(path) if path.is_file() else {}

    def is_current(self, stage: str, key: str, made: Path) -> bool:
        """Whether the stage's file is there and was made from these inputs."""
        return made.exists() and self._keys.get(stage) == key

    def set(self, stage: str, key: str) -> None:
        """Remember, on disk, that the stage is done."""
        self._keys[stage] = key
        write_json(self.path, self._keys)


class TimeLog:
    """Seconds of work by purpose (preparing, one plan), over all resumptions, in DIR/spent.json."""

    def __init__(self, path: Path, purpose: str) -> None:
        self.path, self.purpose = path, purpose
        self._last: float | None = None

    @property
    def seconds(self) -> float:
        """So far."""
        return float(self._all().get(self.purpose, 0.0))

    @contextlib.contextmanager
    def counting(self, progress: Progress) -> Iterator[Progress]:
        """Count the time inside; report through the progress that is given back, so that it is kept as it goes."""
        self._last = time.monotonic()
        try:
            yield _TimedProgress(progress, self)
        finally:
            self.save_if_due(0.0)
            self._last = None

    def save_if_due(self, every_seconds: float = SAVE_INTERVAL_SECONDS) -> None:
        """Write down what has passed since the last entry, if that is long enough."""
        now = time.monotonic()
        if self._last is None or now - self._last < every_seconds:
            return
        self.add(now - self._last)
        self._last = now

    def add(self, seconds: float) -> None:
        """Write down seconds that were counted elsewhere."""
        write_json(self.path, {**self._all(), self.purpose: round(self.seconds + seconds, 3)})

    def _all(self) -> dict[str, float]:
        return read_json(self.path) if self.path.is_file() else {}


class _TimedProgress(Progress):
    """Passes everything on, and lets the clock write."""

    def __init__(self, progress: Progress, spent: TimeLog) -> None:
        self.progress, self.spent = progress, spent

    def log(self, text: str) -> None:
        self.progress.log(text)
        self.spent.save_if_due()

    def step(self, title: str, done: int, total: int, facts: str = "") -> None:
        self.progress.step(title, done, total, facts)
        self.spent.save_if_due()

    def close(self) -> None:
        self.progress.close()


def bind_folder(out: Path, key: str, progress: Progress) -> None:
    """Make DIR the place of this plan: another one moves to DIR/earlier, and comes back when it is wanted."""
    plan, stored = out / PLAN, out / EARLIER / key
    there = str(read_json(plan).get("key")) if plan.is_file() else None
    if there == key:
        return
    if there is not None or not stored.is_dir():  # else a move back was cut off, and goes on below
        parts = _parts(out)
        if parts:
            kept = out / EARLIER / (there or "before")
            _move(parts, kept)
            progress.log(f"something has changed since the last run: it is kept in {kept}")
    if stored.is_dir():
        _move(_parts(stored), out)
        with contextlib.suppress(OSError):  # what else lies there stays
            stored.rmdir()


def _parts(folder: Path) -> list[Path]:
    runs = [path for path in sorted(folder.iterdir()) if path.is_dir() and run_results.is_run(path)]
    return [*runs, *(folder / name for name in PLAN_FILES if (folder / name).is_file())]


def _move(parts: Sequence[Path], target: Path) -> None:
    with friendly_os_errors(target):
        target.mkdir(parents=True, exist_ok=True)
        for path in parts:
            os.replace(path, target / path.name)


def write_if_changed(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON file, unless it says so already."""
    if not path.is_file() or read_json(path) != value:
        write_json(path, value)


def check_folders(folder: Path, out: Path) -> None:
    """UsageError where there are no recordings' folder, or DIR lies within it."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; give the folder that holds your recordings")
    if out.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"--out {out} lies within the recordings; choose a folder outside of {folder}")


def recordings_key(folder: Path, out: Path, options: list[Any]) -> str:
    """Changes with any file's name, size or time, with words typed into the corpus, and with the options."""
    files = [Path(root) / name for root, _, names in os.walk(folder) for name in names]
    listing = []
    for path in sorted([*files, out / "corpus" / "metadata.csv"]):
        if path.is_file():
            status = path.stat()
            listing.append([os.path.relpath(path, folder), status.st_size, status.st_mtime_ns])
    return hashlib.sha256(json.dumps([listing, options]).encode()).hexdigest()


def files_hash(paths: Sequence[Path]) -> str:
    """Changes with the content of any, and with whether it is there."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes() if path.is_file() else b"-")
        digest.update(b"\0")
    return digest.hexdigest()
