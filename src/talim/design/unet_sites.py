"""Sites for adapters in Mustango's U-Net, computed from its dimensions alone: no torch, no weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from talim.design.layouts import BANDS
from talim.design.musicgen_sites import Site, TargetLinear

STACKS = ("attentions", "attentions2", "attentions3")  # text, beats, chords: a site is the output of the last
BEAT_INPUTS, CHORD_INPUTS = 7, 16  # inputs of the embeddings, without the sinusoids


@dataclass(frozen=True)
class UNetPart:
    """A ResNet, with three transformers if it is a site; or a convolution to another level."""

    level: int
    resnets: tuple[int, ...]  # input channels of each
    site: str = ""
    resample: int | None = None  # the target level
    block: str = ""  # path of the block inside the model
    layer: int = 0  # in the block


@dataclass(frozen=True)
class UNetShape:
    """Dimensions of a U-Net, levels from fine to coarse; `music_up` runs from coarse to fine."""

    channels: tuple[int, ...]
    layers: tuple[int, ...]
    context_width: tuple[int, ...]
    music_down: tuple[bool, ...]
    music_up: tuple[bool, ...]
    linear_projection: bool = True
    latent_channels: int = 8
    bands: int = 16  # frequency bins of a latent

    @classmethod
    def of(cls, config: Any) -> UNetShape:
        """Dimensions from a `UNetConfig`."""
        names = ("channels", "layers", "context_width", "music_down", "music_up", "linear_projection")
        return cls(**{name: getattr(config, name) for name in names}, latent_channels=config.in_channels)

    @property
    def text_width(self) -> int:
        return self.context_width[0]

    @property
    def decoder_parameters(self) -> int:
        """Exact parameters of the U-Net and the beat and chord embeddings (all as wide as the text states)."""
        first, d = self.channels[0], self.text_width
        ends = 2 * 9 * self.latent_channels * first + first + self.latent_channels + 2 * first
        time = first * 4 * first + 4 * first + (4 * first) ** 2 + 4 * first
        embeddings = (BEAT_INPUTS + d + 1) * d + (CHORD_INPUTS + 2 * d + 1) * d
        embeddings += d  # translation bias of the chord roots
        return ends + time + embeddings + sum(self._parameters(part) for part in self.parts())

    def _parameters(self, part: UNetPart) -> int:
        width, context = self.channels[part.level], self.context_width[part.level]
        if part.resample is not None:
            return 9 * width * width + width
        resnets = sum(self._resnet_parameters(inputs, width) for inputs in part.resnets)
        return resnets + (3 * self._transformer_parameters(width, context) if part.site else 0)

    def parts(self) -> Iterator[UNetPart]:
        """Everything between the first and the last convolution, in signal order."""
        top = len(self.channels) - 1
        for level, width in enumerate(self.channels):
            for layer in range(self.layers[level]):
                inputs = width if layer else self.channels[max(level - 1, 0)]
                site = f"down[{level}.{layer}]" if self.music_down[level] else ""
                yield UNetPart(level, (inputs,), site, None, f"unet.down_blocks.{level}", layer)
            if level < top:
                yield UNetPart(level, (), resample=level + 1)
        yield UNetPart(top, (self.channels[top],), "mid", None, "unet.mid_block")
        yield UNetPart(top, (self.channels[top],))
        for block in range(top + 1):
            level = top - block
            width, below = self.channels[level], self.channels[min(level + 1, top)]
            for layer in range(self.layers[level] + 1):
                skip = self.channels[max(level - 1, 0)] if layer == self.layers[level] else width
                site = f"up[{block}.{layer}]" if self.music_up[block] else ""
                inputs = (width if layer else below) + skip
                yield UNetPart(level, (inputs,), site, None, f"unet.up_blocks.{block}", layer)
            if level:
                yield UNetPart(level, (), resample=level - 1)

    def sites(self) -> tuple[Site, ...]:
        """The conditioner, then down[block.layer], mid and up[block.layer] in signal order."""
        parts = [part for part in self.parts() if part.site]
        last = max(len(parts) - 1, 1)
        return (self._conditioner(), *(self._site(part, index / last) for index, part in enumerate(parts)))

    def _site(self, part: UNetPart, depth: float) -> Site:
        width, context = self.channels[part.level], self.context_width[part.level]
        paths = [f"{part.block}.{stack}.{part.layer}" for stack in STACKS]
        matrices = tuple(matrix for path in paths for matrix in self._matrices(path, width, context))
        trained = [(f"{part.block}.resnets.{part.layer}", self._resnet_parameters(part.resnets[0], width))]
        trained += [(path, self._transformer_parameters(width, context)) for path in paths]
        if part.site == "mid":
            trained.append((f"{part.block}.resnets.1", self._resnet_parameters(width, width)))
        height = part.level / max(len(self.channels) - 1, 1)
        return Site(part.site, paths[-1], width, depth, False, matrices, tuple(trained), BANDS, height)

    def _conditioner(self) -> Site:
        """Between text encoder and U-Net; its matrices are the embeddings of beats and chords."""
        d = self.context_width[0]
        beats = TargetLinear("beat_embedding_layer.beat_ffn", BEAT_INPUTS + d, d, on_text=True)
        chords = TargetLinear("chord_embedding_layer.chord_ffn", CHORD_INPUTS + 2 * d, d, on_text=True)
        trained = tuple((m.module, (m.inputs + 1) * m.outputs) for m in (beats, chords))
        return Site("conditioner", "conditioner", d, 0.0, False, (beats, chords), trained)

    def _matrices(self, path: str, width: int, context: int) -> Iterator[TargetLinear]:
        if self.linear_projection:
            yield TargetLinear(f"{path}.proj_in", width, width)
        block = f"{path}.transformer_blocks.0"
        for attention in ("attn1", "attn2"):
            for part in ("to_q", "to_k", "to_v", "to_out.0"):
                on_text = attention == "attn2" and part in ("to_k", "to_v")
                yield TargetLinear(f"{block}.{attention}.{part}", context if on_text else width, width, on_text)
        yield TargetLinear(f"{block}.ff.net.0.proj", width, 8 * width)
        yield TargetLinear(f"{block}.ff.net.2", 4 * width, width)
        if self.linear_projection:
            yield TargetLinear(f"{path}.proj_out", width, width)

    def _transformer_parameters(self, width: int, context: int) -> int:
        """Exact: group norm, two projections, self- and cross-attention, feed-forward, three layer norms."""
        d = width
        projections = 2 * (d * d + d)
        attention = (4 * d * d + d) + (2 * d * d + 2 * context * d + d)
        feed_forward = (8 * d * d + 8 * d) + (4 * d * d + d)
        return 2 * d + projections + attention + feed_forward + 3 * 2 * d

    def _resnet_parameters(self, inputs: int, outputs: int) -> int:
        """Exact: two norms, two convolutions, time embedding projection, shortcut if widths differ."""
        convolutions = 9 * inputs * outputs + outputs + 9 * outputs * outputs + outputs
        time = 4 * self.channels[0] * outputs + outputs
        shortcut = inputs * outputs + outputs if inputs != outputs else 0
        return 2 * inputs + 2 * outputs + convolutions + time + shortcut
