"""What is learned from a batch: any lengths, gradients that recomputation does not change, half precision."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

import talim.adapters as adapters
from talim.backbones.mustango import objective
from talim.backbones.mustango.backbone import Mustango
from talim.backbones.mustango.batch import LatentBatch
from talim.music import Music


def batch_of(model: Mustango, frames: tuple[int, ...]) -> LatentBatch:
    rng = np.random.default_rng(5)
    said = model.describe(["sitar", "slow drums"])
    music = Music.parse("120 bpm 3/4", "Gm@0 F@0.5", 1.0)
    items = [
        (rng.normal(size=(8, count, 16)).astype(np.float32), said[place % 2], music)
        for place, count in enumerate(frames)
    ]
    return model.collate(items, [False] * len(items))


def test_clips_of_any_length_meet_the_unet_without_padding(tiny: Mustango) -> None:
    """Lengths that cannot be halved, down to one frame: a clip's error is the one it has alone."""
    frames = (13, 1, 7, 13, 2)
    batch = batch_of(tiny, frames)
    levels, noise = torch.tensor([3, 999, 400, 70, 500]), torch.randn(batch.targets.shape)
    with torch.no_grad():
        together, per_frame = objective.velocity_errors(tiny.model, tiny.schedule, batch, levels, noise)
        for row, length in enumerate(frames):
            alone, _ = objective.velocity_errors(
                tiny.model, tiny.schedule, batch.rows([row], length), levels[[row]], noise[[row], :, :length]
            )
            torch.testing.assert_close(alone[0], together[row], rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(per_frame[row, :length].mean(), together[row], rtol=1e-4, atol=1e-6)
            assert not per_frame[row, length:].any()


@pytest.mark.parametrize("design", ["conv@all:width4", "transformer@up:width8", "lora@mid:r2", "full@mid"])
def test_recomputed_activations_give_equal_gradients(tiny: Mustango, design: str) -> None:
    found = {}
    for again in (False, True):
        base = copy.deepcopy(tiny)
        peft = adapters.attach(base.model, design, base.sites(), dropout=0.0)
        with torch.no_grad():
            for weight in adapters.trainable_parameters(peft):
                weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
        base.enable_training(gradient_checkpointing=again)
        torch.manual_seed(0)
        base.loss(batch_of(base, (9, 9))).mean.backward()
        found[again] = [weight.grad for weight in adapters.trainable_parameters(peft)]
    assert any(grad is not None and grad.abs().max() > 0 for grad in found[True])
    for plain, recomputed in zip(found[False], found[True], strict=True):
        torch.testing.assert_close(recomputed, plain, rtol=1e-4, atol=1e-6)


def test_half_precision_is_near_the_whole_one(tiny: Mustango) -> None:
    half = copy.deepcopy(tiny)
    half.model.unet.to(torch.bfloat16)
    losses = [base.loss(batch_of(base, (8, 8))).per_item for base in (tiny, half)]
    assert losses[1].dtype == torch.float32
    torch.testing.assert_close(losses[1], losses[0], rtol=0.05, atol=0.01)


def test_held_out_losses_do_not_know_the_weighting(tiny: Mustango) -> None:
    batch, seen = batch_of(tiny, (8,)), []
    for weighting in ("v", "reference", "none"):
        tiny.weighting = weighting
        seen.append(tiny.loss(batch).per_item)
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0], seen[2])
