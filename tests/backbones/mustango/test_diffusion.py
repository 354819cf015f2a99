"""Weights, guidance, and sampling, on a model whose answer is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from talim.backbones.mustango import diffusion
from talim.errors import UsageError

SHAPE = (2, 4, 3)


def test_min_snr_weights_are_right_for_velocity() -> None:
    """Weighting the velocity's error by w is weighting the clean signal's by w (snr + 1)."""
    kept = torch.tensor([0.999, 0.9, 0.5, 0.1])
    at = torch.arange(4)
    snr = kept / (1 - kept)
    for_signal = diffusion.weights(kept, at, "v") * (snr + 1)
    assert torch.allclose(for_signal, snr.clamp(max=5.0), rtol=1e-4)
    assert torch.allclose(diffusion.weights(kept, at, "reference"), (5 / snr).clamp(max=1.0), rtol=1e-4)
    assert torch.equal(diffusion.weights(kept, at, "none"), torch.ones(4))
    with pytest.raises(UsageError, match="v, reference, none"):
        diffusion.weights(kept, at, "min-snr")


def known(clean: Tensor) -> diffusion.Predict:
    """The perfect velocity towards one signal."""
    kept = diffusion.scheduler().alphas_cumprod

    def predict(latents: Tensor, levels: Tensor) -> Tensor:
        root = kept[levels].sqrt().view(-1, 1, 1, 1)
        noise = (latents - root * clean) / (1 - root**2).sqrt()
        return root * noise - (1 - root**2).sqrt() * clean

    return predict


@pytest.mark.parametrize(("sampler", "steps"), [("ddpm", 20), ("ddim", 20), ("dpm++", 10)])
def test_every_sampler_finds_a_known_signal(sampler: str, steps: int) -> None:
    clean = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(1))
    sources = diffusion.generators(3, 2)
    noise = diffusion.initial_noise(SHAPE, sources, "cpu")
    seen: list[tuple[int, int]] = []
    made = diffusion.denoise(
        known(clean), noise, steps, diffusion.scheduler(sampler), sources, lambda *done: seen.append(done)
    )
    assert (made - clean).abs().max() < 0.05
    assert seen == [(number, steps) for number in range(1, steps + 1)]


def test_a_piece_does_not_depend_on_its_neighbours() -> None:
    def run(count: int) -> Tensor:
        sources = diffusion.generators(7, count)
        noise = diffusion.initial_noise(SHAPE, sources, "cpu")
        return diffusion.denoise(lambda x, t: 0.5 * x, noise, 5, diffusion.scheduler(), sources)

    assert torch.equal(run(1), run(3)[:1])
    assert not torch.equal(run(3)[0], run(3)[1])


def test_guidance_pushes_away_from_the_unconditional_rows() -> None:
    rows: list[int] = []

    def predict(latents: Tensor, levels: Tensor) -> Tensor:
        rows.append(len(latents))
        return torch.cat([torch.ones(len(latents) // 2, *SHAPE), 3 * torch.ones(len(latents) // 2, *SHAPE)])

    latents, levels = torch.zeros(2, *SHAPE), torch.zeros(2, dtype=torch.int64)
    assert torch.equal(diffusion.guided(predict, 3.0)(latents, levels), torch.full((2, *SHAPE), 7.0))
    assert rows == [4]
    assert diffusion.guided(predict, 1.0) is predict


def test_errors_leave_out_what_is_masked() -> None:
    made, target = torch.zeros(1, *SHAPE), torch.ones(1, *SHAPE)
    target[:, :, 2:] = 9
    mask = torch.tensor([[True, True, False, False]])
    assert diffusion.velocity_losses(made, target, mask).tolist() == [1.0]
    assert diffusion.velocity_losses(made, target).tolist() == [41.0]


@pytest.mark.parametrize("steps", [0, 1001, -1])
def test_steps_out_of_range(steps: int) -> None:
    with pytest.raises(UsageError, match="100 is usual"):
        diffusion.denoise(lambda x, t: x, torch.zeros(1, *SHAPE), steps, diffusion.scheduler())


def test_unknown_sampler() -> None:
    with pytest.raises(UsageError, match=r"ddpm, ddim, dpm\+\+"):
        diffusion.scheduler("euler")
