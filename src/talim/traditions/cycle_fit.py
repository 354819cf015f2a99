"""Scores of what is heard against what a mode or a cycle says: pitch tracks and onset lists, one page a function.

Conventions: pitches are cents above the tonic, NaN where nothing is voiced; times are seconds; positions in a cycle
are beats after its first. Which of many modes a recording is in, is asked elsewhere: here one mode is held against
one track.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from talim.errors import TalimError
from talim.traditions.schema import Cycle, Mode

SLOTS_PER_BEAT = 4
LEAST_VOICED_SECONDS = 1.0


class ScaleDegrees(NamedTuple):
    """For each pitch: `number` (1 is the tonic, 0 unvoiced), `octave` (0 is the tonic's own), `off_cents`."""

    number: np.ndarray
    octave: np.ndarray
    off_cents: np.ndarray


@dataclass(frozen=True)
class ScaleScore:
    """How a pitch track keeps to a mode's notes; see `scale_score`."""

    fit: float
    in_scale: float
    chance: float
    off_cents: float
    heard: float
    at_rest: float


@dataclass(frozen=True)
class CycleScore:
    """How an onset list keeps to a cycle's strokes; see `cycle_score`."""

    fit: float
    correlation: float
    chance: float
    first_beat: float


def degree_of(cents: float | np.ndarray, mode: Mode, *, theory: bool = False) -> ScaleDegrees:
    """The scale degree nearest to each pitch.

    Definition: the degree, in any octave, with the smallest distance in cents; `off_cents` is pitch minus degree,
    positive where the pitch is sharp, NaN where unvoiced. Unit: cents, shape of `cents`. `theory` takes the degrees
    as theory writes them instead of as they are played. Source: the definition itself.
    """
    pitch = np.atleast_1d(np.asarray(cents, float))
    degrees = np.asarray(mode.theory_cents if theory else mode.degrees_cents, float)
    ladder = np.concatenate(
        [degrees, degrees[:1] + 1200.0]
    )  # the pitch below the octave may be nearest to it
    voiced = np.isfinite(pitch)
    octave, within = np.divmod(np.where(voiced, pitch, 0.0) - degrees[0], 1200.0)
    distance = (within + degrees[0])[..., None] - ladder
    nearest = np.argmin(np.abs(distance), axis=-1)
    off = np.take_along_axis(distance, nearest[..., None], -1)[..., 0]
    number = np.where(voiced, nearest % degrees.size + 1, 0)
    octave = np.where(voiced, octave + (nearest == degrees.size), 0)
    return ScaleDegrees(number.astype(int), octave.astype(int), np.where(voiced, off, np.nan))


def scale_score(
    cents: np.ndarray,
    mode: Mode,
    hop_seconds: float,
    *,
    tolerance_cents: float = 35.0,
    theory: bool = False,
    rest_seconds: float = 3.0,
) -> ScaleScore:
    """How well a pitch track (cents [T], NaN unvoiced, one value each `hop_seconds`) keeps to a mode's notes.

    `in_scale` is the share of voiced time within `tolerance_cents` of a degree or a touched note, in any octave
    (0..1, higher is closer); `chance` the share of an octave that those windows cover, which a track of random
    pitches would reach; `fit` = (in_scale - chance) / (1 - chance), 1 when every pitch is in the scale, about 0 for
    random pitches, below 0 for another scale's notes. `off_cents` is the median distance from the nearest degree
    of the time in the scale (0..tolerance, lower is closer). `heard` is the share of the degrees that hold at least
    1 % of the voiced time (0..1). `at_rest` is the share of the last `rest_seconds` of voiced time on the mode's
    final, any octave (0..1). All NaN with less than a second voiced. Source: the share of time on scale notes is
    the usual check of a tonic and scale (Chordia and Şentürk 2013); the correction for chance is Cohen's kappa.
    """
    if not (np.isfinite(hop_seconds) and hop_seconds > 0):
        raise TalimError(f"hop_seconds must be above 0, not {hop_seconds}")
    if not 0 < tolerance_cents <= 100:
        raise TalimError(f"tolerance_cents must be above 0 and at most 100, not {tolerance_cents:g}")
    pitch = np.asarray(cents, float)
    pitch = pitch[np.isfinite(pitch)]
    if pitch.size * hop_seconds < LEAST_VOICED_SECONDS:
        return ScaleScore(*(float("nan"),) * 6)
    found = degree_of(pitch, mode, theory=theory)
    on_degree = np.abs(found.off_cents) <= tolerance_cents
    allowed = [*(mode.theory_cents if theory else mode.degrees_cents), *mode.touched_cents]
    inside = on_degree | (
        np.min(np.abs(octave_distance(pitch[:, None], np.array(allowed))), 1) <= tolerance_cents
    )
    chance = octave_coverage(np.array(allowed), tolerance_cents)
    in_scale = float(inside.mean())
    shares = np.bincount(found.number[on_degree], minlength=len(mode.degrees_cents) + 1)[1:] / pitch.size
    last = pitch[-max(1, round(rest_seconds / hop_seconds)) :]
    return ScaleScore(
        fit=(in_scale - chance) / (1 - chance) if chance < 1 else float("nan"),
        in_scale=in_scale,
        chance=chance,
        off_cents=float(np.median(np.abs(found.off_cents[on_degree]))) if on_degree.any() else float("nan"),
        heard=float((shares >= 0.01).mean()),
        at_rest=float((np.abs(octave_distance(last, mode.final_cents)) <= tolerance_cents).mean()),
    )


def octave_distance(cents: np.ndarray, other_cents: np.ndarray | float) -> np.ndarray:
    """Signed distance in cents to the nearest octave of `other_cents`, in [-600, 600)."""
    return (np.asarray(cents) - other_cents + 600.0) % 1200.0 - 600.0


def octave_coverage(cents: np.ndarray, tolerance_cents: float) -> float:
    """The share of an octave within `tolerance_cents` of any of `cents` (0..1), by one-cent steps."""
    steps = np.arange(1200.0) + 0.5
    return float((np.min(np.abs(octave_distance(steps[:, None], cents)), axis=1) <= tolerance_cents).mean())


def degree_intonation(cents: np.ndarray, mode: Mode, *, within_cents: float = 60.0) -> np.ndarray:
    """Where each degree is really sung: median cents above the tonic, folded to one octave; [degrees].

    Definition: the median of all pitches nearest to a degree and within `within_cents` of it, NaN where they make
    up less than 0.5 % of the voiced track. Unit: cents. Compare with `mode.degrees_cents` and `mode.theory_cents`.
    Source: Bozkurt et al. 2009 take the histogram's peak near each degree; the median is steadier on short tracks.
    """
    pitch = np.asarray(cents, float)
    pitch = pitch[np.isfinite(pitch)]
    found = degree_of(pitch, mode)
    medians = np.full(len(mode.degrees_cents), np.nan)
    for index, degree in enumerate(mode.degrees_cents):
        off = found.off_cents[(found.number == index + 1) & (np.abs(found.off_cents) <= within_cents)]
        if pitch.size and off.size >= max(1.0, 0.005 * pitch.size):
            medians[index] = degree + np.median(off)
    return medians


def beat_positions(times_seconds: np.ndarray, beat_seconds: float | np.ndarray) -> np.ndarray:
    """Times as beats: divided by a steady beat's length, or interpolated between the times of tracked beats.

    Times outside tracked beats are NaN. TalimError where a steady beat is not above 0 or tracked beats do not rise.
    """
    times, beats = np.asarray(times_seconds, float), np.asarray(beat_seconds, float)
    if beats.ndim == 0:
        if not (np.isfinite(beats) and beats > 0):
            raise TalimError(f"beat_seconds must be above 0, not {float(beats)}")
        return times / float(beats)
    if beats.size < 2 or not np.all(np.diff(beats) > 0):
        raise TalimError("tracked beats must be two or more rising times in seconds")
    return np.interp(times, beats, np.arange(beats.size, dtype=float), left=np.nan, right=np.nan)


def accents(onset_beats: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Onsets summed on a grid of a quarter of a beat, from the beat before the first onset on; [beats * 4]."""
    at = np.asarray(onset_beats, float)
    strength = np.ones(at.size) if weights is None else np.asarray(weights, float)
    if strength.shape != at.shape:
        raise TalimError(f"{at.size} onsets need as many weights, not {strength.size}")
    keep = np.isfinite(at) & np.isfinite(strength)
    at, strength = at[keep], strength[keep]
    if not at.size:
        return np.zeros(0)
    slots = np.round((at - np.floor(at.min())) * SLOTS_PER_BEAT).astype(int)
    size = (slots.max() // SLOTS_PER_BEAT + 1) * SLOTS_PER_BEAT
    return np.bincount(slots, weights=strength, minlength=size)


def stroke_profile(cycle: Cycle) -> np.ndarray:
    """A cycle's stroke weights on a grid of a quarter of a beat; [beats * 4]. TalimError where it has no strokes."""
    if not cycle.strokes:
        raise TalimError(f"{cycle.name} has no strokes on record, only its length: it cannot be scored")
    profile = np.zeros(round(cycle.beats * SLOTS_PER_BEAT))
    for stroke in cycle.strokes:
        profile[round(stroke.onset_beats * SLOTS_PER_BEAT) % profile.size] += stroke.weight
    return profile


def within_beat_centred(grid: np.ndarray) -> np.ndarray:
    """A grid [..., beats * 4] less its mean at each quarter of the beat: what is left tells beat from beat."""
    quarters = grid.reshape(*grid.shape[:-1], -1, SLOTS_PER_BEAT)
    return (quarters - quarters.mean(axis=-2, keepdims=True)).reshape(grid.shape)


def cycle_score(
    onset_seconds: np.ndarray,
    weights: np.ndarray | None,
    cycle: Cycle,
    beat_seconds: float | np.ndarray,
) -> CycleScore:
    """How well onsets (seconds [N], with `weights` of their strength or length) fall as a cycle's strokes do.

    Onsets are put on a grid of a quarter of a beat (`beat_seconds`: the length of a steady beat whose grid passes
    through 0 s, or the times of tracked beats); the cycle's stroke weights are tiled along it; from both, the mean
    at each quarter of the beat is taken away, so that falling on the beat at all counts for no cycle. `correlation`
    is Pearson's, at the beat where it is highest (-1..1, higher is closer), `first_beat` the beat, counted from 0 s
    or the first tracked beat, on which that cycle begins (0..beats). The best of many places is high by luck:
    `chance` = sqrt(2 ln(cycle's beats) / beats heard) is about what it would be for noise, and `fit` = correlation
    - chance is what to compare cycles by (about 0 or below: no such cycle). NaN for less than two whole cycles.
    Source: template matching of accents at the best phase, as Srinivasamurthy et al. 2014 review for meter; the
    bound is the usual one for the greatest of n normal deviates.
    """
    positions = beat_positions(onset_seconds, beat_seconds)
    profile = stroke_profile(cycle)
    heard = accents(positions, weights)
    if heard.size < 2 * profile.size or np.ptp(heard) == 0:
        return CycleScore(*(float("nan"),) * 4)
    folds = -(-heard.size // profile.size)
    places = max(1, round(cycle.beats))
    tiled = np.array(
        [np.tile(np.roll(profile, place * SLOTS_PER_BEAT), folds)[: heard.size] for place in range(places)]
    )
    left, right = within_beat_centred(tiled), within_beat_centred(heard)
    correlations = left @ right / (np.linalg.norm(left, axis=1) * np.linalg.norm(right) + 1e-12)
    best = int(np.argmax(correlations))
    chance = float(np.sqrt(2 * np.log(places) * SLOTS_PER_BEAT / heard.size))
    start = np.floor(np.nanmin(positions))
    return CycleScore(
        fit=float(correlations[best]) - chance,
        correlation=float(correlations[best]),
        chance=chance,
        first_beat=float((start + best) % cycle.beats),
    )


def best_cycles(
    onset_seconds: np.ndarray,
    weights: np.ndarray | None,
    cycles: Sequence[Cycle],
    beat_seconds: float | np.ndarray,
) -> list[tuple[Cycle, CycleScore]]:
    """The cycles with strokes, best `cycle_score(...).fit` first; those too long for the onsets are left out.

    Cycles whose strokes are the same (Düyek and Ağır Düyek differ in tempo only) score alike, in the order given.
    """
    scored = [
        (cycle, cycle_score(onset_seconds, weights, cycle, beat_seconds)) for cycle in cycles if cycle.strokes
    ]
    return sorted((pair for pair in scored if np.isfinite(pair[1].fit)), key=lambda pair: -pair[1].fit)
