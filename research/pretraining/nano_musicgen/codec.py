"""Training of nano's codec on synthetic music, in the space of sinusoidal features.

    python -m research.pretraining.nano_musicgen.codec --out training/codec

renders the music, trains, and resumes if it was stopped. The loss needs no waveform: the features are what the
synthesis takes, so a step costs two small networks.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from research.pretraining import train_loop
from research.pretraining.command_line import parse_config
from research.pretraining.western_style import perform
from talim.backbones.nano import sinusoidal_model
from talim.backbones.nano.codec import NanoCodec, NanoCodecConfig

SEED_BASE = 1_000_000  # training seeds start here; held-out performances use seeds below


@dataclass(frozen=True)
class Config:
    """Settings of the codec's training; `quantise_after`: first step with quantisation."""

    out: Path = Path("training/codec")
    steps: int = 5500
    clips: int = 3000
    clip_seconds: float = 6.0
    batch_size: int = 24
    segment_frames: int = 64
    quantise_after: int = 300
    peak_learning_rate: float = 2e-3
    checkpoint_every: int = 250
    seed: int = 1
    num_workers: int = 2


def render(job: tuple[int, str], seconds: float) -> np.ndarray:
    """Sinusoidal features [FEATURES, T] float16 of the performance of a seed in a style."""
    torch.set_num_threads(1)
    seed, style = job
    wave = torch.from_numpy(perform(seed, style, seconds).samples)[None]
    return sinusoidal_model.analyze(wave)[0].numpy().astype(np.float16)


def style_jobs(clips: int) -> list[tuple[int, str]]:
    """Seed and style of each training clip: two of five are exercises."""
    return [(SEED_BASE + n, "study" if n % 5 < 2 else "western") for n in range(clips)]


def library(config: Config) -> np.ndarray:
    """Features of all training clips [N, FEATURES, T] float16, rendered once and memory-mapped."""
    file = config.out / f"library-{config.clips}.npy"
    if not file.exists():
        with ProcessPoolExecutor(config.num_workers) as pool:
            rendered = partial(render, seconds=config.clip_seconds)
            rows = list(pool.map(rendered, style_jobs(config.clips), chunksize=16))
        part = file.with_suffix(".part.npy")
        np.save(part, np.stack(rows))
        part.replace(file)
    return np.load(file, mmap_mode="r")


def draw(rows: np.ndarray, step: int, config: Config) -> Tensor:
    """A batch [B, FEATURES, segment_frames] with levels shifted by up to 12 dB, determined by seed and step."""
    rng = np.random.default_rng([config.seed, step])
    size, frames = config.batch_size, config.segment_frames
    clips = rng.integers(len(rows), size=size)
    starts = rng.integers(rows.shape[2] - frames, size=size)
    segments = [rows[c, :, s : s + frames] for c, s in zip(clips, starts, strict=True)]
    batch = torch.from_numpy(np.stack(segments).astype(np.float32))
    shift = torch.from_numpy(rng.uniform(-0.15, 0.05, size=(size, 1, 1)).astype(np.float32))
    cells = sinusoidal_model.PITCH_CELLS
    for part in (slice(0, cells), slice(2 * cells, None)):
        batch[:, part] = torch.where(batch[:, part] > 0, (batch[:, part] + shift).clamp(min=0), batch[:, part])
    batch[:, cells : 2 * cells] *= batch[:, :cells] > 0.05
    return batch


def losses(predicted: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Level, frequency and noise errors of features [B, FEATURES, T].

    Levels and frequencies are weighted towards the frame's loudest sinusoid, frequencies within 35 dB of it only, and
    towards low partials, where hearing is most exact. (With less weight on the loudest and more on the frequencies,
    frequencies were exact to half a cent, but the pitch was lost where partials of two notes compete.)
    """
    cells = sinusoidal_model.PITCH_CELLS
    level, target_level = predicted[:, :cells], target[:, :cells]
    loudest = target_level.amax(1, keepdim=True)
    weight = ((target_level - loudest + 0.44) / 0.44).clamp(min=0) * (loudest > 0.2)
    low = (400 / sinusoidal_model.cell_centres_hz()).clamp(max=1.5).sqrt()[None, :, None]
    gap = (predicted[:, cells : 2 * cells] - target[:, cells : 2 * cells]).abs()
    return {
        "level": ((level - target_level).abs() * (0.3 + 2 * target_level + 6 * weight.square())).mean(),
        "frequency": (gap * weight * low).sum() / (weight * low).sum().clamp(min=1),
        "noise": F.l1_loss(predicted[:, 2 * cells :], target[:, 2 * cells :]),
    }


class EmaCodebooks(nn.Module):
    """Moving averages by which the codebooks follow the latents (van den Oord et al. 2017, appendix A.1)."""

    def __init__(self, books: Tensor) -> None:
        super().__init__()
        self.counts: Tensor
        self.sums: Tensor
        self.register_buffer("counts", torch.ones(books.shape[:2]))
        self.register_buffer("sums", books.clone())

    def start(self, books: Tensor, latent: Tensor, generator: torch.Generator) -> None:
        """Initialise the codes with latents [N, D] drawn at random, each book with the residual of the previous."""
        rest = latent
        for k in range(books.shape[0]):
            pick = torch.randint(len(rest), (books.shape[1],), generator=generator)
            books[k] = rest[pick] + 1e-3 * torch.randn(books[k].shape, generator=generator)
            rest = rest - books[k][torch.cdist(rest, books[k]).argmin(1)]
        self.counts.fill_(1.0)
        self.sums.copy_(books)

    def follow(self, books: Tensor, latent: Tensor, generator: torch.Generator, decay: float = 0.98) -> Tensor:
        """Quantise `latent` [N, D], update the books, and re-initialise unused codes; returns [N, D]."""
        rest, total = latent.detach(), torch.zeros_like(latent)
        for k in range(books.shape[0]):
            codes = torch.cdist(rest, books[k]).argmin(1)
            quantised = books[k][codes].clone()
            count = torch.bincount(codes, minlength=books.shape[1]).float()
            self.counts[k].mul_(decay).add_(count, alpha=1 - decay)
            self.sums[k].mul_(decay).index_add_(0, codes, rest, alpha=1 - decay)
            books[k] = self.sums[k] / self.counts[k][:, None].clamp(min=1e-3)
            idle = (self.counts[k] < 0.05).nonzero()[:, 0]
            if len(idle):
                fresh = rest[torch.randint(len(rest), (len(idle),), generator=generator)]
                books[k][idle], self.sums[k][idle], self.counts[k][idle] = fresh, fresh, 1.0
            rest, total = rest - quantised, total + quantised
        return total


def train(config: Config) -> NanoCodec:
    """Train the codec, with OUT/log.jsonl and a checkpoint from which it resumes."""
    config.out.mkdir(parents=True, exist_ok=True)
    rows = library(config)
    torch.manual_seed(config.seed)
    model = NanoCodec(NanoCodecConfig())
    books = model.quantiser.codebooks.data
    averages = EmaCodebooks(books)
    optimiser = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad],
        lr=config.peak_learning_rate,
        weight_decay=0.01,
        betas=(0.9, 0.98),
    )

    def compute_loss(step: int) -> tuple[Tensor, dict[str, Any]]:
        target = draw(rows, step, config)
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        latent = model.latent_of(target)
        flat = latent.transpose(1, 2).flatten(0, 1)
        commitment = torch.zeros(())
        if step == config.quantise_after:
            averages.start(books, flat.detach(), generator)
        if step >= config.quantise_after:
            with torch.no_grad():
                quantised = averages.follow(books, flat, generator)
            commitment = F.mse_loss(flat, quantised)
            flat = flat + (quantised - flat).detach()
        latent = flat.view(config.batch_size, config.segment_frames, -1).transpose(1, 2)
        parts = losses(model.features_of(latent), target)
        loss = parts["level"] + 0.36 * parts["frequency"] + 0.3 * parts["noise"] + 0.1 * commitment
        return loss, {"loss": loss, "commitment": commitment} | parts

    train_loop.train_loop(
        config.out,
        train_loop.TrainSchedule(config.steps, log_every=25, checkpoint_every=config.checkpoint_every),
        {"model": model, "averages": averages},
        optimiser,
        compute_loss,
        lambda step: train_loop.lr_at(step, config.steps, config.peak_learning_rate, warmup=100, floor=0.02),
    )
    return model


def main() -> None:
    """Train and save."""
    config = parse_config(Config, __doc__)
    train(config).save_pretrained(config.out / "codec")


if __name__ == "__main__":
    main()
