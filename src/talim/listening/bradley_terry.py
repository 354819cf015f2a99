"""Bradley-Terry model with ties for ordinal paired comparisons, fitted to many tables at once.

The probability that an answer on A against B is at or below step k is logistic(c_k - (s_A - s_B)), with cut points
symmetric around 0. With three steps (A, no difference, B) this is the model of Rao and Kupper (1967), with five its
ordinal extension (Agresti 1992, "Analysis of ordinal paired comparison data"). The cut points are estimated, so
"much better" needs no fixed weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

# Curvatures of weak priors, worth far less than one vote: they keep the strength of a condition that always wins
# finite, and the cut point of an answer that nobody gave.
RIDGE = 0.02
_CUT_RIDGE = 0.05
_EPSILON = 1e-9


@dataclass(frozen=True)
class BradleyTerryFit:
    """Strengths [B, K] in logits, centred at 0, higher is better; cut points [B, C // 2], each above 0."""

    strengths: np.ndarray
    cuts: np.ndarray


def fit_bradley_terry(
    counts: np.ndarray, pairs: np.ndarray, conditions: int, start: BradleyTerryFit | None = None
) -> BradleyTerryFit:
    """Fit the model to B tables by Fisher scoring.

    counts [B, P, C]: how often pair p was answered with step c, C odd, from "second much better" to "first much
    better"; may be fractional. pairs [P, 2]: indices of the first and second condition.
    """
    tables, _, steps = counts.shape
    half = steps // 2
    # The difference of strengths is design @ free strengths; the last strength is minus the sum of the others.
    basis = np.vstack([np.eye(conditions - 1), -np.ones(conditions - 1)])
    design = basis[pairs[:, 0]] - basis[pairs[:, 1]]
    free = np.zeros((tables, conditions - 1 + half))
    free[:, -half:] = -0.5
    if start is not None:
        free[:, : conditions - 1] = start.strengths[:, :-1]
        free[:, -half:] = np.log(np.diff(start.cuts, axis=1, prepend=0.0))
    prior = np.zeros((free.shape[1], free.shape[1]))
    prior[: conditions - 1, : conditions - 1] = RIDGE * basis.T @ basis
    prior[-half:, -half:] = _CUT_RIDGE * np.eye(half)
    center = np.zeros(free.shape[1])
    center[-half:] = -0.5
    for _ in range(60):
        probability, slope = _answer_probabilities(free, design, half)
        score = np.einsum("bpc,bpcq->bq", counts / probability, slope) - (free - center) @ prior
        weight = counts.sum(axis=2)[:, :, None] / probability
        information = np.einsum("bpc,bpcq,bpcr->bqr", weight, slope, slope, optimize=True) + prior
        step = np.linalg.solve(information, score[:, :, None])[:, :, 0]
        step *= np.minimum(1.0, 1.5 / np.maximum(np.abs(step).max(axis=1, keepdims=True), _EPSILON))
        free = free + step
        if np.abs(step).max() < 1e-5:
            break
    return BradleyTerryFit(free[:, : conditions - 1] @ basis.T, np.cumsum(np.exp(free[:, -half:]), axis=1))


def _answer_probabilities(free: np.ndarray, design: np.ndarray, half: int) -> tuple[np.ndarray, np.ndarray]:
    """Probability of each answer [B, P, C], and its derivative by every parameter [B, P, C, Q]."""
    widths = np.exp(free[:, -half:])  # [B, H]
    cuts = np.cumsum(widths, axis=1)
    bounds = np.concatenate([-cuts[:, ::-1], cuts], axis=1)  # [B, C - 1]
    gap = free[:, : design.shape[1]] @ design.T  # [B, P]
    below = 1 / (1 + np.exp(-(bounds[:, None, :] - gap[:, :, None])))  # [B, P, C - 1]
    edge = np.zeros((*below.shape[:2], 1))
    probability = np.maximum(np.diff(below, axis=2, prepend=edge, append=edge + 1), _EPSILON)
    density = below * (1 - below)
    # d bounds / d width: cut h shifts with every width up to it, its mirror image in the other direction.
    upper = np.tril(np.ones((half, half)))[None] * widths[:, None, :]  # [B, cut, width]
    shift = np.concatenate([-upper[:, ::-1], upper], axis=1)  # [B, C - 1, H]
    by_strength = -density[..., None] * design[None, :, None, :]
    by_width = density[..., None] * shift[:, None]
    slope = np.concatenate([by_strength, by_width], axis=3)
    zero = np.zeros((*slope.shape[:2], 1, slope.shape[3]))
    return probability, np.diff(slope, axis=2, prepend=zero, append=zero)


def leave_one_out_fits(
    per_unit: np.ndarray, pairs: np.ndarray, conditions: int, whole: BradleyTerryFit
) -> BradleyTerryFit:
    """Fits to all units but one, for each unit (G tables)."""
    units = len(per_unit)
    start = BradleyTerryFit(np.repeat(whole.strengths, units, 0), np.repeat(whole.cuts, units, 0))
    return fit_bradley_terry(per_unit.sum(axis=0)[None] - per_unit, pairs, conditions, start)


def jackknife_interval(whole: np.ndarray, leave_one_out: np.ndarray, level: float = 0.95) -> np.ndarray:
    """Student's t interval [2, ...] with the jackknife's standard error: whole [...], leave_one_out [G, ...]."""
    units = len(leave_one_out)
    centred = leave_one_out - leave_one_out.mean(axis=0)
    error = np.sqrt((units - 1) / units * (centred**2).sum(axis=0))
    reach = stats.t.ppf((1 + level) / 2, units - 1) * error
    return np.stack([whole - reach, whole + reach])


def jackknife_p_values(whole: np.ndarray, leave_one_out: np.ndarray) -> np.ndarray:
    """Two-sided p-values [...] of values that would be 0 by chance: whole [...], leave_one_out [G, ...].

    Without any variation between units the value is 1 where the whole is 0, else 0.
    """
    units = len(leave_one_out)
    error = np.sqrt((units - 1) / units * ((leave_one_out - leave_one_out.mean(axis=0)) ** 2).sum(axis=0))
    ratio = np.abs(whole) / np.maximum(error, _EPSILON)
    return 2 * stats.t.sf(ratio, units - 1)


def preference_probability(gap: np.ndarray | float, cuts: np.ndarray) -> np.ndarray:
    """Probability that the first is preferred, no difference counted half, for a difference of strengths in logits."""
    first, second = (1 / (1 + np.exp(cuts[..., 0] + sign * gap)) for sign in (-1, 1))
    return first + 0.5 * (1 - first - second)


def all_pairs(conditions: int) -> np.ndarray:
    """Indices of all pairs of conditions, the earlier one first, int [P, 2]."""
    return np.array([(i, j) for i in range(conditions) for j in range(i + 1, conditions)])


def largest_compared(pairs: np.ndarray, conditions: int) -> np.ndarray:
    """Which conditions, bool [K], are of the largest set that `pairs` [P, 2] compare, directly or through others."""
    compared = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), (conditions, conditions))
    labels = connected_components(compared, directed=False)[1]
    sizes = np.bincount(labels)
    return (labels == sizes.argmax()) & (sizes.max() > 1)


def count_answers(
    answers: Sequence[tuple[int, int, int, int]], units: int, conditions: int, steps: int = 5
) -> np.ndarray:
    """Counts [G, P, C] from (unit, first, second, answer) with answers -2 to 2, where 2 is "first much better".

    With three steps "much better" counts as "better".
    """
    column = {tuple(pair): i for i, pair in enumerate(all_pairs(conditions).tolist())}
    counts, half = np.zeros((units, len(column), steps)), steps // 2
    for unit, first, second, answer in answers:
        signed = answer if first < second else -answer
        pair = column[min(first, second), max(first, second)]
        counts[unit, pair, int(np.clip(signed, -half, half)) + half] += 1
    return counts
