"""Sound that is computed when it is saved or read, block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from talim.audio.audio import Audio
from talim.audio.write import write_blocks


@dataclass(frozen=True, eq=False)
class AudioStream:
    """Sound in blocks float32 [C, n], full scale at +-1, of which only one is held at a time.

    `blocks` gives them from the beginning whenever it is called. `tags` are written by `save`.
    """

    blocks: Callable[[], Iterator[np.ndarray]]
    rate_hz: int
    channels: int
    tags: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, audio: Audio) -> AudioStream:
        """The same sound, in one block."""
        return cls(lambda: iter([audio.samples]), audio.rate_hz, audio.channels, audio.tags)

    def read(self) -> Audio:
        """All of it, scaled down only if it would clip."""
        samples = np.concatenate([np.zeros((self.channels, 0), np.float32), *self.blocks()], axis=1)
        audio = Audio(samples, self.rate_hz, self.tags)
        return audio if audio.peak <= 1.0 else Audio(audio.samples / audio.peak, self.rate_hz, self.tags)

    def save(self, path: str | Path, overwrite: bool = True, begun: Callable[[Path], None] | None = None) -> Path:
        """Write a .wav, .flac, .ogg or .mp3 file as `read().save(path)` does, and return its path.

        Without `overwrite`, FileTakenError if there is a file at `path` when all is written. `begun` is told the name
        that the file has until then: what is there of it can be played.
        """
        write_blocks(path, self.blocks, self.rate_hz, self.channels, self.tags, overwrite, begun)
        return Path(path)
