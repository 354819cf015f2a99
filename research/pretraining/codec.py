"""How nano's codec came to be: trained on performed music, description against description.

`python -m research.pretraining.codec --out training/codec` renders the music, trains, and resumes where it stopped.
The loss needs no waveform: the description is what the synthesis plays, so a step costs two small networks.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from research.pretraining import train_loop
from talim.backbones.nano import sinusoidal_model
from talim.backbones.nano.codec import NanoCodec, NanoCodecConfig
from talim.synthesis.performer import perform

CLIP_SECONDS = 6.0
SEGMENT_FRAMES = 64
BATCH = 24
QUANTISE_AFTER = 300
CHECKPOINT_INTERVAL = 250  # steps between checkpoints
SEED_BASE = 1_000_000  # training seeds start here; held-out performances use seeds below


def render(job: tuple[int, str]) -> np.ndarray:
    """The description [FEATURES, T] float16 of one performance."""
    torch.set_num_threads(1)
    seed, style = job
    wave = torch.from_numpy(perform(seed, style, CLIP_SECONDS).samples)[None]
    return sinusoidal_model.analyze(wave)[0].numpy().astype(np.float16)


def library(out: Path, clips: int, workers: int) -> np.ndarray:
    """All training descriptions [N, FEATURES, T] float16, rendered once and memory-mapped after."""
    file = out / f"library-{clips}.npy"
    if not file.exists():
        jobs = [(SEED_BASE + n, "study" if n % 5 < 2 else "western") for n in range(clips)]
        with ProcessPoolExecutor(workers) as pool:
            rows = list(pool.map(render, jobs, chunksize=16))
        part = file.with_suffix(".part.npy")
        np.save(part, np.stack(rows))
        part.replace(file)
    return np.load(file, mmap_mode="r")


def draw(rows: np.ndarray, step: int, seed: int) -> Tensor:
    """A batch [BATCH, FEATURES, SEGMENT_FRAMES] that depends on (seed, step) alone; levels moved by up to 12 dB."""
    rng = np.random.default_rng([seed, step])
    clips = rng.integers(len(rows), size=BATCH)
    starts = rng.integers(rows.shape[2] - SEGMENT_FRAMES, size=BATCH)
    batch = torch.from_numpy(
        np.stack([rows[c, :, s : s + SEGMENT_FRAMES] for c, s in zip(clips, starts, strict=True)]).astype(
            np.float32
        )
    )
    shift = torch.from_numpy(rng.uniform(-0.15, 0.05, size=(BATCH, 1, 1)).astype(np.float32))
    cells = sinusoidal_model.PITCH_CELLS
    for part in (slice(0, cells), slice(2 * cells, None)):
        batch[:, part] = torch.where(
            batch[:, part] > 0, (batch[:, part] + shift).clamp(min=0), batch[:, part]
        )
    batch[:, cells : 2 * cells] *= batch[:, :cells] > 0.05
    return batch


def losses(said: Tensor, meant: Tensor) -> dict[str, Tensor]:
    """Level, frequency and noise errors of description `said` against `meant`, both [B, FEATURES, T].

    Levels and frequencies count most near the frame's loudest sinusoid, frequencies only within 35 dB of it, and
    more where the ear is exact: at low partials. (With less weight on the loudest and more on the frequencies, the
    frequencies came out exact to half a cent, and the pitch was lost where partials of two notes compete.)
    """
    cells = sinusoidal_model.PITCH_CELLS
    level, aim = said[:, :cells], meant[:, :cells]
    loudest = aim.amax(1, keepdim=True)
    matter = ((aim - loudest + 0.44) / 0.44).clamp(min=0) * (loudest > 0.2)
    low = (400 / sinusoidal_model.cell_centres_hz()).clamp(max=1.5).sqrt()[None, :, None]
    gap = (said[:, cells : 2 * cells] - meant[:, cells : 2 * cells]).abs()
    return {
        "level": ((level - aim).abs() * (0.3 + 2 * aim + 6 * matter.square())).mean(),
        "frequency": (gap * matter * low).sum() / (matter * low).sum().clamp(min=1),
        "noise": F.l1_loss(said[:, 2 * cells :], meant[:, 2 * cells :]),
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
        """Place the codes on latents [N, D] drawn at random, each book on what the ones before left over."""
        rest = latent
        for k in range(books.shape[0]):
            pick = torch.randint(len(rest), (books.shape[1],), generator=generator)
            books[k] = rest[pick] + 1e-3 * torch.randn(books[k].shape, generator=generator)
            rest = rest - books[k][torch.cdist(rest, books[k]).argmin(1)]
        self.counts.fill_(1.0)
        self.sums.copy_(books)

    def follow(
        self, books: Tensor, latent: Tensor, generator: torch.Generator, decay: float = 0.98
    ) -> Tensor:
        """Quantise `latent` [N, D], move the books, and put codes that nobody uses back to work; returns [N, D]."""
        rest, total = latent.detach(), torch.zeros_like(latent)
        for k in range(books.shape[0]):
            codes = torch.cdist(rest, books[k]).argmin(1)
            chosen = books[k][codes].clone()
            count = torch.bincount(codes, minlength=books.shape[1]).float()
            self.counts[k].mul_(decay).add_(count, alpha=1 - decay)
            self.sums[k].mul_(decay).index_add_(0, codes, rest, alpha=1 - decay)
            books[k] = self.sums[k] / self.counts[k][:, None].clamp(min=1e-3)
            idle = (self.counts[k] < 0.05).nonzero()[:, 0]
            if len(idle):
                fresh = rest[torch.randint(len(rest), (len(idle),), generator=generator)]
                books[k][idle], self.sums[k][idle], self.counts[k][idle] = fresh, fresh, 1.0
            rest, total = rest - chosen, total + chosen
        return total


def train(out: Path, steps: int, clips: int, seed: int, workers: int, peak_rate: float = 2e-3) -> NanoCodec:
    """Train to `steps`, logging to OUT/log.jsonl and keeping a checkpoint from which it resumes."""
    out.mkdir(parents=True, exist_ok=True)
    rows = library(out, clips, workers)
    torch.manual_seed(seed)
    model = NanoCodec(NanoCodecConfig())
    books = model.quantiser.codebooks.data
    averages = EmaCodebooks(books)
    optimiser = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=peak_rate, weight_decay=0.01, betas=(0.9, 0.98)
    )

    def lesson(step: int) -> tuple[Tensor, dict[str, Any]]:
        meant, generator = draw(rows, step, seed), torch.Generator().manual_seed(seed * 1_000_003 + step)
        latent = model.latent_of(meant)
        flat = latent.transpose(1, 2).flatten(0, 1)
        commitment = torch.zeros(())
        if step == QUANTISE_AFTER:
            averages.start(books, flat.detach(), generator)
        if step >= QUANTISE_AFTER:
            with torch.no_grad():
                chosen = averages.follow(books, flat, generator)
            commitment = F.mse_loss(flat, chosen)
            flat = flat + (chosen - flat).detach()
        parts = losses(model.features_of(flat.view(BATCH, SEGMENT_FRAMES, -1).transpose(1, 2)), meant)
        loss = parts["level"] + 0.36 * parts["frequency"] + 0.3 * parts["noise"] + 0.1 * commitment
        return loss, {"loss": loss, "commitment": commitment} | parts

    train_loop.train_loop(
        out,
        train_loop.TrainSchedule(steps, log_every=25, checkpoint_every=CHECKPOINT_INTERVAL),
        {"model": model, "averages": averages},
        optimiser,
        lesson,
        lambda step: train_loop.lr_at(step, steps, peak_rate, warmup=100, floor=0.02),
    )
    return model


def main() -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("training/codec"))
    parser.add_argument("--steps", type=int, default=5500)
    parser.add_argument("--clips", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    model = train(options.out, options.steps, options.clips, options.seed, options.workers)
    model.save_pretrained(options.out / "codec")


if __name__ == "__main__":
    main()
