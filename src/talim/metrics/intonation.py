"""Intonation: where the degrees of a mode are played, and how far a melody deviates from them.

Conventions: `cents` is float [n] above the tonic, NaN where unvoiced, one value every `hop_seconds`; octaves are folded
away; `degrees_cents` [d] are the degrees of the mode, the tonic first. The tonic must come from elsewhere: one that is
estimated on the same melody moves with it, so that a melody detuned as a whole looks right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from talim.metrics import pitch_contour

BIN_CENTS = 5.0
BINS = 240
PEAK_SEARCH_CENTS = 60.0  # around a degree
SMOOTHING_CENTS = 20.0
HALF_WEIGHT_FRACTION = 0.04  # fraction of the time on a degree at which it has half its full weight
TONIC_SD_CENTS = 4.0  # over recordings, of where the tonic is played (measured on real makam tracks)
DEGREE_SD_CENTS = 14.0
PRIOR_TRACKS = 6.0  # weight of these two standard deviations, in tracks
MAX_Z_SCORE = 3.0


@dataclass(frozen=True)
class IntonationProfile:
    """Where each degree is played: `cents` [d] on average, and `sd_cents` [d] over recordings."""

    cents: np.ndarray
    sd_cents: np.ndarray


def pitch_class_histogram(cents: np.ndarray) -> np.ndarray:
    """Fraction of the voiced time in each pitch class of 5 cents, [240]; bin k is centred on 5 k cents.

    ValueError if nothing is voiced.
    """
    voiced = np.asarray(cents, float)
    voiced = voiced[np.isfinite(voiced)]
    if voiced.size == 0:
        raise ValueError("a pitch histogram needs a voiced frame; all are unvoiced")
    counts = np.bincount(np.round(voiced / BIN_CENTS).astype(int) % BINS, minlength=BINS)
    return counts / counts.sum()


def degree_offsets(histogram: np.ndarray, degrees_cents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each degree is played, as its offset in cents [d], and the fraction of the time near it [d].

    The offset is the centre of the highest peak of the `histogram` [240], smoothed by 20 cents, within 60 cents of the
    degree; nearer peaks are weighted up.
    """
    smoothed = gaussian_filter1d(histogram, SMOOTHING_CENTS / BIN_CENTS, mode="wrap")
    distances = (np.arange(BINS) * BIN_CENTS - np.asarray(degrees_cents)[:, None] + 600) % 1200 - 600
    near = np.abs(distances) <= PEAK_SEARCH_CENTS
    height = np.where(near, smoothed * np.exp(-0.5 * (distances / PEAK_SEARCH_CENTS) ** 2), -1.0)
    peak = np.take_along_axis(distances, height.argmax(1)[:, None], 1)
    weight = np.where(near & (np.abs(distances - peak) <= SMOOTHING_CENTS), smoothed + 1e-12, 0.0)
    return (weight * distances).sum(1) / weight.sum(1), np.where(near, histogram, 0).sum(1)


def learn_intonation(degrees_cents: np.ndarray, tracks: Sequence[np.ndarray] = ()) -> IntonationProfile:
    """The intonation of a mode in `tracks` (cents above their tonics), shrunk towards the theoretical degrees.

    Every track counts once, each degree by the time spent on it; the theory counts as one track for the means, and the
    general standard deviations as six, so that without tracks the result is the theory.
    """
    degrees = np.asarray(degrees_cents, float)
    prior_sd = np.full(degrees.size, DEGREE_SD_CENTS)
    prior_sd[np.abs((degrees + 600) % 1200 - 600) < 1] = TONIC_SD_CENTS
    if not tracks:
        return IntonationProfile(degrees, prior_sd)
    per_track = [degree_offsets(pitch_class_histogram(track), degrees) for track in tracks]
    offsets = np.array([offset for offset, _ in per_track])
    weights = np.array([_degree_weight(fractions) for _, fractions in per_track])
    mean = (weights * offsets).sum(0) / (weights.sum(0) + 1.0)
    squares = (weights * (offsets - mean) ** 2).sum(0)
    variance = (squares + PRIOR_TRACKS * prior_sd**2) / (weights.sum(0) + PRIOR_TRACKS)
    return IntonationProfile(degrees + mean, np.sqrt(variance))


def intonation_z_rms(cents: np.ndarray, profile: IntonationProfile) -> float:
    """Root mean square deviation of the degrees from a profile, in its standard deviations.

    Range 0 to 3 (larger deviations count as 3), about 1 for another real recording, lower is truer; NaN if nothing is
    voiced. Degrees are weighted by the time spent on them, saturating. Source: own definition, after the pitch-class
    distributions of Chordia and Rae 2007 and the tuning analysis of Bozkurt 2012.
    """
    if not np.isfinite(cents).any():
        return float("nan")
    offsets, fractions = degree_offsets(pitch_class_histogram(cents), profile.cents)
    z_scores = np.minimum(np.abs(offsets) / profile.sd_cents, MAX_Z_SCORE)
    return float(np.sqrt(np.average(z_scores**2, weights=_degree_weight(fractions) + 1e-9)))


def intonation_deviation_cents(cents: np.ndarray, profile: IntonationProfile) -> float:
    """Mean absolute deviation of the degrees from a profile in cents, weighted by the time spent on them.

    Range 0 to 60, lower is truer; NaN if nothing is voiced. Source: own definition; `intonation_z_rms` without regard
    to how much real recordings vary at each degree.
    """
    if not np.isfinite(cents).any():
        return float("nan")
    offsets, fractions = degree_offsets(pitch_class_histogram(cents), profile.cents)
    return float(np.average(np.abs(offsets), weights=fractions + 1e-9))


def histogram_distance(cents: np.ndarray, tracks: Sequence[np.ndarray]) -> float:
    """Distance of the pitch-class histogram from the mean one of real `tracks` of the mode, each above its tonic.

    Range 0 (equal) to 1 (nothing shared), lower is nearer; NaN if nothing is voiced. One minus the Bhattacharyya
    coefficient of the histograms, smoothed by 10 cents. Source: Gedik and Bozkurt 2010, who match makams by it.
    """
    if not tracks or not np.isfinite(cents).any():
        return float("nan")
    mean = np.mean([pitch_class_histogram(track) for track in tracks], axis=0)
    histogram, reference = (
        gaussian_filter1d(each, 10 / BIN_CENTS, mode="wrap") for each in (pitch_class_histogram(cents), mean)
    )
    return float(max(0.0, 1 - np.sqrt(histogram * reference).sum()))


def note_stability_cents(cents: np.ndarray, hop_seconds: float) -> float:
    """How much held notes waver: the median over steady notes of 0.2 s or more of their pitch's deviation in cents.

    Range 0 up, lower is steadier; NaN without such a note. The deviation is 1.48 times the median distance from a
    straight line through the note (so that a drifting note is not called unsteady), before any rounding; vibrato
    counts. Source: own definition.
    """
    track = pitch_contour.clean_f0(cents, hop_seconds)
    deviations = []
    for note in pitch_contour.steady_notes(track, hop_seconds):
        pitch = np.asarray(cents, float)[note.start : note.stop]
        frames = np.flatnonzero(np.isfinite(pitch) & (np.abs(pitch - note.cents) < 100))
        if frames.size * hop_seconds >= 0.2:
            line = np.polyval(np.polyfit(frames, pitch[frames], 1), frames)
            deviations.append(1.4826 * float(np.median(np.abs(pitch[frames] - line))))
    return float(np.median(deviations)) if deviations else float("nan")


def _degree_weight(fractions: np.ndarray) -> np.ndarray:
    """Weight of degrees by the `fractions` of the time spent on them, saturating towards 1."""
    return fractions / (fractions + HALF_WEIGHT_FRACTION)
