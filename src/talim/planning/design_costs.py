"""Parameters, FLOPs, file size and activation memory of adapter designs, from the base's dimensions alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from talim.backbones.resolve import absolute_name
from talim.design import budget, costs, peft_methods
from talim.design.expression import UNSIZED_KINDS, Design, Part, kind_names
from talim.design.musicgen_sites import Site
from talim.design.site_selection import select_sites, valid_site_names
from talim.design.unet_sites import UNetShape
from talim.errors import UsageError
from talim.planning.base_facts import BaseModelFacts, base_model_facts
from talim.planning.training_job import default_training
from talim.strict_yaml import shown_value

BUDGETS = ("2M", "8M", "20M", "40M", "70M")
PERCENTAGES = ("1%", "2.5%", "5%")  # for a small base
LARGE_MODEL_PARAMETERS = 100_000_000
MAX_CROP_SECONDS = 600
FULL_FINETUNE = Design.parse("full@all")  # what designs are compared with
JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True)
class DesignCost:
    """One design and its costs; where the base cannot have it the numbers are None and `note` says why."""

    design: str
    kind: str
    site: str
    parameters: int | None = None
    parameter_fraction: float | None = None  # of the base's decoder or U-Net, 0 to 1
    width: int | None = None  # the narrowest bottleneck or lowest rank; None without any
    widths: list[list[int] | None] | None = None  # the smallest and largest width of each part
    flops_per_audio_second: int | None = None  # added to a forward pass
    file_bytes: int | None = None
    activation_bytes: int | None = None  # kept for one training clip, in float32
    note: str = ""


def design_costs(
    base: str, budgets: Sequence[str] = (), designs: Sequence[str | Design] = (), crop_seconds: float | None = None
) -> dict[str, Any]:
    """The base's numbers and a row for every kind at every site at each budget, or for `designs` alone.

    Without budgets a large base gets `BUDGETS`, a small one `PERCENTAGES`; `crop_seconds` None is that
    of `default_training`.
    UsageError for what cannot be parsed, TalimError for an unknown base; a design that the base cannot have is a row.
    """
    if budgets and designs:
        raise UsageError("--budget lists every design of a size and --design only that one; give one of them")
    facts = base_model_facts(base)
    seconds = default_training(facts)["crop_seconds"] if crop_seconds is None else crop_seconds
    if not 1 / facts.frame_rate_hz <= seconds <= MAX_CROP_SECONDS:
        raise UsageError(
            f"--clip-seconds is {seconds:g}; a training clip has at least a frame and at most {MAX_CROP_SECONDS} s"
        )
    if not designs:
        default_sizes = BUDGETS if facts.shape.decoder_parameters > LARGE_MODEL_PARAMETERS else PERCENTAGES
        designs = design_grid([_check_budget(text) for text in budgets] or default_sizes, facts.shape)
    return {
        "base": facts.name,
        "base_option": absolute_name(base),
        "parameters": facts.shape.decoder_parameters,
        "adapted_part": "U-Net" if isinstance(facts.shape, UNetShape) else "decoder",
        "flops_per_audio_second": round(costs.base_flops(facts.shape, _clip(facts, seconds)) / seconds),
        "crop_seconds": seconds,
        "designs": [asdict(design_cost(Design.parse(design), facts, seconds)) for design in designs],
    }


def _check_budget(text: str) -> str:
    """A budget in canonical form; a width or a rank is refused, as it means something else for every kind."""
    try:
        parts = Design.parse(f"linear@all:{text}").parts
    except UsageError:
        parts = ()
    size = parts[0].size if len(parts) == 1 else None
    if size is None or size.native:
        raise UsageError(
            f"--budget {shown_value(text[:60])} cannot be read; give trainable parameters such as 40M or 250k, or per "
            "cent of the base such as 2.5% (for a width or a rank name one design: --design linear@all:width64)"
        )
    return str(size)


def design_grid(sizes: Sequence[str], shape: costs.BackboneShape) -> list[str]:
    """Expressions of every kind at every site, size by size; kinds without a size once, at the end."""
    sites = valid_site_names(_sites(shape))
    sized = [kind for kind in kind_names() if kind not in UNSIZED_KINDS]
    grid = [f"{kind}@{site}:{size}" for size in sizes for kind in sized for site in sites]
    return grid + [f"{kind}@{site}" for kind in UNSIZED_KINDS for site in sites]


def design_cost(design: Design, base: BaseModelFacts, crop_seconds: float) -> DesignCost:
    """One design's costs on a base, with training clips of `crop_seconds`."""
    shape, clip = base.shape, _clip(base, crop_seconds)
    kind, site = ("+".join(getattr(part, name) for part in design.parts) for name in ("kind", "site"))
    try:
        solved = [_solve(part, shape) for part in design.parts]
    except UsageError as error:
        return DesignCost(str(design), kind, site, note=f"impossible: {error}")
    parameters = [budget.part_parameters(*part) for part in solved]
    pairs = list(zip(solved, parameters, strict=True))
    notes = [budget.rounding_note(*part, count, shape.decoder_parameters) for part, count in pairs]
    widths = [[min(widths), max(widths)] if part.size else None for part, _, widths in solved]
    return DesignCost(
        str(design),
        kind,
        site,
        parameters=sum(parameters),
        parameter_fraction=sum(parameters) / shape.decoder_parameters,
        width=min((span[0] for span in widths if span), default=None),
        widths=widths,
        flops_per_audio_second=round(sum(costs.flops(part, clip) for part in solved) / crop_seconds),
        file_bytes=sum(costs.file_bytes(part, count) for part, count in pairs),
        activation_bytes=costs.activation_bytes(solved, shape, clip),
        note="; ".join(dict.fromkeys(note for note in notes if note)),
    )


def _clip(base: BaseModelFacts, seconds: float) -> Any:
    return costs.sequence_shape(base.shape, max(1, round(seconds * base.frame_rate_hz)))


@lru_cache(maxsize=4)
def _sites(shape: costs.BackboneShape) -> tuple[Site, ...]:
    return shape.sites()


def _solve(part: Part, shape: costs.BackboneShape) -> costs.SizedPart:
    sites = select_sites(part.site, _sites(shape))
    solved = part.size is not None or peft_methods.is_method(part.kind)
    widths = budget.solve_width(part, sites, shape.decoder_parameters) if solved else (0,) * len(sites)
    return part, sites, widths
