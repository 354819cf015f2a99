"""Diffusion: velocity errors, loss weighting, guidance, samplers."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

import talim.adapters as adapters
from talim.backbones.mustango import diffusion
from talim.backbones.mustango.backbone import Mustango
from talim.backbones.mustango.batch import LatentBatch
from talim.beats_chords import BeatsAndChords
from talim.errors import UsageError


def batch_of(model: Mustango, frames: tuple[int, ...]) -> LatentBatch:
    rng = np.random.default_rng(5)
    text = model.encode_text(["sitar", "slow drums"])
    music = BeatsAndChords.parse("120 bpm 3/4", "Gm@0 F@0.5", 1.0)
    items = [
        (rng.normal(size=(8, count, 16)).astype(np.float32), text[index % 2], music)
        for index, count in enumerate(frames)
    ]
    return model.collate(items, [False] * len(items))


def test_velocity_errors_of_a_clip_do_not_depend_on_the_batch(tiny: Mustango) -> None:
    """Lengths that cannot be halved, down to one frame."""
    frames = (13, 1, 7, 13, 2)
    batch = batch_of(tiny, frames)
    levels, noise = torch.tensor([3, 999, 400, 70, 500]), torch.randn(batch.targets.shape)
    with torch.no_grad():
        together, per_frame = diffusion.velocity_errors(tiny.model, tiny.schedule, batch, levels, noise)
        for row, length in enumerate(frames):
            alone, _ = diffusion.velocity_errors(
                tiny.model, tiny.schedule, batch.rows([row], length), levels[[row]], noise[[row], :, :length]
            )
            torch.testing.assert_close(alone[0], together[row], rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(per_frame[row, :length].mean(), together[row], rtol=1e-4, atol=1e-6)
            assert not per_frame[row, length:].any()


@pytest.mark.parametrize("design", ["conv@all:width4", "transformer@up:width8", "lora@mid:r2", "full@mid"])
def test_gradient_checkpointing_gives_equal_gradients(tiny: Mustango, design: str) -> None:
    gradients = {}
    for again in (False, True):
        base = copy.deepcopy(tiny)
        peft = adapters.attach(base.model, design, base.sites(), dropout=0.0)
        with torch.no_grad():
            for weight in adapters.trainable_parameters(peft):
                weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
        base.enable_training(gradient_checkpointing=again)
        torch.manual_seed(0)
        base.loss(batch_of(base, (9, 9))).mean.backward()
        gradients[again] = [weight.grad for weight in adapters.trainable_parameters(peft)]
    assert any(grad is not None and grad.abs().max() > 0 for grad in gradients[True])
    for plain, recomputed in zip(gradients[False], gradients[True], strict=True):
        torch.testing.assert_close(recomputed, plain, rtol=1e-4, atol=1e-6)


def test_loss_in_bf16_is_near_float32(tiny: Mustango) -> None:
    half = copy.deepcopy(tiny)
    half.model.unet.to(torch.bfloat16)
    losses = [base.loss(batch_of(base, (8, 8))).per_item for base in (tiny, half)]
    assert losses[1].dtype == torch.float32
    torch.testing.assert_close(losses[1], losses[0], rtol=0.05, atol=0.01)


def test_validation_loss_ignores_the_loss_weighting(tiny: Mustango) -> None:
    batch, seen = batch_of(tiny, (8,)), []
    for weighting in ("min_snr_v", "min_snr_eps", "none"):
        tiny.loss_weighting = weighting
        seen.append(tiny.loss(batch).per_item)
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0], seen[2])


SHAPE = (2, 4, 3)


def test_min_snr_weights_equal_clean_signal_weights() -> None:
    """Weighting the velocity error by w weights the clean signal's by w (snr + 1)."""
    alphas = torch.tensor([0.999, 0.9, 0.5, 0.1])
    at = torch.arange(4)
    snr = alphas / (1 - alphas)
    for_signal = diffusion.min_snr_weights(alphas, at, "min_snr_v") * (snr + 1)
    assert torch.allclose(for_signal, snr.clamp(max=5.0), rtol=1e-4)
    assert torch.allclose(diffusion.min_snr_weights(alphas, at, "min_snr_eps"), (5 / snr).clamp(max=1.0), rtol=1e-4)
    assert torch.equal(diffusion.min_snr_weights(alphas, at, "none"), torch.ones(4))
    with pytest.raises(UsageError, match="min_snr_v, min_snr_eps, none"):
        diffusion.min_snr_weights(alphas, at, "min-snr")


def exact_velocity(clean: Tensor) -> diffusion.VelocityPredictor:
    """The exact velocity towards one signal."""
    alphas = diffusion.make_scheduler().alphas_cumprod

    def predict(latents: Tensor, levels: Tensor) -> Tensor:
        root = alphas[levels].sqrt().view(-1, 1, 1, 1)
        noise = (latents - root * clean) / (1 - root**2).sqrt()
        return root * noise - (1 - root**2).sqrt() * clean

    return predict


def normal_velocity(latents: Tensor, levels: Tensor) -> Tensor:
    """The exact velocity where clean latents are standard normal: their mean, given noisy ones, is root * latents."""
    root = diffusion.make_scheduler().alphas_cumprod[levels].sqrt().view(-1, 1, 1, 1)
    clean = root * latents
    return root * (latents - root * clean) / (1 - root**2).sqrt() - (1 - root**2).sqrt() * clean


@pytest.mark.parametrize(("sampler", "steps"), [("ddpm", 20), ("ddim", 20), ("dpm++", 10)])
def test_denoise_with_exact_velocity_recovers_the_signal(sampler: str, steps: int) -> None:
    clean = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(1))
    sources = diffusion.make_generators(3, 2)
    noise = diffusion.initial_noise(SHAPE, sources, "cpu")
    seen: list[tuple[int, int]] = []
    output = diffusion.denoise(
        exact_velocity(clean), noise, steps, diffusion.make_scheduler(sampler), sources, lambda *done: seen.append(done)
    )
    assert (output - clean).abs().max() < 0.05
    assert seen == [(number, steps) for number in range(1, steps + 1)]


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm++"])
@pytest.mark.parametrize("strength", [0.25, 0.6])
def test_denoise_from_a_start_equals_diffusers_image_to_image(sampler: str, strength: float) -> None:
    """The loop of diffusers' pipelines: skip the first steps, add noise for the next one, then step."""

    def predict(latents: Tensor, levels: Tensor) -> Tensor:
        return 0.3 * latents + levels.view(-1, 1, 1, 1) / 1000

    start = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(1))
    sources = diffusion.make_generators(3, 2)
    noise = diffusion.initial_noise(SHAPE, sources, "cpu")
    seen: list[tuple[int, int]] = []
    output = diffusion.denoise(
        predict,
        noise,
        20,
        diffusion.make_scheduler(sampler),
        sources,
        lambda *done: seen.append(done),
        diffusion.Start(start, strength),
    )
    steps = int(20 * strength)
    assert seen == [(number, steps) for number in range(1, steps + 1)]

    scheduler = diffusion.make_scheduler(sampler)
    scheduler.set_timesteps(20)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(20 - steps)
    sources = diffusion.make_generators(3, 2)
    noise = diffusion.initial_noise(SHAPE, sources, "cpu")
    timesteps = scheduler.timesteps[20 - steps :]
    latents = scheduler.add_noise(start, noise, timesteps[:1].repeat(2))
    drawn = {"generator": sources} if sampler == "ddpm" else {}
    for timestep in timesteps:
        latents = scheduler.step(predict(latents, timestep.expand(2)), timestep, latents, **drawn).prev_sample
    torch.testing.assert_close(output, latents)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm++"])
def test_denoise_from_a_start_reaches_from_the_start_to_new_latents(sampler: str) -> None:
    def run(strength: float | None) -> Tensor:
        sources = diffusion.make_generators(3, 1)
        noise = diffusion.initial_noise(SHAPE, sources, "cpu")
        begin = None if strength is None else diffusion.Start(start, strength)
        scheduler = diffusion.make_scheduler(sampler)
        return diffusion.denoise(normal_velocity, noise, 20, scheduler, sources, None, begin)

    start = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(2))
    assert torch.equal(run(0.0), start)
    assert torch.equal(run(1.0), run(None))
    distances = [(run(strength) - start).abs().mean().item() for strength in (0.0, 0.05, 0.3, 0.6, 1.0)]
    assert distances == sorted(distances)
    assert distances[1] < distances[-1] / 3


def test_denoise_from_a_start_with_less_than_a_step_raises_usage_error() -> None:
    start = diffusion.Start(torch.zeros(1, *SHAPE), 0.04)
    with pytest.raises(UsageError, match=r"less than one of 20 sampling steps.* give 0\.05 or more"):
        diffusion.denoise(lambda x, t: x, start.latents, 20, diffusion.make_scheduler(), None, None, start)


def test_denoise_of_a_clip_does_not_depend_on_the_batch() -> None:
    def run(count: int) -> Tensor:
        sources = diffusion.make_generators(7, count)
        noise = diffusion.initial_noise(SHAPE, sources, "cpu")
        return diffusion.denoise(lambda x, t: 0.5 * x, noise, 5, diffusion.make_scheduler(), sources)

    assert torch.equal(run(1), run(3)[:1])
    assert not torch.equal(run(3)[0], run(3)[1])


def test_with_guidance_extrapolates_from_the_unconditional_rows() -> None:
    rows: list[int] = []

    def predict(latents: Tensor, levels: Tensor) -> Tensor:
        rows.append(len(latents))
        return torch.cat([torch.ones(len(latents) // 2, *SHAPE), 3 * torch.ones(len(latents) // 2, *SHAPE)])

    latents, levels = torch.zeros(2, *SHAPE), torch.zeros(2, dtype=torch.int64)
    assert torch.equal(diffusion.with_guidance(predict, 3.0)(latents, levels), torch.full((2, *SHAPE), 7.0))
    assert rows == [4]
    assert diffusion.with_guidance(predict, 1.0) is predict


def test_velocity_losses_are_mean_squared_errors_of_each_clip() -> None:
    output, target = torch.zeros(1, *SHAPE), torch.ones(1, *SHAPE)
    target[:, :, 2:] = 9
    assert diffusion.velocity_losses(output, target).tolist() == [41.0]


@pytest.mark.parametrize("steps", [0, 1001, -1])
def test_denoise_steps_out_of_range_raises_usage_error(steps: int) -> None:
    with pytest.raises(UsageError, match="default 100"):
        diffusion.denoise(lambda x, t: x, torch.zeros(1, *SHAPE), steps, diffusion.make_scheduler())


def test_make_scheduler_unknown_name_raises_usage_error() -> None:
    with pytest.raises(UsageError, match=r"ddpm, ddim, dpm\+\+"):
        diffusion.make_scheduler("euler")
