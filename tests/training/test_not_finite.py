"""Tests of talim.training.not_finite: each cause of a loss that is not finite is named; masked rows are none."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from fixtures import released_musicgen
from torch.nn.attention import SDPBackend, sdpa_kernel

import talim.adapters as adapters
from talim.backbones.load import load
from talim.training.not_finite import find_cause

BATCH = [(frames, length) for frames, length in ((12, 4), (9, 2))]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = released_musicgen.write(tmp_path_factory.mktemp("bases") / "tiny")
    return load(folder, precision="fp32", device="cpu")


@pytest.fixture
def base(loaded: Any) -> Any:
    """A copy that a test may spoil."""
    copied = copy.deepcopy(loaded)
    copied.enable_training()
    return copied


def batch_of(base: Any, drop: list[bool]) -> Any:
    draw = np.random.default_rng(0)
    items = [
        (
            draw.integers(0, 32, (base.codebooks, frames)).astype(np.int16),
            draw.standard_normal((length, 24), np.float32),
        )
        for frames, length in BATCH
    ]
    return base.collate(items, drop)


def attached(base: Any, design: str = "linear@all:width4") -> dict[str, torch.nn.Parameter]:
    model = adapters.attach(base.model, design, base.sites(), dropout=0.0)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in adapters.trainable_parameters(model):
            weight.add_(0.1 * torch.randn_like(weight))
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


@contextmanager
def attention(base: Any, name: str) -> Iterator[None]:
    """One implementation of attention, in the decoder of a base."""
    kind = "eager" if name == "eager" else "sdpa"
    base.model.decoder.set_attn_implementation(kind)
    if name == "eager":
        yield
        return
    with sdpa_kernel([getattr(SDPBackend, name), SDPBackend.MATH]):  # where a kernel refuses a mask, torch falls back
        yield


@pytest.mark.parametrize("name", ["eager", "MATH", "FLASH_ATTENTION", "EFFICIENT_ATTENTION"])
@pytest.mark.parametrize("drop", [[True, True], [False, True]], ids=["all dropped", "one dropped"])
@pytest.mark.parametrize("design", ["linear@all:width4", "lora@all:r2", "transformer@all:width4"])
def test_rows_that_are_masked_throughout_give_finite_gradients(
    base: Any, name: str, drop: list[bool], design: str
) -> None:
    weights = attached(base, design)
    with attention(base, name):
        loss = base.loss(batch_of(base, drop))
        loss.mean.backward()
    assert loss.per_item.isfinite().all()
    gradients = [weight.grad for weight in weights.values()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    assert find_cause(base, batch_of(base, drop), weights).text.startswith("the same step run again is finite")


def test_data_are_named_first(base: Any) -> None:
    batch = batch_of(base, [False, False])
    batch.states[1, 0, 3] = float("nan")
    cause = find_cause(base, batch, attached(base))
    assert cause.text == "the data hold NaN or infinity: states of clip 2 of the batch"
    assert not cause.by_training


def test_a_weight_of_the_base_is_named(base: Any) -> None:
    weights = attached(base)
    base.model.decoder.lm_heads[1].weight.data[0, 0] = float("inf")
    cause = find_cause(base, batch_of(base, [False, False]), weights)
    assert "the base's weight decoder.lm_heads.1.weight" in cause.text
    assert not cause.by_training


def test_a_weight_of_the_adapter_is_named(base: Any) -> None:
    weights = attached(base)
    name = next(iter(weights))
    weights[name].data.fill_(float("nan"))
    cause = find_cause(base, batch_of(base, [False, False]), weights)
    assert cause.text.startswith("the adapter's weight ")
    assert cause.by_training


def test_the_first_module_that_overflows_is_named_and_whose_it_is(base: Any) -> None:
    weights = attached(base)
    for name, weight in weights.items():
        if "up.weight" in name:
            weight.data.fill_(3e38)
    cause = find_cause(base, batch_of(base, [False, False]), weights)
    # the adapter's own sum is huge, and the base's norm above it cannot square it
    assert "layer_norm (LayerNorm) is the first module whose output is not finite, and without the" in cause.text
    assert cause.by_training
    for name, weight in weights.items():
        if "down.weight" in name:
            weight.data.fill_(3e38)
    cause = find_cause(base, batch_of(base, [False, False]), weights)
    assert cause.text.startswith("the adapter's ")
    assert ".down (Linear) is the first module" in cause.text
    assert cause.by_training


def test_a_base_that_overflows_by_itself_is_not_blamed_on_the_learning_rate(base: Any) -> None:
    weights = attached(base)
    fc2 = base.model.decoder.model.decoder.layers[1].get_submodule("base_layer").fc2
    fc2.weight.data.fill_(3e38)
    cause = find_cause(base, batch_of(base, [False, False]), weights)
    assert "the base's" in cause.text
    assert "fc2 (Linear)" in cause.text
    assert cause.text.endswith("without the adapter, too")
    assert not cause.by_training


def test_gradients_alone_are_named(base: Any) -> None:
    weights = attached(base)
    name = next(iter(weights))
    weights[name].register_hook(lambda gradient: gradient * float("nan"))
    cause = find_cause(base, batch_of(base, [False, False]), weights)
    assert cause.text == f"the loss is finite, and 1 of {len(weights)} gradients are not (such as {name})"
    assert cause.by_training
    assert all(weight.grad is None for weight in weights.values())
