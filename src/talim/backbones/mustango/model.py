"""Mustango's diffusion model: text encoder, beat and chord embeddings, U-Net."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from talim.backbones.mustango.conditioning import BeatEmbedding, ChordEmbedding, ConditionTokens
from talim.backbones.mustango.unet import CrossAttentionContext, MusicUNet, SamplingMemory
from talim.backbones.mustango.unet_config import UNetConfig
from talim.design.musicgen_sites import Site
from talim.design.unet_sites import UNetShape


@dataclass(frozen=True)
class ModelDims:
    """Widths of the embeddings, all 1024 in the released model."""

    beat: int
    beat_time: int
    chord: int
    chord_root: int
    chord_time: int
    root_base: float = 1.0  # base of the sinusoid rates in `RootEmbedding`


class MustangoModel(nn.Module):
    """Predicts the velocity from noisy latents and conditions; module names are those of the checkpoint."""

    def __init__(self, unet: UNetConfig, text: Any, dims: ModelDims) -> None:
        from transformers import T5EncoderModel

        super().__init__()
        self.unet = MusicUNet(unet)
        self.text_encoder = T5EncoderModel(text)
        self.beat_embedding_layer = BeatEmbedding(dims.beat, dims.beat_time)
        self.chord_embedding_layer = ChordEmbedding(dims.chord, dims.chord_root, dims.chord_time, dims.root_base)
        # identity: the site of adapters between text encoder and U-Net
        self.conditioner = nn.Identity()
        # counted before adapters are added
        self.own_parameters = sum(weight.numel() for part in self.trainable_modules for weight in part.parameters())

    @property
    def trainable_modules(self) -> tuple[nn.Module, ...]:
        """Everything but the text encoder."""
        return self.unet, self.beat_embedding_layer, self.chord_embedding_layer

    def sites(self) -> tuple[Site, ...]:
        """The conditioner, and the output of the three attentions of every site, in signal order."""
        return UNetShape.of(self.unet.config).sites()

    def encode_text(self, ids: Tensor, mask: Tensor) -> Tensor:  # int64 [B, L] each -> [B, L, D]
        return self.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state

    def forward(
        self,
        latents: Tensor,  # [B, C, T, F]
        timesteps: Tensor,  # int64 [B]
        states: Tensor,  # [B, L, D]
        states_mask: Tensor,  # bool [B, L]
        beats: ConditionTokens,
        chords: ConditionTokens,
        memory: SamplingMemory | None = None,
    ) -> Tensor:  # float32 [B, C, T, F]
        """The velocity; with a `memory`, the conditions are those of its first call, which are read only then."""
        dtype = self.unet.conv_in.weight.dtype
        if memory is None:
            contexts = self._contexts(states, states_mask, beats, chords)
        else:
            if memory.contexts is None:
                memory.contexts = self._contexts(states, states_mask, beats.attended(), chords.attended(), memory)
            contexts = memory.contexts
        predicted = self.unet.predict(latents.to(dtype), timesteps, contexts)
        return predicted.to(torch.promote_types(predicted.dtype, torch.float32))

    def _contexts(
        self,
        states: Tensor,
        states_mask: Tensor,
        beats: ConditionTokens,
        chords: ConditionTokens,
        memory: SamplingMemory | None = None,
    ) -> list[CrossAttentionContext]:
        """What the U-Net attends to."""
        dtype = self.unet.conv_in.weight.dtype
        text = self.conditioner(states.to(dtype))
        beat_states = self.beat_embedding_layer(beats.ids, beats.times_seconds)
        chord_states = self.chord_embedding_layer(chords.ids, chords.times_seconds)
        pairs = ((text, states_mask), (beat_states, beats.mask), (chord_states, chords.mask))
        return [CrossAttentionContext.of(*pair, dtype, memory) for pair in pairs]
