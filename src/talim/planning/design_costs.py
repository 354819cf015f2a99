"""Every design for a base and what it costs, from shapes alone: no weights, no network, at once."""

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
from talim.designs import budget, costs
from talim.designs.expression import UNSIZED_KINDS, Part, kind_names, parse
from talim.designs.musicgen_sites import MusicGenShape, Site
from talim.designs.site_selection import select_sites, valid_site_names
from talim.designs.unet_costs import UNetGeometry
from talim.designs.unet_sites import UNetShape
from talim.errors import TalimError, UsageError

BUDGETS = ("2M", "8M", "20M", "40M", "70M")
SHARES = ("1%", "2.5%", "5%")  # for a base in which forty million is no small part
LARGE_MODEL_PARAMETERS = 100_000_000
LONGEST_SECONDS = 600


@dataclass(frozen=True)
class BaseModelFacts:
    """What must be known of a base: its public name, its shape, its clock and the longest stretch it hears."""

    name: str
    shape: costs.BackboneShape
    frame_rate_hz: float = 50
    window_seconds: float = 30.0


@dataclass(frozen=True)
class DesignCost:
    """One design and its costs; all numbers are None where it is impossible, and `remark` says why."""

    expression: str
    kind: str
    site: str
    parameters: int | None = None
    share: float | None = None  # of the base's decoder, 0 to 1
    width: int | None = None  # of the narrowest bottleneck, or the lowest rank; None where no part has any
    widths: list[list[int] | None] | None = None  # for each part, the least and the greatest
    flops_per_second: int | None = None  # of music, forward, what the adapter adds
    file_bytes: int | None = None
    activation_bytes: int | None = None  # one training clip
    remark: str = ""


def design_costs(
    base: str, budgets: Sequence[str] = (), expressions: Sequence[str] = (), clip_seconds: float | None = None
) -> dict[str, Any]:
    """The base's numbers and a row for every kind and site at every budget, or for the expressions alone.

    Without budgets a large base gets `BUDGETS`, a small one `SHARES`. UsageError for what cannot be read,
    TalimError for an unknown base; a design that the base cannot have is a row that says so.
    """
    if budgets and expressions:
        raise UsageError("--budget lists every design of a size and --design only that one; give one of them")
    found = base_model_facts(base)
    seconds = found.window_seconds if clip_seconds is None else clip_seconds
    if not 1 / found.frame_rate_hz <= seconds <= LONGEST_SECONDS:
        raise UsageError(
            f"--seconds is {seconds:g}; a training clip has at least a frame and at most {LONGEST_SECONDS} s"
        )
    if not expressions:
        sizes = [_budget(text) for text in budgets]
        expressions = expression_grid(sizes or default_sizes(found.shape), found.shape)
    clip = costs.sequence_shape(found.shape, max(1, round(seconds * found.frame_rate_hz)))
    return {
        "base": found.name,
        "parameters": found.shape.decoder_parameters,
        "part": "U-Net" if isinstance(found.shape, UNetShape) else "decoder",
        "flops_per_second": round(costs.base_flops(found.shape, clip) / seconds),
        "clip_seconds": seconds,
        "designs": [asdict(design_row(text, found.shape, clip, seconds)) for text in expressions],
    }


def default_sizes(shape: costs.BackboneShape) -> tuple[str, ...]:
    """Which budgets a base is listed with where none is asked for."""
    return BUDGETS if shape.decoder_parameters > LARGE_MODEL_PARAMETERS else SHARES


def _budget(text: str) -> str:
    """A size as expressions write it; a width or a rank is none, as it means something else for every kind."""
    try:
        parts = parse(f"linear@all:{text}").parts
    except UsageError:
        parts = ()
    size = parts[0].size if len(parts) == 1 else None
    if size is None or size.native:
        raise UsageError(
            f"--budget {text!r} cannot be read; give trainable parameters such as 40M or 250k, or a share of the "
            "base such as 2.5% (for a width or a rank name one design: --design linear@all:width64)"
        )
    return str(size)


def expression_grid(sizes: Sequence[str], shape: costs.BackboneShape) -> list[str]:
    """Expressions of every kind at every site, each size in turn; what takes no size comes once, last."""
    there = valid_site_names(_sites(shape))
    sized = [kind for kind in kind_names() if kind not in UNSIZED_KINDS]
    found = [f"{kind}@{site}:{size}" for size in sizes for kind in sized for site in there]
    return found + [f"{kind}@{site}" for kind in UNSIZED_KINDS for site in there]


def design_row(
    expression: str, shape: costs.BackboneShape, clip: costs.SequenceShape | UNetGeometry, seconds: float
) -> DesignCost:
    """One design's costs over a clip of so many seconds; UsageError for a misspelt expression."""
    design = parse(expression)
    kind, site = ("+".join(getattr(part, word) for part in design.parts) for word in ("kind", "site"))
    try:
        solved = [_solved(part, shape) for part in design.parts]
    except UsageError as error:
        return DesignCost(str(design), kind, site, remark=f"impossible: {error}")
    reached = [_parameters(each) for each in solved]
    pairs = list(zip(solved, reached, strict=True))
    notes = [budget.rounding_note(*each, parameters, shape.decoder_parameters) for each, parameters in pairs]
    spans = [[min(widths), max(widths)] if part.size else None for part, _, widths in solved]
    return DesignCost(
        str(design),
        kind,
        site,
        parameters=sum(reached),
        share=sum(reached) / shape.decoder_parameters,
        width=min((span[0] for span in spans if span), default=None),
        widths=spans,
        flops_per_second=round(sum(costs.flops(each, clip) for each in solved) / seconds),
        file_bytes=sum(costs.file_bytes(each, parameters) for each, parameters in pairs),
        activation_bytes=costs.activation_bytes(solved, shape, clip),
        remark="; ".join(dict.fromkeys(note for note in notes if note)),
    )


@lru_cache(maxsize=4)
def _sites(shape: costs.BackboneShape) -> tuple[Site, ...]:
    return shape.sites()


def _solved(part: Part, shape: costs.BackboneShape) -> costs.SizedPart:
    sites = select_sites(part.site, _sites(shape))
    widths = budget.solve_width(part, sites, shape.decoder_parameters) if part.size else (0,) * len(sites)
    return part, sites, widths


def _parameters(solved: costs.SizedPart) -> int:
    part, sites, widths = solved
    if part.kind in UNSIZED_KINDS:
        return sum(budget.fixed_cost(part.kind, site) for site in sites)
    return budget.total_parameters(budget.parameter_cost(part.kind), sites, widths)


def base_model_facts(base: str) -> BaseModelFacts:
    """A base's numbers by its known name or Hub id, or from a local folder's config.json; TalimError if none."""
    source = resolve_source(base)
    if source.known is not None and source.known.shape is not None:
        clock = registry.FRAME_RATE_AND_WINDOW[source.known.family]
        return BaseModelFacts(source.known.name, source.known.shape, *clock)
    if source.local:
        unet = Path(source.place) / registry.UNET_CONFIG
        return (
            _read_unet(source, unet) if unet.is_file() else _read(source, Path(source.place) / "config.json")
        )
    if is_cached(source.place):
        from huggingface_hub import try_to_load_from_cache

        return _read(source, Path(str(try_to_load_from_cache(source.place, "config.json"))))
    raise TalimError(
        f"the shape of base {base!r} is not known here; fetch its config.json and give the folder: "
        f"hf download {base} config.json --local-dir {base.rsplit('/', 1)[-1]}"
    )


def _read_unet(source: ModelSource, file: Path) -> BaseModelFacts:
    """Of the released layout: a file that holds the U-Net's numbers alone."""
    from talim.backbones.mustango.unet_config import UNetConfig

    try:
        shape = UNetShape.of(UNetConfig.of(json.loads(file.read_text(encoding="utf-8"))))
    except (OSError, ValueError, TypeError) as error:
        raise TalimError(f"{file} is no configuration of a U-Net ({error!r})") from error
    return BaseModelFacts(source.name, shape, *registry.FRAME_RATE_AND_WINDOW["mustango"])


def _nano_unet(source: ModelSource, values: dict[str, Any]) -> BaseModelFacts:
    """Of the miniature: U-Net and VAE in one file; each of the VAE's halvings halves bands and frames."""
    from talim.backbones.mustango.unet_config import UNetConfig
    from talim.backbones.mustango.vae_vocoder import MelConfig
    from talim.backbones.nano.sinusoidal_model import HOP, RATE_HZ

    shrinkage = 2 ** (len(values["vae"]["block_out_channels"]) - 1)
    shape = UNetShape.of(UNetConfig.of(values["unet"]))
    shape = replace(shape, bands=MelConfig().n_mel_channels // shrinkage)
    return BaseModelFacts(source.name, shape, RATE_HZ / HOP / shrinkage, values["window_seconds"])


def _read(source: ModelSource, file: Path) -> BaseModelFacts:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        if "unet" in values:
            return _nano_unet(source, values)
        family = values.get("model_type", "musicgen")
        if family != "musicgen":
            why = (
                registry.MELODY_UNSUPPORTED
                if family == "musicgen_melody"
                else f"a {family} model; expected MusicGen"
            )
            raise TalimError(f"base {source.name!r} is not supported: {why}")
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
        hop = math.prod(codec.get("upsampling_ratios") or [0])  # the miniature's codec has no such list
        rate_hz = math.ceil(codec["sampling_rate"] / hop) if hop else BaseModelFacts.frame_rate_hz
        window = decoder.get("talim_window_seconds", BaseModelFacts.window_seconds)
        return BaseModelFacts(source.name, shape, rate_hz, values.get("talim_window_seconds", window))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TalimError(f"{file} is no MusicGen configuration ({error!r})") from error
