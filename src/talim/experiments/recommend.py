"""Which design to take: the cheapest that is not worse than the best by more than a margin, and how sure that is.

A design is shown to be good enough if, for every measure of the goal and against every other design, the difference
is shown to be less than the margin: an intersection-union test, which needs no correction for the others and no choice
of a best one (Berger 1982; Hsu 1984). That several designs are tried is corrected for by Holm's method. Where no design
is shown to be good enough, the cheapest whose mean is within the margin is named, and called undecided. Sizes come in
whole widths, so that equal shares differ by a little: of designs that cost nearly the same, the better one is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from talim.experiments.crossed_anova import (
    CrossedTable,
    ErrorComponents,
    bootstrap_means,
    crossed_table,
    pool_tables,
)
from talim.experiments.effects import holm_adjusted
from talim.experiments.goals import GOALS, Objective, SelectionCriteria
from talim.experiments.results import COSTS, BaseModelResults, TrialCost, TrialResult

COST_TIE_RATIO = 1.02  # times the cheapest: designs up to here cost the same

DEMONSTRATED, INCONCLUSIVE, ONLY, NOTHING = "shown", "cannot tell", "only one", "nothing"


@dataclass(frozen=True)
class MeasureComparison:
    """One measure over all candidates: their means, the margin, the error of a difference of two."""

    objective: Objective
    designs: Sequence[str]
    means: np.ndarray  # [designs], in the measure's own direction
    margin: float
    spread: ErrorComponents
    fields: Sequence[CrossedTable]

    def noninferior(self) -> np.ndarray:
        """For each candidate the p value of: some other is better than it by more than the margin."""
        return self.spread.exceedance(self.short() + self.margin)

    def worse(self) -> np.ndarray:
        """For each candidate the p value of: no other is better by more than the margin; each is one chance to err."""
        chances = self.spread.exceedance(-self.short() - self.margin)
        return np.minimum(1.0, chances * max(len(self.means) - 1, 1))

    def short(self) -> np.ndarray:
        """How far each candidate's mean is ahead of the best of the others (behind: below 0)."""
        gains = self.objective.sign * self.means
        return gains - _best_of_others(gains)


@dataclass(frozen=True)
class Candidate:
    """A design within the limits: its price, how it did on the goal's first measure, and what was decided."""

    design: str
    prices: Mapping[str, float | None]
    mean: float
    behind: float  # how far behind the best mean, 0 or more
    behind_low: float
    behind_high: float
    good_enough: bool
    worse: bool  # shown to be worse by more than the margin, in some measure
    chosen_share: float  # of the resamples
    best_share: float


@dataclass(frozen=True)
class Recommendation:
    """What to take for a goal on some tables, and on what it rests."""

    wish: SelectionCriteria
    tables: Sequence[str]
    outcome: str
    design: str = ""
    best: str = ""
    likely: str = ""  # the cheapest whose means are within the margins of the best ones
    judged: Sequence[MeasureComparison] = ()
    candidates: Sequence[Candidate] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    missing: Sequence[str] = ()

    def candidate(self, design: str) -> Candidate:
        """The candidate of that name."""
        return next(each for each in self.candidates if each.design == design)

    @property
    def ambiguous(self) -> list[str]:
        """Designs neither shown to be good enough nor shown to be worse, the cheapest first."""
        return [each.design for each in self.candidates if not each.good_enough and not each.worse]


def recommend(
    tables: Sequence[BaseModelResults], wish: SelectionCriteria, rng: np.random.Generator
) -> Recommendation:
    """The recommendation over tables that count the same (the genres of a base); `rng` draws the resamples."""
    names = [table.name for table in tables]
    fields = _fields(tables, {name for aim in GOALS[wish.goal] for name in (aim.measure, aim.of or "fall")})
    aims = [aim for aim in GOALS[wish.goal] if aim.measure in fields] or [Objective("fall")]
    missing = [aim.measure for aim in GOALS[wish.goal] if aim.measure not in fields]
    if "fall" not in fields:
        return Recommendation(wish, names, NOTHING, missing=missing)
    compared = _common_designs([found for aim in aims for found in fields[aim.measure]])
    prices = {design: median_costs(tables, design) for design in compared}
    left_out = {
        d: "not on the seeds and recordings of the others" for d in _designs(tables) if d not in compared
    }
    left_out |= {d: why for d in compared if (why := _over_limits(prices[d], wish.limits))}
    within = [design for design in compared if design not in left_out]
    if not within:
        return Recommendation(wish, names, NOTHING, left_out=left_out, missing=missing)
    judged = [_compare_measure(aim, within, fields, wish.margin_share) for aim in aims]
    first = judged[0]
    best = within[int(np.argmax(first.objective.sign * first.means))]
    if len(within) == 1:
        good, worse = [False], [False]
    else:
        good = [
            p <= 1 - wish.level
            for p in holm_adjusted(np.max([each.noninferior() for each in judged], axis=0).tolist())
        ]
        chances = np.minimum(1.0, len(judged) * np.min([each.worse() for each in judged], axis=0))
        worse = [p <= 1 - wish.level for p in holm_adjusted(chances.tolist())]
    order = sorted(within, key=lambda design: _cost_order(prices[design], wish.price))
    dear = np.array([_cost_order(prices[design], wish.price)[0] for design in order])
    gains = first.objective.sign * first.means[[within.index(design) for design in order]]
    shares = _selection_stability(judged, order, dear, wish, rng)
    place = {design: within.index(design) for design in within}
    enough = [d for d in order if good[place[d]]]
    ahead = np.min(
        [each.short() / each.margin for each in judged], axis=0
    )  # in margins; -1 is just good enough
    near = [d for d in order if ahead[place[d]] >= -1]
    likely = (
        _cheapest_design(near, order, dear, gains) if near else within[int(np.argmax(ahead))]
    )  # with no design near in all, what falls short least
    outcome = ONLY if len(within) == 1 else DEMONSTRATED if enough else INCONCLUSIVE
    candidates = [
        Candidate(
            design,
            prices[design],
            float(first.means[place[design]]),
            *_gap_with_bounds(first, place[design], place[best], wish.level),
            good[place[design]],
            worse[place[design]],
            *shares[design],
        )
        for design in order
    ]
    chosen = _cheapest_design(enough, order, dear, gains) if enough else likely
    return Recommendation(wish, names, outcome, chosen, best, likely, judged, candidates, left_out, missing)


def median_costs(tables: Sequence[BaseModelResults], design: str) -> dict[str, float | None]:
    """The median of each cost over the design's trials, None where it was not measured."""
    found: dict[str, float | None] = {}
    for cost in COSTS:
        values = [
            price for table in tables for row in table.of(design) if (price := row.price(cost)) is not None
        ]
        found[cost] = float(np.median(values)) if values else None
    return found


def _cheapest_design(some: Sequence[str], order: Sequence[str], dear: np.ndarray, gains: np.ndarray) -> str:
    """Of some of the designs the cheapest, and of those that cost the same the best."""
    fitting = np.isin(order, some)
    return order[int(_cheapest_of(fitting[None], dear, gains[None])[0])]


def _cheapest_of(fitting: np.ndarray, dear: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """The same for every row of bool [rows, designs] with its gains, which must all have a fitting design."""
    least = np.where(fitting, dear, np.inf).min(axis=1, keepdims=True)
    return np.where(fitting & (dear <= least * COST_TIE_RATIO), gains, -np.inf).argmax(axis=1)


def _best_of_others(gains: np.ndarray) -> np.ndarray:
    """The largest gain among the other designs; minus infinity for one alone."""
    return np.array([np.delete(gains, n).max(initial=-np.inf) for n in range(len(gains))])


def _fields(tables: Sequence[BaseModelResults], measures: set[str]) -> dict[str, list[CrossedTable]]:
    """The fields of every measure that each of the tables has."""
    found = {measure: [crossed_table(table, measure) for table in tables] for measure in measures}
    return {measure: [f for f in fields if f] for measure, fields in found.items() if fields and all(fields)}


def _designs(tables: Sequence[BaseModelResults]) -> list[str]:
    return list(dict.fromkeys(design for table in tables for design in table.designs))


def _common_designs(fields: Sequence[CrossedTable]) -> list[str]:
    return [design for design in fields[0].designs if all(design in found.designs for found in fields)]


def _over_limits(prices: Mapping[str, float | None], limits: Mapping[str, float]) -> str:
    for cost, limit in limits.items():
        price = prices[cost]
        if price is None:
            return f"{cost} was not measured, so it is not known to keep the limit"
        if price > limit:
            return f"over the limit of {cost}"
    return ""


def _cost_order(prices: Mapping[str, float | None], price: str) -> tuple[float, ...]:
    return tuple(
        float("inf") if prices[cost] is None else float(prices[cost] or 0) for cost in (price, *COSTS)
    )


def _compare_measure(
    aim: Objective, designs: Sequence[str], fields: Mapping[str, Sequence[CrossedTable]], share: float
) -> MeasureComparison:
    everywhere, means, spread = pool_tables(fields[aim.measure])
    kept = means[[everywhere.index(design) for design in designs]]
    scale = pool_tables(fields[aim.of])[1] if aim.of in fields else aim.sign * kept
    return MeasureComparison(aim, designs, kept, share * abs(float(scale.max())), spread, fields[aim.measure])


def _gap_with_bounds(
    judged: MeasureComparison, own: int, best: int, level: float
) -> tuple[float, float, float]:
    behind = judged.objective.sign * float(judged.means[best] - judged.means[own])
    if own == best:
        return 0.0, 0.0, 0.0
    half = judged.spread.quantile((1 - level) / 2)
    return behind, behind - half, behind + half


def _selection_stability(
    judged: Sequence[MeasureComparison],
    order: Sequence[str],
    dear: np.ndarray,
    wish: SelectionCriteria,
    rng: np.random.Generator,
) -> dict[str, tuple[float, float]]:
    """How often each design would be chosen, and would be the best, by the means of resampled seeds and recordings.

    The choice is that of the means alone: the cheapest whose mean is within the margin of the best in every measure.
    `dear` are the prices in this order.
    """
    fitting = np.ones((1, len(order)), bool)
    first = np.zeros((1, len(order)))
    for number, each in enumerate(judged):
        gains = each.objective.sign * bootstrap_means(each.fields, order, rng)
        most = gains.max(axis=1, keepdims=True)
        fitting = fitting & (
            gains >= most - (each.margin if each.objective.of else wish.margin_share * np.abs(most))
        )
        if number == 0:
            first = gains
    leading = first == first.max(axis=1, keepdims=True)
    alone = np.where(fitting.any(axis=1), _cheapest_of(fitting, dear, first), leading.argmax(axis=1))
    chosen = np.bincount(alone, minlength=len(order)) / len(alone)
    return {design: (float(chosen[n]), float(leading[:, n].mean())) for n, design in enumerate(order)}


PRICE = "operations"  # time would do, but it hangs on what else the machine was doing

SEED = 0  # of the resamples, which do not decide anything here


@dataclass(frozen=True)
class DesignChoice:
    """The design that was chosen, the one with the largest fall, and how all of them stand."""

    design: str
    best: str
    margin: float  # in the unit of the loss
    candidates: Sequence[Candidate]

    @property
    def sentence(self) -> str:
        """Who was chosen and why, in one or two sentences."""
        if len(self.candidates) == 1:
            return f"{self.design} was the only design."
        if self.design != self.best:
            return (
                f"{self.best} had the largest fall; {self.design} is cheaper and shown to be worse by no more than the "
                f"margin of {self.margin:.3f}, so it was chosen."
            )
        others = [each for each in self.candidates if each.design != self.best]
        unsure = [each.design for each in others if not each.good_enough and not each.worse]
        why = (
            f" Whether {' or '.join(unsure)} would do as well these recordings cannot tell." if unsure else ""
        )
        return f"{self.design} had the largest fall and was chosen.{why}"


def choose_design(
    falls: Mapping[str, Mapping[str, float]], prices: Mapping[str, float], margin_share: float
) -> DesignChoice:
    """The cheapest design shown not to be worse than any other by more than `margin_share` of the best mean fall.

    `falls` are each design's falls by recording, on the same recordings; `prices` in floating-point operations of
    training. Where none is shown to be good enough, or nothing fell, it is the one with the largest fall.
    """
    rows = [
        TrialResult(
            id=design,
            status="done",
            design=design,
            seed=0,
            corpus="these recordings",
            measures={"fall": values},
            cost=TrialCost(flops=prices[design]),
        )
        for design, values in falls.items()
    ]
    table = BaseModelResults("this base", "these recordings", "", rows)
    wish = SelectionCriteria(price=PRICE, margin_share=margin_share)
    found = recommend([table], wish, np.random.default_rng(SEED))
    fell = max(each.mean for each in found.candidates) > 0
    chosen = found.design if found.outcome == DEMONSTRATED and fell else found.best
    return DesignChoice(chosen, found.best, found.judged[0].margin if fell else 0.0, found.candidates)
