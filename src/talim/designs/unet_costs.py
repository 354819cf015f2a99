"""What a U-Net and a design in it cost, from shapes alone: operations, and what training keeps for the way back."""

from __future__ import annotations

import re
from dataclasses import dataclass

from talim.designs.musicgen_sites import Site, TargetLinear
from talim.designs.unet_sites import UNetPart, UNetShape

BEATS, CHORDS = 50, 20  # tokens, padding included
# Widths that a frozen transformer keeps for every place: 4 norms, q k v and the result of the self-attention, q and
# the result of the other, 8 before GEGLU (its gate twice: as it is, and after its GELU).
SAVED_BY_TRANSFORMER = 4 + 4 + 2 + 12
SAVED_BY_FULL_TRANSFORMER = 10  # more where it is trained: what enters its linears


@dataclass(frozen=True)
class UNetGeometry:
    """What a U-Net hears at once: latent frames, positions of text, and the shape that divides them into levels."""

    shape: UNetShape
    frames: int
    words: int
    base_bytes: int  # of a number in the base's precision

    def at(self, level: int) -> int:
        """Places in the latent on a level: every level has half the frames and half the bands, rounded up."""
        return -(-self.frames // 2**level) * -(-self.shape.bands // 2**level)

    def level_of(self, site: Site) -> int:
        """Which level a site is on, 0 the finest."""
        return round((site.level or 0.0) * (len(self.shape.channels) - 1))

    def sequence_length_at(self, site: Site) -> int:
        """Frames (or words) that a block at a site acts on, in each band."""
        return self.words if site.level is None else -(-self.frames // 2 ** self.level_of(site))

    def bands_at(self, site: Site) -> int:
        """Bands at a site, each a sequence of its own."""
        return 1 if site.level is None else -(-self.shape.bands // 2 ** self.level_of(site))

    def sequence_length_for(self, matrix: TargetLinear) -> int:
        """Positions that a linear map inside the model is applied to."""
        if matrix.on_text:
            is_beats = "attentions2" in matrix.module or matrix.module.startswith("beat")
            is_chords = "attentions3" in matrix.module or matrix.module.startswith("chord")
            return BEATS if is_beats else CHORDS if is_chords else self.words
        top = len(self.shape.channels) - 1
        found = re.search(r"(down|up)_blocks\.(\d+)", matrix.module)
        if found is None:
            return self.at(top)
        return self.at(int(found[2]) if found[1] == "down" else top - int(found[2]))


def unet_flops(places: UNetGeometry) -> int:
    """Operations of all matrix products and convolutions of one pass through the bare U-Net; multiply-adds are two."""
    shape = places.shape
    first, d = shape.channels[0], shape.text_width
    ends = 2 * 9 * shape.latent_channels * first * places.at(0)
    time = first * 4 * first + (4 * first) ** 2
    embeddings = (7 + d) * d * BEATS + (16 + 2 * d) * d * CHORDS
    return 2 * (ends + time + embeddings + sum(_part_flops(part, places) for part in shape.parts()))


def _part_flops(part: UNetPart, places: UNetGeometry) -> int:
    shape, at = places.shape, places.at(part.level)
    width, context = shape.channels[part.level], shape.context_width[part.level]
    if part.resample is not None:
        return 9 * width * width * places.at(part.resample)
    found = 0
    for inputs in part.resnets:
        shortcut = inputs * width if inputs != width else 0
        found += (9 * inputs * width + 9 * width * width + shortcut) * at + 4 * shape.channels[0] * width
    if part.site:
        for tokens in (places.words, BEATS, CHORDS):
            linears = 20 * width * width * at + 2 * context * width * tokens
            found += linears + 2 * width * at * (at + tokens)  # both attentions: scores and sums
    return found


def first_trained_part(places: UNetGeometry, site: Site, inside: bool) -> int:
    """Index of the first part whose activations a gradient needs to reach this site, or what is `inside` it."""
    names = [part.site for part in places.shape.parts()]
    return 0 if site.level is None else names.index(site.name) + (0 if inside else 1)


def frozen_activations(places: UNetGeometry, first: int) -> int:
    """Numbers that one clip keeps in the frozen parts from `first` on, through which a gradient comes down."""
    ends = 2 * (places.shape.channels[0] + places.shape.latent_channels) * places.at(0)
    return ends + sum(_part_activations(part, places) for part in [*places.shape.parts()][first:])


def _part_activations(part: UNetPart, places: UNetGeometry) -> int:
    at, width = places.at(part.level), places.shape.channels[part.level]
    resnets = sum(2 * inputs + 2 * width for inputs in part.resnets) * at
    return resnets + (3 * SAVED_BY_TRANSFORMER * width * at if part.site else 0)


def full_finetune_activations(places: UNetGeometry, site: Site) -> int:
    """What a trained site keeps more than a frozen one: what enters its matrices and convolutions."""
    at = places.at(places.level_of(site))
    part = next(part for part in places.shape.parts() if part.site == site.name)
    resnets = sum(inputs + site.width for inputs in part.resnets) * (2 if site.name == "mid" else 1)
    return (3 * SAVED_BY_FULL_TRANSFORMER * site.width + resnets) * at
