"""Trained copies of modules: float32 inside a bf16 model, and their interpolation."""

from __future__ import annotations

import torch
from torch import nn

from talim.adapters.full_finetune import Float32Wrapper, FullFineTuneLayer, blend_copies


class Pair(nn.Linear):
    def forward(self, x: torch.Tensor, scale: torch.Tensor, flag: bool = True) -> tuple[torch.Tensor, bool]:
        return super().forward(x) * scale, flag


def test_float32_wrapper_computes_in_float32_and_returns_the_models_dtype() -> None:
    original = nn.Linear(4, 4).to(torch.bfloat16)
    wrapper = Float32Wrapper(original)
    x = torch.randn(2, 3, 4, dtype=torch.bfloat16)
    expected = nn.functional.linear(x.float(), original.weight.float(), original.bias.float())
    assert wrapper.module.weight.dtype == torch.float32
    assert torch.equal(wrapper(x), expected.to(torch.bfloat16))
    assert original.weight.dtype == torch.bfloat16


def test_float32_wrapper_casts_tensors_in_tuples_and_keywords_and_keeps_the_rest() -> None:
    wrapper = Float32Wrapper(Pair(4, 4).to(torch.bfloat16))
    output, flag = wrapper(torch.ones(1, 4, dtype=torch.bfloat16), scale=torch.tensor(2.0), flag=False)
    assert output.dtype == torch.bfloat16
    assert flag is False


def test_full_fine_tune_layer_is_a_trainable_copy_of_the_base() -> None:
    original = nn.Linear(4, 4).requires_grad_(False)
    layer = FullFineTuneLayer(original).requires_grad_(True)
    layer.reset_parameters(torch.Generator().manual_seed(0))
    x = torch.randn(2, 4)
    assert torch.equal(layer(x), original(x))
    layer(x).sum().backward()
    assert layer.module.weight.grad is not None
    assert original.weight.grad is None


def test_blend_copies_interpolates_and_adds_the_differences() -> None:
    original = nn.Linear(4, 4)
    first, second = FullFineTuneLayer(original), FullFineTuneLayer(original)
    with torch.no_grad():
        first.module.weight.add_(1.0)
        second.module.weight.mul_(3.0)
    blended = blend_copies(original, [(first, 0.5), (second, 0.25)])
    torch.testing.assert_close(blended.module.weight, original.weight + 0.5 + 0.25 * 2 * original.weight)
    assert not any(weight.requires_grad for weight in blended.parameters())
