"""Ornaments as movements of a pitch contour, one function for each shape, played from the ornament's data alone.

Frames are control frames of 5 ms. Every function moves the contour and says what it did, so that the record is exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from talim.synthesis.instruments import CONTROL_SECONDS
from talim.synthesis.melodic_motion import MelodicMotion
from talim.traditions.schema import OrnamentDefinition

WIDE_CENTS = 150.0  # a shake as wide as this begins at once and leans to one side of its note
FAST_TRANSITION_FRAMES = 6
LEAST_PERIODS = {"shake": 2, "swing": 1}
SLIDING = frozenset({"glide", "shake", "swing"})  # a string that cannot be bent has no way to play these


def frame(seconds: float) -> int:
    """The control frame at a time."""
    return round(seconds / CONTROL_SECONDS)


class PitchContour:
    """The pitch of one breath: `cents` stays where it was moved last, `bend` is added to it; both float64 [F]."""

    def __init__(self, frames: int, cents: float) -> None:
        self.cents = np.full(frames, cents)
        self.bend = np.zeros(frames)

    def move(self, at: int, cents: float, frames: int) -> None:
        """Go to `cents` from wherever the contour is at frame `at`, on a raised cosine of `frames` frames."""
        at, frames = min(max(0, at), self.cents.size - 1), max(1, frames)
        begun = float(self.cents[max(0, at - 1)])
        way = self.cents[at : at + frames]
        rise = 0.5 - 0.5 * np.cos(np.pi * np.arange(1, frames + 1) / frames)
        way[:] = begun + (cents - begun) * rise[: way.size]
        self.cents[at + frames :] = cents


@dataclass(frozen=True)
class OrnamentPosition:
    """Where an ornament goes: a tone of `cents` from frame `at` for `frames`, reached in `way` frames."""

    contour: PitchContour
    movement: MelodicMotion
    cents: float
    before_cents: float | None
    at: int
    frames: int
    way: int
    slides: bool
    rng: np.random.Generator

    @property
    def seconds(self) -> float:
        return self.frames * CONTROL_SECONDS

    def drawn(self, bounds: tuple[float, float], most: float) -> float:
        """A value inside the bounds, at most `most` (the lower bound where that is lower still)."""
        least, top = bounds
        return float(self.rng.uniform(least, max(least, min(top, most))))


@dataclass(frozen=True)
class OrnamentResult:
    """What was played: first frame of the breath, frames, extent in cents, rate in Hz (0: none)."""

    at: int
    frames: int
    extent_cents: float
    rate_hz: float = 0.0


def can_play(ornament: OrnamentDefinition, place: OrnamentPosition) -> bool:
    """Whether the instrument can play the ornament here, and the tone is long and the step wide enough for it."""
    if not place.slides and ornament.shape in SLIDING:
        return False
    shortest = ornament.seconds[0]
    if ornament.shape == "glide":
        move = 0.0 if place.before_cents is None else abs(place.cents - place.before_cents)
        least, most = ornament.extent_cents
        return max(least, 20.0) <= move <= most and place.seconds >= shortest + 0.1
    if ornament.shape == "touch":
        return place.seconds >= max(0.12, 2.0 * shortest)
    if ornament.shape == "turn":
        return place.seconds >= max(0.2, 1.5 * shortest)
    least = LEAST_PERIODS[ornament.shape] / max(ornament.rate_hz[1], 0.5)
    return place.seconds >= max(shortest, least) + 0.15


def glide(place: OrnamentPosition, ornament: OrnamentDefinition) -> OrnamentResult | None:
    """From note to note slowly: the way begins where the tone does."""
    assert place.before_cents is not None
    frames = frame(place.drawn(ornament.seconds, place.seconds - 0.08))
    place.contour.move(place.at, place.cents, frames)
    return OrnamentResult(place.at, frames, abs(place.cents - place.before_cents))


def touch(place: OrnamentPosition, ornament: OrnamentDefinition) -> OrnamentResult | None:
    """A short neighbour before the note."""
    neighbour = touched(place, ornament.extent_cents)
    into = min(place.way, FAST_TRANSITION_FRAMES) if place.slides else 1
    back = FAST_TRANSITION_FRAMES if place.slides else 1
    held = max(into + 2, frame(place.drawn(ornament.seconds, 0.45 * place.seconds)))
    place.contour.move(place.at, neighbour, into)
    place.contour.move(place.at + held, place.cents, back)
    return OrnamentResult(place.at, held + back, abs(neighbour - place.cents))


def touched(place: OrnamentPosition, bounds: tuple[float, float]) -> float:
    """The degree to touch: a neighbour inside the bounds, upper ones twice as often; else any pitch inside them."""
    least, most = bounds
    steps = (1, 2, -1) if place.rng.random() < 0.67 else (-1, -2, 1)
    for step in steps:
        note = place.movement.neighbour(place.cents, step)
        if max(least, 1.0) <= abs(note - place.cents) <= most:
            return note
    return place.cents + steps[0] * float(place.rng.uniform(least, most))


def turn(place: OrnamentPosition, ornament: OrnamentDefinition) -> OrnamentResult | None:
    """A quick run through the neighbours that ends on the note."""
    above, below = (place.movement.neighbour(place.cents, step) for step in (1, -1))
    runs = ((above, place.cents, below), (place.cents, above, place.cents, below), (above, place.cents))
    run = runs[int(place.rng.integers(len(runs)))]
    each = max(10, frame(place.drawn(ornament.seconds, 0.7 * place.seconds)) // len(run))
    way = max(1, each // 2) if place.slides else 1
    for index, cents in enumerate((*run, place.cents)):
        place.contour.move(place.at + index * each, cents, way)
    notes = (*run, place.cents)
    return OrnamentResult(place.at, len(run) * each + way, max(notes) - min(notes))


def shake(place: OrnamentPosition, ornament: OrnamentDefinition) -> OrnamentResult | None:
    """Fast, around the note; a narrow one lets the note settle first."""
    extent = float(place.rng.uniform(*ornament.extent_cents))
    settle = 0 if extent >= WIDE_CENTS else frame(min(0.3, 0.25 * place.seconds))
    return oscillate(place, ornament, place.at + place.way + settle, extent)


def swing(place: OrnamentPosition, ornament: OrnamentDefinition) -> OrnamentResult | None:
    """Slowly, around the note."""
    return oscillate(place, ornament, place.at + place.way, float(place.rng.uniform(*ornament.extent_cents)))


def oscillate(
    place: OrnamentPosition, ornament: OrnamentDefinition, start: int, extent: float
) -> OrnamentResult | None:
    """Whole periods of a drawn rate, no two quite alike, faded in and out over a quarter; None where too few fit.

    The extent on record is the mean one.
    """
    room = (min(place.at + place.frames, place.contour.bend.size) - start) * CONTROL_SECONDS
    least, (slowest, fastest) = LEAST_PERIODS[ornament.shape], ornament.rate_hz
    slowest = max(slowest, min(fastest, least / max(room, 0.01)))
    rate = slowest + (fastest - slowest) * float(place.rng.random()) ** 2  # slower ones are the common ones
    shortest, longest = max(ornament.seconds[0], least / rate), ornament.seconds[1]
    periods = int(min(place.drawn((shortest, longest), room), room) * rate + 1e-6)
    if periods < least:
        return None
    frames = frame(periods / rate)
    turns = np.arange(frames) * CONTROL_SECONDS * rate
    fade = np.clip(4 * np.minimum(turns, periods - turns), 0.0, 1.0)
    lean = 0.0 if extent < WIDE_CENTS else (0.5 if place.rng.random() < 0.6 else -0.5)
    uneven = np.interp(turns, np.arange(periods + 1), place.rng.uniform(0.9, 1.1, periods + 1))
    bend = extent * uneven * fade * (0.5 * np.sin(2 * np.pi * turns) + lean)
    place.contour.bend[start : start + frames] += bend[: max(0, place.contour.bend.size - start)]
    return OrnamentResult(start, frames, extent, rate)


SHAPES: dict[str, Callable[[OrnamentPosition, OrnamentDefinition], OrnamentResult | None]] = {
    "glide": glide,
    "shake": shake,
    "swing": swing,
    "touch": touch,
    "turn": turn,
}
ONSET_ORNAMENTS, SUSTAINED_ORNAMENTS = ("glide", "touch", "turn"), ("shake", "swing")
