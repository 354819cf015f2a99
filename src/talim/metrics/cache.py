"""Arrays on disk, keyed by the audio they were computed from and the identity of the measure."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np

from talim.atomic_io import write_bytes
from talim.audio import Audio, content_hash


class MetricCache:
    """A folder of arrays; None stores nothing. Entries are written atomically, so processes may share it."""

    def __init__(self, folder: Path | str | None) -> None:
        self.folder = None if folder is None else Path(folder)

    def get(self, audio: Audio, identity: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """The result of `compute` for this audio under this `identity`, from disk if it is stored there.

        A damaged entry is computed anew. TalimError if the folder cannot be written.
        """
        return compute() if self.folder is None else self.get_by_key(content_hash(audio), identity, compute)

    def get_by_key(self, key: str, identity: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """`get` where the sound is known by `key`, hex digits of a hash of it."""
        if self.folder is None:
            return compute()
        file = self._file(key, identity)
        try:
            with file.open("rb") as handle:
                return np.load(handle, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            pass
        array = np.asarray(compute())
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        write_bytes(file, buffer.getvalue())
        return array

    def file(self, audio: Audio, identity: str) -> Path:
        """Path of the entry: a folder for the measure, a file named after the audio's hash."""
        return self._file(content_hash(audio), identity)

    def _file(self, key: str, identity: str) -> Path:
        assert self.folder is not None
        name = identity.split("/")[0]
        measure = hashlib.sha256(identity.encode()).hexdigest()[:12]
        return self.folder / f"{name}-{measure}" / f"{key[:32]}.npy"
