"""How nano-mustango's sound came to be: a VAE over log-mel spectrograms and a vocoder, trained together.

`python -m research.pretraining.vae_vocoder --out training/sound` renders the music, trains, and resumes where it stopped.
The vocoder learns from the spectrogram as it is and as the VAE gives it back; what the vocoder cannot tell from the
VAE's spectrogram the VAE has to keep, so that latents hold pitches and not only bands.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from research.pretraining import train_loop
from research.pretraining.codec import SEED_BASE, losses
from research.pretraining.western_style import perform
from talim.backbones.mustango.vae_vocoder import MelSpectrogram, MelVAE, normalise, pad_or_trim
from talim.backbones.nano import sinusoidal_model
from talim.backbones.nano.mustango import MEL, NanoMustangoConfig

CLIP_SECONDS = 6.0
SEGMENT_FRAMES = 64
BATCH = 16
CHECKPOINT_INTERVAL = 250  # steps between checkpoints
INITIAL_LOG_MEL = -6.0  # where the VAE's last layer starts
MEL_WEIGHT = 0.1  # of the spectrogram's error beside the description's
KL_WEIGHT = 3e-3  # weight of the divergence from a standard normal, per latent value


def render(job: tuple[int, str]) -> tuple[np.ndarray, np.ndarray]:
    """Log-mel frames [bands, T] and description [FEATURES, T] of one performance, float16."""
    torch.set_num_threads(1)
    seed, style = job
    frames = round(CLIP_SECONDS * sinusoidal_model.RATE_HZ / sinusoidal_model.HOP)
    samples = pad_or_trim(
        normalise(perform(seed, style, CLIP_SECONDS).samples), frames * sinusoidal_model.HOP
    )
    wave = torch.from_numpy(samples)[None]
    mel = MelSpectrogram(MEL)(wave)[0, :, :frames]
    return mel.numpy().astype(np.float16), sinusoidal_model.analyze(wave)[0].numpy().astype(np.float16)


def library(out: Path, clips: int, workers: int) -> tuple[np.ndarray, np.ndarray]:
    """Spectrograms [N, bands, T] and descriptions [N, FEATURES, T], rendered once and memory-mapped after."""
    files = [out / f"{what}-{clips}.npy" for what in ("mel", "description")]
    if not all(file.exists() for file in files):
        jobs = [(SEED_BASE + n, "study" if n % 5 < 2 else "western") for n in range(clips)]
        with ProcessPoolExecutor(workers) as pool:
            rows = list(pool.map(render, jobs, chunksize=16))
        for file, part in zip(files, zip(*rows, strict=True), strict=True):
            unfinished = file.with_suffix(".part.npy")
            np.save(unfinished, np.stack(part))
            unfinished.replace(file)
    mel, description = (np.load(file, mmap_mode="r") for file in files)
    return mel, description


def draw(rows: tuple[np.ndarray, np.ndarray], step: int, seed: int) -> tuple[Tensor, Tensor]:
    """Spectrograms [BATCH, SEGMENT_FRAMES, bands] and descriptions; they depend on (seed, step) alone."""
    rng = np.random.default_rng([seed, step])
    clips = rng.integers(len(rows[0]), size=BATCH)
    starts = rng.integers(rows[0].shape[2] - SEGMENT_FRAMES, size=BATCH)
    mel, description = (
        torch.from_numpy(
            np.stack([part[c, :, s : s + SEGMENT_FRAMES] for c, s in zip(clips, starts, strict=True)])
        ).float()
        for part in rows
    )
    return mel.transpose(1, 2).contiguous(), description


def described_loss(said: Tensor, meant: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted error of a description, and its parts."""
    parts = losses(said.float(), meant)
    return parts["level"] + 0.36 * parts["frequency"] + 0.3 * parts["noise"], parts


def train(out: Path, steps: int, clips: int, seed: int, workers: int, peak_rate: float = 1.5e-3) -> MelVAE:
    """Train VAE and vocoder to `steps`, logging to OUT/log.jsonl and keeping a checkpoint from which it resumes."""
    out.mkdir(parents=True, exist_ok=True)
    rows = library(out, clips, workers)
    torch.manual_seed(seed)
    sound = NanoMustangoConfig().mel_vae()
    coder, vocoder = sound.vae, sound.vocoder
    torch.nn.init.constant_(coder.decoder.conv_out.bias, INITIAL_LOG_MEL)
    coder.to(memory_format=torch.channels_last)

    def lesson(step: int) -> tuple[Tensor, dict[str, Any]]:
        mel, meant = draw(rows, step, seed)
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        with train_loop.bf16_autocast():
            posterior = coder.encode(mel[:, None].contiguous(memory_format=torch.channels_last)).latent_dist
            latent = posterior.sample(generator)
            again = coder.decode(latent).sample[:, 0].float()
            both = vocoder.features_of(torch.cat([mel, again])).chunk(2)
        heard, heard_parts = described_loss(both[0], meant)
        kept, kept_parts = described_loss(both[1], meant)
        gap = (again - mel).abs().mean()
        narrow = posterior.kl().mean() / latent[0].numel()
        told = {"mel": gap, "kl": narrow, "heard": heard, "kept": kept, "spread": posterior.std.mean()}
        told |= {"frequency": kept_parts["frequency"], "frequency_heard": heard_parts["frequency"]}
        return heard + kept + MEL_WEIGHT * gap + KL_WEIGHT * narrow, told

    train_loop.train_loop(
        out,
        train_loop.TrainSchedule(steps, log_every=25, checkpoint_every=CHECKPOINT_INTERVAL),
        {"vae": coder, "vocoder": vocoder},
        torch.optim.AdamW(
            [*coder.parameters(), *vocoder.parameters()], lr=peak_rate, weight_decay=0.01, betas=(0.9, 0.98)
        ),
        lesson,
        lambda step: train_loop.lr_at(step, steps, peak_rate, warmup=100, floor=0.02),
    )
    return sound


def main() -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("training/sound"))
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--clips", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    train(options.out, options.steps, options.clips, options.seed, options.workers)


if __name__ == "__main__":
    main()
