"""Targets computed once: arrays on disk under a key of everything they depend on."""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from talim.atomic_io import friendly_os_errors, write_bytes
from talim.errors import TalimError

_FORMAT = "talim-target-1"

_STALE_FILE_SECONDS = 3600.0

_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}


class CorruptCacheEntry(TalimError):  # noqa: N818 - the name says what it is
    """A cached file that is not what was written; delete it and it is made again."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"{path}: corrupted cache entry ({reason}); delete this file, it is then computed again"
        )
        self.path = path


class FeatureCache:
    """A folder of arrays, one safetensors file an entry, found by the hash of the fields they depend on.

    Entries appear whole or not at all, are read memory-mapped and read-only, and are checked once a process.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._checked: dict[str, tuple[int, int]] = {}
        self._swept = False

    def key(self, **fields: Any) -> str:
        """Sha256 (hex) of the canonical JSON of all fields: any change in any field gives another key."""
        return hashlib.sha256(_canonical(fields).encode()).hexdigest()

    def path(self, key: str) -> Path:
        """Where the entry of a key lies."""
        return self.folder / key[:2] / f"{key}.safetensors"

    def get(self, key: str) -> dict[str, np.ndarray] | None:
        """The arrays of a key, memory-mapped and read-only; None where there is no entry.

        Raises CorruptedEntry where the file is damaged or belongs to another key.
        """
        path = self.path(key)
        try:
            with path.open("rb") as file:
                status = path.stat()
                if status.st_size < 8:
                    raise CorruptCacheEntry(path, f"{status.st_size} bytes")
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise TalimError(f"cannot read {path}: {error.strerror or error}") from error
        arrays, metadata = _parse(path, mapped)
        stamp = (status.st_size, status.st_mtime_ns)
        if self._checked.get(key) != stamp:
            self._check(path, key, arrays, metadata)
            self._checked[key] = stamp
        return arrays

    def put(self, key: str, arrays: Mapping[str, np.ndarray], fields: Mapping[str, Any]) -> None:
        """Store arrays under key; fields must be the ones the key was made of."""
        from safetensors.numpy import save

        if self.key(**fields) != key:
            raise TalimError(
                f"target key {key[:12]} does not belong to its fields {_canonical(fields)[:200]}"
            )
        kept = {name: np.ascontiguousarray(array).reshape(np.shape(array)) for name, array in arrays.items()}
        for name, array in kept.items():
            if array.dtype.newbyteorder("=") not in [np.dtype(known) for known in _DTYPES.values()]:
                raise TalimError(f"target {name!r} has dtype {array.dtype}; use one of {', '.join(_DTYPES)}")
        kept = {name: array.astype(array.dtype.newbyteorder("="), copy=False) for name, array in kept.items()}
        metadata = {"format": _FORMAT, "key": key, "fields": _canonical(fields), "sha256": _checksum(kept)}
        self._remove_stale_files()
        write_bytes(self.path(key), save(kept, metadata=metadata))

    def get_or_make(
        self, fields: Mapping[str, Any], make: Callable[[], Mapping[str, np.ndarray]]
    ) -> dict[str, np.ndarray]:
        """The arrays of these fields, made and stored where they are missing."""
        key = self.key(**fields)
        found = self.get(key)
        if found is None:
            self.put(key, make(), fields)
            found = self.get(key)
        if found is None:
            raise TalimError(
                f"{self.path(key)}: vanished right after it was written; is the folder being cleaned?"
            )
        return found

    def _check(self, path: Path, key: str, arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
        if metadata.get("format") != _FORMAT or metadata.get("key") != key:
            raise CorruptCacheEntry(path, "it belongs to another key")
        if hashlib.sha256(metadata.get("fields", "").encode()).hexdigest() != key:
            raise CorruptCacheEntry(path, "its fields do not give its key")
        if _checksum(arrays) != metadata.get("sha256"):
            raise CorruptCacheEntry(path, "its checksum does not fit")

    def _remove_stale_files(self) -> None:
        """Remove what killed writers left behind, once a process; nothing that a live one may be writing."""
        if self._swept:
            return
        self._swept = True
        for path in self.folder.glob("??/.*.part"):
            try:
                if time.time() - path.stat().st_mtime > _STALE_FILE_SECONDS:
                    path.unlink()
            except OSError:  # another process was quicker
                continue


def _canonical(fields: Mapping[str, Any]) -> str:
    try:
        return json.dumps(fields, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise TalimError(f"target fields must be plain JSON values: {error}") from error


def _checksum(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _parse(path: Path, mapped: mmap.mmap) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays looking into the mapped file (safetensors: 8 bytes length, JSON, data), and metadata."""
    try:
        length = int.from_bytes(mapped[:8], "little")
        header = json.loads(mapped[8 : 8 + length])
        metadata = header.pop("__metadata__", {})
        arrays = {}
        for name, entry in header.items():
            start, stop = entry["data_offsets"]
            dtype, shape = np.dtype(_DTYPES[entry["dtype"]]), tuple(entry["shape"])
            count = int(np.prod(shape, dtype=np.int64))
            if stop - start != count * dtype.itemsize or 8 + length + stop > len(mapped):
                raise ValueError("it breaks off")
            array = np.frombuffer(mapped, dtype, count, 8 + length + start) if count else np.empty(0, dtype)
            arrays[name] = array.reshape(shape)
            arrays[name].flags.writeable = False
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        raise CorruptCacheEntry(path, f"unreadable: {error}") from error
    return arrays, metadata


_HEADER_BYTES = 2048  # more than the names, shapes and fields of an entry take

_MIN_FREE_FRACTION = 0.1  # of a disk's free space is left to others


class BoundedFeatureCache(FeatureCache):
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

    def available_bytes(self) -> int:
        """How much more may be written: below the bound, and without filling the disk."""
        return max(0, min(self.most_bytes - self.held_bytes(), self._free_bytes()))

    def get_valid(self, key: str) -> dict[str, np.ndarray] | None:
        """As `get`; None for a damaged entry as well, which the next `offer` replaces."""
        try:
            return self.get(key)
        except CorruptCacheEntry as damaged:
            damaged.path.unlink(missing_ok=True)
            return None

    def put_if_room(self, key: str, arrays: Mapping[str, np.ndarray], fields: Mapping[str, Any]) -> bool:
        """Store arrays if there is room for them (True), or leave everything as it is (False).

        A disk that is full or may not be written to has no room: a store like this is a convenience.
        """
        if self.most_bytes <= 0:
            return False
        try:
            with self._writer_lock():
                return self._put_if_room(key, arrays, fields)
        except TalimError as error:
            if isinstance(error.__cause__, OSError):
                return False
            raise

    def _put_if_room(self, key: str, arrays: Mapping[str, np.ndarray], fields: Mapping[str, Any]) -> bool:
        path, held = self.path(key), self._recorded_bytes()
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

    def _recorded_bytes(self) -> int:
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
        return int(shutil.disk_usage(there).free * (1 - _MIN_FREE_FRACTION))

    @contextlib.contextmanager
    def _writer_lock(self) -> Iterator[None]:
        """Hold the store for one writer; freed on any exit, also by kill -9."""
        with friendly_os_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = open(self.folder / ".lock", "a")  # noqa: SIM115 (kept open for as long as it is held)
        with handle:
            if os.name == "posix":  # elsewhere the bound is kept by each process for itself
                import fcntl

                fcntl.flock(handle, fcntl.LOCK_EX)
            yield
