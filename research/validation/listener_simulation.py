"""Simulated listening tests with known strengths, ties and listener differences, for the coverage of intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from talim.listening import bradley_terry


@dataclass(frozen=True)
class SimulatedPopulation:
    """True parameters of a simulated test; `spread` is the standard deviation of the listeners' strengths in logits."""

    strengths: tuple[float, ...] = (1.0, 0.4, 0.0, -0.8)
    cuts: tuple[float, ...] = (0.5, 1.8)
    spread: float = 0.7
    votes_per_pair: int = 4


def answer_probabilities(population: SimulatedPopulation, gap: np.ndarray) -> np.ndarray:
    """Probability of each answer [..., C] for differences in strength [...]."""
    cuts = np.array(population.cuts)
    bounds = np.concatenate([-cuts[::-1], cuts])
    below = 1 / (1 + np.exp(-(bounds - gap[..., None])))
    edge = np.zeros((*gap.shape, 1))
    return np.diff(below, axis=-1, prepend=edge, append=edge + 1)


def true_strengths(population: SimulatedPopulation) -> np.ndarray:
    """The strengths [K] that infinitely many listeners would give, which intervals must cover.

    Averaged over listeners, differences are slightly smaller than for an individual listener, as logits do not
    average. Integrated by Gauss-Hermite quadrature.
    """
    pairs = bradley_terry.all_pairs(len(population.strengths))
    nodes, weights = np.polynomial.hermite_e.hermegauss(41)
    gap = np.diff(np.array(population.strengths)[pairs], axis=1)[:, 0] * -1  # first minus second, [P]
    spread = population.spread * np.sqrt(2)
    mixed = answer_probabilities(population, gap[:, None] + spread * nodes)  # [P, N, C]
    expected = np.einsum("pnc,n->pc", mixed, weights / weights.sum())
    return bradley_terry.fit_bradley_terry(1e6 * expected[None], pairs, len(population.strengths)).strengths[0]


def simulate_study(population: SimulatedPopulation, listeners: int, rng: np.random.Generator) -> np.ndarray:
    """Counts [G, P, C] of one test in which every listener judges every pair equally often."""
    pairs = bradley_terry.all_pairs(len(population.strengths))
    individual = np.array(population.strengths) + population.spread * rng.standard_normal(
        (listeners, len(population.strengths))
    )
    gap = individual[:, pairs[:, 0]] - individual[:, pairs[:, 1]]
    return rng.multinomial(population.votes_per_pair, answer_probabilities(population, gap)).astype(float)


def coverage(
    population: SimulatedPopulation, listeners: int, studies: int, resamples: int = 1000, seed: int = 0
) -> dict[str, float]:
    """Fraction of intervals that cover the truth, over tests and over differences to the last condition, by method.

    "percentile" and "expanded" resample listeners, "jackknife" leaves out one at a time, "votes" resamples votes as if
    each came from another person.
    """
    pairs, count = bradley_terry.all_pairs(len(population.strengths)), len(population.strengths)
    truth = true_strengths(population)
    truth = truth[:-1] - truth[-1]
    hits: dict[str, int] = {}
    for number in range(studies):
        rng = np.random.default_rng([seed, listeners, number])
        table = simulate_study(population, listeners, rng)
        whole, boot = bootstrap_fits(table, pairs, count, resamples, rng)
        gaps = boot.strengths[:, :-1] - boot.strengths[:, -1:]
        left_out = bradley_terry.leave_one_out_fits(table, pairs, count, whole).strengths
        estimate = whole.strengths[0, :-1] - whole.strengths[0, -1]
        votes = vote_resamples(table, pairs, count, resamples, rng).strengths
        intervals = {
            "percentile": percentile_interval(gaps),
            "expanded": expanded_percentile_interval(gaps, listeners),
            "jackknife": bradley_terry.jackknife_interval(estimate, left_out[:, :-1] - left_out[:, -1:]),
            "votes": percentile_interval(votes[:, :-1] - votes[:, -1:]),
        }
        for name, (low, high) in intervals.items():
            hits[name] = hits.get(name, 0) + int(((low <= truth) & (truth <= high)).sum())
    return {name: count / (studies * len(truth)) for name, count in hits.items()}


def vote_resamples(
    table: np.ndarray, pairs: np.ndarray, conditions: int, resamples: int, rng: np.random.Generator
) -> bradley_terry.BradleyTerryFit:
    """Fits to resamples of single votes, which ignore that votes of one listener are correlated."""
    total = table.sum(axis=0)  # [P, C]
    votes = int(total.sum())
    drawn = rng.multinomial(votes, (total / votes).ravel(), size=resamples).reshape(-1, *total.shape)
    return bradley_terry.fit_bradley_terry(drawn.astype(float), pairs, conditions)


def bootstrap_fits(
    per_unit: np.ndarray, pairs: np.ndarray, conditions: int, resamples: int, rng: np.random.Generator
) -> tuple[bradley_terry.BradleyTerryFit, bradley_terry.BradleyTerryFit]:
    """The fit to all units, and fits to bootstrap resamples of units. per_unit [G, P, C]: counts of each unit.

    The unit is the listener, because the votes of one listener are not independent.
    """
    units = len(per_unit)
    whole = bradley_terry.fit_bradley_terry(per_unit.sum(axis=0, keepdims=True), pairs, conditions)
    drawn = rng.multinomial(units, np.full(units, 1 / units), size=resamples)  # [B, G]
    tables = (drawn @ per_unit.reshape(units, -1)).reshape(resamples, *per_unit.shape[1:])
    start = bradley_terry.BradleyTerryFit(np.repeat(whole.strengths, resamples, 0), np.repeat(whole.cuts, resamples, 0))
    return whole, bradley_terry.fit_bradley_terry(tables, pairs, conditions, start)


def percentile_interval(values: np.ndarray, level: float = 0.95) -> np.ndarray:
    """Percentile interval [2, ...] of resampled values [B, ...]; too narrow for few units."""
    return np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)


def expanded_percentile_interval(values: np.ndarray, units: int, level: float = 0.95) -> np.ndarray:
    """Percentile interval [2, ...] with its level widened to that of Student's t (Hesterberg 2015).

    It corrects two faults of the plain one: the standard deviation over resamples of G units is too small by the
    factor sqrt((G - 1) / G), and it is itself uncertain.
    """
    reach = np.sqrt(units / (units - 1)) * stats.t.ppf((1 + level) / 2, units - 1)
    outer = stats.norm.cdf(-reach)
    return np.quantile(values, [outer, 1 - outer], axis=0)
