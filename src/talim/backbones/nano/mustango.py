"""nano-mustango: a small Mustango with nano's text encoder and a sinusoidal vocoder."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from talim.atomic_io import read_json
from talim.backbones.mustango import weight_names
from talim.backbones.mustango.backbone import Mustango
from talim.backbones.mustango.model import ModelDims, MustangoModel
from talim.backbones.mustango.unet_config import UNetConfig
from talim.backbones.mustango.vae_vocoder import MelConfig, MelVAE
from talim.backbones.nano import sinusoidal_model
from talim.backbones.nano.musicgen import ByteTokenizer, text_config
from talim.backbones.nano.vocoder import NanoVocoder, NanoVocoderConfig
from talim.errors import TalimError

WEIGHTS = "model.safetensors"
WINDOW_SECONDS = 10.24
# 20 ms per frame; the VAE maps 8 frames by 8 bands to one latent position
MEL = MelConfig(sampling_rate=sinusoidal_model.RATE_HZ, hop_length=sinusoidal_model.HOP)


@dataclass(frozen=True)
class NanoMustangoConfig:
    """Configuration of a nano Mustango, as in its config.json."""

    unet: dict[str, Any]
    vae: dict[str, Any]
    vocoder: dict[str, Any] = field(default_factory=dict)
    text_layers: int = 2
    # The released model encodes roots by one sine and one cosine, which is slow to learn from scratch; rates from 1 to
    # 10 make the twelve roots nearly orthogonal.
    root_base: float = 0.1
    window_seconds: float = WINDOW_SECONDS

    @classmethod
    def read(cls, folder: Path) -> NanoMustangoConfig:
        """The configuration of FOLDER/config.json; TalimError if it is another model's."""
        values = {name: value for name, value in read_json(folder / "config.json").items() if name != "model_type"}
        try:
            return cls(**values)
        except TypeError as error:
            raise TalimError(f"{folder / 'config.json'} is no configuration of nano-mustango: {error}") from None

    def mel_vae(self) -> MelVAE:
        """VAE, vocoder and spectrogram with random weights."""
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

        return MelVAE(
            AutoencoderKL(**self.vae),
            NanoVocoder(NanoVocoderConfig(model_in_dim=MEL.n_mel_channels, **self.vocoder)),
            MEL,
        )

    def model(self) -> MustangoModel:
        """The diffusion model with random weights; text, beats and chords have the same width."""
        width = self.unet["cross_attention_dim"]
        return MustangoModel(
            UNetConfig.of(self.unet),
            text_config(width, self.text_layers),
            ModelDims(*[width] * 5, root_base=self.root_base),
        )


def load(folder: Path, device: torch.device, dtype: torch.dtype, **facts: Any) -> Mustango:
    """The model of FOLDER/config.json and FOLDER/model.safetensors; the U-Net in `dtype`, the rest in float32."""
    config, weights = NanoMustangoConfig.read(folder), load_file(folder / WEIGHTS)
    model, mel_vae = config.model(), config.mel_vae()
    for part, module in {"model": model, "sound": mel_vae}.items():
        prefix = f"{part}."
        stored = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
        weight_names.check_weights(module, stored, WEIGHTS)
        module.load_state_dict(stored, strict=False)
    model.unet.to(dtype)
    shape: dict[str, Any] = {"miniature": True, "window_seconds": config.window_seconds}
    return Mustango(model.to(device), mel_vae.to(device), ByteTokenizer(), **shape, **facts)
