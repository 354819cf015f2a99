"""Intervals of means by recording: clips of one recording are not independent, and neither are a recording's seeds.

Every interval of a mean, or of a mean difference, comes from `mean_interval`, or from the `Effect` that it is made of.
It is a Student t interval, joined with Hall's interval for skewed values, and with a smaller error rate for few
recordings. How often it contains the true mean, beside the percentile bootstrap and the plain t interval:
docs/reports/interval-coverage.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

CONFIDENCE_LEVEL = 0.95
POWER = 0.8
MANY_RECORDINGS = 30  # from here on the error rate is the nominal one
MAX_STRETCH = 2.0  # beyond it Hall's interval covers little more and finds less
UNBOUNDED, NOT_NEGATIVE = (-math.inf, math.inf), (0.0, math.inf)  # the values that a quantity can have


@dataclass(frozen=True)
class Effect:
    """A mean with its standard error, in the unit of what was averaged."""

    mean: float
    error: float  # standard error of the mean; nan if a single number leaves it unknown
    df: float  # degrees of freedom of the standard error
    seeds: int  # that the error counts: independent rows of the table, or of each of several tables
    recordings: int
    skewness: float = 0.0  # of the mean: its third central moment over the cube of the error
    pairs: int = 0  # of trials, several of which may share a seed; 0 where nothing was paired

    def interval(self, confidence: float = CONFIDENCE_LEVEL) -> tuple[float, float]:
        """The interval of the mean; (nan, nan) if the error is unknown."""
        if self.error == 0:
            return self.mean, self.mean
        quantile = self._quantile(1 - (1 - confidence) / 2 * self._error_rate_factor)
        low, high = (sign * self._reach(sign, quantile) for sign in (-1, 1))
        return self.mean - high * self.error, self.mean - low * self.error

    @property
    def p_value(self) -> float:
        """Two-sided p value of the mean against 0: at most p if the interval at confidence 1 - p leaves 0 out."""
        if self.error == 0:
            return float(self.mean == 0)
        ratio, sign = self.mean / self.error, math.copysign(1, self.mean)
        nearest = max(min(abs(ratio), sign * _unskewed(ratio, self.skewness)), abs(ratio) / MAX_STRETCH)
        return min(1.0, 2 * float(stdtr(self.df, -nearest)) / self._error_rate_factor)

    def min_detectable_effect(self, confidence: float = CONFIDENCE_LEVEL) -> float:
        """The smallest true effect that such a study distinguishes from 0 with 80 % power, if it is not skewed."""
        quantile = self._quantile(1 - (1 - confidence) / 2 * self._error_rate_factor)
        return self.error * (quantile + self._quantile(POWER))

    def _quantile(self, p: float) -> float:
        return float(stdtrit(self.df, p))

    def _reach(self, sign: int, quantile: float) -> float:
        """The end on one side, in standard errors: that of t, or farther where Hall's is, to MAX_STRETCH of it."""
        hall = sign * _unskewed_inverse(sign * quantile, self.skewness)
        return min(max(quantile, hall), MAX_STRETCH * quantile)

    @property
    def _error_rate_factor(self) -> float:
        """What the nominal error rate is multiplied by: few values do not show how skewed they are."""
        count = self.recordings if self.recordings > 1 else self.seeds
        return 0.5 if count <= 2 else min(1.0, 0.2 + 0.8 * count / MANY_RECORDINGS)


def _unskewed(ratio: float, skewness: float) -> float:
    """A studentized mean whose distribution is as good as symmetric: Hall's third transformation (Hall 1992)."""
    return ratio + skewness * ratio**2 / 3 + skewness**2 * ratio**3 / 27 + skewness / 6


def _unskewed_inverse(value: float, skewness: float) -> float:
    if abs(skewness) < 1e-6:
        return value
    return (math.cbrt(1 + skewness * (value - skewness / 6)) - 1) * 3 / skewness


def mean_interval(
    values: Mapping[str, float] | Sequence[float] | np.ndarray,
    confidence: float = CONFIDENCE_LEVEL,
    bounds: tuple[float, float] = UNBOUNDED,
) -> list[float] | None:
    """The interval of the mean, [low, high], within the `bounds` of what is averaged; None for a single number.

    `values` are one for each recording, or float [seeds, recordings] with every recording in every seed. For paired
    differences it is the interval of their mean. Where all values are equal it has no width.
    """
    table = np.atleast_2d(np.asarray(list(values.values()) if isinstance(values, Mapping) else values, float))
    return None if table.size < 2 else list(within(two_way_effect(table).interval(confidence), bounds))


def within(ends: Sequence[float], bounds: tuple[float, float]) -> tuple[float, float]:
    """The ends of an interval, none of them beyond the values that the quantity can have; it covers no less for it."""
    low, high = (float(min(max(end, bounds[0]), bounds[1])) for end in ends)
    return low, high


def two_way_effect(differences: np.ndarray) -> Effect:
    """The mean of differences, float [seeds, recordings], with both factors random.

    Its variance is (MS_seeds + MS_recordings - MS_residual) / (seeds * recordings), the expected mean squares
    of a crossed random-effects design solved for the grand mean, with Satterthwaite's degrees of freedom
    (Satterthwaite 1946; Clark 1973); it is at least what the larger of the first two mean squares gives alone. With
    one seed, or one recording, only the other factor is random, and the report must say so.

    ValueError for missing values.
    """
    table = np.asarray(differences, float)
    if table.ndim != 2 or not table.size or not np.isfinite(table).all():
        raise ValueError("differences must be a full table [seeds, recordings] of finite numbers")
    seeds, recordings = table.shape
    mean = float(table.mean())
    if seeds == 1 or recordings == 1:
        flat = table.ravel()
        error = 0.0 if np.ptp(flat) == 0 else float(flat.std(ddof=1) / np.sqrt(flat.size))
        error = error if flat.size > 1 else float("nan")
        return Effect(mean, error, max(flat.size - 1, 1), seeds, recordings, _skewness_of_mean(flat, error))
    by_seed, by_recording = table.mean(1), table.mean(0)
    residual = table - by_seed[:, None] - by_recording[None] + mean
    mean_squares = np.array(
        [
            recordings * by_seed.var(ddof=1),
            seeds * by_recording.var(ddof=1),
            float(np.square(residual).sum()) / ((seeds - 1) * (recordings - 1)),
        ]
    )
    df = np.array([seeds - 1, recordings - 1, (seeds - 1) * (recordings - 1)])
    mean_square, error_df = mean_square_of_error(mean_squares, df)
    error = math.sqrt(mean_square / table.size)
    return Effect(mean, error, error_df, seeds, recordings, _skewness_of_mean(by_recording, error))


def mean_square_of_error(mean_squares: np.ndarray, df: np.ndarray) -> tuple[float, float]:
    """First + second - third mean square, at least the larger of the first two, with Satterthwaite's df."""
    larger = int(np.argmax(mean_squares[:2]))
    both = float(mean_squares[0] + mean_squares[1] - mean_squares[2]) if df.all() else 0.0
    if both <= mean_squares[larger]:
        return float(mean_squares[larger]), max(float(df[larger]), 1.0)
    return both, max(both**2 / float((np.square(mean_squares) / df).sum()), 1.0)


def _skewness_of_mean(values: np.ndarray, error: float) -> float:
    """Skewness of the mean of values [n] whose standard error is `error`; 0 for fewer than three."""
    count = values.size
    if count < 3 or not error > 0:
        return 0.0
    third = float(((values - values.mean()) ** 3).sum()) * count / ((count - 1) * (count - 2))  # unbiased
    return third / count**2 / error**3


def mean_by_recording(values: Sequence[float], recordings: Sequence[str]) -> dict[str, float]:
    """The mean of each recording's clips."""
    by_recording: dict[str, list[float]] = {}
    for value, recording in zip(values, recordings, strict=True):
        by_recording.setdefault(recording, []).append(float(value))
    return {recording: float(np.mean(group)) for recording, group in sorted(by_recording.items())}


def wilson_interval(count: float, of: float, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of the proportion `count` of `of` (Wilson 1927); valid at 0 and 1 too. ValueError for `of` < 1."""
    if not 0 <= count <= of or of < 1:
        raise ValueError(f"a proportion needs 0 <= count <= of and of >= 1, not {count} of {of}")
    proportion, weight = count / of, z**2 / of
    centre = (proportion + weight / 2) / (1 + weight)
    half_width = z / (1 + weight) * (proportion * (1 - proportion) / of + weight / (4 * of)) ** 0.5
    # without these two, rounding leaves some 1e-17 beside the ends
    return 0.0 if count == 0 else centre - half_width, 1.0 if count == of else centre + half_width
