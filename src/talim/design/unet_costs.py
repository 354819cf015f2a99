"""FLOPs of a U-Net, and the activations that training keeps for the backward pass, from dimensions alone."""

from __future__ import annotations

import re
from dataclasses import dataclass

from talim.design.musicgen_sites import Site, TargetLinear
from talim.design.unet_sites import UNetPart, UNetShape

BEAT_TOKENS, CHORD_TOKENS = 50, 20  # padding included
# Widths that a frozen transformer keeps per position: 4 norms; q, k, v and result of the self-attention; q and result
# of the cross-attention; 8 before GEGLU and its gate twice (before and after GELU).
SAVED_BY_TRANSFORMER = 4 + 4 + 2 + 12
SAVED_BY_FULL_TRANSFORMER = 10  # additional if it is trained: inputs of its linear layers


@dataclass(frozen=True)
class UNetGeometry:
    """Sequence lengths in a U-Net: latent frames, text tokens, and the shape that divides them into levels."""

    shape: UNetShape
    frames: int
    text_tokens: int
    base_bytes: int  # per value in the base's precision

    def positions_at(self, level: int) -> int:
        """Latent positions on a level: each level has half the frames and half the bands, rounded up."""
        return -(-self.frames // 2**level) * -(-self.shape.bands // 2**level)

    def level_of(self, site: Site) -> int:
        """Level of a site, 0 the finest."""
        return round((site.level or 0.0) * (len(self.shape.channels) - 1))

    def sequence_length_at(self, site: Site) -> int:
        """Frames per band (text tokens at the conditioner) that a block at a site works on."""
        return self.text_tokens if site.level is None else -(-self.frames // 2 ** self.level_of(site))

    def bands_at(self, site: Site) -> int:
        """Number of bands at a site, each a sequence of its own."""
        return 1 if site.level is None else -(-self.shape.bands // 2 ** self.level_of(site))

    def sequence_length_for(self, matrix: TargetLinear) -> int:
        """Positions that a linear layer inside the model is applied to."""
        if matrix.on_text:
            is_beats = "attentions2" in matrix.module or matrix.module.startswith("beat")
            is_chords = "attentions3" in matrix.module or matrix.module.startswith("chord")
            return BEAT_TOKENS if is_beats else CHORD_TOKENS if is_chords else self.text_tokens
        top = len(self.shape.channels) - 1
        block = re.search(r"(down|up)_blocks\.(\d+)", matrix.module)
        if block is None:
            return self.positions_at(top)
        return self.positions_at(int(block[2]) if block[1] == "down" else top - int(block[2]))


def unet_flops(geometry: UNetGeometry) -> int:
    """FLOPs of all matrix products and convolutions in one pass through the bare U-Net; multiply-adds count as two."""
    shape = geometry.shape
    first, d = shape.channels[0], shape.text_width
    ends = 2 * 9 * shape.latent_channels * first * geometry.positions_at(0)
    time = first * 4 * first + (4 * first) ** 2
    embeddings = (7 + d) * d * BEAT_TOKENS + (16 + 2 * d) * d * CHORD_TOKENS
    return 2 * (ends + time + embeddings + sum(_part_flops(part, geometry) for part in shape.parts()))


def _part_flops(part: UNetPart, geometry: UNetGeometry) -> int:
    shape, at = geometry.shape, geometry.positions_at(part.level)
    width, context = shape.channels[part.level], shape.context_width[part.level]
    if part.resample is not None:
        return 9 * width * width * geometry.positions_at(part.resample)
    flops = 0
    for inputs in part.resnets:
        shortcut = inputs * width if inputs != width else 0
        flops += (9 * inputs * width + 9 * width * width + shortcut) * at + 4 * shape.channels[0] * width
    if part.site:
        for tokens in (geometry.text_tokens, BEAT_TOKENS, CHORD_TOKENS):
            linears = 20 * width * width * at + 2 * context * width * tokens
            flops += linears + 2 * width * at * (at + tokens)  # both attentions: scores and sums
    return flops


def first_trained_part(geometry: UNetGeometry, site: Site, inside: bool) -> int:
    """Index of the first part whose activations the gradient of a site needs; `inside`: of weights in its modules."""
    names = [part.site for part in geometry.shape.parts()]
    return 0 if site.level is None else names.index(site.name) + (0 if inside else 1)


def frozen_activations(geometry: UNetGeometry, first: int) -> int:
    """Values kept per clip in the frozen parts from index `first` on, which the gradient passes through."""
    ends = 2 * (geometry.shape.channels[0] + geometry.shape.latent_channels) * geometry.positions_at(0)
    return ends + sum(_part_activations(part, geometry) for part in [*geometry.shape.parts()][first:])


def _part_activations(part: UNetPart, geometry: UNetGeometry) -> int:
    at, width = geometry.positions_at(part.level), geometry.shape.channels[part.level]
    resnets = sum(2 * inputs + 2 * width for inputs in part.resnets) * at
    return resnets + (3 * SAVED_BY_TRANSFORMER * width * at if part.site else 0)


def full_finetune_activations(geometry: UNetGeometry, site: Site) -> int:
    """Additional values that a trained site keeps: inputs of its matrices and convolutions."""
    at = geometry.positions_at(geometry.level_of(site))
    part = next(part for part in geometry.shape.parts() if part.site == site.name)
    resnets = sum(inputs + site.width for inputs in part.resnets) * (2 if site.name == "mid" else 1)
    return (3 * SAVED_BY_FULL_TRANSFORMER * site.width + resnets) * at
