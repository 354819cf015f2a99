"""Which adapters are compiled; that they compute the same is in test_adapter_steps."""

from __future__ import annotations

import pytest
import torch

from talim.backbones.musicgen.decoding import fused_steps
from talim.backbones.musicgen.decoding.fused_steps import can_be_fused, fused_step
from talim.backbones.musicgen.decoding.layer_steps import adapter_step
from talim.backbones.musicgen.decoding.linear_products import PackedProduct
from talim.design.adapter_kinds import Conv, Linear, Transformer


class OwnLinear(Linear):
    """Of another package, perhaps with another pass."""


@pytest.mark.parametrize("kind", [Linear, Conv, Transformer])
def test_small_causal_blocks_in_float32_are_compiled(kind: type) -> None:
    assert can_be_fused(kind(64, 8))
    assert type(adapter_step(kind(64, 8), 1.0, "x")).__name__ == f"Fused{kind.__name__}Step"
    assert not can_be_fused(kind(64, 8).to(torch.bfloat16))
    assert not can_be_fused(kind(64, 8).to("meta"))
    assert not can_be_fused(kind(64, 8, causal=False))


def test_large_blocks_and_kinds_of_others_are_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not can_be_fused(OwnLinear(64, 8))
    weights = sum(weight.numel() for weight in Linear(64, 8).parameters())
    monkeypatch.setattr(fused_steps, "MOST_WEIGHTS", weights)
    assert can_be_fused(Linear(64, 8))
    assert not can_be_fused(Linear(64, 9))


def test_large_projections_are_those_of_torch_and_small_blocks_have_no_copy_of_theirs() -> None:
    small, large = fused_step(Conv(64, 8), 1.0), fused_step(Conv(1024, 72), 1.0)
    assert not hasattr(small, "down")
    assert isinstance(large.down, PackedProduct)


@pytest.mark.parametrize("projections_by_torch", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_states_of_another_precision_are_given_back_in_it(
    dtype: torch.dtype, projections_by_torch: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if projections_by_torch:
        monkeypatch.setattr(fused_steps, "MOST_WEIGHTS_OF_ONE_THREAD", 0)
    block = Linear(16, 4).requires_grad_(False)
    torch.nn.init.normal_(block.up.weight)
    step = fused_step(block, 0.5)
    step.allocate(3, 8)
    states = torch.randn(3, 16).to(dtype)
    expected = states.float() + 0.5 * block(states.float())
    found = step.step(states.clone(), None)  # type: ignore[arg-type]
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), expected, atol=0.05 if dtype == torch.bfloat16 else 1e-5, rtol=0.02)
