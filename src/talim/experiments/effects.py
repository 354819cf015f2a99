"""Effects of several groups of trials together, and Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from talim.evaluation.intervals import Effect


def pooled_effect(parts: Sequence[Effect]) -> Effect:
    """The mean of effects in groups without common recordings (genres, bases), with equal weights."""
    if not parts:
        raise ValueError("parts is empty; give at least one effect")
    mean = float(np.mean([part.mean for part in parts]))
    error, df = pooled_error([part.error for part in parts], [part.df for part in parts])
    seeds, recordings, pairs = (sum(getattr(part, name) for part in parts) for name in ("seeds", "recordings", "pairs"))
    skewness = _pooled_skewness(parts, [1 / len(parts)] * len(parts), error)
    return Effect(mean, error, df, seeds, recordings, skewness, pairs)


def effect_difference(first: Effect, second: Effect) -> Effect:
    """The first effect minus the second, of groups without common recordings."""
    both = pooled_effect([first, second])
    error = 2 * both.error  # a difference has the error of the sum
    skewness = _pooled_skewness([first, second], [1.0, -1.0], error)
    return Effect(first.mean - second.mean, error, both.df, both.seeds, both.recordings, skewness, both.pairs)


def _pooled_skewness(parts: Sequence[Effect], weights: Sequence[float], error: float) -> float:
    """Skewness of a weighted sum of independent means."""
    if not error > 0:
        return 0.0
    third = sum(part.skewness * (weight * part.error) ** 3 for part, weight in zip(parts, weights, strict=True))
    return third / error**3


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
