"""A store that is not allowed to grow beyond a bound, however many processes write to it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from talim.corpus.targets import CorruptedEntry, TargetStore
from talim.errors import TalimError
from talim.run import explained

_HEADER_BYTES = 2048  # more than the names, shapes and fields of an entry take
_FREE_SHARE = 0.1  # of a disk's free space is left to others


class BoundedStore(TargetStore):
    """A TargetStore that holds at most `most_bytes`; what no longer fits is refused, nothing is ever thrown out.

    Writers take turns by a lock, and the sum lies in a file beside it; it is counted anew by each process.
    """

    def __init__(self, folder: str | Path, most_bytes: int) -> None:
        super().__init__(folder)
        self.most_bytes = most_bytes
        self._ledger = self.folder / "bytes"
        self._counted = False

    def held_bytes(self) -> int:
        """Bytes of all entries, counted now."""
        total = 0
        for path in self.folder.glob("??/*"):
            with contextlib.suppress(FileNotFoundError):  # another process was quicker
                total += path.stat().st_size
        return total

    def room_bytes(self) -> int:
        """How much more may be written: below the bound, and without filling the disk."""
        return max(0, min(self.most_bytes - self.held_bytes(), self._free_bytes()))

    def get_whole(self, key: str) -> dict[str, np.ndarray] | None:
        """As `get`; None for a damaged entry as well, which the next `offer` replaces."""
        try:
            return self.get(key)
        except CorruptedEntry as damaged:
            damaged.path.unlink(missing_ok=True)
            return None

    def offer(self, key: str, arrays: Mapping[str, np.ndarray], fields: Mapping[str, Any]) -> bool:
        """Store arrays if there is room for them (True), or leave everything as it is (False).

        A disk that is full or may not be written to has no room: a store like this is a convenience.
        """
        if self.most_bytes <= 0:
            return False
        try:
            with self._turn():
                return self._put_if_it_fits(key, arrays, fields)
        except TalimError as error:
            if isinstance(error.__cause__, OSError):
                return False
            raise

    def _put_if_it_fits(self, key: str, arrays: Mapping[str, np.ndarray], fields: Mapping[str, Any]) -> bool:
        path, held = self.path(key), self._sum()
        needed = sum(array.nbytes for array in arrays.values()) + _HEADER_BYTES
        others = held - (path.stat().st_size if path.is_file() else 0)
        if others + needed > self.most_bytes or needed > self._free_bytes():
            return False
        self.put(key, arrays, fields)
        try:
            self._ledger.write_text(str(others + path.stat().st_size), encoding="utf-8")
        except OSError:
            self._counted = False  # the sum is counted again
        return True

    def _sum(self) -> int:
        """The ledger's sum; counted where this process has not yet, as a killed one may have left it wrong."""
        if self._counted:
            with contextlib.suppress(OSError, ValueError):
                return int(self._ledger.read_text(encoding="utf-8"))
        self._counted = True
        return self.held_bytes()

    def _free_bytes(self) -> int:
        there = self.folder
        while not there.exists():
            there = there.parent
        return int(shutil.disk_usage(there).free * (1 - _FREE_SHARE))

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Hold the store for one writer; freed on any exit, also by kill -9."""
        with explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = open(self.folder / ".lock", "a")  # noqa: SIM115 (kept open for as long as it is held)
        with handle:
            if os.name == "posix":  # elsewhere the bound is kept by each process for itself
                import fcntl

                fcntl.flock(handle, fcntl.LOCK_EX)
            yield
