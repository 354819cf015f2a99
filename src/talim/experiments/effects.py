"""Mean effects with standard errors over pairs of trials and recordings, both random; Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

POWER = 0.8


@dataclass(frozen=True)
class Effect:
    """A mean with its standard error, in the unit of what was averaged."""

    mean: float
    error: float  # standard error of the mean; nan if a single number leaves it unknown
    df: float  # degrees of freedom of the standard error
    pairs: int
    recordings: int

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """The t interval of the mean; (nan, nan) if the error is unknown."""
        half = self.error * float(stats.t.ppf((1 + confidence) / 2, self.df))
        return self.mean - half, self.mean + half

    @property
    def p_value(self) -> float:
        """Two-sided p value of the mean against 0."""
        if self.error == 0:
            return float(self.mean == 0)
        return float(2 * stats.t.sf(abs(self.mean) / self.error, self.df))

    def min_detectable_effect(self, confidence: float = 0.95) -> float:
        """The smallest true effect that such a study distinguishes from 0 with 80 % power."""
        return float(self.error * stats.t.ppf([(1 + confidence) / 2, POWER], self.df).sum())


def two_way_effect(differences: np.ndarray) -> Effect:
    """The mean of differences, float [pairs, recordings], with both factors random.

    Its variance is (MS_pairs + MS_recordings - MS_residual) / (pairs * recordings), the expected mean squares
    of a crossed random-effects design solved for the grand mean, with Satterthwaite's degrees of freedom
    (Satterthwaite 1946; Clark 1973); it is at least what the larger of the first two mean squares gives alone. With
    one pair, or one recording, only the other factor is random, and the report must say so.

    ValueError for missing values.
    """
    table = np.asarray(differences, float)
    if table.ndim != 2 or not table.size or not np.isfinite(table).all():
        raise ValueError("differences must be a full table [pairs, recordings] of finite numbers")
    pairs, recordings = table.shape
    mean = float(table.mean())
    if pairs == 1 or recordings == 1:
        flat = table.ravel()
        error = float(flat.std(ddof=1) / np.sqrt(flat.size)) if flat.size > 1 else float("nan")
        return Effect(mean, error, max(flat.size - 1, 1), pairs, recordings)
    by_pair, by_recording = table.mean(1), table.mean(0)
    residual = table - by_pair[:, None] - by_recording[None] + mean
    mean_squares = np.array(
        [
            recordings * by_pair.var(ddof=1),
            pairs * by_recording.var(ddof=1),
            float(np.square(residual).sum()) / ((pairs - 1) * (recordings - 1)),
        ]
    )
    df = np.array([pairs - 1, recordings - 1, (pairs - 1) * (recordings - 1)])
    mean_square, error_df = mean_square_of_error(mean_squares, df)
    return Effect(mean, math.sqrt(mean_square / table.size), error_df, pairs, recordings)


def mean_square_of_error(mean_squares: np.ndarray, df: np.ndarray) -> tuple[float, float]:
    """First + second - third mean square, at least the larger of the first two, with Satterthwaite's df."""
    larger = int(np.argmax(mean_squares[:2]))
    both = float(mean_squares[0] + mean_squares[1] - mean_squares[2]) if df.all() else 0.0
    if both <= mean_squares[larger]:
        return float(mean_squares[larger]), max(float(df[larger]), 1.0)
    return both, max(both**2 / float((np.square(mean_squares) / df).sum()), 1.0)


def pooled_effect(parts: Sequence[Effect]) -> Effect:
    """The mean of effects in groups without common recordings (genres, bases), with equal weights."""
    if not parts:
        raise ValueError("parts is empty; give at least one effect")
    mean = float(np.mean([part.mean for part in parts]))
    error, df = pooled_error([part.error for part in parts], [part.df for part in parts])
    return Effect(mean, error, df, sum(part.pairs for part in parts), sum(part.recordings for part in parts))


def pooled_error(errors: Sequence[float], dfs: Sequence[float]) -> tuple[float, float]:
    """The standard error of a mean of independent parts, and its degrees of freedom."""
    variances, df = np.square(errors), np.array(dfs)
    total, weight = float(variances.sum()), float((np.square(variances) / df).sum())
    return math.sqrt(total) / len(df), total**2 / weight if weight > 0 else float(df.sum())


def holm_adjusted(p_values: Sequence[float]) -> list[float]:
    """P values adjusted for the family-wise error rate (Holm 1979)."""
    order = np.argsort(p_values)
    adjusted = np.empty(len(p_values))
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * float(p_values[index])))
        adjusted[index] = largest
    return adjusted.tolist()
