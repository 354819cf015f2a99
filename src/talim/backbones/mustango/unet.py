"""Mustango's U-Net: diffusers' blocks with three transformers in series at each attention site.

The frames attend first to the text, then to the beats, then to the chords. Latents are [B, C, T, F]: T frames in time,
F mel bands. Module names are those of the released checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from diffusers.models.downsampling import Downsample2D
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from talim.backbones.mustango.unet_config import UNetConfig

# Not minus infinity: a row without any valid key must still attend, to all keys by their scores.
MASKED_BIAS = -10000.0


class SamplingMemory:
    """What stays the same over all sampling steps of a batch: the contexts, and what each attention makes of its own.

    It belongs to one batch of clips and to the weights and adapters as they are; without gradients.
    """

    def __init__(self) -> None:
        self.contexts: list[CrossAttentionContext] | None = None
        self._made: dict[nn.Module, Any] = {}

    def of(self, module: nn.Module, make: Callable[[], Any]) -> Any:
        """What `make` returned when it was first asked for this module."""
        if module not in self._made:
            self._made[module] = make()
        return self._made[module]


class CrossAttentionContext(NamedTuple):
    """Tokens that a site attends to, and a bias that masks padding."""

    tokens: Tensor  # [B, L, D]
    bias: Tensor | None  # [B, 1, L], 0 or MASKED_BIAS
    memory: SamplingMemory | None = None

    @classmethod
    def of(
        cls, tokens: Tensor, mask: Tensor | None, dtype: torch.dtype, memory: SamplingMemory | None = None
    ) -> CrossAttentionContext:
        """From a mask [B, L], true for valid tokens; None if all are valid."""
        bias = None if mask is None else ((1 - mask.to(dtype)) * MASKED_BIAS)[:, None]
        return cls(tokens.to(dtype), bias, memory)


class MusicTransformer(Transformer2DModel):
    """Residual transformer: self-attention over all latent positions, cross-attention to one context, feed-forward."""

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, hidden: Tensor, tokens: Tensor, bias: Tensor | None, memory: SamplingMemory | None = None
    ) -> Tensor:  # [B, C, T, F]
        if memory is not None and self._is_plain():
            return self._sample(hidden, tokens, bias, memory)
        return super().forward(hidden, encoder_hidden_states=tokens, encoder_attention_mask=bias, return_dict=False)[0]

    def _is_plain(self) -> bool:
        """Whether the parts that `_sample` looks into are diffusers' own: an adapter around one must be called."""
        block = self.transformer_blocks[0]
        return type(block) is BasicTransformerBlock and type(block.attn1) is type(block.attn2) is Attention

    def _sample(self, hidden: Tensor, tokens: Tensor, bias: Tensor | None, memory: SamplingMemory) -> Tensor:
        """The same with what the context alone decides made once, and without copies between memory layouts."""
        block: Any = self.transformer_blocks[0]
        batch, _, frames, bands = hidden.shape
        linear = self.use_linear_projection
        inner = self.norm(hidden) if linear else self.proj_in(self.norm(hidden))
        states = inner.permute(0, 2, 3, 1).reshape(batch, frames * bands, -1)
        states = self.proj_in(states) if linear else states
        own = block.norm1(states)
        states = states + _attend(block.attn1, own, *_keys_and_values(block.attn1, own))
        if tokens.shape[1] == 1:  # one key: its value, whatever asks
            states = states + memory.of(block.attn2, lambda: _attend_to_one(block.attn2, tokens))
        else:
            keys, values = memory.of(block.attn2, lambda: _keys_and_values(block.attn2, tokens))
            states = states + _attend(block.attn2, block.norm2(states), keys, values, bias)
        states = states + block.ff(block.norm3(states))
        states = self.proj_out(states) if linear else states
        inner = states.reshape(batch, frames, bands, -1).permute(0, 3, 1, 2)
        return hidden + (inner if linear else self.proj_out(inner))


class MusicBlock(nn.Module):
    """ResNets, each followed by text, beat and chord transformers if `music` is true."""

    def __init__(self, config: UNetConfig, level: int, music: bool, resnets: Sequence[ResnetBlock2D]) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(resnets)
        self.checkpointing = False
        self.music = music
        if music:
            sites = len(resnets) - (1 if isinstance(self, MidBlock) else 0)
            self.attentions = nn.ModuleList(_transformer(config, level) for _ in range(sites))
            self.attentions2 = nn.ModuleList(_transformer(config, level) for _ in range(sites))
            self.attentions3 = nn.ModuleList(_transformer(config, level) for _ in range(sites))

    def run(self, module: nn.Module | Callable[..., Tensor], *inputs: Any) -> Tensor:
        """Call a module, with gradient checkpointing if it is on."""
        if self.checkpointing and torch.is_grad_enabled():
            output = checkpoint(module, *inputs, use_reentrant=False)
            assert isinstance(output, Tensor)
            return output
        return module(*inputs)

    def attend(self, site: int, hidden: Tensor, contexts: Sequence[CrossAttentionContext]) -> Tensor:
        for stack, context in zip(self.stacks(), contexts, strict=True):
            hidden = self.run(stack[site], hidden, *context)
        return hidden

    def stacks(self) -> tuple[nn.ModuleList, nn.ModuleList, nn.ModuleList]:
        """The transformers of all sites of the block, in the order of application."""
        return self.attentions, self.attentions2, self.attentions3

    def layer(self, index: int, hidden: Tensor, time: Tensor, contexts: Sequence[CrossAttentionContext]) -> Tensor:
        """One ResNet and its site."""
        hidden = self.run(self.resnets[index], hidden, time)
        return self.attend(index, hidden, contexts) if self.music else hidden


class DownBlock(MusicBlock):
    """One level of the down path; returns every layer's output for the skip connections."""

    def __init__(self, config: UNetConfig, level: int) -> None:
        width, first = config.channels[level], config.channels[max(level - 1, 0)]
        inputs = [first, *[width] * (config.layers[level] - 1)]
        super().__init__(config, level, config.music_down[level], [_resnet(config, start, width) for start in inputs])
        self.downsamplers = None
        if level < config.levels - 1:
            half = Downsample2D(width, use_conv=True, padding=config.downsample_padding, name="op")
            self.downsamplers = nn.ModuleList([half])

    def forward(self, hidden: Tensor, time: Tensor, contexts: Sequence[CrossAttentionContext]) -> list[Tensor]:
        outputs = []
        for index in range(len(self.resnets)):
            hidden = self.layer(index, hidden, time, contexts)
            outputs.append(hidden)
        if self.downsamplers is not None:
            outputs.append(self.downsamplers[0](hidden))
        return outputs


class MidBlock(MusicBlock):
    """The coarsest level: a ResNet, a site, a ResNet."""

    def __init__(self, config: UNetConfig) -> None:
        width = config.channels[-1]
        resnets = [_resnet(config, width, width, config.mid_scale) for _ in range(2)]
        super().__init__(config, config.levels - 1, True, resnets)

    def forward(self, hidden: Tensor, time: Tensor, contexts: Sequence[CrossAttentionContext]) -> Tensor:
        hidden = self.layer(0, hidden, time, contexts)
        return self.run(self.resnets[1], hidden, time)


class UpBlock(MusicBlock):
    """One level of the up path; every layer concatenates a skip connection of the down path."""

    def __init__(self, config: UNetConfig, index: int) -> None:
        level = config.levels - 1 - index
        width, below = config.channels[level], config.channels[min(level + 1, config.levels - 1)]
        layers = config.layers[level] + 1
        # the last skip is the level's input in the down path, the others are outputs of its layers
        skips = [*[width] * (layers - 1), config.channels[max(level - 1, 0)]]
        inputs = [below, *[width] * (layers - 1)]
        resnets = [_resnet(config, a + b, width) for a, b in zip(inputs, skips, strict=True)]
        super().__init__(config, level, config.music_up[index], resnets)
        self.upsamplers = nn.ModuleList([Upsample2D(width, use_conv=True)]) if level > 0 else None

    def forward(
        self, hidden: Tensor, time: Tensor, contexts: Sequence[CrossAttentionContext], skips: list[Tensor]
    ) -> Tensor:
        for index in range(len(self.resnets)):
            hidden = torch.cat([hidden, skips.pop()], dim=1)
            hidden = self.layer(index, hidden, time, contexts)
        if self.upsamplers is not None:  # to the size of the next skip, for odd sizes
            hidden = self.upsamplers[0](hidden, output_size=skips[-1].shape[2:])
        return hidden


class MusicUNet(nn.Module):
    """Noisy latents, noise level, text, beats and chords -> velocity, of the latents' shape."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        first = config.channels[0]
        self.conv_in = nn.Conv2d(config.in_channels, first, 3, padding=1)
        self.time_proj = Timesteps(first, config.flip_sin_to_cos, config.freq_shift)
        self.time_embedding = TimestepEmbedding(first, 4 * first, act_fn=config.activation)
        self.down_blocks = nn.ModuleList(DownBlock(config, level) for level in range(config.levels))
        self.mid_block = MidBlock(config)
        self.up_blocks = nn.ModuleList(UpBlock(config, index) for index in range(config.levels))
        self.conv_norm_out = nn.GroupNorm(config.norm_groups, first, eps=config.norm_eps)
        self.conv_act = nn.SiLU()
        self.conv_out = nn.Conv2d(first, config.out_channels, 3, padding=1)

    def forward(
        self,
        sample: Tensor,  # [B, C, T, F]
        timestep: Tensor,  # int64 [] or [B], 0 (clean) to 999 (noise)
        text: Tensor,  # [B, L, D]
        beats: Tensor,  # [B, 50, D]
        chords: Tensor,  # [B, 20, D]
        text_mask: Tensor | None = None,  # bool, as the tokens without D
        beat_mask: Tensor | None = None,
        chord_mask: Tensor | None = None,
    ) -> Tensor:  # [B, C, T, F]
        tokens, masks = (text, beats, chords), (text_mask, beat_mask, chord_mask)
        pairs = zip(tokens, masks, strict=True)
        return self.predict(sample, timestep, [CrossAttentionContext.of(*pair, sample.dtype) for pair in pairs])

    def predict(self, sample: Tensor, timestep: Tensor, contexts: Sequence[CrossAttentionContext]) -> Tensor:
        """`forward` with the contexts of text, beats and chords."""
        dtype = sample.dtype
        # sinusoids in float32 for any model dtype: bf16 cannot tell 999 from 998
        sinusoids = self.time_proj(timestep.reshape(-1).expand(sample.shape[0]))
        time = self.time_embedding(sinusoids.to(dtype))
        hidden = self.conv_in(2 * sample - 1 if self.config.center_input else sample)
        skips = [hidden]
        for block in self.down_blocks:
            skips += block(skips[-1], time, contexts)
        hidden = self.mid_block(skips[-1], time, contexts)
        for block in self.up_blocks:
            hidden = block(hidden, time, contexts, skips)
        return self.conv_out(self.conv_act(self.conv_norm_out(hidden)))

    def set_checkpointing(self, on: bool) -> None:
        """Switch gradient checkpointing on or off."""
        for block in (*self.down_blocks, self.mid_block, *self.up_blocks):
            assert isinstance(block, MusicBlock)
            block.checkpointing = on


def _keys_and_values(attention: Any, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Of tokens [B, L, D], each [B, heads, L, D / heads]."""
    return _by_head(attention, attention.to_k(tokens)), _by_head(attention, attention.to_v(tokens))


def _attend(attention: Any, states: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None = None) -> Tensor:
    """The attention's output for states [B, N, D]; `bias` [B, 1, L]."""
    asked = _by_head(attention, attention.to_q(states))
    attended = F.scaled_dot_product_attention(asked, keys, values, None if bias is None else bias[:, None])
    return attention.to_out[0](attended.transpose(1, 2).flatten(2))


def _attend_to_one(attention: Any, token: Tensor) -> Tensor:  # [B, 1, D] -> [B, 1, width]
    """The attention's output where there is only one token to attend to."""
    return attention.to_out[0](attention.to_v(token))


def _by_head(attention: Any, states: Tensor) -> Tensor:  # [B, L, D] -> [B, heads, L, D / heads]
    return states.unflatten(2, (attention.heads, -1)).transpose(1, 2)


def _resnet(config: UNetConfig, inputs: int, outputs: int, scale: float = 1.0) -> ResnetBlock2D:
    return ResnetBlock2D(
        in_channels=inputs,
        out_channels=outputs,
        temb_channels=4 * config.channels[0],
        groups=config.norm_groups,
        eps=config.norm_eps,
        non_linearity=config.activation,
        output_scale_factor=scale,
    )


def _transformer(config: UNetConfig, level: int) -> MusicTransformer:
    heads = config.heads[level]
    return MusicTransformer(
        heads,
        config.channels[level] // heads,
        in_channels=config.channels[level],
        norm_num_groups=config.norm_groups,
        cross_attention_dim=config.context_width[level],
        use_linear_projection=config.linear_projection,
        upcast_attention=config.upcast_attention,
    )
