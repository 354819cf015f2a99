"""A MusicGen of any decoder shape with random weights, for measurements of speed and memory without a download."""

from __future__ import annotations

from typing import Any

import torch

from talim.backbones.musicgen.backbone import MusicGen
from talim.backbones.nano.musicgen import ByteTokenizer
from talim.design.musicgen_sites import MusicGenShape

TEXT_WIDTH = 768  # of the released models' text encoder


def random_musicgen(
    shape: MusicGenShape, dtype: torch.dtype, device: str = "cpu", precision_reason: str = "random weights"
) -> MusicGen:
    """The decoder at full size in `dtype`; codec (50 frames per second) and text encoder are as small as they can be.

    The weights are the same in every call on the same kind of device.
    """
    from transformers import (
        EncodecConfig,
        MusicgenConfig,
        MusicgenDecoderConfig,
        MusicgenForConditionalGeneration,
        T5Config,
    )

    text = T5Config(vocab_size=384, d_model=TEXT_WIDTH, d_kv=8, d_ff=8, num_layers=1, num_heads=1)
    codec = EncodecConfig(
        sampling_rate=32000, codebook_size=2048, hidden_size=8, num_filters=4, upsampling_ratios=[8, 5, 4, 4]
    )
    decoder = MusicgenDecoderConfig(
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        ffn_dim=shape.feed_forward,
    )
    config = MusicgenConfig(text_encoder=text, audio_encoder=codec, decoder=decoder)
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(0)
        model: Any = MusicgenForConditionalGeneration(config)
    model.decoder.to(dtype)
    model.enc_to_dec_proj.to(dtype)
    return MusicGen(
        model.to(device), ByteTokenizer(), name="random", licence="CC0-1.0", precision_reason=precision_reason
    )
