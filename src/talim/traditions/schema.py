"""The entries of a tradition: modes, cycles, ornaments.

Units: pitches are cents above the tonic, time is beats of the cycle (matras, or pulses of the usul).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar


@dataclass(frozen=True)
class Mode:
    """A raga or makam.

    `degrees_cents` are the notes of one octave from the tonic up, in [0, 1200), as they are played; `theory_cents` the
    same notes as theory writes them (equal where practice does not differ). `ascent_cents`, `descent_cents` and each
    of `phrases_cents` are notes in melodic order, lower and upper octaves included. `strong_cents` are the emphasised
    notes, the most important first (vadi and samvadi; güçlü), `touched_cents` occasional notes outside the scale,
    `final_cents` the note of rest. `contour` is "ascending", "descending", "both" or "" (seyir). `facts` are further
    facts as text.
    """

    slug: str
    name: str
    aliases: tuple[str, ...]
    degrees_cents: tuple[float, ...]
    theory_cents: tuple[float, ...]
    ascent_cents: tuple[float, ...] = ()
    descent_cents: tuple[float, ...] = ()
    phrases_cents: tuple[tuple[float, ...], ...] = ()
    strong_cents: tuple[float, ...] = ()
    touched_cents: tuple[float, ...] = ()
    final_cents: float = 0.0
    contour: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Stroke:
    """One stroke of a cycle: onset (beats after the first), length, syllable, weight 0..1."""

    onset_beats: float
    beats: float
    syllable: str
    weight: float


@dataclass(frozen=True)
class Cycle:
    """A tala or usul: `beats` long, divided into `sections` (vibhag), with strokes (theka; düm, tek).

    `claps` and `waves` are beats counted from 1 (tali, khali). `strokes` is empty if only the length is known.
    """

    slug: str
    name: str
    aliases: tuple[str, ...]
    beats: float
    sections: tuple[float, ...] = ()
    strokes: tuple[Stroke, ...] = ()
    claps: tuple[int, ...] = ()
    waves: tuple[int, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class OrnamentDefinition:
    """A kind of ornament: `shape` is how the pitch moves, the pairs are ranges (minimum, maximum).

    Shapes: "glide" (from note to note), "shake" (fast, around a note), "swing" (slow, around a note), "touch"
    (a short neighbour before the note), "turn" (a quick run through neighbours).
    """

    slug: str
    name: str
    aliases: tuple[str, ...]
    shape: str
    seconds: tuple[float, float]
    extent_cents: tuple[float, float]
    rate_hz: tuple[float, float] = (0.0, 0.0)
    facts: dict[str, Any] = field(default_factory=dict)


EntryT = TypeVar("EntryT", Mode, Cycle, OrnamentDefinition)
