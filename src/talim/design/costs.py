"""Costs of a design beyond its parameters, from dimensions alone: FLOPs, file size, activation memory of training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from talim.design import peft_methods
from talim.design.adapter_kinds import KINDS
from talim.design.budget import ia3_matrices, matrices_of
from talim.design.expression import RANKED_KINDS, Part, layer_range
from talim.design.musicgen_sites import HEADS_PATH, MusicGenShape, Site, TargetLinear
from talim.design.site_selection import changes_inside, first_trained_layer
from talim.design.unet_costs import (
    UNetGeometry,
    first_trained_part,
    frozen_activations,
    full_finetune_activations,
    unet_flops,
)
from talim.design.unet_sites import UNetShape

TEXT_TOKENS = 32  # assumed length of a caption
FLOAT_BYTES = 4  # adapters are float32, whatever the base is
MASK_BYTES = 4  # of dropout's mask per value: float32 on a CPU (one byte on a GPU)
# Hidden widths that a frozen decoder layer keeps: 3 norms; q, k, v and 2 attention results; q; 4 for GELU.
SAVED_ACTIVATIONS_PER_FRAME = 13
SAVED_ACTIVATIONS_FULL = 9  # additional for a trained layer: inputs of its linear layers
HEADER_BYTES_PER_TENSOR = 150  # bytes of names and shapes in a safetensors file
TENSORS_PER_LAYER = 16

BackboneShape = MusicGenShape | UNetShape
SizedPart = tuple[Part, Sequence[Site], Sequence[int]]  # a part, its sites, a width (or rank) for each


@dataclass(frozen=True)
class SequenceShape:
    """Sequence lengths in a decoder: audio frames and text tokens; bytes per value in the base's precision."""

    frames: int
    text_tokens: int = TEXT_TOKENS
    base_bytes: int = FLOAT_BYTES
    prepended: int = 0  # frames of melody and text before the music

    @property
    def positions(self) -> int:
        """What the decoder's layers work on: the music and what precedes it."""
        return self.prepended + self.frames

    @property
    def saved_activations(self) -> tuple[int, int]:
        """Hidden widths per position that a frozen layer keeps, and those that a trained one keeps besides."""
        if self.prepended:  # no norm, q and result of a cross-attention, and no inputs of its linear layers
            return SAVED_ACTIVATIONS_PER_FRAME - 3, SAVED_ACTIVATIONS_FULL - 2
        return SAVED_ACTIVATIONS_PER_FRAME, SAVED_ACTIVATIONS_FULL

    def sequence_length_for(self, matrix: TargetLinear) -> int:
        """Positions that a linear layer is applied to."""
        if matrix.on_text:
            return self.text_tokens
        return self.frames if matrix.module.startswith(HEADS_PATH) else self.positions

    def sequence_length_at(self, site: Site) -> int:
        """Positions that a block at a site works on."""
        return self.text_tokens if site.name == "conditioner" else self.positions

    def bands_at(self, site: Site) -> int:
        """Sequences at a site: 1 in a decoder, one per band in a U-Net."""
        return 1


def sequence_shape(
    shape: BackboneShape, frames: int, text_tokens: int = TEXT_TOKENS, base_bytes: int = FLOAT_BYTES
) -> SequenceShape | UNetGeometry:
    """Sequence lengths for a clip of `frames` frames in a base of this shape."""
    if isinstance(shape, UNetShape):
        return UNetGeometry(shape, frames, text_tokens, base_bytes)
    prepended = shape.melody_frames + text_tokens if shape.melody_frames else 0
    return SequenceShape(frames, text_tokens, base_bytes, prepended)


def flops(solved: SizedPart, clip: SequenceShape | UNetGeometry) -> int:
    """FLOPs that a part adds to one forward pass over a clip; a multiply-add counts as two."""
    part, sites, widths = solved
    if part.kind == "full":
        return 0  # replaces the frozen modules
    if part.kind == "ia3":
        return sum(m.outputs * clip.sequence_length_for(m) for site in sites for m in ia3_matrices(site))
    if peft_methods.is_method(part.kind):
        return sum(
            peft_methods.flops(part.kind, widths[0] or None, _anywhere(matrix), clip.sequence_length_for(matrix))
            for matrix in matrices_of(sites)
        )
    pairs = list(zip(sites, widths, strict=True))
    if part.kind in RANKED_KINDS:
        return sum(_ranked_flops(part.kind, m, rank, clip) for site, rank in pairs for m in site.matrices)
    flops_of = KINDS[part.kind].flops_of
    return sum(
        flops_of(site.width, width, clip.sequence_length_at(site)) * clip.bands_at(site) for site, width in pairs
    )


def _anywhere(matrix: TargetLinear) -> TargetLinear:
    """A linear layer of the same shape under one path, so that it is counted once."""
    return TargetLinear("layer", matrix.inputs, matrix.outputs)


def _ranked_flops(kind: str, matrix: TargetLinear, rank: int, clip: SequenceShape | UNetGeometry) -> int:
    # PEFT's DoRA also multiplies both matrices with the identity in every pass, for the norms of the sum
    positions = clip.sequence_length_for(matrix) + (matrix.inputs if kind == "dora" else 0)
    return 2 * rank * (matrix.inputs + matrix.outputs) * positions


def base_flops(shape: BackboneShape, clip: SequenceShape | UNetGeometry) -> int:
    """Forward FLOPs of the bare decoder's (or U-Net's) matrix products over a clip."""
    if isinstance(clip, UNetGeometry):
        return unet_flops(clip)
    assert isinstance(shape, MusicGenShape)
    d, frames, tokens = shape.hidden, clip.frames, clip.text_tokens
    heads = shape.codebooks * d * shape.vocabulary * frames
    if shape.melody_frames:  # no cross-attention
        per_position = shape.layers * (4 * d * d + 2 * d * shape.feed_forward)
        projections = (tokens * shape.text_width if shape.text_width != d else 0) + shape.melody_frames * shape.chroma
        attention = shape.layers * 2 * d * clip.positions**2
        return 2 * (per_position * clip.positions + heads + projections * d + attention)
    per_frame = shape.layers * (6 * d * d + 2 * d * shape.feed_forward)
    per_token = shape.layers * 2 * d * d + (shape.text_width * d if shape.text_width != d else 0)
    attention = shape.layers * 2 * d * frames * (frames + tokens)
    return 2 * (per_frame * frames + heads + per_token * tokens + attention)


def file_bytes(solved: SizedPart, parameters: int) -> int:
    """Approximate size of a part's safetensors file: float32 weights and a header with their names."""
    return FLOAT_BYTES * parameters + HEADER_BYTES_PER_TENSOR * _tensors(*solved)


def _tensors(part: Part, sites: Sequence[Site], widths: Sequence[int]) -> int:
    if peft_methods.is_method(part.kind):
        return peft_methods.count(part.kind, widths[0] or None, matrices_of(sites))[1]
    if part.kind in RANKED_KINDS:
        return sum(len(site.matrices) for site in sites) * (3 if part.kind == "dora" else 2)
    if part.kind == "ia3":
        return sum(len(ia3_matrices(site)) for site in sites)
    if part.kind == "full":
        return sum(TENSORS_PER_LAYER if layer_range(site.name) else 2 * len(site.full_modules) for site in sites)
    with torch.device("meta"):  # works for registered kinds, too
        return len(KINDS[part.kind](sites[0].width, widths[0]).state_dict()) * len(sites)


def activation_bytes(solved: Sequence[SizedPart], shape: BackboneShape, clip: SequenceShape | UNetGeometry) -> int:
    """Bytes that one training clip keeps for the backward pass, without weights, gradients and optimiser state:
    the adapter's activations and those of the frozen layers above its first site, which the gradient passes through.
    """
    if isinstance(clip, UNetGeometry):
        firsts = [
            first_trained_part(clip, site, changes_inside(part.kind)) for part, sites, _ in solved for site in sites
        ]
        return frozen_activations(clip, min(firsts)) * clip.base_bytes + _all_adapter_bytes(solved, clip)
    assert isinstance(shape, MusicGenShape)
    first = min(first_trained_layer(part.kind, site, shape.layers) for part, sites, _ in solved for site in sites)
    saved = clip.saved_activations[0] * shape.hidden * clip.positions * clip.base_bytes
    frozen = (shape.layers - first) * saved
    output = (2 * shape.hidden * clip.base_bytes + shape.codebooks * shape.vocabulary * FLOAT_BYTES) * clip.frames
    return frozen + output + _all_adapter_bytes(solved, clip)


def _all_adapter_bytes(solved: Sequence[SizedPart], clip: SequenceShape | UNetGeometry) -> int:
    return sum(
        _adapter_bytes(part.kind, site, width, clip)
        for part, sites, widths in solved
        for site, width in zip(sites, widths, strict=True)
    )


def _adapter_bytes(kind: str, site: Site, width: int, clip: SequenceShape | UNetGeometry) -> int:
    if kind in RANKED_KINDS or peft_methods.is_method(kind):
        in_layer = layer_range(site.name) is not None or site.level is not None
        return sum(_ranked_bytes(kind, m, width, in_layer) * clip.sequence_length_for(m) for m in site.matrices)
    if kind == "ia3":
        return sum(clip.base_bytes * m.outputs * clip.sequence_length_for(m) for m in ia3_matrices(site))
    if kind == "full" and isinstance(clip, UNetGeometry) and site.level is not None:
        return FLOAT_BYTES * full_finetune_activations(clip, site)
    positions = clip.sequence_length_at(site)
    if kind == "full":
        frozen, trained = clip.saved_activations if isinstance(clip, SequenceShape) else (0, 0)
        extra = FLOAT_BYTES * (frozen + trained) - clip.base_bytes * frozen
        return (extra if layer_range(site.name) else FLOAT_BYTES) * site.width * positions
    adapter = (
        FLOAT_BYTES * KINDS[kind].activation_values(site.width, width, positions) + MASK_BYTES * site.width * positions
    )
    return adapter * clip.bands_at(site)


def _ranked_bytes(kind: str, matrix: TargetLinear, rank: int, in_layer: bool) -> int:
    """Per position: the input after dropout, the rank's activations, and both products of DoRA's magnitudes.

    Dropout's mask is kept only if the gradient continues below: not under the heads or the text projection.
    """
    mask = MASK_BYTES if in_layer else 0
    outputs = 2 * matrix.outputs if kind == "dora" else 0
    if peft_methods.is_method(kind):  # of unknown inner width: as wide as the layer
        rank, outputs = min(matrix.inputs, matrix.outputs), matrix.outputs
    return (FLOAT_BYTES + mask) * matrix.inputs + FLOAT_BYTES * (rank + outputs)
