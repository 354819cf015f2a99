"""The whole of Mustango's diffusion side: text encoder, beat and chord embeddings, U-Net."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from talim.backbones.mustango.conditioning import BeatEmbedding, BeatTokens, ChordEmbedding, ChordTokens
from talim.backbones.mustango.unet import MusicUNet
from talim.backbones.mustango.unet_config import UNetConfig
from talim.designs.musicgen_sites import Site
from talim.designs.unet_sites import UNetShape


@dataclass(frozen=True)
class ModelDims:
    """The widths of the embeddings: all 1024 in the released model."""

    beat: int
    beat_time: int
    chord: int
    chord_root: int
    chord_time: int
    root_base: float = 1.0  # of the rates of a root's sinusoids


class MustangoModel(nn.Module):
    """Predicts the velocity from noisy latents and conditions; module names are the checkpoint's."""

    def __init__(self, unet: UNetConfig, text: Any, widths: ModelDims) -> None:
        from transformers import T5EncoderModel

        super().__init__()
        self.unet = MusicUNet(unet)
        self.text_encoder = T5EncoderModel(text)
        self.beat_embedding_layer = BeatEmbedding(widths.beat, widths.beat_time)
        self.chord_embedding_layer = ChordEmbedding(
            widths.chord, widths.chord_root, widths.chord_time, widths.root_base
        )
        # changes nothing: the place between the text encoder and the U-Net that an adapter can sit at
        self.conditioner = nn.Identity()
        # counted before there are adapters inside
        self.own_parameters = sum(
            weight.numel() for part in self.trainable_modules for weight in part.parameters()
        )

    @property
    def trainable_modules(self) -> tuple[nn.Module, ...]:
        """What the diffusion trained: everything but the text encoder."""
        return self.unet, self.beat_embedding_layer, self.chord_embedding_layer

    def sites(self) -> tuple[Site, ...]:
        """Between text and U-Net, and after the three attentions of every site, in the order of the signal."""
        return UNetShape.of(self.unet.config).sites()

    def words(self, ids: Tensor, mask: Tensor) -> Tensor:  # int64 [B, L] each -> [B, L, D]
        """What the text encoder says of tokens."""
        return self.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state

    def forward(
        self,
        latents: Tensor,  # [B, C, T, F]
        timesteps: Tensor,  # int64 [B]
        states: Tensor,  # [B, L, D]
        states_mask: Tensor,  # bool [B, L]
        beats: BeatTokens,
        chords: ChordTokens,
    ) -> Tensor:  # float32 [B, C, T, F]
        dtype = self.unet.conv_in.weight.dtype
        text = self.conditioner(states.to(dtype))
        said_beats = self.beat_embedding_layer(beats.ids, beats.times_seconds)
        said_chords = self.chord_embedding_layer(chords.ids, chords.times_seconds)
        predicted = self.unet(
            latents.to(dtype), timesteps, text, said_beats, said_chords, states_mask, beats.mask, chords.mask
        )
        return predicted.to(torch.promote_types(predicted.dtype, torch.float32))
