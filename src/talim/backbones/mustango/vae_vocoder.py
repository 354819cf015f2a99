"""Conversion between audio and latents: log-mel spectrogram, diffusers' VAE, transformers' HiFi-GAN vocoder."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from talim.audio.load_librosa import load_librosa
from talim.errors import TalimError

LOG_FLOOR = 1e-5
BLOCK_FRAMES = 1024  # mel frames that the vocoder has at once: 10.24 s of the released model
PEAK_AMPLITUDE = 0.5  # of the VAE's training data


@dataclass(frozen=True)
class MelConfig:
    """Spectrogram settings, under the names of the checkpoint's stft_config.json."""

    sampling_rate: int = 16000
    filter_length: int = 1024
    hop_length: int = 160
    win_length: int = 1024
    n_mel_channels: int = 64
    mel_fmin: float = 0
    mel_fmax: float | None = 8000

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> MelConfig:
        """From a stft_config.json, flat or nested under "preprocessing" (AudioLDM)."""
        flat: dict[str, Any] = {}
        for section in ({"": config}, config.get("preprocessing", {})):
            for value in section.values():
                if isinstance(value, Mapping):
                    flat |= {key: item for key, item in value.items() if key in cls.__dataclass_fields__}
        return cls(**flat)


class MelSpectrogram(nn.Module):
    """Samples [B, N] -> natural-log mel magnitudes [B, bands, 1 + N // hop], floor ln(1e-5)."""

    def __init__(self, config: MelConfig) -> None:
        librosa = load_librosa()

        super().__init__()
        self.config = c = config
        basis = librosa.filters.mel(
            sr=c.sampling_rate, n_fft=c.filter_length, n_mels=c.n_mel_channels, fmin=c.mel_fmin, fmax=c.mel_fmax
        )
        self.basis = nn.Buffer(torch.from_numpy(basis), persistent=False)
        self.window = nn.Buffer(torch.hann_window(c.win_length), persistent=False)

    def magnitudes(self, samples: Tensor) -> Tensor:  # [B, N] -> [B, bins, frames]
        """Magnitudes of the short-time Fourier transform with reflected ends."""
        c = self.config
        return torch.stft(
            samples, c.filter_length, c.hop_length, c.win_length, self.window, return_complex=True, pad_mode="reflect"
        ).abs()

    def forward(self, samples: Tensor) -> Tensor:
        return (self.basis @ self.magnitudes(samples)).clamp(min=LOG_FLOOR).log()


def normalise(samples: np.ndarray) -> np.ndarray:
    """Samples [N] with mean 0 and peak 0.5, as in the VAE's training, float32; silence stays silence."""
    centred = samples - samples.mean(dtype=np.float64).astype(np.float32) if samples.size else samples
    peak = float(np.abs(centred).max(initial=0.0))
    return (centred / (peak + 1e-8) * PEAK_AMPLITUDE).astype(np.float32)


def pad_or_trim(samples: np.ndarray, count: int) -> np.ndarray:
    """Cut or zero-pad to `count` samples and set the peak to 0.5."""
    cut = np.pad(samples[:count], (0, max(0, count - samples.size)))
    peak = float(np.abs(cut).max(initial=0.0))
    return (cut / peak * PEAK_AMPLITUDE if peak > 0 else cut).astype(np.float32)


class MelVAE(nn.Module):
    """VAE, vocoder and spectrogram between samples and scaled latents [B, C, T, F]; always float32."""

    def __init__(self, vae: Any, vocoder: Any, mel: MelConfig) -> None:
        super().__init__()
        self.vae, self.vocoder = vae, vocoder
        # one clip at a time: less memory, and results that do not depend on the batch
        vae.enable_slicing()
        self.mel = MelSpectrogram(mel)
        self.rate_hz, self.channels = mel.sampling_rate, int(vae.config.latent_channels)
        # mel frames (and bands) per latent frame (and band): 4 in the released model
        self.downsampling_factor = 2 ** (len(vae.config.block_out_channels) - 1)
        self.samples_per_frame = mel.hop_length * self.downsampling_factor
        self.bands = mel.n_mel_channels // self.downsampling_factor  # of a latent
        hop = int(np.prod(vocoder.config.upsample_rates))
        if hop != mel.hop_length or vocoder.config.model_in_dim != mel.n_mel_channels:
            raise TalimError(
                f"the vocoder takes {vocoder.config.model_in_dim} bands and makes {hop} samples per frame; "
                f"the spectrogram has {mel.n_mel_channels} and {mel.hop_length}"
            )

    def spectrogram(self, samples: np.ndarray, frames: int) -> Tensor:  # [N] -> [1, frames, bands]
        """Log-mel spectrogram with `frames` mel frames, normalised as in the VAE's training."""
        normalised = pad_or_trim(normalise(samples), frames * self.mel.config.hop_length)
        waves = torch.from_numpy(normalised)[None].to(self.mel.basis.device)
        return self.mel(waves).transpose(1, 2)[:, :frames]

    def posterior(self, mel: Tensor) -> Any:  # [B, 1, frames, bands] -> mean, std, logvar [B, C, T, F]
        """The VAE's posterior, unscaled."""
        return self.vae.encode(mel).latent_dist

    def scale_latents(self, latents: Tensor) -> Tensor:
        """Scale latents to about unit variance, as the U-Net expects."""
        return latents * self.vae.config.scaling_factor

    def decode_mel(self, latents: Tensor) -> Tensor:  # scaled [B, C, T, F] -> [B, 1, frames, bands]
        """Decode scaled latents to a log-mel spectrogram."""
        return self.vae.decode(latents / self.vae.config.scaling_factor).sample

    def vocode(self, mel: Tensor) -> Tensor:  # [B, 1, frames, bands] -> [B, N]
        """Waveform of a log-mel spectrogram; the released vocoder adds 32 samples after its 160 per frame."""
        return self.vocoder(mel[:, 0])

    def vocode_blocks(self, mel: Tensor, frames: int = BLOCK_FRAMES) -> Iterator[Tensor]:
        """The samples of `vocode`, in blocks [B, n] of up to `frames` mel frames, whose memory they need.

        A HiFi-GAN hears a few frames to either side, which every block is given. Other vocoders keep phases from frame
        to frame and have everything at once.
        """
        from transformers import SpeechT5HifiGan

        total = mel.shape[2]
        if not isinstance(self.vocoder, SpeechT5HifiGan) or total <= frames:
            yield self.vocode(mel)
            return
        hop, context = self.mel.config.hop_length, receptive_frames(self.vocoder.config)
        for first in range(0, total, frames):
            begin, last = max(0, first - context), first + frames >= total
            samples = self.vocode(mel[:, :, begin : first + frames + context])
            start = (first - begin) * hop
            yield samples[:, start:] if last else samples[:, start : start + frames * hop]


def receptive_frames(config: Any) -> int:
    """How many frames to either side can reach a sample of a HiFi-GAN of this configuration."""
    reach, rate = 3.0, 1.0  # the first convolution; rate in values per frame
    widest = max(
        (kernel - 1) // 2 * sum(dilation + 1 for dilation in dilations)
        for kernel, dilations in zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True)
    )
    for factor, kernel in zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True):
        reach += kernel / factor / rate
        rate *= factor
        reach += widest / rate
    return math.ceil(reach + 3 / rate)


def build_vae(config: Mapping[str, Any]) -> Any:
    """Diffusers' AutoencoderKL for the checkpoint's vae_config.json."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    parts = config["ddconfig"]
    given = {**config, **parts}
    required = {"attn_resolutions": [], "downsample_time": False, "double_z": True, "subband": 1, "time_shuffle": 1}
    for name, value in required.items():
        if given.get(name, value) != value:
            raise TalimError(f"VAE setting {name}={given[name]!r} is not Mustango's; expected {value!r}")
    if config["embed_dim"] != parts["z_channels"]:
        raise TalimError(f"VAE embed_dim {config['embed_dim']} differs from z_channels {parts['z_channels']}")
    levels = len(parts["ch_mult"])
    return AutoencoderKL(
        in_channels=parts["in_channels"],
        out_channels=parts["out_ch"],
        down_block_types=("DownEncoderBlock2D",) * levels,  # pyright: ignore[reportArgumentType]
        up_block_types=("UpDecoderBlock2D",) * levels,  # pyright: ignore[reportArgumentType]
        block_out_channels=tuple(parts["ch"] * times for times in parts["ch_mult"]),  # pyright: ignore[reportArgumentType]
        layers_per_block=parts["num_res_blocks"],
        latent_channels=parts["z_channels"],
        norm_num_groups=32,
        scaling_factor=config["scale_factor"],
    )


def build_vocoder(channels: int, bands: int, rate_hz: int) -> Any:
    """Transformers' HiFi-GAN with the settings of the released model."""
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    return SpeechT5HifiGan(
        SpeechT5HifiGanConfig(
            model_in_dim=bands,
            sampling_rate=rate_hz,
            upsample_initial_channel=channels,
            upsample_rates=[5, 4, 2, 2, 2],
            upsample_kernel_sizes=[16, 16, 8, 4, 4],
            resblock_kernel_sizes=[3, 7, 11],
            resblock_dilation_sizes=[[1, 3, 5]] * 3,
            leaky_relu_slope=0.1,
            normalize_before=False,
        )
    )
