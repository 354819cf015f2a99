"""A judge of pitch in nano-mustango's latents: its U-Net is held to it in its second term; then it is dropped.

A note a quarter of a tone off changes the latents so little that squared errors hardly mind. This small network tells
cents from latents; it learns on performances that are tuned up or down by as much as 60 cents, as from those at concert
pitch alone it would only learn which of the twelve tones is nearest.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from research.pretraining import train_loop
from research.pretraining.codec import SEED_BASE
from research.pretraining.western_style import perform, western_notes
from talim.audio import Audio
from talim.backbones.mustango.vae_vocoder import MelVAE
from talim.backbones.nano import mustango
from talim.synthesis.ground_truth import PlayedNote

PITCH_PROBE_SEEDS = 4 * SEED_BASE  # apart from all other performances
SECONDS = mustango.WINDOW_SECONDS
MOST_SHIFT_CENTS = 60
# of the western melodies, from E flat 3 to G sharp 5, with room for the shift; above C4
LOWEST_CENTS, HIGHEST_CENTS = -1000.0, 2100.0
BIN_CENTS = 20.0
BINS = round((HIGHEST_CENTS - LOWEST_CENTS) / BIN_CENTS) + 1
TARGET_SIGMA_CENTS = 20.0  # standard deviation of the right answer over the bins
WIDTH, BATCH = 192, 16
HELD_OUT = 40  # of the clips, for the log


class PitchTargets(NamedTuple):
    """What sounds in the middle of each latent frame, and where that is clear."""

    cents: Tensor  # float32 [B, T] above C4
    clear: Tensor  # bool [B, T], no note begins or ends within the frame


def pitch_targets(
    melodies: list[list[tuple[float, float]]], frames: int, seconds: float = SECONDS
) -> PitchTargets:
    """Of melodies told as rows of a note's onset in seconds and its cents above C4."""
    step = seconds / frames
    times = (np.arange(frames) + 0.5) * step
    cents, clear = np.zeros((len(melodies), frames), np.float32), np.zeros((len(melodies), frames), bool)
    for row, melody in enumerate(melodies):
        onsets, heights = np.array(melody).T
        first, last = (
            np.searchsorted(onsets, times + half, side="right") - 1 for half in (-step / 2, step / 2)
        )
        cents[row], clear[row] = heights[np.clip(last, 0, None)], (first == last) & (first >= 0)
    return PitchTargets(torch.from_numpy(cents), torch.from_numpy(clear))


def melody(notes: tuple[PlayedNote, ...]) -> list[tuple[float, float]]:
    """Onset in seconds and cents above C4 of each note."""
    return [(note.onset_seconds, note.cents) for note in notes]


class PitchProbe(nn.Module):
    """Scaled latents [B, C, T, F] -> how likely each of BINS is the melody's pitch, logits [B, T, BINS].

    `inputs` is C times F.
    """

    def __init__(self, inputs: int = mustango.LATENT_CHANNELS * mustango.BANDS) -> None:
        super().__init__()
        self.take = nn.Conv1d(inputs, WIDTH, 3, padding=1)
        self.more = nn.ModuleList(nn.Conv1d(WIDTH, WIDTH, 3, padding=1) for _ in range(2))
        self.tell = nn.Conv1d(WIDTH, BINS, 1)

    def forward(self, latents: Tensor) -> Tensor:
        hidden = F.gelu(self.take(latents.permute(0, 1, 3, 2).flatten(1, 2)))
        for layer in self.more:
            hidden = hidden + F.gelu(layer(hidden))
        return self.tell(hidden).transpose(1, 2)

    def errors(self, latents: Tensor, tones: PitchTargets) -> Tensor:
        """Nats [B] between what is heard and what should be, over the frames where that is clear; 0 is perfect."""
        right = pitch_bell(tones.cents)
        said = F.log_softmax(self(latents), dim=-1)
        nats = (right * (right.clamp(min=1e-12).log() - said)).sum(-1)
        return (nats * tones.clear).sum(1) / tones.clear.sum(1).clamp(min=1)

    def cents(self, latents: Tensor) -> Tensor:
        """The likeliest pitch [B, T] in cents above C4, between the bins by their neighbours' weight."""
        said = F.softmax(self(latents), dim=-1)
        best = said.argmax(-1, keepdim=True)
        near = (best + torch.arange(-2, 3, device=best.device)).clamp(0, BINS - 1)
        weights = said.gather(-1, near)
        return LOWEST_CENTS + BIN_CENTS * (weights * near).sum(-1) / weights.sum(-1)


def pitch_bell(cents: Tensor) -> Tensor:
    """A pitch [...] as weights [..., BINS] that sum to 1, a bell around it."""
    bins = LOWEST_CENTS + BIN_CENTS * torch.arange(BINS, device=cents.device)
    return F.softmax(-0.5 * ((bins - cents[..., None]) / TARGET_SIGMA_CENTS).square(), dim=-1)


@torch.no_grad()
def pitch_example(sound: MelVAE, clip: int) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Unscaled latents [C, T, F] float16 of a performance that is played too fast or too slow, and its melody."""
    torch.set_num_threads(1)
    shift = float(
        np.random.default_rng([PITCH_PROBE_SEEDS, clip]).uniform(-MOST_SHIFT_CENTS, MOST_SHIFT_CENTS)
    )
    faster = 2 ** (shift / 1200)
    played = perform(PITCH_PROBE_SEEDS + clip, "western", SECONDS * faster + 0.1)
    heard = Audio(played.samples[None], played.rate_hz).resample(round(sound.rate_hz / faster)).samples[0]
    frames = round(SECONDS * sound.rate_hz / sound.mel.config.hop_length)
    latents = sound.posterior(sound.spectrogram(heard, frames)[:, None]).mean[0]
    notes = western_notes(PITCH_PROBE_SEEDS + clip, SECONDS * faster + 0.1)
    return latents.numpy().astype(np.float16), [(t / faster, cents + shift) for t, cents in melody(notes)]


def train(
    out: Path, sound: MelVAE, scale: float, workers: int, clips: int = 800, steps: int = 1200
) -> PitchProbe:
    """Train to `steps`, with a state that resumes; the log tells the median error in cents on clips kept apart."""
    out.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers) as pool:
        rows = list(pool.map(partial(pitch_example, sound), range(clips), chunksize=10))
    latents = torch.from_numpy(np.stack([row[0] for row in rows]).astype(np.float32)) * scale
    tones = pitch_targets([row[1] for row in rows], latents.shape[2])
    torch.manual_seed(1)
    ear = PitchProbe(latents.shape[1] * latents.shape[3])

    def lesson(step: int) -> tuple[Tensor, dict[str, Any]]:
        chosen = np.random.default_rng([PITCH_PROBE_SEEDS, step]).choice(
            clips - HELD_OUT, BATCH, replace=False
        )
        part = PitchTargets(tones.cents[chosen], tones.clear[chosen])
        loss = ear.errors(latents[chosen], part).mean()
        return loss, {"loss": loss.detach()}

    @torch.no_grad()
    def look(_step: int) -> dict[str, Any]:
        kept = PitchTargets(tones.cents[-HELD_OUT:], tones.clear[-HELD_OUT:])
        off = (ear.cents(latents[-HELD_OUT:]) - kept.cents).abs()[kept.clear]
        return {"median_cents": float(off.median()), "within_25_cents": float((off <= 25).float().mean())}

    train_loop.train_loop(
        out,
        train_loop.TrainSchedule(steps, log_every=100, checkpoint_every=200),
        {"ear": ear},
        torch.optim.AdamW(ear.parameters(), lr=1e-3, weight_decay=0.01),
        lesson,
        lambda step: train_loop.lr_at(step, steps, 1e-3, warmup=20, floor=0.05),
        look,
    )
    return ear


def restored(folder: Path) -> PitchProbe:
    """The ear as it was left, frozen."""
    weights = torch.load(folder / "state.pt", weights_only=True)["parts"]["ear"]
    ear = PitchProbe(weights["take.weight"].shape[1])
    ear.load_state_dict(weights)
    return ear.eval().requires_grad_(False)
