"""What a study's trials say: each design's numbers, the frontier of quality and cost, what each factor does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np

from talim.experiments.crossed_anova import CrossedTable, bootstrap_means, crossed_table
from talim.experiments.effects import Effect, holm_adjusted, pooled_effect, two_way_effect
from talim.experiments.hypotheses import Contrast
from talim.experiments.hypothesis_tests import InsufficientData, paired_effect
from talim.experiments.recommend import median_costs
from talim.experiments.results import COSTS, BaseModelResults, TrialResult

LEVEL = 0.95
# measure, what it is taken relative to, what it says
EFFECT_MEASURES = (
    ("fall", None, "fall of the held-out loss"),
    ("ornament_fall", "plain_fall", "gain on ornaments beyond that between them"),
    ("return_gain", None, "gain on what returns beyond what came first"),
)


@dataclass(frozen=True)
class DesignSummary:
    """One design in one table or several: seeds, costs, each measure's mean with its error, and its frontiers."""

    design: str
    factors: Mapping[str, Any]
    seeds: Sequence[int]
    prices: Mapping[str, float | None]
    measures: Mapping[str, Effect]
    frontiers: Sequence[str] = ()
    frontier_shares: Mapping[str, float] | None = (
        None  # by cost: of the resamples, those on whose frontier it is
    )


def summarize_designs(
    tables: Sequence[BaseModelResults], rng: np.random.Generator, measure: str = "fall"
) -> list[DesignSummary]:
    """Every design that all the tables have, the smallest first; means are over the tables, each counting the same.

    Frontiers are of `measure` against each cost.
    """
    designs = [design for design in tables[0].designs if all(table.of(design) for table in tables)]
    prices = {design: median_costs(tables, design) for design in designs}
    levels = {design: _levels([table.of(design) for table in tables]) for design in designs}
    fields = [field for table in tables if (field := crossed_table(table, measure))]
    means = {design: levels[design][measure].mean for design in designs if measure in levels[design]}
    on = {cost: frontier(means, {d: prices[d][cost] for d in means}) for cost in COSTS}
    shares = {cost: _frontier_shares(fields, prices, cost, rng) for cost in COSTS} if fields else {}
    return [
        DesignSummary(
            design,
            dict(tables[0].of(design)[0].trial.factors),
            sorted({row.seed for table in tables for row in table.of(design)}),
            prices[design],
            levels[design],
            [cost for cost in COSTS if design in on[cost]],
            {cost: by_design[design] for cost, by_design in shares.items() if design in by_design},
        )
        for design in designs
    ]


def _levels(parts: Sequence[Sequence[TrialResult]]) -> dict[str, Effect]:
    found = [measure_means(rows) for rows in parts]
    return {
        name: pooled_effect([each[name] for each in found])
        for name in found[0]
        if all(name in each for each in found)
    }


def measure_means(rows: Sequence[TrialResult]) -> dict[str, Effect]:
    """The mean of each measure over the seeds and the recordings that all of them have."""
    found = {}
    for name in sorted({name for row in rows for name in row.trial.measures}):
        cells = [values for row in rows if (values := row.trial.measures.get(name))]
        shared = sorted(set.intersection(*(set(cell) for cell in cells)))
        if shared:
            found[name] = two_way_effect(
                np.array([[cell[where] for where in shared] for cell in cells], float)
            )
    return found


def frontier(quality: Mapping[str, float], price: Mapping[str, float | None]) -> list[str]:
    """The designs that no other one beats in quality at no higher price, or in price at no lower quality (Pareto).

    The cheapest first; designs without a price are left out.
    """
    priced = [
        (float(value), -quality[design], design) for design, value in price.items() if value is not None
    ]
    found, best = [], -np.inf
    for value, negative, design in sorted(priced):
        twin = found and (value, -negative) == (price[found[-1]], quality[found[-1]])
        if -negative > best or twin:
            found.append(design)
            best = max(best, -negative)
    return found


def _frontier_shares(
    fields: Sequence[CrossedTable],
    prices: Mapping[str, Mapping[str, float | None]],
    cost: str,
    rng: np.random.Generator,
) -> dict[str, float]:
    """In what share of resamples of seeds and recordings each design is on the frontier."""
    shared = [d for d in prices if all(d in field.designs for field in fields)]
    priced = [d for d in shared if prices[d][cost] is not None]
    if not priced:
        return {}
    order = sorted(priced, key=lambda design: float(prices[design][cost] or 0))
    means = bootstrap_means(fields, order, rng)
    before = np.maximum.accumulate(means, axis=1)
    ahead = np.concatenate([np.ones((len(means), 1), bool), means[:, 1:] > before[:, :-1]], axis=1)
    return {design: float(ahead[:, place].mean()) for place, design in enumerate(order)}


@dataclass(frozen=True)
class MainEffectQuestion:
    """One difference that was asked about: of which factor, its contrast, the effect, and p after Holm."""

    factor: str
    contrast: Contrast
    meaning: str
    effect: Effect
    adjusted_p: float = 1.0

    @property
    def named(self) -> str:
        """What is compared, in words: `conv over linear`, `..., hindustani over makam`."""
        told = f"{_named(self.contrast.this)} over {_named(self.contrast.that)}"
        if self.contrast.between:
            told += f", in {' more than in '.join(_named(group) for group in self.contrast.between)}"
        return told

    @property
    def answer(self) -> str:
        """`more`, `less`, or `no difference that these data can show`."""
        if not self.adjusted_p <= 1 - LEVEL:
            return "no difference that these data can show"
        return "more" if self.effect.mean > 0 else "less"


def factor_questions(tables: Sequence[BaseModelResults]) -> list[MainEffectQuestion]:
    """The effects of kind, site and share, and whether those of kind and site depend on the music, for one base.

    Pairs are as in `verdicts`; p values of all of them together are corrected by Holm's method.
    """
    trials = [row.trial for table in tables for row in table.rows]
    found = []
    for factor, this, that, between in _list_contrasts([trial.factors for trial in trials]):
        for measure, minus, meaning in EFFECT_MEASURES[: 1 if between else None]:
            contrast = Contrast(measure=measure, minus=minus, this=this, that=that, between=between)
            try:
                effect = paired_effect(trials, contrast)
            except InsufficientData:
                continue
            found.append(MainEffectQuestion(factor, contrast, meaning, effect))
    known = [n for n, each in enumerate(found) if np.isfinite(each.effect.error)]
    adjusted = (
        dict(zip(known, holm_adjusted([found[n].effect.chance for n in known]), strict=True)) if known else {}
    )
    return [
        MainEffectQuestion(q.factor, q.contrast, q.meaning, q.effect, adjusted.get(n, float("nan")))
        for n, q in enumerate(found)
    ]


FactorContrast = tuple[str, dict[str, Any], dict[str, Any], tuple[dict[str, Any], dict[str, Any]] | None]


def _list_contrasts(factors: Sequence[Mapping[str, Any]]) -> list[FactorContrast]:
    """What to compare: every two kinds and sites, each size with the next, and where either depends on the music."""
    plain = [each for each in factors if "+" not in str(each.get("kind"))]
    kinds, sites = (
        [str(v) for v in dict.fromkeys(each.get(name) for each in plain) if v] for name in ("kind", "site")
    )
    shares = sorted({float(each["share"]) for each in plain if each.get("share")})
    two: list[FactorContrast] = [("kind", {"kind": b}, {"kind": a}, None) for a, b in combinations(kinds, 2)]
    two += [("site", {"site": b}, {"site": a}, None) for a, b in combinations(sites, 2)]
    steps: list[FactorContrast] = [("share", {"share": b}, {"share": a}, None) for a, b in pairwise(shares)]
    depends: list[FactorContrast] = []
    for name in ("genre", "texture"):
        music = [v for v in dict.fromkeys(each.get(name) for each in factors) if v]
        for first, second in combinations(music, 2):
            depends += [(name, this, that, ({name: first}, {name: second})) for _, this, that, _ in two]
    return [*two, *steps, *depends]


def _named(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{100 * v:g} %" if name == "share" else str(v) for name, v in values.items())
