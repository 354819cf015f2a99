"""The two miniatures before training: their dimensions, random weights, and the files of nano-mustango."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import GenerationConfig, MusicgenConfig, MusicgenDecoderConfig, MusicgenForConditionalGeneration

from talim.atomic_io import write_json
from talim.backbones.mustango import weight_names
from talim.backbones.mustango.model import MustangoModel
from talim.backbones.mustango.vae_vocoder import MelVAE
from talim.backbones.nano import musicgen
from talim.backbones.nano.codec import NanoCodec, NanoCodecConfig
from talim.backbones.nano.mustango import WEIGHTS, NanoMustangoConfig
from talim.backbones.resolve import NANO_MUSTANGO

WINDOW_SECONDS = 30.0  # of nano-musicgen
LATENT_CHANNELS, BANDS = 16, 8  # of nano-mustango's latents
MUSTANGO_VAE: dict[str, Any] = {
    "in_channels": 1,
    "out_channels": 1,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [16, 32, 64, 128],
    "layers_per_block": 1,
    "latent_channels": LATENT_CHANNELS,
    "norm_num_groups": 8,
    "scaling_factor": 1.0,
}
TEXT_WIDTH = 128
MUSTANGO_UNET: dict[str, Any] = {
    "in_channels": LATENT_CHANNELS,
    "out_channels": LATENT_CHANNELS,
    "block_out_channels": [64, 128, 128, 128],
    "layers_per_block": 1,
    "attention_head_dim": [1, 2, 2, 2],
    "cross_attention_dim": TEXT_WIDTH,
    "down_block_types": ["CrossAttnDownBlock2DMusic"] * 3 + ["DownBlock2D"],
    "mid_block_type": "UNetMidBlock2DCrossAttnMusic",
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2DMusic"] * 3,
    "norm_num_groups": 16,
    "use_linear_projection": True,
}


def nano_config(
    width: int = 256,
    layers: int = 6,
    heads: int = 4,
    ffn: int = 832,
    text_width: int = 128,
    text_layers: int = 2,
    codec: NanoCodecConfig | None = None,
) -> MusicgenConfig:
    """Configuration of a nano MusicGen, whose text encoder is narrower than its decoder, as in the released models."""
    musicgen.register_codec()
    codec = codec or NanoCodecConfig()
    special = codec.codebook_size
    text = musicgen.text_config(text_width, text_layers)
    decoder = MusicgenDecoderConfig(
        vocab_size=codec.codebook_size,
        max_position_embeddings=2048,
        num_hidden_layers=layers,
        ffn_dim=ffn,
        num_attention_heads=heads,
        hidden_size=width,
        dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        num_codebooks=codec.num_codebooks,
        initializer_factor=0.05,
        audio_channels=1,
        pad_token_id=special,
        bos_token_id=special,
        eos_token_id=None,
    )
    decoder.talim_window_seconds = WINDOW_SECONDS  # read by the backbone
    return MusicgenConfig(text_encoder=text.to_dict(), audio_encoder=codec.to_dict(), decoder=decoder.to_dict())


def build_nano_musicgen(seed: int, codec: NanoCodec | None = None, **shape: int) -> MusicgenForConditionalGeneration:
    """A nano MusicGen with random weights and, if given, a trained codec."""
    torch.manual_seed(seed)
    codec_config: Any = codec.config if codec is not None else None
    model: Any = MusicgenForConditionalGeneration(nano_config(codec=codec_config, **shape))
    if codec is not None:
        model.audio_encoder.load_state_dict(codec.state_dict())
    # Code embeddings are added to sinusoidal positions of amplitude 1: with the usual std of 0.02 a small model stays
    # at the unigram loss for hundreds of steps.
    for table in model.decoder.model.decoder.embed_tokens:
        torch.nn.init.normal_(table.weight, std=0.4)
    special = model.config.decoder.vocab_size
    model.generation_config = GenerationConfig(
        bos_token_id=special,
        pad_token_id=special,
        decoder_start_token_id=special,
        do_sample=True,
        guidance_scale=3.0,
        max_length=int(WINDOW_SECONDS * 50),
    )
    model.config.decoder.decoder_start_token_id = special
    return model


def nano_mustango_config() -> NanoMustangoConfig:
    """Configuration of nano-mustango."""
    return NanoMustangoConfig(dict(MUSTANGO_UNET), dict(MUSTANGO_VAE))


def save_nano_mustango(folder: Path, config: NanoMustangoConfig, model: MustangoModel, mel_vae: MelVAE) -> None:
    """Write FOLDER/config.json and FOLDER/model.safetensors, in bf16."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", {"model_type": NANO_MUSTANGO, **asdict(config)})
    weights = {}
    for part, module in {"model": model, "sound": mel_vae}.items():
        for name, weight in module.state_dict().items():
            if name not in weight_names.ALIASES:
                weights[f"{part}.{name}"] = weight.to(torch.bfloat16).contiguous()
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
