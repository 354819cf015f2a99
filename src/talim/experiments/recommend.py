"""Recommends a design: the cheapest that is shown not to be worse than any other by more than a margin.

An intersection-union test over measures and competitors (Berger 1982; Hsu 1984), with Holm's method over designs; the
method is described in docs/guides/compare-designs.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from talim.experiments.crossed_anova import (
    CrossedTable,
    ErrorComponents,
    bootstrap_means,
    crossed_table,
    pool_tables,
    shared_designs,
)
from talim.experiments.effects import holm_adjusted
from talim.experiments.goals import GOALS, Objective, SelectionCriteria
from talim.experiments.results import COSTS, BaseModelResults, TrialCost, TrialResult

COST_TIE_RATIO = 1.02  # times the cheapest: designs up to here cost the same
LOSS = "loss_reduction"

DEMONSTRATED, INCONCLUSIVE, ONLY, NOTHING = "demonstrated", "inconclusive", "only_design", "nothing"
WITHHELD, BY_CORPUS = "not_testable", "by_corpus"  # without a design; given by `talim.experiments.advice`


@dataclass(frozen=True)
class MeasureComparison:
    """One measure of all candidates: their means, the margin, and the error of a difference of two means."""

    objective: Objective
    designs: Sequence[str]
    means: np.ndarray  # [designs], in the measure's own direction
    margin: float
    errors: ErrorComponents
    tables: Sequence[CrossedTable]

    def lead(self) -> np.ndarray:
        """How far each candidate's mean is ahead of the best of the others (negative: behind)."""
        gains = self.objective.sign * self.means
        return gains - np.array([np.delete(gains, n).max(initial=-np.inf) for n in range(len(gains))])

    def noninferiority_p(self) -> np.ndarray:
        """P value by candidate; the null hypothesis is that some other one is better by the margin or more."""
        return self.errors.p_values(self.lead() + self.margin)

    def inferiority_p(self) -> np.ndarray:
        """P value by candidate; the null hypothesis is that no other one is better by more than the margin.

        Corrected for the number of other candidates (Bonferroni).
        """
        p_values = self.errors.p_values(-self.lead() - self.margin)
        return np.minimum(1.0, p_values * max(len(self.means) - 1, 1))


@dataclass(frozen=True)
class Candidate:
    """A design within the limits: its costs, its mean of the goal's first measure, and the decision about it."""

    design: str
    factors: Mapping[str, object]
    costs: Mapping[str, float | None]
    mean: float
    gap: float  # how far behind the best mean, 0 or more
    gap_low: float
    gap_high: float
    noninferior: bool  # shown to be worse by less than the margin, in every measure
    inferior: bool  # shown to be worse by more than the margin, in some measure
    selected_fraction: float  # of the resamples
    best_fraction: float


@dataclass(frozen=True)
class Recommendation:
    """The design for a goal on some tables, and what it rests on."""

    criteria: SelectionCriteria
    tables: Sequence[str]
    outcome: str
    design: str = ""
    best: str = ""
    within_margin: str = ""  # the cheapest whose means are within the margins of the best ones
    comparisons: Sequence[MeasureComparison] = ()
    candidates: Sequence[Candidate] = ()
    excluded: Mapping[str, str] = field(default_factory=dict)  # design -> reason
    missing: Sequence[str] = ()  # measures of the goal that the tables do not have

    def candidate(self, design: str) -> Candidate:
        return next(each for each in self.candidates if each.design == design)

    @property
    def unresolved(self) -> list[str]:
        """Designs shown to be neither non-inferior nor inferior, the cheapest first."""
        return [each.design for each in self.candidates if not each.noninferior and not each.inferior]


def recommend(
    tables: Sequence[BaseModelResults], criteria: SelectionCriteria, rng: np.random.Generator
) -> Recommendation:
    """The recommendation over tables with equal weights (the genres of a base); `rng` draws the resamples."""
    names = [table.name for table in tables]
    goal = GOALS[criteria.goal]
    crossed = _crossed_tables(tables, {name for each in goal for name in (each.measure, each.reference or LOSS)})
    objectives = [each for each in goal if each.measure in crossed] or [Objective(LOSS)]
    missing = [each.measure for each in goal if each.measure not in crossed]
    if LOSS not in crossed:
        return Recommendation(criteria, names, NOTHING, missing=missing)
    comparable = shared_designs([table for each in objectives for table in crossed[each.measure]])
    costs = {design: median_costs(tables, design) for design in comparable}
    excluded = {
        design: "not trained on the seeds and recordings of the others"
        for design in dict.fromkeys(design for table in tables for design in table.designs)
        if design not in comparable
    }
    excluded |= {d: reason for d in comparable if (reason := _over_limits(costs[d], criteria.limits))}
    designs = [design for design in comparable if design not in excluded]
    if not designs:
        return Recommendation(criteria, names, NOTHING, excluded=excluded, missing=missing)
    comparisons = [_compare(each, designs, crossed, criteria.tolerance) for each in objectives]
    first = comparisons[0]
    best = designs[int(np.argmax(first.objective.sign * first.means))]
    noninferior, inferior = _decide(comparisons, designs, 1 - criteria.confidence)
    order = sorted(designs, key=lambda design: _cost_key(costs[design], criteria.minimize))
    prices = np.array([_cost_key(costs[design], criteria.minimize)[0] for design in order])
    gains = first.objective.sign * first.means[[designs.index(design) for design in order]]
    # in margins; -1 is just within the margin
    leads = dict(zip(designs, np.min([each.lead() / each.margin for each in comparisons], axis=0), strict=True))
    near = [design for design in order if leads[design] >= -1]
    # if no design is within the margins of all measures: the one that misses them least
    within_margin = _cheapest(near, order, prices, gains) if near else max(designs, key=lambda d: leads[d])
    shown = [design for design in order if design in noninferior]
    fractions = _selection_stability(comparisons, order, prices, criteria.tolerance, rng)
    candidates = []
    for design in order:
        index, factors = designs.index(design), tables[0].of_design(design)[0].factors
        gap = _gap_with_bounds(first, index, designs.index(best), criteria.confidence)
        decided = (design in noninferior, design in inferior)
        mean = float(first.means[index])
        candidates.append(Candidate(design, factors, costs[design], mean, *gap, *decided, *fractions[design]))
    outcome = ONLY if len(designs) == 1 else DEMONSTRATED if shown else INCONCLUSIVE
    design = _cheapest(shown, order, prices, gains) if shown else within_margin
    return Recommendation(
        criteria, names, outcome, design, best, within_margin, comparisons, candidates, excluded, missing
    )


def _decide(
    comparisons: Sequence[MeasureComparison], designs: Sequence[str], alpha: float
) -> tuple[set[str], set[str]]:
    """The designs shown to be non-inferior, and those shown to be inferior."""
    if len(designs) == 1:
        return set(), set()
    noninferior = holm_adjusted(np.max([each.noninferiority_p() for each in comparisons], axis=0).tolist())
    smallest = np.min([each.inferiority_p() for each in comparisons], axis=0)
    inferior = holm_adjusted(np.minimum(1.0, len(comparisons) * smallest).tolist())
    return (
        {design for design, p in zip(designs, noninferior, strict=True) if p <= alpha},
        {design for design, p in zip(designs, inferior, strict=True) if p <= alpha},
    )


def median_costs(tables: Sequence[BaseModelResults], design: str) -> dict[str, float | None]:
    """The median of each cost over the design's trials, None where it was not measured."""
    trials = [trial for table in tables for trial in table.of_design(design)]
    known = {cost: [value for trial in trials if (value := trial.cost_of(cost)) is not None] for cost in COSTS}
    return {cost: float(np.median(values)) if values else None for cost, values in known.items()}


def _cheapest(subset: Sequence[str], order: Sequence[str], prices: np.ndarray, gains: np.ndarray) -> str:
    """The cheapest design of a subset, and among those that cost the same the best."""
    eligible = np.isin(order, subset)
    return order[int(_cheapest_indices(eligible[None], prices, gains[None])[0])]


def _cheapest_indices(eligible: np.ndarray, prices: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """The same for every row of bool [rows, designs] with its gains; each row must have an eligible design."""
    lowest = np.where(eligible, prices, np.inf).min(axis=1, keepdims=True)
    return np.where(eligible & (prices <= lowest * COST_TIE_RATIO), gains, -np.inf).argmax(axis=1)


def _crossed_tables(tables: Sequence[BaseModelResults], measures: set[str]) -> dict[str, list[CrossedTable]]:
    """For every measure that all of the tables have, its crossed tables."""
    by_measure = {measure: [crossed_table(table, measure) for table in tables] for measure in measures}
    return {measure: [each for each in found if each] for measure, found in by_measure.items() if found and all(found)}


def _over_limits(costs: Mapping[str, float | None], limits: Mapping[str, float]) -> str:
    for cost, limit in limits.items():
        value = costs[cost]
        if value is None:
            return f"{cost} was not measured, so it is unknown whether it is within the limit"
        if value > limit:
            return f"over the limit of {cost}"
    return ""


def _cost_key(costs: Mapping[str, float | None], minimize: str) -> tuple[float, ...]:
    return tuple(float("inf") if (value := costs[cost]) is None else value for cost in (minimize, *COSTS))


def _compare(
    objective: Objective, designs: Sequence[str], crossed: Mapping[str, Sequence[CrossedTable]], tolerance: float
) -> MeasureComparison:
    shared, all_means, errors = pool_tables(crossed[objective.measure])
    means = all_means[[shared.index(design) for design in designs]]
    scale = pool_tables(crossed[objective.reference])[1] if objective.reference in crossed else objective.sign * means
    margin = tolerance * abs(float(scale.max()))
    return MeasureComparison(objective, designs, means, margin, errors, crossed[objective.measure])


def _gap_with_bounds(
    comparison: MeasureComparison, own: int, best: int, confidence: float
) -> tuple[float, float, float]:
    if own == best:
        return 0.0, 0.0, 0.0
    gap = comparison.objective.sign * float(comparison.means[best] - comparison.means[own])
    half = comparison.errors.quantile((1 - confidence) / 2)
    return gap, gap - half, gap + half


def _selection_stability(
    comparisons: Sequence[MeasureComparison],
    order: Sequence[str],
    prices: np.ndarray,
    tolerance: float,
    rng: np.random.Generator,
) -> dict[str, tuple[float, float]]:
    """In which fractions of resamples of seeds and recordings each design is selected, and is the best.

    Selected is the cheapest design whose mean is within the margin of the best in every measure.
    """
    eligible = np.ones((1, len(order)), bool)
    first = np.zeros((1, len(order)))
    for number, each in enumerate(comparisons):
        gains = each.objective.sign * bootstrap_means(each.tables, order, rng)
        highest = gains.max(axis=1, keepdims=True)
        margin = each.margin if each.objective.reference else tolerance * np.abs(highest)
        eligible = eligible & (gains >= highest - margin)
        if number == 0:
            first = gains
    is_best = first == first.max(axis=1, keepdims=True)
    indices = np.where(eligible.any(axis=1), _cheapest_indices(eligible, prices, first), is_best.argmax(axis=1))
    selected = np.bincount(indices, minlength=len(order)) / len(indices)
    return {design: (float(selected[n]), float(is_best[:, n].mean())) for n, design in enumerate(order)}


COST = "flops"  # unlike time it does not depend on what else the machine was doing
SEED = 0  # of the resamples, which decide nothing here


@dataclass(frozen=True)
class DesignChoice:
    """The selected design, the one with the largest loss reduction, and all candidates."""

    design: str
    best: str
    margin: float  # in the unit of the loss
    candidates: Sequence[Candidate]

    @property
    def sentence(self) -> str:
        """Which design was selected and why, in one or two sentences."""
        if len(self.candidates) == 1:
            return f"{self.design} was the only design."
        if self.design != self.best:
            return (
                f"{self.best} had the largest loss reduction; {self.design} is cheaper and shown to be worse by no "
                f"more than the margin of {self.margin:.3f}, so it was selected."
            )
        others = [each for each in self.candidates if each.design != self.best]
        unresolved = [each.design for each in others if not each.noninferior and not each.inferior]
        note = f" Whether {' or '.join(unresolved)} is as good cannot be decided with these recordings."
        return f"{self.design} had the largest loss reduction and was selected.{note if unresolved else ''}"


def choose_design(
    loss_reductions: Mapping[str, Mapping[str, float]], flops: Mapping[str, float], tolerance: float
) -> DesignChoice:
    """The cheapest design shown not to be worse than any other by more than `tolerance` (0 to 1) of the best mean.

    `loss_reductions` are by design and recording, on the same recordings; `flops` those of training. If none is shown
    to be non-inferior, or no loss was reduced, it is the design with the largest loss reduction.
    """
    common: dict[str, Any] = {"status": "done", "seed": 0, "corpus": "corpus"}
    trials = [
        TrialResult(id=design, design=design, measures={LOSS: values}, cost=TrialCost(flops=flops[design]), **common)
        for design, values in loss_reductions.items()
    ]
    table = BaseModelResults("base", "corpus", "", trials)
    criteria = SelectionCriteria(minimize=COST, tolerance=tolerance)
    found = recommend([table], criteria, np.random.default_rng(SEED))
    improved = max(each.mean for each in found.candidates) > 0
    design = found.design if found.outcome == DEMONSTRATED and improved else found.best
    margin = found.comparisons[0].margin if improved else 0.0
    return DesignChoice(design, found.best, margin, found.candidates)
