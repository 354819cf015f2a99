"""Mustango's diffusion: noise schedule, velocity loss, samplers."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from talim.backbones.generation_options import clip_seeds
from talim.backbones.mustango.batch import LatentBatch
from talim.errors import UsageError

VALIDATION_TIMESTEPS = (100, 300, 500, 700, 900)
NUM_TRAIN_TIMESTEPS = 1000
# Stable Diffusion 2.1's schedule, with which Mustango was trained. The diffusers version of that time ignored the
# offset of 1 in its file: steps are 990, 980 ... 0, not 991 ... 1.
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


def velocity_errors(
    model: Callable[..., Tensor], schedule: Any, batch: LatentBatch, levels: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean squared error per clip, float32 [B], for levels int64 [B] and noise [B, C, T, F]; and per frame [B, T].

    Clips of equal length go through the U-Net together without padding, which it would attend to. Errors per frame are
    0 beyond a clip's end and have no gradient.
    """
    losses: list[Tensor] = []
    per_frame = torch.zeros(batch.targets.shape[0], batch.targets.shape[2], device=batch.targets.device)
    order: list[int] = []
    for frames in sorted(set(batch.frames)):
        rows = [row for row, length in enumerate(batch.frames) if length == frames]
        clips, at, added = batch.rows(rows, frames), levels[rows], noise[rows, :, :frames]
        noisy = schedule.add_noise(clips.targets, added, at)
        target = schedule.get_velocity(clips.targets, added, at)
        predicted = model(noisy, at, clips.states, clips.states_mask, clips.beats, clips.chords)
        losses.append(velocity_losses(predicted, target))
        per_frame[rows, :frames] = (predicted.detach().float() - target.float()).square().mean(dim=(1, 3))
        order += rows
    inverse = sorted(range(len(order)), key=order.__getitem__)
    return torch.cat(losses)[inverse], per_frame


def sample_noise_levels(batch: LatentBatch) -> tuple[Tensor, Tensor]:
    """Random noise levels [B] and noise, from torch's CPU generator: the same for every device."""
    levels = torch.randint(NUM_TRAIN_TIMESTEPS, (len(batch.frames),))
    return levels.to(batch.targets.device), torch.randn(batch.targets.shape).to(batch.targets.device)


def fixed_noise_level(batch: LatentBatch, level: int) -> tuple[Tensor, Tensor]:
    """One noise level for all clips [B], and noise that depends only on clip and level."""
    noise = torch.zeros(batch.targets.shape)
    for row, (latents, frames) in enumerate(zip(batch.targets.cpu(), batch.frames, strict=True)):
        clip = latents[:, :frames].contiguous()
        generator = torch.Generator().manual_seed(level * 2**32 + zlib.crc32(clip.numpy().tobytes()))
        noise[row, :, :frames] = torch.randn(clip.shape, generator=generator)
    levels = torch.full((len(noise),), level, device=batch.targets.device)
    return levels, noise.to(batch.targets.device)


def validation_errors(model: Callable[..., Tensor], schedule: Any, batch: LatentBatch) -> list[tuple[Tensor, Tensor]]:
    """`velocity_errors` at each of VALIDATION_TIMESTEPS, with noise that depends only on clip and level."""
    levels = (fixed_noise_level(batch, level) for level in VALIDATION_TIMESTEPS)
    return [velocity_errors(model, schedule, batch, *each) for each in levels]


def make_scheduler(name: str = "ddpm") -> Any:
    """A diffusers scheduler with Mustango's noise schedule; UsageError for a name not in SAMPLERS."""
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
    from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

    if name == "ddpm":
        return DDPMScheduler(**NOISE_SCHEDULE, variance_type="fixed_small", clip_sample=False)
    if name == "ddim":
        # the last step goes to alpha 1; set_alpha_to_one=False, as in the file, would make it a no-op
        return DDIMScheduler(**NOISE_SCHEDULE, clip_sample=False, set_alpha_to_one=True)
    if name == "dpm++":
        return DPMSolverMultistepScheduler(**NOISE_SCHEDULE, algorithm_type="dpmsolver++")
    raise UsageError(f"sampler {name!r} is unknown; use one of {', '.join(SAMPLERS)}")


def velocity_losses(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of each clip, float32 [B]."""
    return (predicted.float() - target.float()).square().mean(dim=(1, 2, 3))


def min_snr_weights(alphas_cumprod: Tensor, timesteps: Tensor, weighting: str) -> Tensor:
    """Min-SNR weights of noise levels, float32 [B] (Hang et al. 2023, gamma 5).

    "min_snr_v" is min(snr, gamma) / (snr + 1), for velocity prediction; "min_snr_eps" is min(snr, gamma) / snr, for
    noise prediction, with which the released model was trained; "none" is 1.
    """
    if weighting not in LOSS_WEIGHTINGS:
        raise UsageError(f"weighting {weighting!r} is unknown; use one of {', '.join(LOSS_WEIGHTINGS)}")
    signal_power = alphas_cumprod.to(timesteps.device, torch.float32)[timesteps]
    if weighting == "none":
        return torch.ones_like(signal_power)
    snr = signal_power / (1 - signal_power)
    return snr.clamp(max=SNR_GAMMA) / (snr + 1 if weighting == "min_snr_v" else snr)


def with_guidance(predict: VelocityPredictor, guidance_scale: float) -> VelocityPredictor:
    """Classifier-free guidance; `predict` takes a doubled batch, unconditional rows first."""
    if guidance_scale == 1:
        return predict

    def guided(latents: Tensor, timesteps: Tensor) -> Tensor:
        unconditional, conditional = predict(torch.cat([latents] * 2), torch.cat([timesteps] * 2)).chunk(2)
        return unconditional + guidance_scale * (conditional - unconditional)

    return guided


def make_generators(seed: int | Sequence[int], count: int) -> list[torch.Generator]:
    """One noise generator per clip, by the clip's own seed (`clip_seeds`), so that it is the same in any batch."""
    generators = []
    for own in clip_seeds(seed, count):
        state = np.random.SeedSequence([own, 0]).generate_state(1, np.uint64)
        generators.append(torch.Generator("cpu").manual_seed(int(state[0] >> np.uint64(1))))
    return generators


def initial_noise(shape: tuple[int, int, int], generators: Sequence[torch.Generator], device: Any) -> Tensor:
    """Standard normal latents [B, *shape], drawn on the CPU: the same for every device."""
    return torch.stack([torch.randn(shape, generator=generator) for generator in generators]).to(device)


@dataclass(frozen=True)
class Start:
    """Latents [B, C, T, F] to vary: noise is added to them up to the level of `strength`, 0 (none) to 1 (all noise)."""

    latents: Tensor
    strength: float


def denoise(
    predict: VelocityPredictor,
    latents: Tensor,  # [B, C, T, F], noise
    steps: int,
    sampler: Any,  # from `make_scheduler`
    generators: Sequence[torch.Generator] | None = None,
    progress: Callable[[int, int], None] | None = None,
    start: Start | None = None,
) -> Tensor:
    """Sample latents from noise in `steps` calls of `predict`; DDPM draws its noise from `generators`.

    With `start`, only the last `strength` of the steps are made, from its latents with noise; at strength 1 nothing of
    them is left, at 0 nothing is changed. UsageError for a strength above 0 that is less than one step.
    """
    if not 1 <= steps <= NUM_TRAIN_TIMESTEPS:
        raise UsageError(f"{steps} sampling steps are out of range; give 1 to {NUM_TRAIN_TIMESTEPS} (default 100)")
    sampler.set_timesteps(steps)  # on the CPU: the sampler reads single values at every step
    noise = {"generator": list(generators)} if generators and "DDPM" in type(sampler).__name__ else {}
    timesteps = sampler.timesteps
    if start is None or start.strength == 1:  # at the first step diffusers' add_noise leaves a little of the latents
        latents = latents * sampler.init_noise_sigma
    else:
        timesteps = timesteps[len(timesteps) - _steps_of(start.strength, len(timesteps)) :]
        if not len(timesteps):
            return start.latents
        latents = sampler.add_noise(start.latents, latents, timesteps[:1].expand(len(latents)))
    for number, timestep in enumerate(timesteps, start=1):
        rows = timestep.to(latents.device).expand(latents.shape[0])
        velocity = predict(sampler.scale_model_input(latents, timestep), rows)
        latents = sampler.step(velocity, timestep, latents, **noise).prev_sample
        if progress is not None:
            progress(number, len(timesteps))
    return latents


def _steps_of(strength: float, steps: int) -> int:
    """How many of `steps` a strength is, rounded down as in diffusers' image-to-image pipelines."""
    count = int(steps * strength + 1e-9)
    if strength and not count:
        raise UsageError(
            f"strength {strength:g} is less than one of {steps} sampling steps, so that nothing would change; give "
            f"{1 / steps:g} or more, or more sampling steps"
        )
    return count
