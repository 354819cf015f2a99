"""Every design for a base and what it costs, from shapes alone: no weights, no network, at once."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from talim.backbones import catalogue
from talim.designs import costs, sizing
from talim.designs.expression import SITE_WORDS, UNSIZED_KINDS, Part, kind_names, parse
from talim.designs.places import select
from talim.designs.sites import MusicGenShape, Site
from talim.errors import TalimError, UsageError

BUDGETS = ("2M", "8M", "20M", "40M", "70M")
SHARES = ("1%", "2.5%", "5%")  # for a base in which forty million is no small part
LARGE = 100_000_000
NANO_CONFIG = Path(catalogue.__file__).parent / "nano" / "weights" / "config.json"
FRAME_RATE_HZ = 50
NUMBERS = ("parameters", "share", "width", "flops_per_second", "file_bytes", "activation_bytes")
WINDOW_SECONDS = 30.0


@dataclass(frozen=True)
class Row:
    """One design and its costs; `parameters` and what follows is None where the budget is impossible."""

    expression: str
    kind: str
    site: str
    parameters: int | None
    share: float | None  # of the base's decoder
    width: str | None  # of the bottleneck, or the rank; lowest-highest where they differ
    flops_per_second: int | None  # of music, forward, what the adapter adds
    file_bytes: int | None
    activation_bytes: int | None  # one training clip
    remark: str


def designs(
    base: str, budgets: Sequence[str] = (), expressions: Sequence[str] = (), clip_seconds: float | None = None
) -> dict[str, Any]:
    """The base's numbers and a row for every kind and site at every budget, or for the expressions alone."""
    name, shape = shape_of(base)
    if clip_seconds is not None and not 0 < clip_seconds <= 600:
        raise UsageError(f"--seconds is {clip_seconds:g}; a training clip has more than 0 and at most 600 s")
    seconds = clip_seconds or (20.0 if name == catalogue.NANO else WINDOW_SECONDS)
    if not expressions:
        sizes = budgets or (BUDGETS if shape.decoder_parameters > LARGE else SHARES)
        expressions = grid(sizes, shape)
    frames = round(seconds * FRAME_RATE_HZ)
    return {
        "base": name,
        "parameters": shape.decoder_parameters,
        "flops_per_second": round(costs.base_flops(shape, frames) / seconds),
        "clip_seconds": seconds,
        "designs": [asdict(row(expression, shape, frames)) for expression in expressions],
    }


def shape_of(base: str) -> tuple[str, MusicGenShape]:
    """A base's public name and numbers: a known name, a Hub id of one, or a local folder's config.json."""
    known = catalogue.find(base)
    if known is not None and known.refused:
        raise TalimError(f"base {base!r} is not supported: {known.refused}")
    if known is not None and known.shape is not None:
        return known.name, known.shape
    file = NANO_CONFIG if known is not None else Path(base).expanduser() / "config.json"
    if not file.is_file():
        near = catalogue.near(base)
        raise TalimError(
            f"base {base!r} is no known model and no folder with a config.json; "
            f"{'did you mean ' + ' or '.join(near) + '?' if near else 'use musicgen-small, for example'}"
        )
    return known.name if known is not None else file.parent.resolve().name, _read_shape(file)


def _read_shape(file: Path) -> MusicGenShape:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        decoder, text = values["decoder"], values["text_encoder"]
        return MusicGenShape(
            hidden=decoder["hidden_size"],
            layers=decoder["num_hidden_layers"],
            heads=decoder["num_attention_heads"],
            codebooks=decoder["num_codebooks"],
            channels=decoder.get("audio_channels", 1),
            vocabulary=decoder["vocab_size"],
            text_width=text.get("d_model", text.get("hidden_size")),
            ffn=decoder["ffn_dim"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TalimError(f"{file} is no MusicGen configuration ({error!r})") from error


def grid(sizes: Sequence[str], shape: MusicGenShape) -> list[str]:
    """Expressions of every kind at every site, each size in turn; what takes no size comes once, last."""
    there = [word for word in SITE_WORDS if word != "conditioner" or shape.text_width != shape.hidden]
    sized = [kind for kind in kind_names() if kind not in UNSIZED_KINDS]
    found = [f"{kind}@{site}:{size}" for size in sizes for kind in sized for site in there]
    return found + [f"{kind}@{site}" for kind in UNSIZED_KINDS for site in there]


def row(expression: str, shape: MusicGenShape, frames: int) -> Row:
    """One design's costs; an impossible budget is a row that says why. UsageError for a misspelt expression."""
    design = parse(expression)
    words = {word: "+".join(getattr(part, word) for part in design.parts) for word in ("kind", "site")}
    try:
        solved = [_solved(part, shape) for part in design.parts]
    except UsageError as error:
        nothing = dict.fromkeys(NUMBERS)
        return Row(str(design), **words, **nothing, remark=f"impossible: {error}")  # type: ignore[arg-type]
    reached = [_parameters(*each) for each in solved]
    notes = [
        sizing.remark(*each, parameters, shape.decoder_parameters)
        for each, parameters in zip(solved, reached, strict=True)
    ]
    work = sum(costs.flops(*each, frames) for each in solved)
    held = sum(costs.tensors(part, sites) for part, sites, _ in solved)
    return Row(
        str(design),
        **words,
        parameters=sum(reached),
        share=sum(reached) / shape.decoder_parameters,
        width="+".join(_span(widths) if part.size else "-" for part, _, widths in solved),
        flops_per_second=round(work * FRAME_RATE_HZ / frames),
        file_bytes=4 * sum(reached) + costs.HEADER_PER_TENSOR * held,
        activation_bytes=costs.kept_bytes(solved, shape, costs.Clip(frames)),
        remark="; ".join(note for note in notes if note),
    )


def _solved(part: Part, shape: MusicGenShape) -> costs.Solved:
    sites = select(part.site, shape.sites())
    widths = sizing.solve(part, sites, shape.decoder_parameters) if part.size else (0,) * len(sites)
    return part, sites, widths


def _parameters(part: Part, sites: Sequence[Site], widths: Sequence[int]) -> int:
    if part.kind in UNSIZED_KINDS:
        return sum(sizing.fixed_cost(part.kind, site) for site in sites)
    return sizing.total(sizing.cost_of(part.kind), sites, widths)


def _span(widths: Sequence[int]) -> str:
    low, high = min(widths), max(widths)
    return str(low) if low == high else f"{low}-{high}"


def table(found: dict[str, Any]) -> str:
    """The same for people: a line per design, grouped by size, at most a hundred columns wide."""
    head = (
        f"{found['base']}: {found['parameters']:,} parameters in the decoder, "
        f"{_short(found['flops_per_second'])}FLOP a second of music; memory for one clip of "
        f"{found['clip_seconds']:g} s, in float32, without gradient checkpointing"
    )
    lines = [*textwrap.wrap(head, 98), ""]
    title = f"{'design':34}{'parameters':>13}{'share':>8}{'width':>10}{'FLOP/s':>9}{'file':>9}{'memory':>9}"
    lines.append(title)
    size = None
    for each in found["designs"]:
        here = each["expression"].rpartition(":")[2] if ":" in each["expression"] else ""
        if size is not None and here != size:
            lines.append("")
        size = here
        lines += _lines(each)
    return "\n".join(lines)


def _lines(each: dict[str, Any]) -> list[str]:
    if each["parameters"] is None:
        why = textwrap.wrap(each["remark"], 90, initial_indent="      ", subsequent_indent="      ")
        return [each["expression"], *why]
    note = ["      " + each["remark"]] if each["remark"] else []
    return [
        f"{each['expression']:34}{each['parameters']:>13,}{100 * each['share']:>7.2f}%{each['width']:>10}"
        f"{_short(each['flops_per_second']):>9}{_short(each['file_bytes']):>8}B{_short(each['activation_bytes']):>8}B",
        *note,
    ]


def _short(number: float) -> str:
    for letter in ("T", "G", "M", "k"):
        size = {"T": 1e12, "G": 1e9, "M": 1e6, "k": 1e3}[letter]
        if number >= size:
            return f"{number / size:.3g} {letter}"
    return f"{number:.3g} "
