"""How far listeners agree with each other, and each with themselves."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from scipy import stats


def krippendorff_alpha(
    values: np.ndarray, metric: Literal["nominal", "ordinal", "interval"] = "interval"
) -> float | None:
    """Krippendorff's alpha of values [listeners, units], NaN where a listener gave none.

    1 is full agreement, 0 what chance gives, below 0 systematic disagreement; None where no unit has two values or
    all values are one. Source: Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011).
    """
    steps = np.unique(values[~np.isnan(values)])
    if len(steps) < 2:
        return None
    marks = np.stack([(values == step).sum(axis=0) for step in steps], axis=1).astype(float)  # [U, S]
    marks = marks[marks.sum(axis=1) >= 2]
    if len(marks) == 0:
        return None
    per_unit = marks.sum(axis=1)
    pairable = marks / (per_unit - 1)[:, None]
    together = pairable.T @ marks - np.diag(pairable.sum(axis=0))  # coincidences [S, S]
    total = together.sum(axis=1)
    distance = _distance(steps, total, metric)
    observed = (together * distance).sum()
    expected = (np.outer(total, total) * distance).sum() / (total.sum() - 1)
    return float(1 - observed / expected) if expected > 0 else None


def _distance(steps: np.ndarray, total: np.ndarray, metric: str) -> np.ndarray:
    """Squared distances between values [S, S]."""
    if metric == "nominal":
        return 1.0 - np.eye(len(steps))
    place = np.cumsum(total) - total / 2 if metric == "ordinal" else steps
    return (place[:, None] - place[None, :]) ** 2


def intra_rater_agreement(first: np.ndarray, again: np.ndarray) -> dict[str, Any]:
    """Hidden repeats: answers [n] from -2 to 2 and what the same listener said the second time, sides undone.

    Shares of the very same answer, of one at most a step away, and of the opposite direction; alpha over all.
    """
    if len(first) == 0:
        return {"repeats": 0, "same": None, "within_one_step": None, "reversed": None, "alpha": None}
    return {
        "repeats": len(first),
        "same": float(np.mean(first == again)),
        "within_one_step": float(np.mean(np.abs(first - again) <= 1)),
        "reversed": float(np.mean(np.sign(first) * np.sign(again) < 0)),
        "alpha": krippendorff_alpha(np.stack([first, again]).astype(float)),
    }


def rank_correlation(
    strengths: Mapping[str, float], scores: Mapping[str, Mapping[str, float]]
) -> list[dict[str, Any]]:
    """How automatic scores (by metric, then condition) rank the conditions against what people said.

    Spearman's rho with its exact two-sided p where 4 to 8 conditions have both; fewer give no p, and hardly any
    number of designs gives much: read it as a description.
    """
    told = []
    for metric, values in scores.items():
        shared = [name for name in strengths if name in values]
        row = {"metric": metric, "conditions": len(shared), "spearman": None, "p": None}
        if len(shared) >= 3:
            people = stats.rankdata([strengths[name] for name in shared])
            machine = stats.rankdata([values[name] for name in shared])
            if people.std() > 0 and machine.std() > 0:
                rho = float(np.corrcoef(people, machine)[0, 1])
                row |= {"spearman": rho, "p": _exact_p(people, machine, rho)}
        told.append(row)
    return told


def _exact_p(people: np.ndarray, machine: np.ndarray, rho: float) -> float | None:
    if not 4 <= len(people) <= 8:
        return None if len(people) < 4 else float(stats.spearmanr(people, machine).pvalue)  # type: ignore[attr-defined]
    orders = np.array(list(itertools.permutations(machine)))
    centred = people - people.mean()
    every = (orders - machine.mean()) @ centred / (len(people) * people.std() * machine.std())
    return float(np.mean(np.abs(every) >= abs(rho) - 1e-9))
