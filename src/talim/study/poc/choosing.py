"""Which design to go on with: the one seam where the choice is made, by the rule of a study's recommendation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from talim.study.recommending import SHOWN, Candidate, recommend
from talim.study.trials import Cost, Row, Table
from talim.study.wishes import Wish

PRICE = "operations"  # time would do, but it hangs on what else the machine was doing
SEED = 0  # of the resamples, which do not decide anything here


@dataclass(frozen=True)
class Choice:
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


def choose(
    falls: Mapping[str, Mapping[str, float]], prices: Mapping[str, float], margin_share: float
) -> Choice:
    """The cheapest design shown not to be worse than any other by more than `margin_share` of the best mean fall.

    `falls` are each design's falls by recording, on the same recordings; `prices` in floating-point operations of
    training. Where none is shown to be good enough, or nothing fell, it is the one with the largest fall.
    """
    rows = [
        Row(
            id=design,
            status="done",
            design=design,
            seed=0,
            corpus="these recordings",
            measures={"fall": values},
            cost=Cost(flops=prices[design]),
        )
        for design, values in falls.items()
    ]
    table = Table("this base", "these recordings", "", rows)
    wish = Wish(price=PRICE, margin_share=margin_share)
    found = recommend([table], wish, np.random.default_rng(SEED))
    fell = max(each.mean for each in found.candidates) > 0
    chosen = found.design if found.outcome == SHOWN and fell else found.best
    return Choice(chosen, found.best, found.judged[0].margin if fell else 0.0, found.candidates)
