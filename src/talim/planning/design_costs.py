"""Parameters, FLOPs, file size and activation memory of adapter designs, from the base's dimensions alone."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from talim.backbones import registry
from talim.backbones.resolve import ModelSource, is_cached, resolve_source
from talim.design import budget, costs
from talim.design.expression import UNSIZED_KINDS, Design, Part, kind_names
from talim.design.musicgen_sites import MusicGenShape, Site
from talim.design.site_selection import select_sites, valid_site_names
from talim.design.unet_sites import UNetShape
from talim.errors import TalimError, UsageError

BUDGETS = ("2M", "8M", "20M", "40M", "70M")
PERCENTAGES = ("1%", "2.5%", "5%")  # for a small base
LARGE_MODEL_PARAMETERS = 100_000_000
MAX_CROP_SECONDS = 600
FULL_FINETUNE = Design.parse("full@all")  # what designs are compared with
JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True)
class BaseModelFacts:
    """A base's name, dimensions, frame rate and longest context."""

    name: str
    shape: costs.BackboneShape
    frame_rate_hz: float = 50
    window_seconds: float = 30.0


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

    Without budgets a large base gets `BUDGETS`, a small one `PERCENTAGES`; `crop_seconds` None is the base's window.
    UsageError for what cannot be parsed, TalimError for an unknown base; a design that the base cannot have is a row.
    """
    if budgets and designs:
        raise UsageError("--budget lists every design of a size and --design only that one; give one of them")
    facts = base_model_facts(base)
    seconds = facts.window_seconds if crop_seconds is None else crop_seconds
    if not 1 / facts.frame_rate_hz <= seconds <= MAX_CROP_SECONDS:
        raise UsageError(
            f"--seconds is {seconds:g}; a training clip has at least a frame and at most {MAX_CROP_SECONDS} s"
        )
    if not designs:
        default_sizes = BUDGETS if facts.shape.decoder_parameters > LARGE_MODEL_PARAMETERS else PERCENTAGES
        designs = design_grid([_check_budget(text) for text in budgets] or default_sizes, facts.shape)
    return {
        "base": facts.name,
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
            f"--budget {text!r} cannot be read; give trainable parameters such as 40M or 250k, or per cent of the "
            "base such as 2.5% (for a width or a rank name one design: --design linear@all:width64)"
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
    parameters = [_parameters(part) for part in solved]
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
    widths = budget.solve_width(part, sites, shape.decoder_parameters) if part.size else (0,) * len(sites)
    return part, sites, widths


def _parameters(solved: costs.SizedPart) -> int:
    part, sites, widths = solved
    if part.kind in UNSIZED_KINDS:
        return sum(budget.fixed_cost(part.kind, site) for site in sites)
    return budget.total_parameters(budget.parameter_cost(part.kind), sites, widths)


def base_model_facts(base: str) -> BaseModelFacts:
    """Facts of a known name or Hub id, or from a local folder's config.json; TalimError where there are none."""
    source = resolve_source(base)
    if source.entry is not None and source.entry.shape is not None:
        rate_and_window = registry.FRAME_RATE_AND_WINDOW[source.entry.family]
        return BaseModelFacts(source.entry.name, source.entry.shape, *rate_and_window)
    if source.local:
        unet_config = Path(source.path_or_id) / registry.UNET_CONFIG
        if unet_config.is_file():
            return _read_unet_config(source, unet_config)
        return _read_config(source, Path(source.path_or_id) / "config.json")
    if is_cached(source.path_or_id):
        from huggingface_hub import try_to_load_from_cache

        return _read_config(source, Path(str(try_to_load_from_cache(source.path_or_id, "config.json"))))
    raise TalimError(
        f"the dimensions of base {base!r} are not known; fetch its config.json and give the folder: "
        f"hf download {base} config.json --local-dir {base.rsplit('/', 1)[-1]}"
    )


def _read_unet_config(source: ModelSource, file: Path) -> BaseModelFacts:
    """Mustango's released layout has a file for the U-Net alone."""
    from talim.backbones.mustango.unet_config import UNetConfig

    try:
        shape = UNetShape.of(UNetConfig.of(json.loads(file.read_text(encoding="utf-8"))))
    except (OSError, ValueError, TypeError) as error:
        raise TalimError(f"{file} is no configuration of a U-Net ({error!r})") from error
    return BaseModelFacts(source.name, shape, *registry.FRAME_RATE_AND_WINDOW["mustango"])


def _nano_unet(source: ModelSource, values: dict[str, Any]) -> BaseModelFacts:
    """nano-mustango has U-Net and VAE in one file; each downsampling of the VAE halves bands and frame rate."""
    from talim.backbones.mustango.unet_config import UNetConfig
    from talim.backbones.mustango.vae_vocoder import MelConfig
    from talim.backbones.nano.sinusoidal_model import HOP, RATE_HZ

    downsampling = 2 ** (len(values["vae"]["block_out_channels"]) - 1)
    shape = UNetShape.of(UNetConfig.of(values["unet"]))
    shape = replace(shape, bands=MelConfig().n_mel_channels // downsampling)
    return BaseModelFacts(source.name, shape, RATE_HZ / HOP / downsampling, values["window_seconds"])


def _read_config(source: ModelSource, file: Path) -> BaseModelFacts:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        if "unet" in values:
            return _nano_unet(source, values)
        family = values.get("model_type", "musicgen")
        if family != "musicgen":
            known = {"musicgen_melody": registry.MELODY_UNSUPPORTED}
            reason = known.get(family, f"a {family} model; expected MusicGen")
            raise TalimError(f"base {source.name!r} is not supported: {reason}")
        decoder, text, codec = values["decoder"], values["text_encoder"], values.get("audio_encoder", {})
        shape = MusicGenShape(
            hidden=decoder["hidden_size"],
            layers=decoder["num_hidden_layers"],
            heads=decoder["num_attention_heads"],
            codebooks=decoder["num_codebooks"],
            channels=decoder.get("audio_channels", 1),
            vocabulary=decoder["vocab_size"],
            text_width=text.get("d_model") or text["hidden_size"],
            ffn=decoder["ffn_dim"],
        )
        hop = math.prod(codec.get("upsampling_ratios") or [0])  # absent in the miniature's codec
        rate_hz = math.ceil(codec["sampling_rate"] / hop) if hop else BaseModelFacts.frame_rate_hz
        window = decoder.get("talim_window_seconds", BaseModelFacts.window_seconds)
        return BaseModelFacts(source.name, shape, rate_hz, values.get("talim_window_seconds", window))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TalimError(f"{file} is no MusicGen configuration ({error!r})") from error
