"""Compares the designs of a study: means, the Pareto front of quality and cost, and the effect of each factor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from typing import Any

import numpy as np

from talim.evaluation.intervals import Effect, two_way_effect
from talim.experiments.crossed_anova import CrossedTable, bootstrap_means, crossed_table, shared_designs
from talim.experiments.effects import holm_adjusted, pooled_effect
from talim.experiments.hypotheses import Contrast
from talim.experiments.hypothesis_tests import InsufficientData, paired_effect
from talim.experiments.recommend import median_costs
from talim.experiments.results import COSTS, BaseModelResults, TrialResult

CONFIDENCE = 0.95
LOSS = "loss_reduction"
NO_DIFFERENCE = "no difference of interest"
UNKNOWN = "cannot tell"
# measure, measure that is subtracted, description
EFFECT_MEASURES = (
    (LOSS, None, "reduction of the held-out loss"),
    ("ornament_gain", None, "reduction on ornaments, beyond that on the same notes performed plain"),
    ("repeat_gain", None, "what the adapter gains on returns from their first occurrence, beyond the base"),
)


@dataclass(frozen=True)
class DesignSummary:
    """One design in one or several tables: seeds, median costs, the mean of each measure, and its Pareto fronts."""

    design: str
    factors: Mapping[str, Any]
    seeds: Sequence[int]
    costs: Mapping[str, float | None]
    measures: Mapping[str, Effect]
    fronts: Sequence[str] = ()  # costs on whose front it is
    front_fractions: Mapping[str, float] | None = None  # by cost: fraction of the resamples with it on the front


def summarize_designs(
    tables: Sequence[BaseModelResults], rng: np.random.Generator, measure: str = "loss_reduction"
) -> list[DesignSummary]:
    """Every design that all the tables have, the smallest first; means are over the tables, with equal weights.

    Pareto fronts are of `measure` against each cost; `rng` draws the resamples.
    """
    designs = [design for design in tables[0].designs if all(table.of_design(design) for table in tables)]
    costs = {design: median_costs(tables, design) for design in designs}
    effects = {design: _pooled_means([table.of_design(design) for table in tables]) for design in designs}
    crossed = [found for table in tables if (found := crossed_table(table, measure))]
    means = {design: effects[design][measure].mean for design in designs if measure in effects[design]}
    fronts = {cost: pareto_front(means, {design: costs[design][cost] for design in means}) for cost in COSTS}
    fractions = {cost: _front_fractions(crossed, costs, cost, rng) for cost in COSTS} if crossed else {}
    return [
        DesignSummary(
            design,
            dict(tables[0].of_design(design)[0].factors),
            sorted({trial.seed for table in tables for trial in table.of_design(design)}),
            costs[design],
            effects[design],
            [cost for cost in COSTS if design in fronts[cost]],
            {cost: by_design[design] for cost, by_design in fractions.items() if design in by_design},
        )
        for design in designs
    ]


def _pooled_means(groups: Sequence[Sequence[TrialResult]]) -> dict[str, Effect]:
    means = [measure_means(trials) for trials in groups]
    return {
        name: pooled_effect([each[name] for each in means]) for name in means[0] if all(name in each for each in means)
    }


def measure_means(trials: Sequence[TrialResult]) -> dict[str, Effect]:
    """The mean of each measure over the seeds and the recordings that all of them have."""
    means = {}
    for name in sorted({name for trial in trials for name in trial.measures}):
        cells = [values for trial in trials if (values := trial.measures.get(name))]
        shared = sorted(set.intersection(*(set(cell) for cell in cells)))
        if shared:
            means[name] = two_way_effect(np.array([[cell[key] for key in shared] for cell in cells], float))
    return means


def pareto_front(quality: Mapping[str, float], costs: Mapping[str, float | None]) -> list[str]:
    """The designs that no other one beats in quality at no higher cost, or in cost at no lower quality.

    The cheapest first; designs without a cost are left out.
    """
    ranked = sorted((value, -quality[design], design) for design, value in costs.items() if value is not None)
    front, best = [], -np.inf
    for value, negative, design in ranked:
        tied = front and (value, -negative) == (costs[front[-1]], quality[front[-1]])
        if -negative > best or tied:
            front.append(design)
            best = max(best, -negative)
    return front


def _front_fractions(
    tables: Sequence[CrossedTable], costs: Mapping[str, Mapping[str, float | None]], cost: str, rng: np.random.Generator
) -> dict[str, float]:
    """The fraction of resamples of seeds and recordings in which each design is on the Pareto front."""
    shared = shared_designs(tables)
    priced = [design for design in costs if design in shared and costs[design][cost] is not None]
    if not priced:
        return {}
    order = sorted(priced, key=lambda design: float(costs[design][cost] or 0))
    means = bootstrap_means(tables, order, rng)
    best_so_far = np.maximum.accumulate(means, axis=1)
    on_front = np.concatenate([np.ones((len(means), 1), bool), means[:, 1:] > best_so_far[:, :-1]], axis=1)
    return {design: float(on_front[:, index].mean()) for index, design in enumerate(order)}


@dataclass(frozen=True)
class MainEffectQuestion:
    """One difference between levels of a factor: its contrast, the effect, and the p values of all other questions.

    `smallest_effect` is the smallest difference of interest.
    """

    factor: str
    contrast: Contrast
    meaning: str
    effect: Effect
    smallest_effect: float
    other_p: Sequence[float] = ()

    @property
    def label(self) -> str:
        """What is compared: `conv over linear`, `conv over linear, in hindustani more than in makam`."""
        text = f"{levels_text(self.contrast.treatment)} over {levels_text(self.contrast.control)}"
        if self.contrast.where:
            text += f", at {levels_text(self.contrast.where)}"
        if self.contrast.interaction:
            text += f", in {' more than in '.join(levels_text(group) for group in self.contrast.interaction)}"
        return text

    @property
    def adjusted_p(self) -> float:
        """Its p value, adjusted for all questions by Holm's method; NaN where the error is not known."""
        return self._adjusted_p(self.effect)

    @property
    def answer(self) -> str:
        """`more`, `less`, NO_DIFFERENCE where the smallest one of interest would have been seen, else UNKNOWN."""
        return self.answer_for(self.effect)

    def answer_for(self, effect: Effect) -> str:
        """The answer that another effect of this contrast would give, with the other questions as they are."""
        if self._adjusted_p(effect) <= 1 - CONFIDENCE:  # not for nan
            return "more" if effect.mean > 0 else "less"
        inside = all(abs(end) < self.smallest_effect for end in effect.interval(CONFIDENCE))
        sees = effect.min_detectable_effect(CONFIDENCE) <= self.smallest_effect
        return NO_DIFFERENCE if inside and sees else UNKNOWN

    def _adjusted_p(self, effect: Effect) -> float:
        known = np.isfinite(effect.error)
        return holm_adjusted([effect.p_value, *self.other_p])[0] if known else float("nan")


def factor_questions(tables: Sequence[BaseModelResults], tolerance: float = 0.1) -> list[MainEffectQuestion]:
    """The effects of kind, site and size, and whether those of kind and site depend on the music, for one base.

    Pairs are as in `hypothesis_tests`; the p values of all questions together are adjusted by Holm's method. The
    smallest difference of interest is the fraction `tolerance` of the largest mean loss reduction of a design.
    """
    trials = [trial for table in tables for trial in table.trials]
    means = [measure_means(table.of_design(design)).get(LOSS) for table in tables for design in table.designs]
    smallest = tolerance * max((mean.mean for mean in means if mean), default=0.0)
    questions = []
    for factor, treatment, control, interaction, where in _list_contrasts([trial.factors for trial in trials]):
        for measure, relative_to, meaning in EFFECT_MEASURES[: 1 if interaction else None]:
            contrast = Contrast(
                measure=measure,
                relative_to=relative_to,
                treatment=treatment,
                control=control,
                interaction=interaction,
                where=where,
            )
            try:
                effect = paired_effect(trials, contrast)
            except InsufficientData:
                continue
            questions.append(MainEffectQuestion(factor, contrast, meaning, effect, smallest))
    known = {n: each.effect.p_value for n, each in enumerate(questions) if np.isfinite(each.effect.error)}
    return [
        replace(each, other_p=[p_value for other, p_value in known.items() if other != n])
        for n, each in enumerate(questions)
    ]


Levels = dict[str, Any]
# factor, levels of treatment and control, the groups of an interaction, levels of all that is compared
FactorContrast = tuple[str, Levels, Levels, tuple[Levels, Levels] | None, Levels]


def _list_contrasts(factors: Sequence[Mapping[str, Any]]) -> list[FactorContrast]:
    """All pairs of kinds and of sites, each size with the next, and where genre or texture may change the answer.

    Pairs of kinds and of sites have equal shares of the base; beside them stand pairs of each width in the study.
    """
    plain = [each for each in factors if "+" not in str(each.get("kind"))]
    kinds, sites = ([str(v) for v in dict.fromkeys(each.get(name) for each in plain) if v] for name in ("kind", "site"))
    of_share = [each for each in plain if not each.get("width")]
    sizes = sorted({float(each["size_fraction"]) for each in of_share if each.get("size_fraction")})
    widths = sorted({int(each["width"]) for each in plain if each.get("width")})
    pairs: list[FactorContrast] = [("kind", {"kind": b}, {"kind": a}, None, {}) for a, b in combinations(kinds, 2)]
    pairs += [("site", {"site": b}, {"site": a}, None, {}) for a, b in combinations(sites, 2)]
    of_width = [(*pair[:4], {"width": width}) for width in widths for pair in pairs]
    steps: list[FactorContrast] = [
        ("size_fraction", {"size_fraction": b}, {"size_fraction": a}, None, {}) for a, b in pairwise(sizes)
    ]
    steps += [("width", {"width": b}, {"width": a}, None, {}) for a, b in pairwise(widths)]
    interactions: list[FactorContrast] = []
    for name in ("genre", "texture"):
        music = [v for v in dict.fromkeys(each.get(name) for each in factors) if v]
        for first, second in combinations(music, 2):
            groups = ({name: first}, {name: second})
            interactions += [(name, treatment, control, groups, {}) for _, treatment, control, *_ in pairs]
    return [*pairs, *of_width, *steps, *interactions]


def levels_text(values: Mapping[str, Any]) -> str:
    """Levels of factors as text: `conv, 2.7 %, width 64`."""
    texts = {"size_fraction": lambda v: f"{100 * v:g} %", "width": lambda v: f"width {v:g}"}
    return ", ".join(texts.get(name, str)(value) for name, value in values.items())
