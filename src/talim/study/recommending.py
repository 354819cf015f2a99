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

from talim.study.effects import holm
from talim.study.fields import Field, Spread, field_of, joined, resampled
from talim.study.trials import COSTS, Table
from talim.study.wishes import GOALS, Aim, Wish

SAME_PRICE = 1.02  # times the cheapest: designs up to here cost the same
SHOWN, CANNOT_TELL, ONLY, NOTHING = "shown", "cannot tell", "only one", "nothing"


@dataclass(frozen=True)
class Judged:
    """One measure over all candidates: their means, the margin, the error of a difference of two."""

    aim: Aim
    designs: Sequence[str]
    means: np.ndarray  # [designs], in the measure's own direction
    margin: float
    spread: Spread
    fields: Sequence[Field]

    def not_worse(self) -> np.ndarray:
        """For each candidate the p value of: some other is better than it by more than the margin."""
        return self.spread.above(self.short() + self.margin)

    def worse(self) -> np.ndarray:
        """For each candidate the p value of: no other is better by more than the margin; each is one chance to err."""
        chances = self.spread.above(-self.short() - self.margin)
        return np.minimum(1.0, chances * max(len(self.means) - 1, 1))

    def short(self) -> np.ndarray:
        """How far each candidate's mean is ahead of the best of the others (behind: below 0)."""
        gains = self.aim.sign * self.means
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

    wish: Wish
    tables: Sequence[str]
    outcome: str
    design: str = ""
    best: str = ""
    likely: str = ""  # the cheapest whose means are within the margins of the best ones
    judged: Sequence[Judged] = ()
    candidates: Sequence[Candidate] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    missing: Sequence[str] = ()

    def candidate(self, design: str) -> Candidate:
        """The candidate of that name."""
        return next(each for each in self.candidates if each.design == design)

    @property
    def unresolved(self) -> list[str]:
        """Designs neither shown to be good enough nor shown to be worse, the cheapest first."""
        return [each.design for each in self.candidates if not each.good_enough and not each.worse]


def recommend(tables: Sequence[Table], wish: Wish, rng: np.random.Generator) -> Recommendation:
    """The recommendation over tables that count the same (the genres of a base); `rng` draws the resamples."""
    names = [table.name for table in tables]
    fields = _fields(tables, {name for aim in GOALS[wish.goal] for name in (aim.measure, aim.of or "fall")})
    aims = [aim for aim in GOALS[wish.goal] if aim.measure in fields] or [Aim("fall")]
    missing = [aim.measure for aim in GOALS[wish.goal] if aim.measure not in fields]
    if "fall" not in fields:
        return Recommendation(wish, names, NOTHING, missing=missing)
    compared = _everywhere([found for aim in aims for found in fields[aim.measure]])
    prices = {design: prices_of(tables, design) for design in compared}
    left_out = {
        d: "not on the seeds and recordings of the others" for d in _designs(tables) if d not in compared
    }
    left_out |= {d: why for d in compared if (why := _too_dear(prices[d], wish.limits))}
    within = [design for design in compared if design not in left_out]
    if not within:
        return Recommendation(wish, names, NOTHING, left_out=left_out, missing=missing)
    judged = [_judge(aim, within, fields, wish.margin_share) for aim in aims]
    first = judged[0]
    best = within[int(np.argmax(first.aim.sign * first.means))]
    if len(within) == 1:
        good, worse = [False], [False]
    else:
        good = [
            p <= 1 - wish.level for p in holm(np.max([each.not_worse() for each in judged], axis=0).tolist())
        ]
        chances = np.minimum(1.0, len(judged) * np.min([each.worse() for each in judged], axis=0))
        worse = [p <= 1 - wish.level for p in holm(chances.tolist())]
    order = sorted(within, key=lambda design: _dearness(prices[design], wish.price))
    dear = np.array([_dearness(prices[design], wish.price)[0] for design in order])
    gains = first.aim.sign * first.means[[within.index(design) for design in order]]
    shares = _again(judged, order, dear, wish, rng)
    place = {design: within.index(design) for design in within}
    enough = [d for d in order if good[place[d]]]
    ahead = np.min(
        [each.short() / each.margin for each in judged], axis=0
    )  # in margins; -1 is just good enough
    near = [d for d in order if ahead[place[d]] >= -1]
    likely = (
        _cheapest(near, order, dear, gains) if near else within[int(np.argmax(ahead))]
    )  # with no design near in all, what falls short least
    outcome = ONLY if len(within) == 1 else SHOWN if enough else CANNOT_TELL
    candidates = [
        Candidate(
            design,
            prices[design],
            float(first.means[place[design]]),
            *_behind(first, place[design], place[best], wish.level),
            good[place[design]],
            worse[place[design]],
            *shares[design],
        )
        for design in order
    ]
    chosen = _cheapest(enough, order, dear, gains) if enough else likely
    return Recommendation(wish, names, outcome, chosen, best, likely, judged, candidates, left_out, missing)


def prices_of(tables: Sequence[Table], design: str) -> dict[str, float | None]:
    """The median of each cost over the design's trials, None where it was not measured."""
    found: dict[str, float | None] = {}
    for cost in COSTS:
        values = [
            price for table in tables for row in table.of(design) if (price := row.price(cost)) is not None
        ]
        found[cost] = float(np.median(values)) if values else None
    return found


def _cheapest(some: Sequence[str], order: Sequence[str], dear: np.ndarray, gains: np.ndarray) -> str:
    """Of some of the designs the cheapest, and of those that cost the same the best."""
    fitting = np.isin(order, some)
    return order[int(_cheapest_of(fitting[None], dear, gains[None])[0])]


def _cheapest_of(fitting: np.ndarray, dear: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """The same for every row of bool [rows, designs] with its gains, which must all have a fitting design."""
    least = np.where(fitting, dear, np.inf).min(axis=1, keepdims=True)
    return np.where(fitting & (dear <= least * SAME_PRICE), gains, -np.inf).argmax(axis=1)


def _best_of_others(gains: np.ndarray) -> np.ndarray:
    """The largest gain among the other designs; minus infinity for one alone."""
    return np.array([np.delete(gains, n).max(initial=-np.inf) for n in range(len(gains))])


def _fields(tables: Sequence[Table], measures: set[str]) -> dict[str, list[Field]]:
    """The fields of every measure that each of the tables has."""
    found = {measure: [field_of(table, measure) for table in tables] for measure in measures}
    return {measure: [f for f in fields if f] for measure, fields in found.items() if fields and all(fields)}


def _designs(tables: Sequence[Table]) -> list[str]:
    return list(dict.fromkeys(design for table in tables for design in table.designs))


def _everywhere(fields: Sequence[Field]) -> list[str]:
    return [design for design in fields[0].designs if all(design in found.designs for found in fields)]


def _too_dear(prices: Mapping[str, float | None], limits: Mapping[str, float]) -> str:
    for cost, limit in limits.items():
        price = prices[cost]
        if price is None:
            return f"{cost} was not measured, so it is not known to keep the limit"
        if price > limit:
            return f"over the limit of {cost}"
    return ""


def _dearness(prices: Mapping[str, float | None], price: str) -> tuple[float, ...]:
    return tuple(
        float("inf") if prices[cost] is None else float(prices[cost] or 0) for cost in (price, *COSTS)
    )


def _judge(aim: Aim, designs: Sequence[str], fields: Mapping[str, Sequence[Field]], share: float) -> Judged:
    everywhere, means, spread = joined(fields[aim.measure])
    kept = means[[everywhere.index(design) for design in designs]]
    scale = joined(fields[aim.of])[1] if aim.of in fields else aim.sign * kept
    return Judged(aim, designs, kept, share * abs(float(scale.max())), spread, fields[aim.measure])


def _behind(judged: Judged, own: int, best: int, level: float) -> tuple[float, float, float]:
    behind = judged.aim.sign * float(judged.means[best] - judged.means[own])
    if own == best:
        return 0.0, 0.0, 0.0
    half = judged.spread.quantile((1 - level) / 2)
    return behind, behind - half, behind + half


def _again(
    judged: Sequence[Judged],
    order: Sequence[str],
    dear: np.ndarray,
    wish: Wish,
    rng: np.random.Generator,
) -> dict[str, tuple[float, float]]:
    """How often each design would be chosen, and would be the best, by the means of resampled seeds and recordings.

    The choice is that of the means alone: the cheapest whose mean is within the margin of the best in every measure.
    `dear` are the prices in this order.
    """
    fitting = np.ones((1, len(order)), bool)
    first = np.zeros((1, len(order)))
    for number, each in enumerate(judged):
        gains = each.aim.sign * resampled(each.fields, order, rng)
        most = gains.max(axis=1, keepdims=True)
        fitting = fitting & (
            gains >= most - (each.margin if each.aim.of else wish.margin_share * np.abs(most))
        )
        if number == 0:
            first = gains
    leading = first == first.max(axis=1, keepdims=True)
    alone = np.where(fitting.any(axis=1), _cheapest_of(fitting, dear, first), leading.argmax(axis=1))
    chosen = np.bincount(alone, minlength=len(order)) / len(alone)
    return {design: (float(chosen[n]), float(leading[:, n].mean())) for n, design in enumerate(order)}
