"""Tests of talim.planning.tracer: peak memory and FLOPs of small functions, known by hand."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from talim.backbones.meta_models import materialize
from talim.planning import tracer

MB = 1_000_000


def test_trace_peak_of_a_chain_of_tensors() -> None:
    """Three tensors of 4 MB: when the third is allocated, the second is live and the first is freed."""

    def function() -> None:
        first = torch.empty(MB)
        second = first + 1
        del first
        third = second + 1
        del second
        assert third.shape == (MB,)

    assert tracer.trace(function).peak_bytes == 2 * 4 * MB


def test_trace_peak_of_a_training_step() -> None:
    """A linear layer of 1000 x 1000 on 500 rows, one Adam step."""
    state = {}

    def prepare() -> object:
        layer = nn.Linear(1000, 1000, bias=False)
        optimiser = torch.optim.AdamW(layer.parameters(), fused=True)
        layer.weight.grad = torch.zeros_like(layer.weight)
        optimiser.step()
        optimiser.zero_grad()
        state.update(layer=layer, optimiser=optimiser)
        return state

    def function() -> None:
        inputs = torch.empty(500, 1000)
        state["layer"](inputs).square().mean().backward()
        del inputs
        state["optimiser"].step()

    result = tracer.trace(function, prepare)
    matrix = 4 * MB
    # weight, two moments, gradient, and in the step the root of the second moment and its quotient
    assert 6 * matrix <= result.peak_bytes <= 6 * matrix + 1000
    assert result.flops == 2 * (2 * 500 * 1000 * 1000)  # forward and weight gradient; the inputs need none


def test_trace_of_a_view_counts_no_memory_and_no_operation() -> None:
    result = tracer.trace(lambda: torch.empty(MB).view(1000, 1000).t()[:, 3:])
    assert result.peak_bytes == 4 * MB
    assert [operation.name for operation, _ in result.operations] == ["empty"]


def test_trace_of_attention_on_a_cpu_counts_flops() -> None:
    def function() -> None:
        q = torch.empty(1, 2, 50, 16)
        F.scaled_dot_product_attention(q, q, q)

    assert tracer.trace(function).flops == 2 * (2 * 2 * 50 * 50 * 16)  # queries with keys, and with values


def test_trace_with_checkpointing_has_less_memory_and_more_flops() -> None:
    layers = [nn.Sequential(nn.Linear(256, 256), nn.GELU(), nn.Linear(256, 256)).to("meta") for _ in range(8)]

    def traced(checkpointing: bool) -> tracer.Trace:
        def function() -> None:
            for layer in layers:
                materialize(layer, tracer.empty_like)
            hidden = torch.empty(4096, 256, requires_grad=True)
            for layer in layers:
                hidden = (
                    torch.utils.checkpoint.checkpoint(layer, hidden, use_reentrant=False)
                    if checkpointing
                    else layer(hidden)
                )
            hidden.sum().backward()

        return tracer.trace(function)

    plain, checkpointed = traced(False), traced(True)
    assert checkpointed.peak_bytes < 0.6 * plain.peak_bytes
    assert plain.flops < checkpointed.flops < 1.5 * plain.flops


def test_materialize_keeps_tied_weights_tied() -> None:
    with torch.device("meta"):
        first, second = nn.Linear(8, 8), nn.Linear(8, 8)
    second.weight = first.weight
    both = nn.ModuleList([first, second])
    materialize(both, lambda tensor: torch.zeros(tensor.shape))
    assert first.weight is second.weight
    assert not first.weight.is_meta


def test_trace_from_json_is_the_inverse_of_to_json() -> None:
    result = tracer.trace(lambda: torch.empty(10, 10) @ torch.empty(10, 10))
    assert tracer.Trace.from_json(result.to_json()) == result
