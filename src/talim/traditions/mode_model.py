"""A mode as a Markov chain over its degrees, for mode recognition.

Ascent, descent and phrases give the notated transitions; besides them every degree may follow, near and heavily
weighted ones with higher probability. Degree weights come from usage statistics where these exist, else from how
often the notated lines use a degree. The tonic has the same weight in every mode: the drone and the final occur in
all of them, however long a player stays there. No degree whose weight is not counted weighs more than the tonic, or a
long stay on an unknown tonic would be taken for a strong note of another mode.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from talim.traditions.note_transcription import CLASSES, INTERVALS_CENTS, STEP_CENTS
from talim.traditions.schema import Mode

SAME_DEGREE_CENTS = 8.0
PASSING_NOTE_WEIGHT = 0.01  # before scaling, of a note outside the scale


@dataclass(frozen=True)
class PitchHistogramShape:
    """The parameters shared by all modes; `weighted` and `use_transitions` switch parts off for ablations."""

    spread_cents: float = 30.0  # standard deviation of notes around their degree
    off_scale_fraction: float = 0.3  # of notes, uniformly distributed
    tonic_fraction: float = 0.2  # of the time
    strong_fraction: float = 0.17  # of the time on the first strong note; two thirds of it on the next
    min_degree_weight: float = 0.04  # of any degree of the scale
    self_transition: float = 0.15  # probability that the same degree follows
    free_fraction: float = 0.3  # of transitions that follow no notated line
    prior_transitions: float = 1.5  # pseudo-count of free transitions against the notated ones from a degree
    decay_cents: float = 300.0  # over which a free transition becomes e times rarer
    weighted: bool = True
    use_transitions: bool = True


DEFAULT_HISTOGRAM_SHAPE = PitchHistogramShape()


def cents_distance(cents: np.ndarray | float, reference_cents: np.ndarray | float) -> np.ndarray:
    """Signed distance of `cents` above the nearest octave of `reference_cents`, in [-600, 600)."""
    return (np.asarray(cents) - reference_cents + 600.0) % 1200.0 - 600.0


def nearest_degree(cents: float, degrees: np.ndarray) -> int:
    """Index of the one of `degrees` [n] that is nearest to `cents`, in any octave."""
    return int(np.argmin(np.abs(cents_distance(cents, degrees))))


def notated_lines(mode: Mode) -> list[tuple[float, ...]]:
    """Ascent, descent and phrases of a mode."""
    return [line for line in (mode.ascent_cents, mode.descent_cents, *mode.phrases_cents) if line]


def all_degrees(mode: Mode, note_weights: Mapping[float, float]) -> np.ndarray:
    """Every note of a mode within the octave, ascending: its scale, and touched, notated and counted notes."""
    degrees = list(mode.degrees_cents)
    notated = [cents for line in notated_lines(mode) for cents in line]
    for cents in (*mode.touched_cents, *note_weights, *notated, *mode.strong_cents, mode.final_cents):
        if np.abs(cents_distance(cents, np.array(degrees))).min() > SAME_DEGREE_CENTS:
            degrees.append(cents % 1200.0)
    return np.array(sorted(degrees))


def degree_weights(
    mode: Mode, degrees: np.ndarray, note_weights: Mapping[float, float], shape: PitchHistogramShape
) -> np.ndarray:
    """The fraction of time on each of `degrees` [n], summing to 1."""
    if not shape.weighted:
        return np.full(degrees.size, 1.0 / degrees.size)
    weights = np.zeros(degrees.size)
    if note_weights:
        for cents, weight in note_weights.items():
            weights[nearest_degree(cents, degrees)] += weight
        weights = weights / weights.sum() + PASSING_NOTE_WEIGHT / 2
    else:
        weights += notated_histogram(mode, degrees)
        in_scale = {nearest_degree(cents, degrees) for cents in mode.degrees_cents}
        least = shape.min_degree_weight
        weights += [least if index in in_scale else PASSING_NOTE_WEIGHT for index in range(degrees.size)]
        for rank, cents in enumerate(mode.strong_cents):
            weights[nearest_degree(cents, degrees)] += shape.strong_fraction * (2 / 3) ** rank
    tonic = nearest_degree(mode.final_cents, degrees)
    weights[tonic] = 0.0
    weights *= (1.0 - shape.tonic_fraction) / weights.sum()
    for _ in range(0 if note_weights else degrees.size):  # what is cut off is shared out, which may lift another
        weights = np.minimum(weights, shape.tonic_fraction)
        weights *= (1.0 - shape.tonic_fraction) / weights.sum()
    weights[tonic] = shape.tonic_fraction
    return weights


def notated_histogram(mode: Mode, degrees: np.ndarray) -> np.ndarray:
    """How often ascent and descent (half) and phrases (half) use each degree; a phrase's last note counts twice."""
    histogram = np.zeros(degrees.size)
    scale = [line for line in (mode.ascent_cents, mode.descent_cents) if line]
    phrases = [(*line, line[-1]) for line in mode.phrases_cents]
    for lines in (scale, phrases):
        size = sum(len(line) for line in lines)
        for line in lines:
            for cents in line:
                histogram[nearest_degree(cents, degrees)] += 0.5 / size
    return histogram


def transition_matrix(mode: Mode, degrees: np.ndarray, weights: np.ndarray, shape: PitchHistogramShape) -> np.ndarray:
    """The probability of going from degree a to degree b, [a, b]; rows sum to 1."""
    if not shape.use_transitions:
        return np.tile(weights, (degrees.size, 1))
    counts = np.zeros((degrees.size, degrees.size))
    for line in notated_lines(mode):
        for note, following in pairwise(line):
            counts[nearest_degree(note, degrees), nearest_degree(following, degrees)] += 1.0
    np.fill_diagonal(counts, 0.0)
    interval_cents = np.abs(cents_distance(degrees[None, :], degrees[:, None]))
    free = weights * np.exp(-interval_cents / shape.decay_cents)
    np.fill_diagonal(free, 0.0)
    free /= free.sum(1, keepdims=True)
    notated = counts / (counts.sum(1, keepdims=True) + shape.prior_transitions)
    notated += (1.0 - notated.sum(1, keepdims=True)) * free
    moving = (1.0 - shape.free_fraction) * notated + shape.free_fraction * free
    return (1.0 - shape.self_transition) * moving + shape.self_transition * np.eye(degrees.size)


def degree_density(
    mode: Mode, note_weights: Mapping[float, float] | None = None, shape: PitchHistogramShape = DEFAULT_HISTOGRAM_SHAPE
) -> np.ndarray:
    """The fraction of time on each pitch class in this mode, [pitch class], summing to 1; `note_weights` as below."""
    note_weights = note_weights or {}
    degrees = all_degrees(mode, note_weights)
    weights = degree_weights(mode, degrees, note_weights, shape)
    density = degree_kernel(np.arange(CLASSES)[:, None] * STEP_CENTS, degrees, shape.spread_cents) @ weights
    return density / density.sum()


def transition_density(
    mode: Mode, note_weights: Mapping[float, float] | None = None, shape: PitchHistogramShape = DEFAULT_HISTOGRAM_SHAPE
) -> np.ndarray:
    """The density, per cent, of each interval from each pitch class in this mode: [pitch class, interval].

    `note_weights` are the usage statistics of the mode (cents: share of time), if known.
    """
    note_weights = note_weights or {}
    degrees = all_degrees(mode, note_weights)
    weights = degree_weights(mode, degrees, note_weights, shape)
    transitions = transition_matrix(mode, degrees, weights, shape)
    class_cents = np.arange(CLASSES) * STEP_CENTS
    membership = weights * (degree_kernel(class_cents[:, None], degrees, shape.spread_cents) + 1e-4)
    membership /= membership.sum(1, keepdims=True)
    target_cents = class_cents[:, None] + INTERVALS_CENTS
    emission = degree_kernel(target_cents[:, :, None], degrees, shape.spread_cents)
    emission /= shape.spread_cents * np.sqrt(2 * np.pi)
    density = np.einsum("xa,ab,xib->xi", membership, transitions, emission, optimize=True)
    return (1.0 - shape.off_scale_fraction) * density + shape.off_scale_fraction / 1200.0


def degree_kernel(cents: np.ndarray, degrees: np.ndarray, spread_cents: float) -> np.ndarray:
    """A Gaussian of `spread_cents` around each degree, 1 at its centre."""
    return np.exp(-0.5 * (cents_distance(cents, degrees) / spread_cents) ** 2)
