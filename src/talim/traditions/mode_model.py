"""A mode's grammar as probabilities: where a melody of this mode goes next, from wherever it is.

The notes of a mode are the states of a Markov chain. Ascent, descent and phrases are the steps it is known to take;
beside them every note may be reached, near ones and weighty ones sooner. Weights come from practice where it has been
counted, else from how often the grammar uses a note. The tonic weighs the same in every mode: a drone and the final
are heard in all of them, however long a player stays there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from talim.traditions.note_transcription import CLASSES, INTERVALS_CENTS, STEP_CENTS
from talim.traditions.schema import Mode

SAME_DEGREE_CENTS = 8.0
PASSING_NOTE_WEIGHT = 0.01  # the weight, before scaling, of a note that is only touched


@dataclass(frozen=True)
class PitchHistogramShape:
    """The numbers that all modes of all traditions share; `weighted` and `moving` switch parts off, to measure them."""

    spread_cents: float = 30.0  # of a note round its degree
    off_scale_share: float = 0.3  # share of notes that lie anywhere
    tonic_share: float = 0.2
    strong_share: float = 0.17  # of the first strong note; two thirds of it for the next
    floor: float = 0.04  # of any note of the scale
    self_transition: float = 0.15  # the next note is the same degree again
    freedom: float = 0.3  # share of steps that follow no written movement
    trust: float = 1.5  # the written steps from a note weigh as many as this against the unwritten
    reach_cents: float = 300.0  # over which an unwritten step becomes e times rarer
    weighted: bool = True
    use_transitions: bool = True


DEFAULT_HISTOGRAM_SHAPE = PitchHistogramShape()


def cents_distance(one: np.ndarray | float, other: np.ndarray | float) -> np.ndarray:
    """How far `one` lies above `other`, octaves folded away: in [-600, 600)."""
    return (np.asarray(one) - other + 600.0) % 1200.0 - 600.0


def nearest_degree(cents: float, degrees: np.ndarray) -> int:
    """Which of `degrees` [n] is nearest to `cents`, in any octave."""
    return int(np.argmin(np.abs(cents_distance(cents, degrees))))


def notated_lines(mode: Mode) -> list[tuple[float, ...]]:
    """Every movement that is written of a mode: its ascent, its descent, its phrases."""
    return [line for line in (mode.ascent_cents, mode.descent_cents, *mode.phrases_cents) if line]


def all_degrees(mode: Mode, counted: Mapping[float, float]) -> np.ndarray:
    """Every note of a mode within the octave, ascending: its scale, and what it touches, writes or counts beside."""
    found = list(mode.degrees_cents)
    written = [cents for line in notated_lines(mode) for cents in line]
    for cents in (*mode.touched_cents, *counted, *written, *mode.strong_cents, mode.final_cents):
        if np.abs(cents_distance(cents, np.array(found))).min() > SAME_DEGREE_CENTS:
            found.append(cents % 1200.0)
    return np.array(sorted(found))


def degree_weights(
    mode: Mode, degrees: np.ndarray, counted: Mapping[float, float], shape: PitchHistogramShape
) -> np.ndarray:
    """The share of time on each of `degrees` [n], summing to 1."""
    if not shape.weighted:
        return np.full(degrees.size, 1.0 / degrees.size)
    share = np.zeros(degrees.size)
    if counted:
        for cents, part in counted.items():
            share[nearest_degree(cents, degrees)] += part
        share = share / share.sum() + PASSING_NOTE_WEIGHT / 2
    else:
        share += notated_histogram(mode, degrees)
        own = {nearest_degree(cents, degrees) for cents in mode.degrees_cents}
        share += [shape.floor if n in own else PASSING_NOTE_WEIGHT for n in range(degrees.size)]
        for rank, cents in enumerate(mode.strong_cents):
            share[nearest_degree(cents, degrees)] += shape.strong_share * (2 / 3) ** rank
    tonic = nearest_degree(mode.final_cents, degrees)
    share[tonic] = 0.0
    share *= (1.0 - shape.tonic_share) / share.sum()
    share[tonic] = shape.tonic_share
    return share


def notated_histogram(mode: Mode, degrees: np.ndarray) -> np.ndarray:
    """How often ascent and descent (half) and phrases (half) use each degree; a phrase's last note counts twice."""
    share = np.zeros(degrees.size)
    scale = [line for line in (mode.ascent_cents, mode.descent_cents) if line]
    phrases = [(*line, line[-1]) for line in mode.phrases_cents]
    for lines in (scale, phrases):
        size = sum(len(line) for line in lines)
        for line in lines:
            for cents in line:
                share[nearest_degree(cents, degrees)] += 0.5 / size
    return share


def transition_matrix(
    mode: Mode, degrees: np.ndarray, share: np.ndarray, shape: PitchHistogramShape
) -> np.ndarray:
    """The probability of going from degree a to degree b, [a, b]; rows sum to 1."""
    if not shape.use_transitions:
        return np.tile(share, (degrees.size, 1))
    written = np.zeros((degrees.size, degrees.size))
    for line in notated_lines(mode):
        for one, other in pairwise(line):
            written[nearest_degree(one, degrees), nearest_degree(other, degrees)] += 1.0
    np.fill_diagonal(written, 0.0)
    step = np.abs(cents_distance(degrees[None, :], degrees[:, None]))
    free = share * np.exp(-step / shape.reach_cents)
    np.fill_diagonal(free, 0.0)
    free /= free.sum(1, keepdims=True)
    known = written / (written.sum(1, keepdims=True) + shape.trust)
    bound = known + (1.0 - known.sum(1, keepdims=True)) * free
    onward = (1.0 - shape.freedom) * bound + shape.freedom * free
    return (1.0 - shape.self_transition) * onward + shape.self_transition * np.eye(degrees.size)


def transition_log_density(
    mode: Mode,
    counted: Mapping[float, float] | None = None,
    shape: PitchHistogramShape = DEFAULT_HISTOGRAM_SHAPE,
) -> np.ndarray:
    """The log density, per cent, of each interval from each pitch class in this mode: [pitch class, interval].

    `counted` is the share of time that practice gives each note (cents: share), where it is known.
    """
    counted = counted or {}
    degrees = all_degrees(mode, counted)
    share = degree_weights(mode, degrees, counted, shape)
    onward = transition_matrix(mode, degrees, share, shape)
    here_cents = np.arange(CLASSES) * STEP_CENTS
    belongs = share * (degree_kernel(here_cents[:, None], degrees, shape.spread_cents) + 1e-4)
    belongs /= belongs.sum(1, keepdims=True)
    target_cents = here_cents[:, None] + INTERVALS_CENTS
    lands = degree_kernel(target_cents[:, :, None], degrees, shape.spread_cents) / (
        shape.spread_cents * np.sqrt(2 * np.pi)
    )
    ahead = np.einsum("xa,ab,xib->xi", belongs, onward, lands, optimize=True)
    return np.log((1.0 - shape.off_scale_share) * ahead + shape.off_scale_share / 1200.0).astype(np.float32)


def degree_kernel(cents: np.ndarray, degrees: np.ndarray, spread_cents: float) -> np.ndarray:
    """A bell of `spread_cents` round each degree, 1 at its middle."""
    return np.exp(-0.5 * (cents_distance(cents, degrees) / spread_cents) ** 2)
