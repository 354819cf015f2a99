"""What was played, exactly: the truth beside a rendered performance.

Units: times are seconds from the start of the recording, pitches are cents above the tonic, extents are cents.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

HOP_SECONDS = 0.01


@dataclass(frozen=True)
class PlayedNote:
    """A main note: `cents` is the degree that was meant (above the tonic), whatever ornament bends it."""

    onset_seconds: float
    seconds: float
    cents: float
    part: str


@dataclass(frozen=True)
class PlayedOrnament:
    """An ornament of the given `kind` (its slug in the tradition) and `shape`.

    `extent_cents` is how far the pitch goes: peak to peak of a shake or swing, the way of a glide, the distance of
    the touched note, the range of a turn. `rate_hz` is the rate of a shake or swing, 0 for the others.
    """

    kind: str
    shape: str
    onset_seconds: float
    seconds: float
    extent_cents: float
    rate_hz: float = 0.0


@dataclass(frozen=True)
class Voice:
    """One melodic player: `cents` float32 [n] is the pitch that sounds, frame k at k * 0.01 s, NaN if silent."""

    instrument: str
    family: str
    cents: np.ndarray
    notes: tuple[PlayedNote, ...]
    ornaments: tuple[PlayedOrnament, ...]


@dataclass(frozen=True)
class PlayedStroke:
    """A stroke of the drum: its syllable, when it fell, its place in the cycle (beats after the first), weight 0..1."""

    syllable: str
    onset_seconds: float
    beat: float
    weight: float


@dataclass(frozen=True)
class FormSection:
    """A part of the form; `time` counts from 1 how often its material has been played so far.

    `kind` is "free" (no metre), "refrain" (returns note for note), "theme" (composed, may return) or "episode".
    """

    name: str
    kind: str
    onset_seconds: float
    seconds: float
    time: int

    @property
    def end_seconds(self) -> float:
        return self.onset_seconds + self.seconds


@dataclass(frozen=True)
class GroundTruth:
    """Everything about a performance that a score may want to know.

    `voices` has the leading player first. `first_beats_seconds` are the beginnings of the cycles (sam), `beats_seconds`
    all beats; both are empty where nothing is metred, `strokes` is empty where no drum is heard.
    """

    tradition: str
    mode: str
    cycle: str | None
    tonic_hz: float
    tempo_bpm: float | None
    cycle_beats: float | None
    voices: tuple[Voice, ...]
    sections: tuple[FormSection, ...]
    first_beats_seconds: np.ndarray
    beats_seconds: np.ndarray
    strokes: tuple[PlayedStroke, ...]

    def times(self) -> np.ndarray:
        """The time of every frame of the pitch tracks, float64 [n]."""
        return np.arange(self.voices[0].cents.size) * HOP_SECONDS
