"""nano-mustango: a small Mustango with nano's text encoder and a sinusoidal vocoder."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from talim.atomic_io import read_json, write_json
from talim.backbones.mustango import weight_names
from talim.backbones.mustango.backbone import Mustango
from talim.backbones.mustango.model import ModelDims, MustangoModel
from talim.backbones.mustango.unet_config import UNetConfig
from talim.backbones.mustango.vae_vocoder import MelConfig, MelVAE
from talim.backbones.nano import sinusoidal_model
from talim.backbones.nano.musicgen import ByteTokenizer, text_config
from talim.backbones.nano.vocoder import NanoVocoder, NanoVocoderConfig
from talim.errors import TalimError

MODEL_TYPE = "talim-nano-mustango"
WEIGHTS = "model.safetensors"
WINDOW_SECONDS = 10.24
# 20 ms per frame; the VAE maps 8 frames by 8 bands to one latent position
MEL = MelConfig(sampling_rate=sinusoidal_model.RATE_HZ, hop_length=sinusoidal_model.HOP)
LATENT_CHANNELS, BANDS = 16, 8  # of the latent
VAE: dict[str, Any] = {
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
UNET: dict[str, Any] = {
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


@dataclass(frozen=True)
class NanoMustangoConfig:
    """Configuration of a nano Mustango, as in its config.json."""

    unet: dict[str, Any] = field(default_factory=lambda: dict(UNET))
    vae: dict[str, Any] = field(default_factory=lambda: dict(VAE))
    vocoder: dict[str, Any] = field(default_factory=dict)
    text_layers: int = 2
    # The released model encodes roots by one sine and one cosine, which is slow to learn from scratch; rates from 1 to
    # 10 make the twelve roots nearly orthogonal.
    root_base: float = 0.1
    window_seconds: float = WINDOW_SECONDS

    def mel_vae(self) -> MelVAE:
        """VAE, vocoder and spectrogram with random weights."""
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

        return MelVAE(
            AutoencoderKL(**self.vae), NanoVocoder(NanoVocoderConfig(MEL.n_mel_channels, **self.vocoder)), MEL
        )

    def model(self) -> MustangoModel:
        """The diffusion model with random weights; text, beats and chords have the same width."""
        width = self.unet["cross_attention_dim"]
        return MustangoModel(
            UNetConfig.of(self.unet),
            text_config(width, self.text_layers),
            ModelDims(*[width] * 5, root_base=self.root_base),
        )


def save(folder: Path, config: NanoMustangoConfig, model: MustangoModel, mel_vae: MelVAE) -> None:
    """Write FOLDER/config.json and FOLDER/model.safetensors, in bf16."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", {"model_type": MODEL_TYPE, **asdict(config)})
    weights = {}
    for part, module in {"model": model, "sound": mel_vae}.items():
        for name, weight in module.state_dict().items():
            if name not in weight_names.ALIASES:
                weights[f"{part}.{name}"] = weight.to(torch.bfloat16).contiguous()
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


def load(folder: Path, device: torch.device, dtype: torch.dtype, *, name: str, licence: str, reason: str) -> Mustango:
    """Load what `save` wrote; the U-Net in `dtype`, the rest in float32."""
    values = read_json(folder / "config.json")
    values.pop("model_type")
    try:
        config = NanoMustangoConfig(**values)
    except TypeError as error:
        raise TalimError(f"{folder / 'config.json'} is no configuration of nano-mustango: {error}") from None
    weights = load_file(folder / WEIGHTS)
    model, mel_vae = config.model(), config.mel_vae()
    for part, module in {"model": model, "sound": mel_vae}.items():
        prefix = f"{part}."
        stored = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
        weight_names.check_weights(module, stored, WEIGHTS)
        module.load_state_dict(stored, strict=False)
    model.unet.to(dtype)
    return Mustango(
        model.to(device),
        mel_vae.to(device),
        ByteTokenizer(),
        name=name,
        licence=licence,
        miniature=True,
        precision_reason=reason,
        window_seconds=config.window_seconds,
    )
