"""Agreement between listeners, within listeners, and with automatic scores."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
from scipy import stats


def krippendorff_alpha(
    values: np.ndarray, metric: Literal["nominal", "ordinal", "interval"] = "interval"
) -> float | None:
    """Krippendorff's alpha of values [listeners, units], NaN for missing values; at most 1.

    1 is full agreement, 0 agreement by chance, below 0 systematic disagreement. None if no unit has two values or all
    values are equal. Source: Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011).
    """
    steps = np.unique(values[~np.isnan(values)])
    if len(steps) < 2:
        return None
    counts = np.stack([(values == step).sum(axis=0) for step in steps], axis=1).astype(float)  # [U, S]
    counts = counts[counts.sum(axis=1) >= 2]
    if len(counts) == 0:
        return None
    pairable = counts / (counts.sum(axis=1) - 1)[:, None]
    coincidences = pairable.T @ counts - np.diag(pairable.sum(axis=0))  # [S, S]
    total = coincidences.sum(axis=1)
    position = np.cumsum(total) - total / 2 if metric == "ordinal" else steps
    distance = (position[:, None] - position[None, :]) ** 2  # [S, S]
    if metric == "nominal":
        distance = 1.0 - np.eye(len(steps))
    expected = (np.outer(total, total) * distance).sum() / (total.sum() - 1)
    return float(1 - (coincidences * distance).sum() / expected) if expected > 0 else None


def rating_matrix(ratings: Iterable[tuple[Any, Any, float]]) -> np.ndarray:
    """Values [listeners, units] from (listener, unit, value); NaN for missing ones."""
    ratings = list(ratings)
    row, column = ({key: i for i, key in enumerate(sorted({r[axis] for r in ratings}))} for axis in (0, 1))
    values = np.full((len(row), len(column)), np.nan)
    for listener, unit, value in ratings:
        values[row[listener], column[unit]] = value
    return values


def intra_rater_agreement(first: np.ndarray, repeated: np.ndarray) -> dict[str, Any]:
    """Hidden repeats: first answers [n] in -2..2 and the same listeners' repeated answers with the sides swapped back.

    Fractions of equal answers, of answers at most one step apart, and of reversed answers; alpha over all.
    """
    if len(first) == 0:
        return {"repeats": 0} | dict.fromkeys(("same", "within_one_step", "reversed", "alpha"))
    return {
        "repeats": len(first),
        "same": float(np.mean(first == repeated)),
        "within_one_step": float(np.mean(np.abs(first - repeated) <= 1)),
        "reversed": float(np.mean(np.sign(first) * np.sign(repeated) < 0)),
        "alpha": krippendorff_alpha(np.stack([first, repeated]).astype(float)),
    }


def rank_correlation(strengths: Mapping[str, float], scores: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    """Spearman's rho between the strengths of conditions and automatic scores {metric: {condition: score}}.

    The two-sided p-value is exact for 4 to 8 conditions, and None for fewer. With so few conditions rho is descriptive.
    """
    rows = []
    for metric, values in scores.items():
        shared = [name for name in strengths if name in values]
        row = {"metric": metric, "conditions": len(shared), "spearman": None, "p": None}
        if len(shared) >= 3:
            strength_ranks = stats.rankdata([strengths[name] for name in shared])
            score_ranks = stats.rankdata([values[name] for name in shared])
            if strength_ranks.std() > 0 and score_ranks.std() > 0:
                rho = float(np.corrcoef(strength_ranks, score_ranks)[0, 1])
                row |= {"spearman": rho, "p": _exact_p(strength_ranks, score_ranks, rho)}
        rows.append(row)
    return rows


def _exact_p(x: np.ndarray, y: np.ndarray, rho: float) -> float | None:
    if not 4 <= len(x) <= 8:
        return None if len(x) < 4 else float(stats.spearmanr(x, y).pvalue)  # type: ignore[attr-defined]
    permutations = np.array(list(itertools.permutations(y)))
    null = (permutations - y.mean()) @ (x - x.mean()) / (len(x) * x.std() * y.std())
    return float(np.mean(np.abs(null) >= abs(rho) - 1e-9))
