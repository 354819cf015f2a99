"""Which of the designs to go on with: the one seam where the choice is made.

A design is good enough if it is shown, recording by recording, not to be worse than the best by more than the margin;
of those the one whose training takes the fewest operations is chosen. Time would do, but it hangs on what else the
machine was doing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from talim.stages.intervals import interval


@dataclass(frozen=True)
class Standing:
    """One design against the best: how far its fall is behind (0 or more), with the paired interval by recording."""

    design: str
    fall: float
    behind: float
    interval: list[float] | None  # None for the best itself, and where one recording gives none
    good_enough: bool

    def shown_worse(self, margin: float) -> bool:
        """Whether it is shown to be worse than the best by more than the margin."""
        return self.interval is not None and self.interval[0] > margin


@dataclass(frozen=True)
class Choice:
    """The design that was chosen, the one with the largest fall, and how all of them stand."""

    design: str
    best: str
    margin: float  # in the unit of the loss
    standings: tuple[Standing, ...]

    @property
    def sentence(self) -> str:
        """Who was chosen and why, in one or two sentences."""
        if len(self.standings) == 1:
            return f"{self.design} was the only design."
        if self.design != self.best:
            return (
                f"{self.best} had the largest fall; {self.design} is cheaper and shown to be worse by no more than the "
                f"margin of {self.margin:.3f}, so it was chosen."
            )
        unsure = [s.design for s in self.standings if not s.good_enough and not s.shown_worse(self.margin)]
        why = (
            f" Whether {' or '.join(unsure)} would do as well these recordings cannot tell." if unsure else ""
        )
        return f"{self.design} had the largest fall and was chosen.{why}"


def choose(
    falls: Mapping[str, Mapping[str, float]], prices: Mapping[str, float], margin_share: float
) -> Choice:
    """The cheapest design not worse than the best by more than `margin_share` of the best one's mean fall.

    `falls` are each design's falls by recording, on the same recordings; `prices` in any one unit.
    """
    means = {design: sum(rows.values()) / len(rows) for design, rows in falls.items()}
    best = max(means, key=lambda design: (means[design], -prices[design]))
    margin = margin_share * max(means[best], 0.0)
    standings = tuple(_standing(design, best, falls, means, margin) for design in falls)
    enough = [standing.design for standing in standings if standing.good_enough]
    return Choice(min(enough, key=lambda design: prices[design]), best, margin, standings)


def _standing(
    design: str,
    best: str,
    falls: Mapping[str, Mapping[str, float]],
    means: Mapping[str, float],
    margin: float,
) -> Standing:
    if design == best:
        return Standing(design, means[design], 0.0, None, True)
    behind = {name: falls[best][name] - falls[design][name] for name in falls[best]}
    ends = interval(behind)
    mean = sum(behind.values()) / len(behind)
    return Standing(design, means[design], mean, ends, ends is not None and ends[1] <= margin)
