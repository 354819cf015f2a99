"""From a budget to widths: the number of hidden units (or the rank) at each site, exact for the budget as a whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from talim.designs.expression import RANKED_KINDS, Part
from talim.designs.kinds import KINDS
from talim.designs.musicgen_sites import Site, TargetLinear
from talim.errors import UsageError

TOLERANCE = 0.01  # of the budget
IA3_NAMES = ("k_proj", "v_proj", "fc2", "to_k", "to_v", "ff.net.2")
AFTER_ACTIVATION = (".fc2", ".ff.net.2")
ParameterCount = Callable[[Site, int], int]  # parameters at a site, given a width or rank


def parameter_cost(kind: str, settings: dict[str, Any] | None = None) -> ParameterCount:
    """What a kind costs at a site, in trainable parameters."""
    if kind in RANKED_KINDS:
        return _dora_cost if kind == "dora" else _lora_cost
    found = KINDS[kind]
    return lambda site, width: found.parameters_of(site.width, width, **(settings or {}))


def _lora_cost(site: Site, rank: int) -> int:
    return sum((m.inputs + m.outputs) * rank for m in site.matrices)


def _dora_cost(site: Site, rank: int) -> int:
    return _lora_cost(site, rank) + sum(m.outputs for m in site.matrices)


def fixed_cost(kind: str, site: Site) -> int:
    """Parameters of a kind that takes no size: `full` trains what is there, `ia3` one scale per channel.

    ia3 follows Liu et al. 2022 in a block, and scales the outputs elsewhere.
    """
    if kind == "full":
        return sum(parameters for _, parameters in site.whole)
    return sum(m.inputs if scales_input(m) else m.outputs for m in ia3_matrices(site))


def ia3_matrices(site: Site) -> tuple[TargetLinear, ...]:
    """What ia3 scales: keys, values and the feed-forward's second half in a block, all linears at other sites."""
    chosen = tuple(m for m in site.matrices if m.module.endswith(IA3_NAMES))
    return chosen or site.matrices


def scales_input(matrix: TargetLinear) -> bool:
    """Whether ia3 scales what enters a linear map instead of what leaves it: so it does after the activation."""
    return matrix.module.endswith(AFTER_ACTIVATION)


def solve_width(
    part: Part, sites: Sequence[Site], base_parameters: int, settings: dict[str, Any] | None = None
) -> tuple[int, ...]:
    """A width (or rank) for every site so that all together come nearest to the part's budget.

    Widths differ by at most one step between sites, the wider ones spread evenly over the depth. Where one site's
    step is more than a hundredth of the budget, the nearest possible is taken (`remark` says so). UsageError where
    even the narrowest design is too large.
    """
    cost = parameter_cost(part.kind, settings)
    if part.size is None:
        raise UsageError(f"{part} has no size to solve for")
    budget = part.size.parameters(base_parameters)
    if budget is None:
        return (int(part.size.value),) * len(sites)
    narrowest = total_parameters(cost, sites, [1] * len(sites))
    if budget < (1 - TOLERANCE) * narrowest:
        raise UsageError(
            f"{part} is a budget of {budget:,} parameters, but the least that {part.kind} needs at these "
            f"{len(sites)} sites is {narrowest:,}; give a larger size or fewer layers"
        )
    uniform = _widest_below(cost, sites, budget)
    candidates = [_widened(uniform, wider, len(sites)) for wider in range(len(sites) + 1)]
    return min(candidates, key=lambda widths: abs(total_parameters(cost, sites, widths) - budget))


def total_parameters(cost: ParameterCount, sites: Sequence[Site], widths: Sequence[int]) -> int:
    """Trainable parameters of all sites together."""
    return sum(cost(site, width) for site, width in zip(sites, widths, strict=True))


def rounding_note(part: Part, sites: Sequence[Site], widths: Sequence[int], reached: int, base: int) -> str:
    """What a reader must know of a solved part: a budget that was missed, a bottleneck wider than the model."""
    said = []
    budget = part.size.parameters(base) if part.size is not None else None
    if budget and abs(reached - budget) > TOLERANCE * budget:
        said.append(f"nearest possible: {100 * (reached - budget) / budget:+.1f}%")
    if part.kind in RANKED_KINDS:
        widest = [min(min(m.inputs, m.outputs) for m in site.matrices) for site in sites]
        word = "rank above the matrix"
    else:
        widest, word = [site.width for site in sites], "wider than the model"
    if any(width > limit for width, limit in zip(widths, widest, strict=False)):
        said.append(word)
    return "; ".join(said)


def _widest_below(cost: ParameterCount, sites: Sequence[Site], budget: int) -> int:
    """The largest width that keeps all sites within the budget; at least one."""
    fits, too_wide = 1, 2
    while total_parameters(cost, sites, [too_wide] * len(sites)) <= budget:
        fits, too_wide = too_wide, 2 * too_wide
    while too_wide - fits > 1:
        middle = (fits + too_wide) // 2
        within = total_parameters(cost, sites, [middle] * len(sites)) <= budget
        fits, too_wide = (middle, too_wide) if within else (fits, middle)
    return fits


def _widened(width: int, wider: int, sites: int) -> tuple[int, ...]:
    """`wider` of the sites are one step wider, evenly spread."""
    return tuple(width + ((i + 1) * wider // sites - i * wider // sites) for i in range(sites))
