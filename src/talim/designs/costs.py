"""What a design costs beyond its parameters, from shapes alone: operations, file size, memory for training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from talim.designs.expression import RANKED_KINDS, Part, layer_range
from talim.designs.kinds import KINDS
from talim.designs.sites import MusicGenShape, Site
from talim.designs.sizing import fixed_cost, ia3_matrices

WORDS = 32  # text positions that a conditioner is reckoned with
KEPT_PER_FRAME = (
    13  # hidden widths a frozen decoder layer keeps: 3 norms, q k v and 2 attention results, q, GELU's 4
)
KEPT_BY_FULL = 9  # more for a trained one: what enters its linears
HEADER_PER_TENSOR = 150  # bytes of names and shapes in a safetensors file


Solved = tuple[Part, Sequence[Site], Sequence[int]]  # a part, its sites, a width (or rank) for each


@dataclass(frozen=True)
class Clip:
    """What is trained on: frames of music, and the bytes of a number in the base's precision."""

    frames: int
    base_bytes: int = 4


def flops(part: Part, sites: Sequence[Site], widths: Sequence[int], frames: int) -> int:
    """Operations that a part adds to one forward pass over `frames` frames; a multiply-add counts as two."""
    if part.kind == "full":
        return 0  # it takes the place of what is there
    if part.kind == "ia3":
        return sum(fixed_cost("ia3", site) for site in sites) * frames
    total = 0
    for site, width in zip(sites, widths, strict=True):
        seen = WORDS if site.name == "conditioner" else frames
        if part.kind in RANKED_KINDS:
            total += 2 * width * seen * sum(m.inputs + m.outputs for m in site.matrices)
        else:
            total += KINDS[part.kind].flops_of(site.width, width, seen)
    return total


def base_flops(shape: MusicGenShape, frames: int) -> int:
    """Operations of the bare decoder's matrix products over `frames` frames and `WORDS` words, forward."""
    d = shape.hidden
    per_frame = (
        shape.layers * (6 * d * d + 2 * d * shape.feed_forward) + shape.codebooks * d * shape.vocabulary
    )
    words = shape.layers * 2 * d * d * WORDS + shape.text_width * d * WORDS
    attention = shape.layers * 2 * d * frames * (frames + WORDS)
    return 2 * (per_frame * frames + words + attention)


def tensors(part: Part, sites: Sequence[Site]) -> int:
    """About how many tensors a part's file holds."""
    if part.kind in RANKED_KINDS:
        return sum(len(site.matrices) for site in sites) * (3 if part.kind == "dora" else 2)
    if part.kind == "ia3":
        return sum(len(ia3_matrices(site)) for site in sites)
    if part.kind == "full":
        return sum(16 if layer_range(site.name) else 2 * len(site.whole) for site in sites)
    return {"linear": 4, "conv": 12, "transformer": 16}.get(part.kind, 8) * len(sites)


def kept_bytes(solved: Sequence[Solved], shape: MusicGenShape, clip: Clip) -> int:
    """Bytes that one training clip keeps for the way back: the adapter's own, and those of the frozen layers above
    its first site, through which the gradient comes down. Weights, gradients and optimiser are not in it.
    """
    first = min(_first_layer_above(part.kind, site, shape) for part, sites, _ in solved for site in sites)
    frozen = (shape.layers - first) * KEPT_PER_FRAME * shape.hidden * clip.frames * clip.base_bytes
    out = (2 * shape.hidden * clip.base_bytes + shape.codebooks * shape.vocabulary * 4) * clip.frames
    own = sum(
        _own_bytes(part, site, width, clip)
        for part, sites, widths in solved
        for site, width in zip(sites, widths, strict=True)
    )
    return frozen + out + own


def _first_layer_above(kind: str, site: Site, shape: MusicGenShape) -> int:
    """Index of the first layer whose activations a gradient needs to reach this site."""
    layer = layer_range(site.name)
    if layer is not None:  # what sits inside a layer needs that layer's too
        return layer[0] + (0 if kind in (*RANKED_KINDS, "ia3", "full") else 1)
    return 0 if site.name == "conditioner" else shape.layers


def _own_bytes(part: Part, site: Site, width: int, clip: Clip) -> int:
    frames = WORDS if site.name == "conditioner" else clip.frames
    if (
        part.kind in RANKED_KINDS
    ):  # float32: each linear's own dropped input with its mask, and what the rank holds
        return sum((5 * m.inputs + 4 * width) * frames for m in site.matrices)
    if part.kind == "ia3":
        return sum(clip.base_bytes * m.outputs * frames for m in ia3_matrices(site))
    if part.kind == "full":
        extra = 4 * (KEPT_PER_FRAME + KEPT_BY_FULL) - clip.base_bytes * KEPT_PER_FRAME
        return (extra if layer_range(site.name) else 4) * site.width * frames
    return 4 * KINDS[part.kind].kept_of(site.width, width, frames) + site.width * frames
