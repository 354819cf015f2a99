"""Training of nano-mustango's VAE (log-mel spectrogram to latents) and vocoder, together.

    python -m research.pretraining.nano_mustango.vae_vocoder --out training/sound

renders the music, trains, and resumes if it was stopped. The vocoder is trained on true spectrograms and on those that
the VAE reconstructs; what it needs of the latter the VAE has to preserve, so that latents hold pitches and not only
mel bands.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from research.pretraining import nano_models, train_loop
from research.pretraining.command_line import parse_config
from research.pretraining.nano_musicgen.codec import losses, style_jobs
from research.pretraining.western_style import perform
from talim.backbones.mustango.vae_vocoder import MelSpectrogram, MelVAE, normalise, pad_or_trim
from talim.backbones.nano import sinusoidal_model
from talim.backbones.nano.mustango import MEL

INITIAL_LOG_MEL = -6.0  # initial bias of the VAE's last layer
MEL_WEIGHT = 0.1  # of the spectrogram's error, relative to that of the features
KL_WEIGHT = 3e-3  # per latent value


@dataclass(frozen=True)
class Config:
    """Settings of the training of VAE and vocoder."""

    out: Path = Path("training/sound")
    steps: int = 4000
    clips: int = 3000
    clip_seconds: float = 6.0
    batch_size: int = 16
    segment_frames: int = 64
    peak_learning_rate: float = 1.5e-3
    checkpoint_every: int = 250
    seed: int = 1
    num_workers: int = 2


def render(job: tuple[int, str], seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Log-mel frames [bands, T] and sinusoidal features [FEATURES, T] of one performance, float16."""
    torch.set_num_threads(1)
    seed, style = job
    frames = round(seconds * sinusoidal_model.RATE_HZ / sinusoidal_model.HOP)
    samples = pad_or_trim(normalise(perform(seed, style, seconds).samples), frames * sinusoidal_model.HOP)
    wave = torch.from_numpy(samples)[None]
    mel = MelSpectrogram(MEL)(wave)[0, :, :frames]
    return mel.numpy().astype(np.float16), sinusoidal_model.analyze(wave)[0].numpy().astype(np.float16)


def library(config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Spectrograms [N, bands, T] and features [N, FEATURES, T], rendered once and memory-mapped."""
    files = [config.out / f"{name}-{config.clips}.npy" for name in ("mel", "features")]
    if not all(file.exists() for file in files):
        with ProcessPoolExecutor(config.num_workers) as pool:
            rendered = partial(render, seconds=config.clip_seconds)
            rows = list(pool.map(rendered, style_jobs(config.clips), chunksize=16))
        for file, part in zip(files, zip(*rows, strict=True), strict=True):
            unfinished = file.with_suffix(".part.npy")
            np.save(unfinished, np.stack(part))
            unfinished.replace(file)
    mel, features = (np.load(file, mmap_mode="r") for file in files)
    return mel, features


def draw(rows: tuple[np.ndarray, np.ndarray], step: int, config: Config) -> tuple[Tensor, Tensor]:
    """Spectrograms [B, segment_frames, bands] and features of a batch, determined by seed and step."""
    rng = np.random.default_rng([config.seed, step])
    clips = rng.integers(len(rows[0]), size=config.batch_size)
    starts = rng.integers(rows[0].shape[2] - config.segment_frames, size=config.batch_size)
    mel, features = (
        torch.from_numpy(
            np.stack([part[c, :, s : s + config.segment_frames] for c, s in zip(clips, starts, strict=True)])
        ).float()
        for part in rows
    )
    return mel.transpose(1, 2).contiguous(), features


def feature_loss(predicted: Tensor, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted error of sinusoidal features, and its parts."""
    parts = losses(predicted.float(), target)
    return parts["level"] + 0.36 * parts["frequency"] + 0.3 * parts["noise"], parts


def train(config: Config) -> MelVAE:
    """Train VAE and vocoder, with OUT/log.jsonl and a checkpoint from which it resumes."""
    config.out.mkdir(parents=True, exist_ok=True)
    rows = library(config)
    torch.manual_seed(config.seed)
    mel_vae = nano_models.nano_mustango_config().mel_vae()
    vae, vocoder = mel_vae.vae, mel_vae.vocoder
    torch.nn.init.constant_(vae.decoder.conv_out.bias, INITIAL_LOG_MEL)
    vae.to(memory_format=torch.channels_last)

    def compute_loss(step: int) -> tuple[Tensor, dict[str, Any]]:
        mel, target = draw(rows, step, config)
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        with train_loop.bf16_autocast():
            posterior = vae.encode(mel[:, None].contiguous(memory_format=torch.channels_last)).latent_dist
            latent = posterior.sample(generator)
            reconstructed = vae.decode(latent).sample[:, 0].float()
            from_true, from_vae = vocoder.features_of(torch.cat([mel, reconstructed])).chunk(2)
        vocoder_loss, vocoder_parts = feature_loss(from_true, target)
        reconstruction_loss, parts = feature_loss(from_vae, target)
        mel_error = (reconstructed - mel).abs().mean()
        kl = posterior.kl().mean() / latent[0].numel()
        values = {
            "mel": mel_error,
            "kl": kl,
            "vocoder": vocoder_loss,
            "reconstruction": reconstruction_loss,
            "latent_std": posterior.std.mean(),
            "frequency": parts["frequency"],
            "vocoder_frequency": vocoder_parts["frequency"],
        }
        return vocoder_loss + reconstruction_loss + MEL_WEIGHT * mel_error + KL_WEIGHT * kl, values

    train_loop.train_loop(
        config.out,
        train_loop.TrainSchedule(config.steps, log_every=25, checkpoint_every=config.checkpoint_every),
        {"vae": vae, "vocoder": vocoder},
        torch.optim.AdamW(
            [*vae.parameters(), *vocoder.parameters()],
            lr=config.peak_learning_rate,
            weight_decay=0.01,
            betas=(0.9, 0.98),
        ),
        compute_loss,
        lambda step: train_loop.lr_at(step, config.steps, config.peak_learning_rate, warmup=100, floor=0.02),
    )
    return mel_vae


def main() -> None:
    """Train, leaving the weights in the checkpoint."""
    train(parse_config(Config, __doc__))


if __name__ == "__main__":
    main()
