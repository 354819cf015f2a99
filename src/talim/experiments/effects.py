"""Mean effects with standard errors over trials and recordings, and Holm's correction for many questions.

Pairs of trials that differ in one factor are evaluated on the same recordings, so their differences form a table of
pairs by recordings. Both are random factors: other seeds, and other recordings, would have given other numbers.
"""

from __future__ import annotations

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
        quantiles = stats.t.ppf([(1 + confidence) / 2, POWER], self.df)
        return float(self.error * quantiles.sum())


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
    both = float(mean_squares[0] + mean_squares[1] - mean_squares[2])
    larger = int(np.argmax(mean_squares[:2]))
    if both <= mean_squares[larger]:
        return Effect(mean, _sqrt(mean_squares[larger] / table.size), float(df[larger]), pairs, recordings)
    satterthwaite = both**2 / float((np.square(mean_squares) / df).sum())
    return Effect(mean, _sqrt(both / table.size), max(satterthwaite, 1.0), pairs, recordings)


def pooled_effect(parts: Sequence[Effect]) -> Effect:
    """The mean of effects in groups without common recordings (genres, bases), with equal weights."""
    if not parts:
        raise ValueError("parts is empty; give at least one effect")
    variances = np.array([part.error**2 for part in parts])
    total = float(variances.sum())
    df = np.array([part.df for part in parts])
    weight = float((np.square(variances) / df).sum())
    return Effect(
        float(np.mean([part.mean for part in parts])),
        _sqrt(total) / len(parts),
        total**2 / weight if weight > 0 else float(df.sum()),
        sum(part.pairs for part in parts),
        sum(part.recordings for part in parts),
    )


def holm_adjusted(p_values: Sequence[float]) -> list[float]:
    """P values adjusted for the family-wise error rate (Holm 1979)."""
    order = np.argsort(p_values)
    adjusted = np.empty(len(p_values))
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * float(p_values[index])))
        adjusted[index] = largest
    return adjusted.tolist()


def _sqrt(value: float) -> float:
    return float(np.sqrt(max(value, 0.0)))
