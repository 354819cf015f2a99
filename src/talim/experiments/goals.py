"""What a user wants of a design: a goal, limits, what is to be saved, and by how much worse is still as good."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from talim.errors import UsageError
from talim.experiments.results import COSTS

BYTES = {"": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9}
UNITS = {
    "parameters": {"": 1.0, "k": 1e3, "M": 1e6},
    "operations": {"": 1.0, "G": 1e9, "T": 1e12, "P": 1e15},
    "seconds": {"": 1.0, "s": 1.0, "min": 60.0, "h": 3600.0},
    "memory": BYTES,
    "bytes": BYTES,
}
LIMIT_PATTERN = re.compile(r"(parameters|operations|seconds|memory|bytes)=(\d+(?:\.\d+)?)([A-Za-z]*)")
MARGIN_SHARE = 0.1


@dataclass(frozen=True)
class Objective:
    """A measure that counts for a goal: more of it is better, or less; the margin is a share of what `of` gains."""

    measure: str
    more: bool = True
    of: str = ""

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is."""
        return 1 if self.more else -1


GOALS: dict[str, tuple[Objective, ...]] = {
    "learning": (Objective("fall"),),
    "jingle": (Objective("ornament_fall"), Objective("score.kernel_distance_timbre", more=False)),
    "background": (Objective("return_gain", of="fall"), Objective("fall")),
}


@dataclass(frozen=True)
class SelectionCriteria:
    """What the user wants: a goal, what is dear to him, limits in COSTS, and by how much worse is still as good."""

    goal: str = "learning"
    price: str = "parameters"
    limits: Mapping[str, float] = field(default_factory=dict)
    margin_share: float = MARGIN_SHARE
    level: float = 0.95

    def __post_init__(self) -> None:
        for name, known in (
            (self.goal, tuple(GOALS)),
            (self.price, COSTS),
            *((n, COSTS) for n in self.limits),
        ):
            if name not in known:
                raise UsageError(f"{name!r} is not known here; choose one of {', '.join(known)}")
        if not 0 < self.margin_share < 1:
            raise UsageError(
                f"the margin is {self.margin_share:g}; give a share of the best's gain, between 0 and 1"
            )


def parse_criteria(
    goal: str | None, price: str | None, limits: Sequence[str], margin: float | None
) -> SelectionCriteria | None:
    """A wish from words, such as "memory=6GB"; None where nothing was asked for. UsageError for what is no limit."""
    if goal is None and price is None and margin is None and not limits:
        return None
    plain = SelectionCriteria()
    return SelectionCriteria(
        goal or plain.goal,
        price or plain.price,
        dict(_parse_limit(text) for text in limits),
        plain.margin_share if margin is None else margin,
    )


def _parse_limit(text: str) -> tuple[str, float]:
    found = LIMIT_PATTERN.fullmatch(text.replace(" ", ""))
    if found is None or found[3] not in UNITS[found[1]]:
        units = "; ".join(
            f"{cost}: {', '.join(filter(None, known)) or 'a number'}" for cost, known in UNITS.items()
        )
        raise UsageError(f"{text!r} is no limit; write COST=NUMBER with a unit, such as memory=6GB ({units})")
    return found[1], float(found[2]) * UNITS[found[1]][found[3]]
