"""Confidence intervals by recording: clips of one recording are not independent samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import stdtrit

RESAMPLES = 10_000
CONFIDENCE_LEVEL = 0.95


def mean_by_recording(values: Sequence[float], recordings: Sequence[str]) -> dict[str, float]:
    """The mean of each recording's clips."""
    by_recording: dict[str, list[float]] = {}
    for value, recording in zip(values, recordings, strict=True):
        by_recording.setdefault(recording, []).append(float(value))
    return {recording: float(np.mean(group)) for recording, group in sorted(by_recording.items())}


def bootstrap_ci(per_recording: Mapping[str, float], seed: int = 0) -> list[float] | None:
    """95 % percentile bootstrap of the mean over recordings, [low, high]; None for fewer than two."""
    values = np.asarray(list(per_recording.values()), dtype=np.float64)
    if len(values) < 2:
        return None
    rng = np.random.default_rng(seed)
    means = values[rng.integers(len(values), size=(RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [(1 - CONFIDENCE_LEVEL) / 2, (1 + CONFIDENCE_LEVEL) / 2])
    return [float(low), float(high)]


def difference_ci(per_recording: Mapping[str, float]) -> list[float] | None:
    """95 % t interval of the mean of paired differences, [low, high]; None for fewer than two recordings.

    Whether something is better or worse is decided by this one: resampling two to five values, as `bootstrap_ci` does,
    gives intervals that miss 0 by chance in up to half of the cases.
    """
    values = np.asarray(list(per_recording.values()), dtype=np.float64)
    if len(values) < 2:
        return None
    error = values.std(ddof=1) / np.sqrt(len(values))
    half = float(error * stdtrit(len(values) - 1, (1 + CONFIDENCE_LEVEL) / 2))
    return [float(values.mean()) - half, float(values.mean()) + half]


def ci_note(count: int) -> str | None:
    """Why there is no interval, or why one from few recordings is unreliable; None if neither applies."""
    if count < 2:
        return "only one held-out recording: an interval by recording needs two or more"
    if count < 6:
        return f"only {count} held-out recordings: the interval is rough"
    return None


def wilson_interval(count: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of the proportion `count` of `of` (Wilson 1927); valid at 0 and 1 too. ValueError for `of` < 1."""
    if not 0 <= count <= of or of < 1:
        raise ValueError(f"a proportion needs 0 <= count <= of and of >= 1, not {count} of {of}")
    proportion, weight = count / of, z**2 / of
    centre = (proportion + weight / 2) / (1 + weight)
    half_width = z / (1 + weight) * (proportion * (1 - proportion) / of + weight / (4 * of)) ** 0.5
    return max(0.0, centre - half_width), min(1.0, centre + half_width)
