"""A cache of arrays on disk (codec tokens, text states, activations) under a hash of all that they depend on."""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from talim.atomic_io import friendly_os_errors, write_bytes
from talim.errors import TalimError

_FORMAT = "talim-features-1"
_STALE_FILE_SECONDS = 3600.0
_HEADER_BYTES = 2048  # upper bound of an entry's names, shapes and fields
_MIN_FREE_FRACTION = 0.1  # of a disk's free space stays free
_MAPPED_BYTES = 1_000_000  # larger entries are memory-mapped, which holds a file open for as long as the array lives
_DTYPES = {  # safetensors names
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32, "I16": np.int16,
    "I8": np.int8, "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip


class CorruptCacheEntry(TalimError):  # noqa: N818 - the name says what it is
    """A cache file with other content than was written; after deleting it, it is computed again."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: corrupted cache entry ({reason}); delete this file, it is then computed again")
        self.path = path


class FeatureCache:
    """A folder of arrays, one safetensors file an entry, keyed by a hash of the fields that they depend on.

    Entries are written atomically, read-only when read (large ones memory-mapped), and verified once a process.
    With `max_bytes`, `put_if_room` refuses what no longer fits; nothing is ever evicted. Writers of a bounded cache
    exclude each other by a lock; the sum of bytes lies in the file `bytes` and is counted anew by each process.
    """

    def __init__(self, folder: str | Path, max_bytes: int | None = None) -> None:
        self.folder = Path(folder)
        self.max_bytes = max_bytes
        self._verified: dict[str, tuple[int, int]] = {}  # key -> size and modification time of the file
        self._removed_stale = False
        self._sum_file, self._counted = self.folder / "bytes", False

    def key(self, **fields: Any) -> str:
        """Sha256 (hex) of the canonical JSON of all fields."""
        return hashlib.sha256(_canonical(fields).encode()).hexdigest()

    def path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"

    def get(self, key: str) -> dict[str, np.ndarray] | None:
        """The arrays of a key, read-only, memory-mapped where large; None where there is no entry.

        Raises CorruptCacheEntry where the file is damaged or belongs to another key.
        """
        path = self.path(key)
        try:
            with path.open("rb") as file:
                status = path.stat()
                if status.st_size < 8:
                    raise CorruptCacheEntry(path, f"{status.st_size} bytes")
                small = status.st_size <= _MAPPED_BYTES
                content = file.read() if small else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise TalimError(f"cannot read {path}: {error.strerror or error}") from error
        arrays, metadata = _parse(path, content)
        version = (status.st_size, status.st_mtime_ns)
        if self._verified.get(key) != version:
            _verify(path, key, arrays, metadata)
            self._verified[key] = version
        return arrays

    def get_valid(self, key: str) -> dict[str, np.ndarray] | None:
        """As `get`, but a damaged entry is deleted and gives None."""
        try:
            return self.get(key)
        except CorruptCacheEntry as error:
            error.path.unlink(missing_ok=True)
            return None

    def put(self, key: str, arrays: Mapping[str, np.ndarray], fields: Mapping[str, Any]) -> None:
        """Store arrays under a key; `fields` must be the ones that give this key."""
        from safetensors.numpy import save

        if self.key(**fields) != key:
            raise TalimError(f"key {key[:12]} does not belong to its fields {_canonical(fields)[:200]}")
        dtypes = [np.dtype(dtype) for dtype in _DTYPES.values()]
        stored = {}
        for name, array in arrays.items():
            native = array.dtype.newbyteorder("=")
            if native not in dtypes:
                raise TalimError(f"array {name!r} has dtype {array.dtype}; use one of {', '.join(_DTYPES)}")
            stored[name] = np.ascontiguousarray(array).reshape(np.shape(array)).astype(native, copy=False)
        metadata = {"format": _FORMAT, "key": key, "fields": _canonical(fields), "sha256": _checksum(stored)}
        self._remove_stale_files()
        write_bytes(self.path(key), save(stored, metadata=metadata))

    def get_or_make(
        self, fields: Mapping[str, Any], make: Callable[[], Mapping[str, np.ndarray]]
    ) -> dict[str, np.ndarray]:
        """The arrays of these fields; `make` computes them where they are missing."""
        key = self.key(**fields)
        arrays = self.get(key)
        if arrays is None:
            self.put(key, make(), fields)
            arrays = self.get(key)
        if arrays is None:
            raise TalimError(f"{self.path(key)}: vanished right after it was written; is the folder being cleaned?")
        return arrays

    def put_if_room(self, key: str, arrays: Mapping[str, np.ndarray], fields: Mapping[str, Any]) -> bool:
        """Store arrays if they fit (True), else change nothing (False).

        A disk that is full or not writable has no room: this is no error for an optional cache.
        """
        if self.max_bytes is not None and self.max_bytes <= 0:
            return False
        needed = sum(array.nbytes for array in arrays.values()) + _HEADER_BYTES
        path = self.path(key)
        try:
            with self._writer_lock():
                others = self._recorded_bytes() - (path.stat().st_size if path.is_file() else 0)
                over = self.max_bytes is not None and others + needed > self.max_bytes
                if over or needed > self._free_bytes():
                    return False
                self.put(key, arrays, fields)
                try:
                    self._sum_file.write_text(str(others + path.stat().st_size), encoding="utf-8")
                except OSError:
                    self._counted = False  # count again next time
                return True
        except TalimError as error:
            if isinstance(error.__cause__, OSError):
                return False
            raise

    def held_bytes(self) -> int:
        """The size of all entries, counted now."""
        total = 0
        for path in self.folder.glob("??/*"):
            with contextlib.suppress(FileNotFoundError):  # deleted by another process
                total += path.stat().st_size
        return total

    def available_bytes(self) -> int:
        """How much more fits: below `max_bytes` and without filling the disk."""
        free = self._free_bytes()
        return free if self.max_bytes is None else max(0, min(self.max_bytes - self.held_bytes(), free))

    def _recorded_bytes(self) -> int:
        """The sum in the file `bytes`; counted once a process, since a killed one may have left it wrong."""
        if self._counted:
            with contextlib.suppress(OSError, ValueError):
                return int(self._sum_file.read_text(encoding="utf-8"))
        self._counted = True
        return self.held_bytes()

    def _free_bytes(self) -> int:
        existing = self.folder
        while not existing.exists():
            existing = existing.parent
        return int(shutil.disk_usage(existing).free * (1 - _MIN_FREE_FRACTION))

    @contextlib.contextmanager
    def _writer_lock(self) -> Iterator[None]:
        """Exclude other writers; released on any exit, also by kill -9."""
        with friendly_os_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = open(self.folder / ".lock", "a")  # noqa: SIM115 (open as long as the lock is held)
        with handle:
            # where there are no locks (Windows, some network disks) each process observes the bound for itself
            with contextlib.suppress(ImportError, OSError):
                import fcntl

                fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def _remove_stale_files(self) -> None:
        """Delete partial files of killed writers, once a process; recent ones may be in use."""
        if self._removed_stale:
            return
        self._removed_stale = True
        for path in self.folder.glob("??/.*.part"):
            with contextlib.suppress(OSError):  # deleted by another process
                if time.time() - path.stat().st_mtime > _STALE_FILE_SECONDS:
                    path.unlink()


def _canonical(fields: Mapping[str, Any]) -> str:
    try:
        return json.dumps(fields, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise TalimError(f"the fields of a cache entry must be plain JSON values: {error}") from error


def _checksum(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _verify(path: Path, key: str, arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    if metadata.get("format") != _FORMAT or metadata.get("key") != key:
        raise CorruptCacheEntry(path, "it belongs to another key")
    if hashlib.sha256(metadata.get("fields", "").encode()).hexdigest() != key:
        raise CorruptCacheEntry(path, "its fields do not give its key")
    if _checksum(arrays) != metadata.get("sha256"):
        raise CorruptCacheEntry(path, "its checksum does not match")


def _parse(path: Path, content: bytes | mmap.mmap) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Views into a safetensors file (8 bytes header length, JSON header, data), and its metadata."""
    try:
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        metadata = header.pop("__metadata__", {})
        arrays = {}
        for name, entry in header.items():
            start, stop = entry["data_offsets"]
            dtype, shape = np.dtype(_DTYPES[entry["dtype"]]), tuple(entry["shape"])
            count = int(np.prod(shape, dtype=np.int64))
            if stop - start != count * dtype.itemsize or 8 + length + stop > len(content):
                raise ValueError("it is truncated")
            array = np.frombuffer(content, dtype, count, 8 + length + start) if count else np.empty(0, dtype)
            arrays[name] = array.reshape(shape)
            arrays[name].flags.writeable = False
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        raise CorruptCacheEntry(path, f"unreadable: {error}") from error
    return arrays, metadata
