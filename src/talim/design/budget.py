"""Solves a parameter budget for the bottleneck width (or rank) at each site."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from talim.design import peft_methods
from talim.design.adapter_kinds import KINDS
from talim.design.expression import RANKED_KINDS, UNSIZED_KINDS, Part
from talim.design.musicgen_sites import Site, TargetLinear
from talim.errors import UsageError
from talim.html.formatting import format_counted

TOLERANCE = 0.01  # relative deviation from the budget
IA3_NAMES = ("k_proj", "v_proj", "fc2", "to_k", "to_v", "ff.net.2")
RANK_ABOVE, WIDER = "rank above the matrix", "wider than the layer"  # of what is solved for too large a size
AFTER_ACTIVATION = (".fc2", ".ff.net.2")
ParameterCount = Callable[[Site, int], int]  # (site, width or rank) -> parameters


def parameter_cost(kind: str, options: dict[str, Any] | None = None) -> ParameterCount:
    """Function that counts a kind's trainable parameters at a site of some width or rank."""
    if kind in RANKED_KINDS:
        per_output = 1 if kind == "dora" else 0  # its magnitudes
        return lambda site, rank: sum((m.inputs + m.outputs) * rank + per_output * m.outputs for m in site.matrices)
    parameters_of = KINDS[kind].parameters_of
    return lambda site, width: parameters_of(site.width, width, **(options or {}))


def fixed_cost(kind: str, site: Site) -> int:
    """Parameters of a kind without size: `full` (all modules of the site) or `ia3` (one scale per channel).

    IA3 follows Liu et al. 2022 in a block, and scales the outputs elsewhere.
    """
    if kind == "full":
        return sum(parameters for _, parameters in site.full_modules)
    return sum(m.inputs if scales_input(m) else m.outputs for m in ia3_matrices(site))


def ia3_matrices(site: Site) -> tuple[TargetLinear, ...]:
    """What IA3 scales: keys, values and the second feed-forward layer in a block, all linear layers at other sites."""
    return tuple(m for m in site.matrices if m.module.endswith(IA3_NAMES)) or site.matrices


def scales_input(matrix: TargetLinear) -> bool:
    """Whether IA3 scales the input of a linear layer (after an activation) instead of its output."""
    return matrix.module.endswith(AFTER_ACTIVATION)


def solve_width(
    part: Part, sites: Sequence[Site], base_parameters: int, options: dict[str, Any] | None = None
) -> tuple[int, ...]:
    """A width (or rank) for every site so that the total comes nearest to the part's budget.

    Widths differ by at most 1 between sites, the larger ones spread evenly over the depth. If the nearest total misses
    the budget by more than TOLERANCE, `rounding_note` says so. UsageError if even width 1 exceeds the budget.
    """
    if peft_methods.is_method(part.kind):
        return (_solve_method(part, sites, base_parameters),) * len(sites)
    cost = parameter_cost(part.kind, options)
    if part.size is None:
        raise UsageError(f"{part} has no size to solve for")
    budget = part.size.parameters(base_parameters)
    if budget is None:
        return (int(part.size.value),) * len(sites)
    narrowest = total_parameters(cost, sites, [1] * len(sites))
    if budget < (1 - TOLERANCE) * narrowest:
        raise UsageError(
            f"{part} is a budget of {budget:,} parameters, but {part.kind} needs at least {narrowest:,} at these "
            f"{format_counted(len(sites), 'site')}; give a larger size or fewer layers"
        )
    uniform = _widest_below(cost, sites, budget)
    candidates = [_widened(uniform, count, len(sites)) for count in range(len(sites) + 1)]
    return min(candidates, key=lambda widths: abs(total_parameters(cost, sites, widths) - budget))


def _solve_method(part: Part, sites: Sequence[Site], base_parameters: int) -> int:
    """The size of a method of PEFT, the same at all sites; 0 for one without."""
    peft_methods.check_size(part)
    if part.size is None:
        return 0
    budget = part.size.parameters(base_parameters)
    return int(part.size.value) if budget is None else peft_methods.solve_size(part.kind, budget, matrices_of(sites))


def matrices_of(sites: Sequence[Site]) -> tuple[TargetLinear, ...]:
    """The linear layers of several sites."""
    return tuple(matrix for site in sites for matrix in site.matrices)


def part_parameters(part: Part, sites: Sequence[Site], widths: Sequence[int]) -> int:
    """Trainable parameters of a solved part."""
    if peft_methods.is_method(part.kind):
        return peft_methods.count(part.kind, (widths[0] or None), matrices_of(sites))[0]
    if part.kind in UNSIZED_KINDS:
        return sum(fixed_cost(part.kind, site) for site in sites)
    return total_parameters(parameter_cost(part.kind), sites, widths)


def total_parameters(cost: ParameterCount, sites: Sequence[Site], widths: Sequence[int]) -> int:
    """Trainable parameters of all sites together."""
    return sum(cost(site, width) for site, width in zip(sites, widths, strict=True))


def rounding_note(part: Part, sites: Sequence[Site], widths: Sequence[int], reached: int, base: int) -> str:
    """Remark on a solved part: a missed budget, or a bottleneck wider than its layer; empty if neither."""
    notes = []
    budget = part.size.parameters(base) if part.size is not None else None
    if budget and abs(reached - budget) > TOLERANCE * budget:
        notes.append(f"nearest possible: {100 * (reached - budget) / budget:+.1f}%")
    if peft_methods.is_method(part.kind):
        return "; ".join(notes)
    if part.kind in RANKED_KINDS:
        limits = [min(min(m.inputs, m.outputs) for m in site.matrices) for site in sites]
        note = RANK_ABOVE
    else:
        limits, note = [site.width for site in sites], WIDER
    if any(width > limit for width, limit in zip(widths, limits, strict=False)):
        notes.append(note)
    return "; ".join(notes)


def _widest_below(cost: ParameterCount, sites: Sequence[Site], budget: int) -> int:
    """The largest uniform width within the budget; at least 1."""
    fits, too_wide = 1, 2
    while total_parameters(cost, sites, [too_wide] * len(sites)) <= budget:
        fits, too_wide = too_wide, 2 * too_wide
    while too_wide - fits > 1:
        middle = (fits + too_wide) // 2
        within = total_parameters(cost, sites, [middle] * len(sites)) <= budget
        fits, too_wide = (middle, too_wide) if within else (fits, middle)
    return fits


def _widened(width: int, count: int, sites: int) -> tuple[int, ...]:
    """Widths where `count` of the sites, evenly spread, are 1 wider."""
    return tuple(width + ((i + 1) * count // sites - i * count // sites) for i in range(sites))
