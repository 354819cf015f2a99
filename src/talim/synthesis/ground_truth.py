"""Ground truth of a synthesised performance.

Units: times are seconds from the start of the recording, pitches are cents above the tonic, extents are cents.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

HOP_SECONDS = 0.01


@dataclass(frozen=True)
class PlayedNote:
    """A main note: `cents` is its intended degree, without ornaments; above the tonic unless stated otherwise."""

    onset_seconds: float
    seconds: float
    cents: float
    part: str


@dataclass(frozen=True)
class PlayedOrnament:
    """An ornament of the given `kind` (its slug in the tradition) and `shape`.

    `extent_cents` is the range of the pitch: peak to peak of a shake or swing, the interval of a glide, the distance of
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
    """One melodic instrument: `cents` float32 [n] is its pitch at frame k (k * 0.01 s), NaN if silent."""

    instrument: str
    family: str
    cents: np.ndarray
    notes: tuple[PlayedNote, ...]
    ornaments: tuple[PlayedOrnament, ...]


@dataclass(frozen=True)
class PlayedStroke:
    """A drum stroke: syllable, onset, position in the cycle (beats after the first), weight 0..1."""

    syllable: str
    onset_seconds: float
    beat: float
    weight: float


@dataclass(frozen=True)
class FormSection:
    """A part of the form; `occurrence` counts from 1 how often its material has been played so far.

    `kind` is "free" (no metre), "refrain" (returns note for note), "theme" (composed, may return) or "episode".
    """

    name: str
    kind: str
    onset_seconds: float
    seconds: float
    occurrence: int

    @property
    def end_seconds(self) -> float:
        return self.onset_seconds + self.seconds


@dataclass(frozen=True)
class GroundTruth:
    """The ground truth of a performance.

    `voices` has the lead first. `first_beats_seconds` are the beginnings of cycles (sam), `beats_seconds` all beats;
    both are empty without metre. `strokes` is empty without a drum.
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
        """Times of the frames of the pitch tracks in seconds, float64 [n]."""
        return np.arange(self.voices[0].cents.size) * HOP_SECONDS
