"""How well onsets fit the strokes of a cycle.

Times are seconds; positions in a cycle are beats after its first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from talim.errors import TalimError
from talim.traditions.schema import Cycle

SLOTS_PER_BEAT = 4


@dataclass(frozen=True)
class CycleScore:
    """How well onsets fit a cycle's strokes; see `cycle_score`."""

    fit: float
    correlation: float
    chance: float
    first_beat: float


def cycle_score(
    onset_seconds: np.ndarray, weights: np.ndarray | None, cycle: Cycle, beat_seconds: float | np.ndarray
) -> CycleScore:
    """How well onsets (seconds [N], with `weights` of their strength or length) fit a cycle's strokes.

    Onsets are put on a grid of a quarter of a beat (`beat_seconds`: the length of a steady beat whose grid passes
    through 0 s, or the times of tracked beats); the cycle's stroke weights are tiled along it; from both, the mean at
    each quarter of the beat is subtracted, so that onsets on beats as such favour no cycle. `correlation` is Pearson's
    at the phase where it is highest (-1..1, higher is closer), `first_beat` the beat, counted from 0 s or the first
    tracked beat, on which the cycle then begins (0..beats). The maximum over phases is high by chance: `chance` =
    sqrt(2 ln(beats of the cycle) / number of beats) is about its value for noise, and `fit` = correlation - chance
    compares cycles (about 0 or below: no such cycle). NaN for less than two whole cycles. TalimError for a cycle
    without strokes and for invalid beats or weights. Source: template matching of accents at the best phase, as in
    the review of meter by Srinivasamurthy et al. 2014; the bound is the usual one for the maximum of n normal deviates.
    """
    positions = _beat_positions(onset_seconds, beat_seconds)
    profile = _stroke_profile(cycle)
    onsets = _onset_grid(positions, weights)
    if onsets.size < 2 * profile.size or np.ptp(onsets) == 0:
        return CycleScore(*(float("nan"),) * 4)
    repeats = -(-onsets.size // profile.size)
    phases = max(1, round(cycle.beats))
    tiled = np.array(
        [np.tile(np.roll(profile, phase * SLOTS_PER_BEAT), repeats)[: onsets.size] for phase in range(phases)]
    )
    expected, observed = _centred_by_quarter(tiled), _centred_by_quarter(onsets)
    correlations = expected @ observed
    correlations /= np.linalg.norm(expected, axis=1) * np.linalg.norm(observed) + 1e-12
    best = int(np.argmax(correlations))
    chance = float(np.sqrt(2 * np.log(phases) * SLOTS_PER_BEAT / onsets.size))
    return CycleScore(
        fit=float(correlations[best]) - chance,
        correlation=float(correlations[best]),
        chance=chance,
        first_beat=float((np.floor(np.nanmin(positions)) + best) % cycle.beats),
    )


def _beat_positions(times_seconds: np.ndarray, beat_seconds: float | np.ndarray) -> np.ndarray:
    """Times in beats: divided by a steady beat's length, or interpolated between tracked beats (NaN outside)."""
    times, beats = np.asarray(times_seconds, float), np.asarray(beat_seconds, float)
    if beats.ndim == 0:
        if not (np.isfinite(beats) and beats > 0):
            raise TalimError(f"beat_seconds must be above 0, not {float(beats)}")
        return times / float(beats)
    if beats.size < 2 or not np.all(np.diff(beats) > 0):
        raise TalimError("tracked beats must be two or more rising times in seconds")
    return np.interp(times, beats, np.arange(beats.size, dtype=float), left=np.nan, right=np.nan)


def _onset_grid(onset_beats: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Onset weights on a grid of a quarter of a beat, from the beat before the first onset; [beats * 4]."""
    strength = np.ones(onset_beats.size) if weights is None else np.asarray(weights, float)
    if strength.shape != onset_beats.shape:
        raise TalimError(f"{onset_beats.size} onsets need as many weights, not {strength.size}")
    finite = np.isfinite(onset_beats) & np.isfinite(strength)
    beats, strength = onset_beats[finite], strength[finite]
    if not beats.size:
        return np.zeros(0)
    slots = np.round((beats - np.floor(beats.min())) * SLOTS_PER_BEAT).astype(int)
    size = (slots.max() // SLOTS_PER_BEAT + 1) * SLOTS_PER_BEAT
    return np.bincount(slots, weights=strength, minlength=size)


def _stroke_profile(cycle: Cycle) -> np.ndarray:
    """A cycle's stroke weights on a grid of a quarter of a beat; [beats * 4]."""
    if not cycle.strokes:
        raise TalimError(f"{cycle.name} has no strokes on record, only its length: it cannot be scored")
    profile = np.zeros(round(cycle.beats * SLOTS_PER_BEAT))
    for stroke in cycle.strokes:
        profile[round(stroke.onset_beats * SLOTS_PER_BEAT) % profile.size] += stroke.weight
    return profile


def _centred_by_quarter(grid: np.ndarray) -> np.ndarray:
    """A grid [..., beats * 4] less its mean at each quarter of the beat; what remains distinguishes the beats."""
    quarters = grid.reshape(*grid.shape[:-1], -1, SLOTS_PER_BEAT)
    return (quarters - quarters.mean(axis=-2, keepdims=True)).reshape(grid.shape)
