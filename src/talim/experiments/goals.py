"""Selection criteria of a design: a goal, the cost to minimise, cost limits and the tolerated loss of quality."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from talim.errors import UsageError
from talim.experiments.results import COSTS
from talim.html.formatting import GB

BYTES = {"": 1.0, "kB": 1e3, "MB": 1e6, "GB": GB}
UNITS = {
    "parameters": {"": 1.0, "k": 1e3, "M": 1e6},
    "flops": {"": 1.0, "G": 1e9, "T": 1e12, "P": 1e15},
    "seconds": {"": 1.0, "s": 1.0, "min": 60.0, "h": 3600.0},
    "memory": BYTES,
    "bytes": BYTES,
}
LIMIT_PATTERN = re.compile(r"(parameters|flops|seconds|memory|bytes)=(\d+(?:\.\d+)?)([A-Za-z]*)")


@dataclass(frozen=True)
class Objective:
    """A measure of a goal; its margin is a fraction of the best value of `reference` (of the measure itself if "")."""

    measure: str
    higher_is_better: bool = True
    reference: str = ""

    @property
    def sign(self) -> int:
        """1 if higher is better, else -1."""
        return 1 if self.higher_is_better else -1


GOALS: dict[str, tuple[Objective, ...]] = {
    "learning": (Objective("loss_reduction"),),
    "jingle": (Objective("loss_reduction_ornaments"), Objective("score.kernel_distance_timbre", False)),
    "background": (Objective("repeat_gain", reference="loss_reduction"), Objective("loss_reduction")),
}


@dataclass(frozen=True)
class SelectionCriteria:
    """Goal, cost to minimise, upper limits by cost (in the units of COSTS), non-inferiority margin and confidence.

    `tolerance` is the tolerated loss of quality as a fraction (0 to 1) of the best design's gain.
    """

    goal: str = "learning"
    minimize: str = "parameters"
    limits: Mapping[str, float] = field(default_factory=dict)
    tolerance: float = 0.1
    confidence: float = 0.95

    def __post_init__(self) -> None:
        for name, known in ((self.goal, tuple(GOALS)), *((cost, COSTS) for cost in (self.minimize, *self.limits))):
            if name not in known:
                raise UsageError(f"{name!r} is unknown; choose one of {', '.join(known)}")
        if not 0 < self.tolerance < 1:
            raise UsageError(
                f"the tolerance is {self.tolerance:g}; give a fraction of the best design's gain between 0 and 1"
            )


def parse_criteria(
    goal: str | None, minimize: str | None, limits: Sequence[str], tolerance: float | None
) -> SelectionCriteria | None:
    """Criteria from command-line options, limits such as "memory=6GB"; None if no option is given. UsageError."""
    if goal is None and minimize is None and tolerance is None and not limits:
        return None
    default = SelectionCriteria()
    return SelectionCriteria(
        goal or default.goal,
        minimize or default.minimize,
        dict(_parse_limit(text) for text in limits),
        default.tolerance if tolerance is None else tolerance,
    )


def _parse_limit(text: str) -> tuple[str, float]:
    match = LIMIT_PATTERN.fullmatch(text.replace(" ", ""))
    if match is None or match[3] not in UNITS[match[1]]:
        units = "; ".join(f"{cost}: {', '.join(filter(None, known)) or 'a number'}" for cost, known in UNITS.items())
        raise UsageError(f"{text!r} is no limit; write COST=NUMBER with a unit, such as memory=6GB ({units})")
    return match[1], float(match[2]) * UNITS[match[1]][match[3]]
