"""Weights of linear layers, read out of methods of PEFT and quantised."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from fixtures import adapter_designs
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import talim.adapters as adapters
from talim.adapters import injection
from talim.backbones.musicgen.backbone import MusicGen
from talim.backbones.musicgen.decoding.linear_products import (
    Int8Product,
    UnsupportedError,
    join_affine,
    make_product,
    product_of,
    read_affine,
)

BaseWith = Callable[..., MusicGen]
LAYER = "decoder.model.decoder.layers.1.fc2"


@pytest.mark.parametrize("design", ["lora@all:r3", "dora@all:r3", "ia3@all", "peft:lokr@all:r2", "peft:oft@all:r4"])
def test_methods_of_peft_are_read_as_weights(base_with: BaseWith, design: str) -> None:
    base = base_with(design)
    base.model.eval()
    module = base.model.get_submodule(LAYER)
    assert type(module) is not nn.Linear
    states = torch.randn(5, module.in_features)  # type: ignore[arg-type]
    with torch.no_grad():
        weight, bias = read_affine(module, LAYER)
        torch.testing.assert_close(make_product(weight, bias)(states), module(states), atol=1e-5, rtol=1e-4)
    plain = base_with().model.get_submodule(LAYER)
    assert (weight - plain.weight).abs().max() > 1e-3  # type: ignore[operator]


def test_a_bias_is_read_and_left_out_where_it_is_zero(base_with: BaseWith) -> None:
    base = base_with("ia3@all")
    assert read_affine(base.model.get_submodule(LAYER), LAYER)[1] is None
    linear = nn.Linear(4, 3)
    weight, bias = join_affine([read_affine(linear, "a"), read_affine(nn.Linear(4, 2, bias=False), "b")])
    assert weight.shape == (5, 4)
    assert torch.equal(bias[:3], linear.bias)  # type: ignore[index]
    assert not bias[3:].any()  # type: ignore[index]


class Two(nn.Linear):
    """A linear layer that needs a second input."""

    def forward(self, input: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return input + other


def test_what_is_no_affine_function_is_refused(base_with: BaseWith) -> None:
    base = base_with()
    config = adapters.AdapterConfig(kind="linear", width=4, target_modules=["layers.1.fc2"])
    adapter_designs.randomize_adapter(injection.inject_adapters(base.model, config, "odd"))
    with pytest.raises(UnsupportedError, match=r"fc2.*is no affine function"):
        read_affine(base.model.get_submodule(LAYER), LAYER)
    with pytest.raises(UnsupportedError, match="odd is a GELU"):
        read_affine(nn.GELU(), "odd")
    with pytest.raises(UnsupportedError, match="cannot be called on frames alone"):
        read_affine(Two(3, 3), "two")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 2, 7, 33])
def test_product_equals_linear(rows: int, dtype: torch.dtype) -> None:
    linear = nn.Linear(24, 40).to(dtype)
    states = torch.randn(rows, 24, dtype=dtype)
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    with torch.no_grad():
        torch.testing.assert_close(product_of(linear)(states), linear(states), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("inputs", [24, 300, 4096])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_of_a_packed_product_is_the_same_in_every_batch(dtype: torch.dtype, inputs: int) -> None:
    """Bit for bit, with GELU and sum too."""
    states, others = torch.randn(33, inputs, dtype=dtype), torch.randn(33, 40, dtype=dtype)
    product = make_product(torch.randn(40, inputs, dtype=dtype), None)
    for call in (product, product.gelu, lambda rows: product.add(rows, others[: len(rows)])):
        together = call(states)
        for rows in (1, 2, 3, 8, 31):
            assert torch.equal(call(states[:rows]), together[:rows])
    torch.testing.assert_close(product.gelu(states), torch.nn.functional.gelu(product(states)), atol=0.03, rtol=0.03)
    torch.testing.assert_close(product.add(states, others), product(states) + others, atol=2.0, rtol=0.03)


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 12), st.sampled_from([1e-6, 1.0, 1e4]), st.booleans())
def test_int8_of_a_row_is_the_same_in_every_batch(seed: int, rows: int, size: float, shifted: bool) -> None:
    """Bit for bit, also beside rows of quite another size; the error is that of 8 and 7 bits."""
    generator = torch.Generator().manual_seed(seed)
    weight, bias = torch.randn(48, 64, generator=generator), torch.randn(48, generator=generator)
    states = torch.randn(rows, 64, generator=generator)
    states[0] *= size
    states = torch.nn.functional.gelu(states) if shifted else states
    product = make_product(weight, bias, "int8", shifted)
    together = product(states)
    for row in range(rows):
        assert torch.equal(product(states[row : row + 1])[0], together[row])
    exact = states @ weight.t()
    added, others = make_product(weight, None, "int8", shifted), torch.randn(rows, 48, generator=generator)
    torch.testing.assert_close(added.add(states, others), added(states) + others, atol=1e-5 * size + 1e-5, rtol=1e-5)
    error = ((together - bias) - exact).norm(dim=1) / exact.norm(dim=1).clamp(min=1e-30)
    assert float(error.max()) < 0.05
    assert float(error.max()) > 1e-4  # it is quantised


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("engine", ["fbgemm", "onednn", "qnnpack"])
def test_int8_is_the_same_where_the_kernel_finds_the_range(
    monkeypatch: pytest.MonkeyPatch, engine: str, shifted: bool
) -> None:
    """Torch's kernels for other processors than x86 are not told the range of the rows: an added row holds it."""
    if engine not in torch.backends.quantized.supported_engines:
        pytest.skip(f"this PyTorch has no kernels of {engine}")
    weight, states = torch.randn(48, 64), torch.randn(5, 64)
    expected = make_product(weight, None, "int8", shifted)(states)
    monkeypatch.setattr(torch.backends.quantized, "engine", engine)
    product = make_product(weight, None, "int8", shifted)
    assert isinstance(product, Int8Product)
    product.finds_range = True  # that of x86 can do either
    together = product(states)
    torch.testing.assert_close(together, expected, rtol=1e-5, atol=1e-4)
    assert torch.equal(product(states[2:3])[0], together[2])


def test_int8_of_zeros_is_the_bias() -> None:
    weight, bias = torch.zeros(3, 4), torch.randn(3)
    assert torch.equal(make_product(weight, bias, "int8")(torch.zeros(2, 4)), bias.expand(2, -1))


@pytest.mark.parametrize("shifted", [False, True])
def test_int8_of_a_row_with_nan_is_nan(shifted: bool) -> None:
    """A broken weight or adapter is seen, and does not become noise."""
    rows = torch.randn(2, 40)
    rows[1, 7] = torch.nan
    product = make_product(torch.randn(6, 40), torch.randn(6), "int8", shifted)
    assert product(rows)[1].isnan().all()
