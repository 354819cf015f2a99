"""Intonation: where the degrees of a mode are really played, and how far a melody lies off them.

Conventions: `cents` is float [n] above the tonic, NaN where unvoiced, one value every `hop_seconds`; octaves are folded
away; `degrees_cents` [d] are the degrees of the mode, the tonic first. The tonic has to be known from elsewhere: one
that was estimated on the same melody moves with it, so that a melody detuned as a whole looks right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from talim.metrics import pitch_contour

BIN_CENTS = 5.0
BINS = 240
PEAK_SEARCH_CENTS = 60.0  # from a degree to where its peak is looked for
SMOOTHING_CENTS = 20.0
HALF_WEIGHT_FRACTION = 0.04  # the share of time on a degree at which it has half its say
TONIC_SPREAD_CENTS = 4.0  # over recordings, of where it is played (measured on real makam tracks)
DEGREE_SPREAD_CENTS = 14.0
PRIOR_TRACKS = 6.0  # how many tracks these two spreads are worth
MAX_Z_SCORE = 3.0


@dataclass(frozen=True)
class IntonationProfile:
    """Where each degree is played: `cents` [d] on average, `sd_cents` [d] from recording to recording."""

    cents: np.ndarray
    sd_cents: np.ndarray


def pitch_class_histogram(cents: np.ndarray) -> np.ndarray:
    """Share of voiced time in each pitch class of 5 cents, [240], summing to 1; bin k is centred on 5 k cents.

    ValueError where nothing is voiced.
    """
    voiced = np.asarray(cents, float)
    voiced = voiced[np.isfinite(voiced)]
    if voiced.size == 0:
        raise ValueError("a pitch histogram needs a voiced frame; all are unvoiced")
    counts = np.bincount(np.round(voiced / BIN_CENTS).astype(int) % BINS, minlength=BINS)
    return counts / counts.sum()


def degree_offsets(shares: np.ndarray, degrees_cents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each degree is played, as its offset in cents [d], and the share of time spent near it [d].

    The offset is the centre of the highest peak of the histogram `shares` [240], blurred by 20 cents, within 60 cents
    of the degree; nearer peaks count for more.
    """
    blurred = gaussian_filter1d(shares, SMOOTHING_CENTS / BIN_CENTS, mode="wrap")
    gaps = (np.arange(BINS) * BIN_CENTS - np.asarray(degrees_cents)[:, None] + 600) % 1200 - 600
    near = np.abs(gaps) <= PEAK_SEARCH_CENTS
    height = np.where(near, blurred * np.exp(-0.5 * (gaps / PEAK_SEARCH_CENTS) ** 2), -1.0)
    top = np.take_along_axis(gaps, height.argmax(1)[:, None], 1)
    weight = np.where(near & (np.abs(gaps - top) <= SMOOTHING_CENTS), blurred + 1e-12, 0.0)
    return (weight * gaps).sum(1) / weight.sum(1), np.where(near, shares, 0).sum(1)


def learn_intonation(degrees_cents: np.ndarray, tracks: Sequence[np.ndarray] = ()) -> IntonationProfile:
    """How a mode is played in `tracks` (cents above their tonics): the theory's degrees, moved as far as they say.

    Every track counts once, each degree by the time spent on it; one track's worth of theory and six of the general
    spreads are mixed in, so that no tracks at all give the theory.
    """
    degrees = np.asarray(degrees_cents, float)
    spread = np.full(degrees.size, DEGREE_SPREAD_CENTS)
    spread[np.abs((degrees + 600) % 1200 - 600) < 1] = TONIC_SPREAD_CENTS
    if not tracks:
        return IntonationProfile(degrees, spread)
    found = [degree_offsets(pitch_class_histogram(track), degrees) for track in tracks]
    offsets = np.array([offset for offset, _ in found])
    say = np.array([_degree_weight(share) for _, share in found])
    mean = (say * offsets).sum(0) / (say.sum(0) + 1.0)
    missed = (say * (offsets - mean) ** 2).sum(0)
    variance = (missed + PRIOR_TRACKS * spread**2) / (say.sum(0) + PRIOR_TRACKS)
    return IntonationProfile(degrees + mean, np.sqrt(variance))


def intonation_z_rms(cents: np.ndarray, practice: IntonationProfile) -> float:
    """How far the degrees are played off their usual places, in the spreads of that usage: root of the mean square.

    Range 0 to 3 (farther counts as 3), about 1 for one more real recording, lower is truer; NaN where nothing is
    voiced. Degrees count by the time spent on them, saturating. Source: own definition, after the pitch-class
    distributions of Chordia and Rae 2007 and the tuning analysis of Bozkurt 2012.
    """
    if not np.isfinite(cents).any():
        return float("nan")
    offsets, shares = degree_offsets(pitch_class_histogram(cents), practice.cents)
    off = np.minimum(np.abs(offsets) / practice.sd_cents, MAX_Z_SCORE)
    return float(np.sqrt(np.average(off**2, weights=_degree_weight(shares) + 1e-9)))


def intonation_deviation_cents(cents: np.ndarray, practice: IntonationProfile) -> float:
    """How far the degrees are played off their usual places: mean distance in cents, by the time spent on them.

    Range 0 to 60, lower is truer; NaN where nothing is voiced. Source: own definition; the plain form of
    `intonation_error`, without regard to how far real recordings differ at each degree.
    """
    if not np.isfinite(cents).any():
        return float("nan")
    offsets, shares = degree_offsets(pitch_class_histogram(cents), practice.cents)
    return float(np.average(np.abs(offsets), weights=shares + 1e-9))


def histogram_distance(cents: np.ndarray, tracks: Sequence[np.ndarray]) -> float:
    """Distance of the pitch-class histogram from the mean one of real `tracks` of the mode, each above its tonic.

    Range 0 (equal) to 1 (nothing shared), lower is nearer; NaN where nothing is voiced. One minus the Bhattacharyya
    coefficient of the histograms, blurred by 10 cents. Source: Gedik and Bozkurt 2010, who match makams so.
    """
    if not tracks or not np.isfinite(cents).any():
        return float("nan")
    mine, theirs = (
        gaussian_filter1d(shares, 10 / BIN_CENTS, mode="wrap")
        for shares in (
            pitch_class_histogram(cents),
            np.mean([pitch_class_histogram(track) for track in tracks], axis=0),
        )
    )
    return float(max(0.0, 1 - np.sqrt(mine * theirs).sum()))


def note_stability_cents(cents: np.ndarray, hop_seconds: float) -> float:
    """How much held notes waver: the median, over steady notes of 0.2 s or more, of their pitch's spread, in cents.

    Range 0 up, lower is steadier; NaN without such a note. The spread is 1.48 times the median distance from the
    note's own line (a straight one, so that a note that leans is not called unsteady), before any rounding; vibrato
    counts. Source: own definition.
    """
    track = pitch_contour.clean_f0(cents, hop_seconds)
    spreads = []
    for note in pitch_contour.steady_notes(track, hop_seconds):
        held = np.asarray(cents, float)[note.start : note.stop]
        at = np.flatnonzero(np.isfinite(held) & (np.abs(held - note.cents) < 100))
        if at.size * hop_seconds >= 0.2:
            line = np.polyval(np.polyfit(at, held[at], 1), at)
            spreads.append(1.4826 * float(np.median(np.abs(held[at] - line))))
    return float(np.median(spreads)) if spreads else float("nan")


def _degree_weight(shares: np.ndarray) -> np.ndarray:
    """How much a degree counts that has `shares` of the time."""
    return shares / (shares + HALF_WEIGHT_FRACTION)
