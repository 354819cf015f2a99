"""What Mustango learns from a batch: the velocity at some noise levels. No value of a tensor decides what is run."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from talim.backbones.mustango import diffusion
from talim.backbones.mustango.batch import LatentBatch

HELD_OUT_LEVELS = (100, 300, 500, 700, 900)


def velocity_errors(
    model: Callable[..., Tensor], schedule: Any, batch: LatentBatch, levels: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean squared error of each clip, float32 [B], at its level int64 [B] with this noise [B, C, T, F].

    Clips of one length go through the U-Net together and without padding, which it would attend to. Beside it the mean
    error of each frame [B, T], 0 beyond a clip's end, without gradient.
    """
    found: list[Tensor] = []
    per_frame = torch.zeros(batch.targets.shape[0], batch.targets.shape[2], device=batch.targets.device)
    order: list[int] = []
    for frames in sorted(set(batch.frames)):
        picked = [row for row, length in enumerate(batch.frames) if length == frames]
        some, at, added = batch.rows(picked, frames), levels[picked], noise[picked, :, :frames]
        noisy = schedule.add_noise(some.targets, added, at)
        target = schedule.get_velocity(some.targets, added, at)
        made = model(noisy, at, some.states, some.states_mask, some.beats, some.chords)
        found.append(diffusion.velocity_losses(made, target))
        per_frame[picked, :frames] = (made.detach().float() - target.float()).square().mean(dim=(1, 3))
        order += picked
    back = sorted(range(len(order)), key=order.__getitem__)
    return torch.cat(found)[back], per_frame


def drawn(batch: LatentBatch) -> tuple[Tensor, Tensor]:
    """A noise level for each clip, and its noise, from torch's generator on the CPU: the same on every device."""
    levels = torch.randint(diffusion.TRAINED_LEVELS, (len(batch.frames),))
    return levels.to(batch.targets.device), torch.randn(batch.targets.shape).to(batch.targets.device)


def fixed(batch: LatentBatch, level: int) -> tuple[Tensor, Tensor]:
    """One noise level for all clips, with noise that depends on nothing but the clip and the level."""
    noise = torch.zeros(batch.targets.shape)
    for row, (latents, frames) in enumerate(zip(batch.targets.cpu(), batch.frames, strict=True)):
        clip = latents[:, :frames].contiguous()
        source = torch.Generator().manual_seed(level * 2**32 + zlib.crc32(clip.numpy().tobytes()))
        noise[row, :, :frames] = torch.randn(clip.shape, generator=source)
    levels = torch.full((len(noise),), level, device=batch.targets.device)
    return levels, noise.to(batch.targets.device)
