"""Storages are counted from birth to death, operations by what they do; nothing takes memory or has a value."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from talim.backbones.meta_models import materialize
from talim.planning import tracer

MB = 1_000_000


def test_the_peak_of_a_chain_by_hand() -> None:
    """Three tensors of 4 MB: while the third is made the second is alive, and the first is gone."""

    def work() -> None:
        first = torch.empty(MB)
        second = first + 1
        del first
        third = second + 1
        del second
        assert third.shape == (MB,)

    assert tracer.trace(work).peak_bytes == 2 * 4 * MB


def test_the_peak_of_a_training_step_by_hand() -> None:
    """A linear map of 1000 x 1000 on 500 rows, one Adam step: weights, state, gradient, and what Adam needs."""
    kept = {}

    def prepare() -> object:
        layer = nn.Linear(1000, 1000, bias=False)
        optimiser = torch.optim.AdamW(layer.parameters(), fused=True)
        layer.weight.grad = torch.zeros_like(layer.weight)
        optimiser.step()
        optimiser.zero_grad()
        kept.update(layer=layer, optimiser=optimiser)
        return kept

    def work() -> None:
        inputs = torch.empty(500, 1000)
        kept["layer"](inputs).square().mean().backward()
        del inputs
        kept["optimiser"].step()

    found = tracer.trace(work, prepare)
    matrix = 4 * MB
    # weight, two moments, gradient, and in the step the root of the second moment and its quotient
    assert 6 * matrix <= found.peak_bytes <= 6 * matrix + 1000
    assert found.flops == 2 * (2 * 500 * 1000 * 1000)  # forward, and back to the weight; the inputs need none


def test_a_view_takes_and_moves_nothing() -> None:
    found = tracer.trace(lambda: torch.empty(MB).view(1000, 1000).t()[:, 3:])
    assert found.peak_bytes == 4 * MB
    assert [operation.name for operation, _ in found.operations] == ["empty"]


def test_attention_on_a_cpu_has_flops() -> None:
    def work() -> None:
        q = torch.empty(1, 2, 50, 16)
        F.scaled_dot_product_attention(q, q, q)

    assert tracer.trace(work).flops == 2 * (2 * 2 * 50 * 50 * 16)  # queries with keys, and with values


def test_checkpointing_shows_in_memory_and_flops() -> None:
    layers = [nn.Sequential(nn.Linear(256, 256), nn.GELU(), nn.Linear(256, 256)).to("meta") for _ in range(8)]

    def traced(again: bool) -> tracer.Trace:
        def work() -> None:
            for layer in layers:
                materialize(layer, tracer.empty_like)
            hidden = torch.empty(4096, 256, requires_grad=True)
            for layer in layers:
                hidden = (
                    torch.utils.checkpoint.checkpoint(layer, hidden, use_reentrant=False)
                    if again
                    else layer(hidden)
                )
            hidden.sum().backward()

        return tracer.trace(work)

    plain, again = traced(False), traced(True)
    assert again.peak_bytes < 0.6 * plain.peak_bytes
    assert plain.flops < again.flops < 1.5 * plain.flops


def test_tied_weights_stay_one() -> None:
    with torch.device("meta"):
        one, other = nn.Linear(8, 8), nn.Linear(8, 8)
    other.weight = one.weight
    both = nn.ModuleList([one, other])
    materialize(both, lambda tensor: torch.zeros(tensor.shape))
    assert one.weight is other.weight
    assert not one.weight.is_meta


def test_a_trace_survives_its_file() -> None:
    found = tracer.trace(lambda: torch.empty(10, 10) @ torch.empty(10, 10))
    assert tracer.Trace.of_json(found.to_json()) == found
