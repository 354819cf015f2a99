"""Adapters that multiply in the base's precision: nearly the same sums, weights and gradients still in float32."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from fixtures.table import stir

import talim.adapters as adapters
from talim.adapters import tuner
from talim.backbones.musicgen import MusicGen
from talim.designs.kinds import KINDS

Fresh = Callable[..., MusicGen]


def step(base: MusicGen) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Loss and gradients of one batch."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 32, (base.codebooks, 20), generator=generator).numpy().astype("int16")
    batch = base.collate([(tokens, base.describe(["a long alap"])[0])], [False])
    loss = base.loss(batch)
    weights = {name: p for name, p in base.model.named_parameters() if p.requires_grad}
    return loss.per_item, dict(
        zip(weights, torch.autograd.grad(loss.mean, list(weights.values())), strict=True)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_same_to_bf16_and_the_weights_stay_in_float32(fresh: Fresh, kind: str) -> None:
    base = fresh("bf16")
    peft = tuner.attach(base.model, f"{kind}@all:width16", base.sites(), dropout=0.0)
    stir(peft)
    exact, exact_gradients = step(base)
    tuner.mix_precision(peft)
    mixed, mixed_gradients = step(base)
    assert not torch.equal(mixed, exact)  # it does something
    torch.testing.assert_close(mixed, exact, rtol=0.03, atol=0.03)
    flat = [
        torch.cat([g.flatten() for g in gradients.values()])
        for gradients in (exact_gradients, mixed_gradients)
    ]
    assert torch.nn.functional.cosine_similarity(*flat, dim=0) > 0.98
    assert {weight.dtype for weight in adapters.trainable_parameters(peft)} == {torch.float32}
    assert {gradient.dtype for gradient in mixed_gradients.values()} == {torch.float32}
    tuner.mix_precision(peft, False)
    assert torch.equal(step(base)[0], exact)


def test_a_float32_base_and_full_are_left_alone(fresh: Fresh) -> None:
    for precision, design in (("fp32", "conv@all:width16"), ("bf16", "full@all")):
        base = fresh(precision)
        peft = tuner.attach(base.model, design, base.sites(), dropout=0.0)
        stir(peft)
        exact, _ = step(base)
        tuner.mix_precision(peft)
        assert torch.equal(step(base)[0], exact)
