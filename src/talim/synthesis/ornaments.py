"""Ornaments as modifications of a pitch contour: one function per shape, parametrised by the ornament's definition.

Frames are control frames of 5 ms. Every function modifies the contour and returns its exact ground truth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from talim.synthesis.instruments import CONTROL_SECONDS
from talim.synthesis.melodic_motion import MelodicMotion
from talim.traditions.schema import OrnamentDefinition

WIDE_CENTS = 150.0  # shakes from this extent on begin at once and lie on one side of their note
FAST_TRANSITION_FRAMES = 6
LEAST_PERIODS = {"shake": 2, "swing": 1}
SLIDING = frozenset({"glide", "shake", "swing"})  # not playable on instruments of fixed pitch


def frame(seconds: float) -> int:
    """The control frame at a time."""
    return round(seconds / CONTROL_SECONDS)


class PitchContour:
    """The pitch of one phrase: `cents` holds the last target, `bend` is added to it; both float64 [F]."""

    def __init__(self, frames: int, cents: float) -> None:
        self.cents = np.full(frames, cents)
        self.bend = np.zeros(frames)

    def move(self, at: int, cents: float, frames: int) -> None:
        """Move from the pitch at frame `at` to `cents`, along a raised cosine of `frames` frames."""
        at, frames = min(max(0, at), self.cents.size - 1), max(1, frames)
        start = float(self.cents[max(0, at - 1)])
        transition = self.cents[at : at + frames]
        rise = 0.5 - 0.5 * np.cos(np.pi * np.arange(1, frames + 1) / frames)
        transition[:] = start + (cents - start) * rise[: transition.size]
        self.cents[at + frames :] = cents


@dataclass(frozen=True)
class OrnamentPosition:
    """A note of `cents` from frame `at` for `frames`, reached in `transition_frames`, that may get an ornament."""

    contour: PitchContour
    motion: MelodicMotion
    cents: float
    before_cents: float | None
    at: int
    frames: int
    transition_frames: int
    can_slide: bool
    rng: np.random.Generator

    @property
    def seconds(self) -> float:
        return self.frames * CONTROL_SECONDS

    def draw_within(self, bounds: tuple[float, float], most: float) -> float:
        """A value within the bounds and at most `most`, but not below the lower bound."""
        least, top = bounds
        return float(self.rng.uniform(least, max(least, min(top, most))))


@dataclass(frozen=True)
class OrnamentResult:
    """The ground truth: first frame within the phrase, frames, extent in cents, rate in Hz (0: none)."""

    at: int
    frames: int
    extent_cents: float
    rate_hz: float = 0.0


def can_play(ornament: OrnamentDefinition, position: OrnamentPosition) -> bool:
    """Whether the instrument can play the ornament and the note is long enough, and the interval in range."""
    if not position.can_slide and ornament.shape in SLIDING:
        return False
    shortest = ornament.seconds[0]
    if ornament.shape == "glide":
        move = 0.0 if position.before_cents is None else abs(position.cents - position.before_cents)
        least, most = ornament.extent_cents
        return max(least, 20.0) <= move <= most and position.seconds >= shortest + 0.1
    if ornament.shape == "touch":
        return position.seconds >= max(0.12, 2.0 * shortest)
    if ornament.shape == "turn":
        return position.seconds >= max(0.2, 1.5 * shortest)
    least = LEAST_PERIODS[ornament.shape] / max(ornament.rate_hz[1], 0.5)
    return position.seconds >= max(shortest, least) + 0.15


def glide(position: OrnamentPosition, ornament: OrnamentDefinition) -> OrnamentResult | None:
    """A slow transition from the previous note that begins at the onset."""
    assert position.before_cents is not None
    frames = frame(position.draw_within(ornament.seconds, position.seconds - 0.08))
    position.contour.move(position.at, position.cents, frames)
    return OrnamentResult(position.at, frames, abs(position.cents - position.before_cents))


def touch(position: OrnamentPosition, ornament: OrnamentDefinition) -> OrnamentResult | None:
    """A short neighbour note before the note."""
    neighbour = touched_cents(position, ornament.extent_cents)
    into = min(position.transition_frames, FAST_TRANSITION_FRAMES) if position.can_slide else 1
    back = FAST_TRANSITION_FRAMES if position.can_slide else 1
    held = max(into + 2, frame(position.draw_within(ornament.seconds, 0.45 * position.seconds)))
    position.contour.move(position.at, neighbour, into)
    position.contour.move(position.at + held, position.cents, back)
    return OrnamentResult(position.at, held + back, abs(neighbour - position.cents))


def touched_cents(position: OrnamentPosition, bounds: tuple[float, float]) -> float:
    """The note to touch: a neighbour degree within the bounds, more often an upper one; else any pitch within them."""
    least, most = bounds
    steps = (1, 2, -1) if position.rng.random() < 0.67 else (-1, -2, 1)
    for step in steps:
        note = position.motion.neighbour(position.cents, step)
        if max(least, 1.0) <= abs(note - position.cents) <= most:
            return note
    return position.cents + steps[0] * float(position.rng.uniform(least, most))


def turn(position: OrnamentPosition, ornament: OrnamentDefinition) -> OrnamentResult | None:
    """A fast run through the neighbour degrees that ends on the note."""
    above, below = (position.motion.neighbour(position.cents, step) for step in (1, -1))
    runs = ((above, position.cents, below), (position.cents, above, position.cents, below), (above, position.cents))
    run = runs[int(position.rng.integers(len(runs)))]
    each = max(10, frame(position.draw_within(ornament.seconds, 0.7 * position.seconds)) // len(run))
    transition = max(1, each // 2) if position.can_slide else 1
    for index, cents in enumerate((*run, position.cents)):
        position.contour.move(position.at + index * each, cents, transition)
    notes = (*run, position.cents)
    return OrnamentResult(position.at, len(run) * each + transition, max(notes) - min(notes))


def shake(position: OrnamentPosition, ornament: OrnamentDefinition) -> OrnamentResult | None:
    """A fast oscillation around the note; a narrow one begins after the note has settled."""
    extent = float(position.rng.uniform(*ornament.extent_cents))
    settle = 0 if extent >= WIDE_CENTS else frame(min(0.3, 0.25 * position.seconds))
    return oscillate(position, ornament, position.at + position.transition_frames + settle, extent)


def swing(position: OrnamentPosition, ornament: OrnamentDefinition) -> OrnamentResult | None:
    """A slow oscillation around the note."""
    extent = float(position.rng.uniform(*ornament.extent_cents))
    return oscillate(position, ornament, position.at + position.transition_frames, extent)


def oscillate(
    position: OrnamentPosition, ornament: OrnamentDefinition, start: int, extent: float
) -> OrnamentResult | None:
    """Whole periods at a random rate with varying extents, faded in and out over a quarter period; None if too few fit.

    The extent in the ground truth is the mean one.
    """
    room_seconds = (min(position.at + position.frames, position.contour.bend.size) - start) * CONTROL_SECONDS
    least, (slowest, fastest) = LEAST_PERIODS[ornament.shape], ornament.rate_hz
    slowest = max(slowest, min(fastest, least / max(room_seconds, 0.01)))
    rate = slowest + (fastest - slowest) * float(position.rng.random()) ** 2  # slow rates are more common
    shortest, longest = max(ornament.seconds[0], least / rate), ornament.seconds[1]
    periods = int(min(position.draw_within((shortest, longest), room_seconds), room_seconds) * rate + 1e-6)
    if periods < least:
        return None
    frames = frame(periods / rate)
    turns = np.arange(frames) * CONTROL_SECONDS * rate
    fade = np.clip(4 * np.minimum(turns, periods - turns), 0.0, 1.0)
    lean = 0.0 if extent < WIDE_CENTS else (0.5 if position.rng.random() < 0.6 else -0.5)
    uneven = np.interp(turns, np.arange(periods + 1), position.rng.uniform(0.9, 1.1, periods + 1))
    bend = extent * uneven * fade * (0.5 * np.sin(2 * np.pi * turns) + lean)
    position.contour.bend[start : start + frames] += bend[: max(0, position.contour.bend.size - start)]
    return OrnamentResult(start, frames, extent, rate)


SHAPES: dict[str, Callable[[OrnamentPosition, OrnamentDefinition], OrnamentResult | None]] = {
    play.__name__: play for play in (glide, shake, swing, touch, turn)
}
ONSET_ORNAMENTS, SUSTAINED_ORNAMENTS = ("glide", "touch", "turn"), ("shake", "swing")
