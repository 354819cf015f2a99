"""Arrays on disk by what they were computed from: the sound's content hash and the identity of the measure."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np

from talim.atomic_io import write_bytes
from talim.audio import Audio, content_hash


class MetricCache:
    """A folder of arrays; None keeps nothing. Entries are written whole or not at all, so processes may share it."""

    def __init__(self, folder: Path | str | None) -> None:
        self.folder = None if folder is None else Path(folder)

    def get(self, audio: Audio, identity: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """What `compute` gives for this sound under this `identity`: from disk, or computed and kept.

        A damaged entry is computed anew. TalimError where the folder cannot be written.
        """
        if self.folder is None:
            return compute()
        file = self.file(audio, identity)
        try:
            with file.open("rb") as handle:
                return np.load(handle, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            pass
        found = np.asarray(compute())
        buffer = io.BytesIO()
        np.save(buffer, found, allow_pickle=False)
        write_bytes(file, buffer.getvalue())
        return found

    def file(self, audio: Audio, identity: str) -> Path:
        """Where the entry lies: a folder for the measure, a file named after the sound."""
        assert self.folder is not None
        name = identity.split("/")[0]
        measure = hashlib.sha256(identity.encode()).hexdigest()[:12]
        return self.folder / f"{name}-{measure}" / f"{content_hash(audio)[:32]}.npy"
