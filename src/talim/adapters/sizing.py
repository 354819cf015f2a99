"""From a budget to widths: the number of hidden units at each site, exact for the budget as a whole."""

from __future__ import annotations

from collections.abc import Sequence

from talim.adapters.designs import KINDS, Kind
from talim.adapters.expression import Part
from talim.adapters.places import SiteLike
from talim.errors import UsageError


def solve(part: Part, sites: Sequence[SiteLike], base_parameters: int) -> tuple[int, ...]:
    """A width for every site so that all together come nearest to the part's budget.

    Widths differ by at most one step between sites, the wider ones spread evenly over the depth.
    UsageError where even the narrowest design is too large.
    """
    kind = KINDS[part.kind]
    budget = part.size.parameters(base_parameters)
    if budget is None:
        return (int(part.size.value),) * len(sites)
    features = [site.width for site in sites]
    narrowest = _total(kind, features, [kind.width_step] * len(sites))
    if budget < 0.99 * narrowest:
        raise UsageError(
            f"{part} is a budget of {budget:,} parameters, but the least that {part.kind} needs at these "
            f"{len(sites)} sites is {narrowest:,}; give a larger size or fewer layers"
        )
    uniform = _widest_below(kind, features, budget)
    candidates = [_widened(uniform, wider, len(sites), kind.width_step) for wider in range(len(sites) + 1)]
    return min(candidates, key=lambda widths: abs(_total(kind, features, widths) - budget))


def _total(kind: type[Kind], features: Sequence[int], widths: Sequence[int]) -> int:
    return sum(kind.parameters_of(f, w) for f, w in zip(features, widths, strict=True))


def _widest_below(kind: type[Kind], features: Sequence[int], budget: int) -> int:
    """The largest width that keeps all sites within the budget; at least one step."""
    step, fits, too_wide = kind.width_step, 1, 2  # in steps
    while _total(kind, features, [too_wide * step] * len(features)) <= budget:
        fits, too_wide = too_wide, 2 * too_wide
    while too_wide - fits > 1:
        middle = (fits + too_wide) // 2
        within = _total(kind, features, [middle * step] * len(features)) <= budget
        fits, too_wide = (middle, too_wide) if within else (fits, middle)
    return fits * step


def _widened(width: int, wider: int, sites: int, step: int) -> tuple[int, ...]:
    """`wider` of the sites are one step wider, evenly spread."""
    return tuple(width + step * ((i + 1) * wider // sites - i * wider // sites) for i in range(sites))
