"""Auxiliary pitch probe on nano-mustango's VAE latents, a loss in the second part of U-Net training, then discarded.

A note that is a quarter tone off changes the latents so little that the squared error hardly responds. This small
network predicts cents from latents. It is trained on performances detuned by up to 60 cents, as with concert pitch
alone it would only learn which of the twelve semitones is nearest.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from research.pretraining import nano_models, train_loop
from research.pretraining.nano_musicgen.codec import SEED_BASE
from research.pretraining.western_style import perform, western_notes
from talim.audio import Audio
from talim.backbones.mustango.vae_vocoder import MelVAE
from talim.backbones.nano import mustango
from talim.synthesis.ground_truth import PlayedNote

PITCH_PROBE_SEEDS = 4 * SEED_BASE  # apart from all other performances
SECONDS = mustango.WINDOW_SECONDS
MAX_SHIFT_CENTS = 60
# range of the western melodies, E flat 3 to G sharp 5, and the shift, above C4
LOWEST_CENTS, HIGHEST_CENTS = -1000.0, 2100.0
BIN_CENTS = 20.0
BINS = round((HIGHEST_CENTS - LOWEST_CENTS) / BIN_CENTS) + 1
TARGET_SIGMA_CENTS = 20.0  # standard deviation of the target distribution
WIDTH = 192


@dataclass(frozen=True)
class Config:
    """Settings of the probe's training; `held_out`: clips kept for validation."""

    out: Path
    clips: int = 800
    steps: int = 1200
    seconds: float = SECONDS
    batch_size: int = 16
    held_out: int = 40
    num_workers: int = 2


class PitchTargets(NamedTuple):
    """The pitch in the middle of each latent frame, and where it is unambiguous."""

    cents: Tensor  # float32 [B, T] above C4
    clear: Tensor  # bool [B, T], no note begins or ends within the frame


def pitch_targets(melodies: list[list[tuple[float, float]]], frames: int, seconds: float = SECONDS) -> PitchTargets:
    """Targets of melodies, each a list of (onset in seconds, cents above C4)."""
    step = seconds / frames
    times = (np.arange(frames) + 0.5) * step
    cents, clear = np.zeros((len(melodies), frames), np.float32), np.zeros((len(melodies), frames), bool)
    for row, melody in enumerate(melodies):
        onsets, pitches = np.array(melody).T
        first, last = (np.searchsorted(onsets, times + half, side="right") - 1 for half in (-step / 2, step / 2))
        cents[row], clear[row] = pitches[np.clip(last, 0, None)], (first == last) & (first >= 0)
    return PitchTargets(torch.from_numpy(cents), torch.from_numpy(clear))


def melody(notes: tuple[PlayedNote, ...]) -> list[tuple[float, float]]:
    """Onset in seconds and cents above C4 of each note."""
    return [(note.onset_seconds, note.cents) for note in notes]


class PitchProbe(nn.Module):
    """Scaled latents [B, C, T, F] -> logits [B, T, BINS] of the melody's pitch; `inputs` is C times F."""

    def __init__(self, inputs: int = nano_models.LATENT_CHANNELS * nano_models.BANDS) -> None:
        super().__init__()
        self.input = nn.Conv1d(inputs, WIDTH, 3, padding=1)
        self.hidden = nn.ModuleList(nn.Conv1d(WIDTH, WIDTH, 3, padding=1) for _ in range(2))
        self.output = nn.Conv1d(WIDTH, BINS, 1)

    def forward(self, latents: Tensor) -> Tensor:
        hidden = F.gelu(self.input(latents.permute(0, 1, 3, 2).flatten(1, 2)))
        for layer in self.hidden:
            hidden = hidden + F.gelu(layer(hidden))
        return self.output(hidden).transpose(1, 2)

    def errors(self, latents: Tensor, targets: PitchTargets) -> Tensor:
        """KL divergence [B] in nats from the target distribution, over the unambiguous frames."""
        target = target_distribution(targets.cents)
        predicted = F.log_softmax(self(latents), dim=-1)
        nats = (target * (target.clamp(min=1e-12).log() - predicted)).sum(-1)
        return (nats * targets.clear).sum(1) / targets.clear.sum(1).clamp(min=1)

    def cents(self, latents: Tensor) -> Tensor:
        """The most likely pitch [B, T] in cents above C4, interpolated between neighbouring bins."""
        probabilities = F.softmax(self(latents), dim=-1)
        best = probabilities.argmax(-1, keepdim=True)
        near = (best + torch.arange(-2, 3, device=best.device)).clamp(0, BINS - 1)
        weights = probabilities.gather(-1, near)
        return LOWEST_CENTS + BIN_CENTS * (weights * near).sum(-1) / weights.sum(-1)


def target_distribution(cents: Tensor) -> Tensor:
    """A Gaussian over the bins around each pitch [...]: [..., BINS], summing to 1."""
    bins = LOWEST_CENTS + BIN_CENTS * torch.arange(BINS, device=cents.device)
    return F.softmax(-0.5 * ((bins - cents[..., None]) / TARGET_SIGMA_CENTS).square(), dim=-1)


@torch.no_grad()
def pitch_example(mel_vae: MelVAE, clip: int, seconds: float) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Unscaled latents [C, T, F] float16 of a detuned (resampled) performance, and its melody."""
    torch.set_num_threads(1)
    shift = float(np.random.default_rng([PITCH_PROBE_SEEDS, clip]).uniform(-MAX_SHIFT_CENTS, MAX_SHIFT_CENTS))
    speed = 2 ** (shift / 1200)
    piece = perform(PITCH_PROBE_SEEDS + clip, "western", seconds * speed + 0.1)
    audio = Audio(piece.samples[None], piece.rate_hz).resample(round(mel_vae.rate_hz / speed))
    frames = round(seconds * mel_vae.rate_hz / mel_vae.mel.config.hop_length)
    latents = mel_vae.posterior(mel_vae.spectrogram(audio.samples[0], frames)[:, None]).mean[0]
    notes = western_notes(PITCH_PROBE_SEEDS + clip, seconds * speed + 0.1)
    return latents.numpy().astype(np.float16), [(t / speed, cents + shift) for t, cents in melody(notes)]


def train(config: Config, mel_vae: MelVAE, scale: float) -> PitchProbe:
    """Train on latents times `scale`, with a resumable state and a log of the error on held-out clips."""
    config.out.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(config.num_workers) as pool:
        example = partial(pitch_example, mel_vae, seconds=config.seconds)
        rows = list(pool.map(example, range(config.clips), chunksize=10))
    latents = torch.from_numpy(np.stack([row[0] for row in rows]).astype(np.float32)) * scale
    targets = pitch_targets([row[1] for row in rows], latents.shape[2])
    torch.manual_seed(1)
    probe = PitchProbe(latents.shape[1] * latents.shape[3])
    held_out = slice(-config.held_out, None)

    def compute_loss(step: int) -> tuple[Tensor, dict[str, Any]]:
        rng = np.random.default_rng([PITCH_PROBE_SEEDS, step])
        batch = rng.choice(config.clips - config.held_out, config.batch_size, replace=False)
        part = PitchTargets(targets.cents[batch], targets.clear[batch])
        loss = probe.errors(latents[batch], part).mean()
        return loss, {"loss": loss.detach()}

    @torch.no_grad()
    def validate(_step: int) -> dict[str, Any]:
        errors = (probe.cents(latents[held_out]) - targets.cents[held_out]).abs()
        errors = errors[targets.clear[held_out]]
        within = float((errors <= 25).float().mean())
        return {"median_cents": float(errors.median()), "within_25_cents": within}

    train_loop.train_loop(
        config.out,
        train_loop.TrainSchedule(config.steps, log_every=100, checkpoint_every=200),
        {"probe": probe},
        torch.optim.AdamW(probe.parameters(), lr=1e-3, weight_decay=0.01),
        compute_loss,
        lambda step: train_loop.lr_at(step, config.steps, 1e-3, warmup=20, floor=0.05),
        validate,
    )
    return probe


def restore(folder: Path) -> PitchProbe:
    """The trained probe, frozen."""
    weights = torch.load(folder / "state.pt", weights_only=True)["parts"]["probe"]
    probe = PitchProbe(weights["input.weight"].shape[1])
    probe.load_state_dict(weights)
    return probe.eval().requires_grad_(False)
