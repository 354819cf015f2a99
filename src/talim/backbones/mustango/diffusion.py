"""Mustango's diffusion: its noise schedule, what it learns (velocity), and three ways to sample."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from talim.backbones.mustango.batch import LatentBatch
from talim.errors import UsageError

VALIDATION_TIMESTEPS = (100, 300, 500, 700, 900)


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
        found.append(velocity_losses(made, target))
        per_frame[picked, :frames] = (made.detach().float() - target.float()).square().mean(dim=(1, 3))
        order += picked
    back = sorted(range(len(order)), key=order.__getitem__)
    return torch.cat(found)[back], per_frame


def sample_noise_levels(batch: LatentBatch) -> tuple[Tensor, Tensor]:
    """A noise level for each clip, and its noise, from torch's generator on the CPU: the same on every device."""
    levels = torch.randint(NUM_TRAIN_TIMESTEPS, (len(batch.frames),))
    return levels.to(batch.targets.device), torch.randn(batch.targets.shape).to(batch.targets.device)


def fixed_noise_level(batch: LatentBatch, level: int) -> tuple[Tensor, Tensor]:
    """One noise level for all clips, with noise that depends on nothing but the clip and the level."""
    noise = torch.zeros(batch.targets.shape)
    for row, (latents, frames) in enumerate(zip(batch.targets.cpu(), batch.frames, strict=True)):
        clip = latents[:, :frames].contiguous()
        source = torch.Generator().manual_seed(level * 2**32 + zlib.crc32(clip.numpy().tobytes()))
        noise[row, :, :frames] = torch.randn(clip.shape, generator=source)
    levels = torch.full((len(noise),), level, device=batch.targets.device)
    return levels, noise.to(batch.targets.device)


NUM_TRAIN_TIMESTEPS = 1000

# Stable Diffusion 2.1's schedule, under which Mustango was trained. The offset of 1 that its file carries was
# ignored by the sampler of those days: steps are 990, 980 ... 0, not 991 ... 1.
NOISE_SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": NUM_TRAIN_TIMESTEPS,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "timestep_spacing": "leading",
    "steps_offset": 0,
}

SAMPLERS = ("ddpm", "ddim", "dpm++")

LOSS_WEIGHTINGS = ("min_snr_v", "min_snr_eps", "none")

SNR_GAMMA = 5.0


VelocityPredictor = Callable[[Tensor, Tensor], Tensor]  # latents [B, C, T, F], level int64 [B] -> velocity


def make_scheduler(name: str = "ddpm", schedule: dict[str, Any] | None = None) -> Any:
    """A diffusers scheduler on Mustango's noise schedule; UsageError for a name that is none of SAMPLERS."""
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
    from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

    numbers = NOISE_SCHEDULE if schedule is None else NOISE_SCHEDULE | schedule
    if name == "ddpm":
        return DDPMScheduler(**numbers, variance_type="fixed_small", clip_sample=False)
    if name == "ddim":
        # the last step goes all the way: to level 0's own alpha, as the file says, it would do nothing
        return DDIMScheduler(**numbers, clip_sample=False, set_alpha_to_one=True)
    if name == "dpm++":
        return DPMSolverMultistepScheduler(**numbers, algorithm_type="dpmsolver++")
    raise UsageError(f"sampler {name!r} is unknown; use one of {', '.join(SAMPLERS)}")


def velocity_losses(predicted: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared error of each clip, float32 [B]; `mask` [B, T] leaves out what lies beyond a clip's end."""
    errors = (predicted.float() - target.float()).square()
    if mask is None:
        return errors.mean(dim=(1, 2, 3))
    valid = mask[:, None, :, None].to(errors.dtype)
    return (errors * valid).sum(dim=(1, 2, 3)) / (
        valid.sum(dim=(1, 2, 3)) * errors.shape[1] * errors.shape[3]
    )


def min_snr_weights(alphas_cumprod: Tensor, timesteps: Tensor, weighting: str) -> Tensor:
    """Min-SNR weights of noise levels, float32 [B] (Hang et al. 2023, gamma 5).

    "min_snr_v" is min(snr, gamma) / (snr + 1), right for velocity; "min_snr_eps" is the min(snr, gamma) / snr that the
    released model was trained with, made for noise prediction; "none" is 1.
    """
    if weighting not in LOSS_WEIGHTINGS:
        raise UsageError(f"weighting {weighting!r} is unknown; use one of {', '.join(LOSS_WEIGHTINGS)}")
    kept = alphas_cumprod.to(timesteps.device, torch.float32)[timesteps]
    if weighting == "none":
        return torch.ones_like(kept)
    snr = kept / (1 - kept)
    return snr.clamp(max=SNR_GAMMA) / (snr + 1 if weighting == "min_snr_v" else snr)


def with_guidance(predict: VelocityPredictor, guidance_scale: float) -> VelocityPredictor:
    """Classifier-free guidance: `predict` takes a doubled batch, the rows without conditions first."""
    if guidance_scale == 1:
        return predict

    def steered(latents: Tensor, timesteps: Tensor) -> Tensor:
        free, bound = predict(torch.cat([latents] * 2), torch.cat([timesteps] * 2)).chunk(2)
        return free + guidance_scale * (bound - free)

    return steered


def make_generators(seed: int, count: int) -> list[torch.Generator]:
    """One source of noise a piece, so that a piece does not depend on how many are made beside it."""
    made = []
    for index in range(count):
        words = np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)
        made.append(torch.Generator("cpu").manual_seed(int(words[0] >> np.uint64(1))))
    return made


def initial_noise(shape: tuple[int, int, int], sources: Sequence[torch.Generator], device: Any) -> Tensor:
    """Standard normal latents [B, *shape], drawn on the CPU so that every device gets the same."""
    return torch.stack([torch.randn(shape, generator=source) for source in sources]).to(device)


def denoise(
    predict: VelocityPredictor,
    latents: Tensor,  # [B, C, T, F], noise
    steps: int,
    sampler: Any,  # what `scheduler` made
    sources: Sequence[torch.Generator] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Noise to latents in `steps` calls of `predict`; DDPM draws its steps' noise from `sources`."""
    if not 1 <= steps <= NUM_TRAIN_TIMESTEPS:
        raise UsageError(f"{steps} steps are out of range; 100 is usual, {NUM_TRAIN_TIMESTEPS} the most")
    sampler.set_timesteps(steps)  # on the CPU: the sampler asks for the values of its levels at every step
    noise = {"generator": list(sources)} if sources and "DDPM" in type(sampler).__name__ else {}
    latents = latents * sampler.init_noise_sigma
    for number, timestep in enumerate(sampler.timesteps, start=1):
        rows = timestep.to(latents.device).expand(latents.shape[0])
        velocity = predict(sampler.scale_model_input(latents, timestep), rows)
        latents = sampler.step(velocity, timestep, latents, **noise).prev_sample
        if progress is not None:
            progress(number, len(sampler.timesteps))
    return latents
