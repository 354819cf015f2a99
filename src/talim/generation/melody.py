"""A melody that music is generated from: hummed or played, read once, with what is recorded of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from talim.audio import Audio, content_hash
from talim.audio.errors import TooLongError
from talim.audio.read import blocks_up_to
from talim.backbones.generation_options import unsupported_melody_error
from talim.backbones.resolve import takes_melody
from talim.corpus.melody import CHROMA, PITCH, SOURCES, melody_of
from talim.errors import UsageError
from talim.generation.phrase import RIGHTS, SILENCE
from talim.html.formatting import format_counted

if TYPE_CHECKING:
    from talim.backbones.protocol import Backbone

MAX_MELODY_SECONDS = 3600.0


@dataclass(frozen=True)
class GivenMelody:
    """The sound of a melody, and where its pitch classes come from: one of SOURCES."""

    audio: Audio
    name: str  # of the file, without its folder
    source: str

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the samples."""
        return content_hash(self.audio)

    def classes(self, backbone: Backbone) -> np.ndarray:
        """Pitch classes int8 [M] for this base; UsageError where the tracker hears no pitch."""
        classes = melody_of(self.audio, backbone, self.source).classes
        if self.source == PITCH and not classes.any() and not self._has_pitch:
            raise UsageError(
                f"--melody: no pitch was found in {self.name}; give a recording of one voice or instrument, or leave "
                "out --melody-from pitch"
            )
        return classes

    @cached_property
    def _has_pitch(self) -> bool:
        from talim.metrics.pitch import RATE_HZ, track_pitch

        return bool(track_pitch(self.audio.mono().resample(RATE_HZ).samples[0], RATE_HZ).voiced.any())

    def described(self, seconds: float) -> str:
        """How it is used in a piece of `seconds`, in one line."""
        length, source = self.audio.seconds, "tracked pitch" if self.source == PITCH else "chroma (of the whole sound)"
        text = f"melody {self.name}: {length:.2f} s, read by its {source}"
        if length > seconds + 0.05:
            return f"{text}; the piece is shorter, so what comes after {seconds:.2f} s is left out"
        if length < seconds - 0.05:
            return f"{text}; the piece is longer, so the melody begins anew after its end"
        return text

    @property
    def tags(self) -> dict[str, str]:
        """Provenance of a piece that follows it."""
        return {
            "melody": self.name,
            "melody_sha256": self.hash,
            "melody_seconds": f"{self.audio.seconds:.3f}",
            "melody_from": self.source,
            "melody_rights": RIGHTS,
        }


def read_melodies(base: str, given: Sequence[Audio | Path | str], source: str | None) -> list[GivenMelody]:
    """The melodies; UsageError for a base that takes none, for a wrong `source` and for what is no melody."""
    if source is not None and source not in SOURCES:
        raise UsageError(f"--melody-from is {source!r:.60}; it must be one of {', '.join(SOURCES)}")
    if not given:
        if source is not None:
            raise UsageError("--melody-from says what is read from a melody; add --melody with the file of one")
        return []
    if not takes_melody(base):
        raise unsupported_melody_error(base)
    return [_read_melody(each, source or CHROMA) for each in given]


def pair_melodies(count: int, melodies: Sequence[GivenMelody]) -> list[GivenMelody | None]:
    """A melody (None without any) for each of `count` prompts: one for all, or one for each, in order."""
    if len(melodies) not in (0, 1, count):
        raise UsageError(
            f"--melody was given {format_counted(len(melodies), 'time')} for "
            f"{format_counted(count, 'piece')}; give it once, or once for each, in order"
        )
    if not melodies:
        return [None] * count
    return [*melodies] * (count // len(melodies))


def _read_melody(given: Audio | Path | str, source: str) -> GivenMelody:
    audio, name = (given, "a sound in memory") if isinstance(given, Audio) else (_read_file(given), Path(given).name)
    if not audio.samples.size or not np.isfinite(audio.samples).all():
        raise UsageError(f"--melody: {name} holds {'no samples' if not audio.samples.size else 'NaN or infinity'}")
    if audio.seconds > MAX_MELODY_SECONDS:
        raise _too_long(name, f"{audio.seconds:.1f} s")
    if audio.peak < SILENCE:
        raise UsageError(f"--melody: {name} is silent (peak {audio.peak:.1e} of full scale); give one with a melody")
    return GivenMelody(audio, name, source)


def _read_file(path: Path | str) -> Audio:
    """The whole file; UsageError for one that is too long, as far as its header tells before it is read."""
    try:
        blocks = list(blocks_up_to(path, MAX_MELODY_SECONDS))
    except TooLongError as error:
        raise _too_long(Path(path).name, error.length) from None
    return Audio(np.concatenate([block.samples for block in blocks], axis=1), blocks[0].rate_hz)


def _too_long(name: str, length: str) -> UsageError:
    return UsageError(f"--melody: {name} is {length} long; a melody has up to {MAX_MELODY_SECONDS:.0f} s: cut it")
