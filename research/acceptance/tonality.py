"""Pitch classes, tuning and key of a pitch track.

Conventions: pitch tracks are `pitch.PitchTrack`; pitch classes count semitones up from C, 0 to 11; cents are relative
to A4 = 440 Hz; unvoiced frames are ignored. Keys follow the equal-tempered major and natural minor scales.
"""

from __future__ import annotations

import numpy as np

from talim.metrics.pitch import PitchTrack

MAJOR = (0, 2, 4, 5, 7, 9, 11)
MINOR = (0, 2, 3, 5, 7, 8, 10)
# Highest for tonic, fifth and third. The best of four sets: correct for 82 % of 400 synthetic melodies; accuracy on
# other music is not known.
DEGREE_WEIGHTS = (5.0, 3.0, 3.5, 3.0, 4.0, 3.0, 2.5)


def tuning_cents(track: PitchTrack) -> float:
    """Offset of the equal-tempered grid that fits best, in [-50, 50) cents: the circular mean; 0 without pitch."""
    cents = track.cents[track.voiced]
    if cents.size == 0:
        return 0.0
    return float(np.angle(np.exp(2j * np.pi * cents / 100).mean()) * 100 / (2 * np.pi))


def on_grid_fraction(track: PitchTrack, within_cents: float = 25.0) -> float:
    """Fraction of voiced frames within `within_cents` of an equal-tempered grid whose tuning is estimated.

    Range [0, 1]; 0.5 for uniformly distributed pitches at 25 cents; NaN without voiced frames.
    """
    cents = track.cents[track.voiced] - tuning_cents(track)
    if cents.size == 0:
        return float("nan")
    return float((np.abs((cents + 50) % 100 - 50) <= within_cents).mean())


def pitch_class_profile(track: PitchTrack) -> np.ndarray:
    """Fraction of voiced time in each pitch class, float [12], summing to 1 (to 0 without pitch)."""
    cents = track.cents[track.voiced] - tuning_cents(track)
    classes = np.round(cents / 100).astype(int) + 9
    counts = np.bincount(classes % 12, minlength=12).astype(float)
    return counts / max(counts.sum(), 1.0)


def entropy_bits(profile: np.ndarray) -> float:
    """Entropy of a pitch-class profile in bits: 0 for one pitch class, log2(12) = 3.58 for a uniform profile."""
    positive = profile[profile > 0]
    return float(-(positive * np.log2(positive)).sum())


def estimate_key(profile: np.ndarray) -> tuple[int, str]:
    """The tonic's pitch class and "major" or "minor" whose weighted scale correlates best with `profile` [12]."""
    best, key = -2.0, (0, "major")
    for name, scale in (("major", MAJOR), ("minor", MINOR)):
        template = np.zeros(12)
        template[list(scale)] = DEGREE_WEIGHTS
        for tonic in range(12):
            score = float(np.corrcoef(np.roll(template, tonic), profile + 1e-9)[0, 1])
            if score > best:
                best, key = score, (tonic, name)
    return key


def notes_per_second(track: PitchTrack, shortest_seconds: float = 0.08) -> float:
    """Note onsets per second: runs of voiced frames within half a semitone, at least `shortest_seconds` long."""
    step = np.round(track.cents / 100)
    starts, run, last = 0, 0, np.nan
    least = max(1, round(shortest_seconds / track.hop_seconds))
    for value in step:
        run = run + 1 if value == last else 1
        last = value
        if np.isfinite(value) and run == least:
            starts += 1
    return starts / max(track.hop_seconds * step.size, 1e-9)
