"""Effects of several groups of trials together, and Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from talim.evaluation.intervals import Effect, two_way_effect

Rows = Iterable[tuple[int, Mapping[str, float]]]  # of a trial or a pair each: its seed, and a value by recording


@dataclass(frozen=True)
class WeightedGroup:
    """Rows of trials of one base on one corpus, and the weight of their mean in a sum."""

    corpus: str
    weight: float
    rows: Rows


def effect_of_groups(groups: Sequence[WeightedGroup]) -> Effect | None:
    """The weighted sum of the groups' means over seeds and recordings; None where rows of a group share no recording.

    Rows of one seed are averaged first. Groups on one corpus (several bases, or two sites) have the same recordings and
    seeds, which are easy or hard for all of them: their tables are added cell by cell, of the recordings and seeds
    that all have (of no common seed: in their order), before the error is estimated. Groups on different corpora, or
    without a common recording, are independent.
    """
    by_corpus: dict[str, list[tuple[WeightedGroup, dict[int, dict[str, float]]]]] = {}
    count = 0
    for group in groups:
        rows = list(group.rows)
        if not (means := mean_by_seed(rows)):
            return None
        by_corpus.setdefault(group.corpus, []).append((group, means))
        count += len(rows)
    parts = [effect for members in by_corpus.values() for effect in _corpus_effects(members)]
    pooled, number = pooled_effect(parts), len(parts)  # of a sum, which is so many times the mean
    return replace(pooled, mean=number * pooled.mean, error=number * pooled.error, pairs=count)


def mean_by_seed(rows: Rows) -> dict[int, dict[str, float]]:
    """The mean row of each seed, of the recordings that all rows have; empty without a common one.

    Rows of one seed share it, so they do not count as independent.
    """
    by_seed: dict[int, list[Mapping[str, float]]] = {}
    for seed, row in rows:
        by_seed.setdefault(seed, []).append(row)
    names = [set(row) for group in by_seed.values() for row in group]
    shared = sorted(set.intersection(*names)) if names else []
    return {
        seed: {name: float(np.mean([row[name] for row in group])) for name in shared}
        for seed, group in sorted(by_seed.items())
        if shared
    }


def _corpus_effects(members: Sequence[tuple[WeightedGroup, dict[int, dict[str, float]]]]) -> list[Effect]:
    """The effect of all groups of a corpus together; of each alone where they share no recording."""
    recordings = sorted(set.intersection(*(set(next(iter(means.values()))) for _, means in members)))
    if not recordings:
        return [effect for member in members for effect in _corpus_effects([member])]
    common = set.intersection(*(set(means) for _, means in members))
    seeds = [sorted(common or means) for _, means in members]
    rows = range(min(len(each) for each in seeds))
    tables = [
        group.weight * np.array([[means[own[row]][name] for name in recordings] for row in rows])
        for (group, means), own in zip(members, seeds, strict=True)
    ]
    return [two_way_effect(np.sum(tables, axis=0))]


def pooled_effect(parts: Sequence[Effect]) -> Effect:
    """The mean of independent effects, as of corpora without common recordings, with equal weights."""
    if not parts:
        raise ValueError("parts is empty; give at least one effect")
    mean = float(np.mean([part.mean for part in parts]))
    error, df = pooled_error([part.error for part in parts], [part.df for part in parts])
    seeds, recordings, pairs = (sum(getattr(part, name) for part in parts) for name in ("seeds", "recordings", "pairs"))
    return Effect(mean, error, df, seeds, recordings, _pooled_skewness(parts, error), pairs)


def _pooled_skewness(parts: Sequence[Effect], error: float) -> float:
    """Skewness of the mean of independent means, whose error is `error`."""
    if not error > 0:
        return 0.0
    return sum(part.skewness * (part.error / len(parts)) ** 3 for part in parts) / error**3


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
