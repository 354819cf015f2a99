"""Estimated FLOPs and activation memory of a U-Net against torch's counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from fixtures import released_mustango
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import talim.adapters as adapters
from talim.backbones.mustango.conditioning import ConditionTokens
from talim.backbones.mustango.model import MustangoModel
from talim.beats_chords import BeatGrid, ChordTrack
from talim.design import budget, costs
from talim.design.expression import Design
from talim.design.site_selection import select_sites
from talim.design.unet_costs import UNetGeometry
from talim.design.unet_sites import UNetShape

TEXT_TOKENS = 5
DESIGNS = ["linear@all:width4", "conv@down:width4", "transformer@up:width8", "conv@mid:width4", "lora@up:r2"]


@pytest.fixture
def model() -> MustangoModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return released_mustango.model().requires_grad_(False).train()


def geometry_of(model: MustangoModel, frames: int) -> UNetGeometry:
    clip = costs.sequence_shape(UNetShape.of(model.unet.config), frames, TEXT_TOKENS)
    assert isinstance(clip, UNetGeometry)
    return clip


def forward(model: MustangoModel, frames: int) -> torch.Tensor:
    beats, chords = ConditionTokens.of_beats([BeatGrid()]), ConditionTokens.of_chords([ChordTrack()])
    mask = torch.ones(1, TEXT_TOKENS, dtype=torch.bool)
    width = model.unet.config.context_width[0]
    return model(
        torch.randn(1, 8, frames, 16), torch.tensor([9]), torch.randn(1, TEXT_TOKENS, width), mask, beats, chords
    )


def measured_flops(call: Callable[[], Any]) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        call()
    return counter.get_total_flops()


def saved_bytes(model: MustangoModel, frames: int) -> int:
    """Bytes that autograd saves, without weights, part_cost storage once."""
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    storages: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = forward(model, frames)
    assert output.requires_grad
    return sum(storage.nbytes() for storage in storages.values())


def solve(model: MustangoModel, design: str) -> list[costs.SizedPart]:
    parts = []
    for part in Design.parse(design).parts:
        sites = select_sites(part.site, model.sites())
        parts.append((part, sites, budget.solve_width(part, sites, model.own_parameters)))
    return parts


@pytest.mark.parametrize("frames", [8, 13])
def test_base_flops_of_unet_equals_torchs_count(model: MustangoModel, frames: int) -> None:
    estimated = costs.base_flops(UNetShape.of(model.unet.config), geometry_of(model, frames))
    assert estimated == pytest.approx(measured_flops(lambda: forward(model, frames)), rel=1e-9)


@pytest.mark.parametrize("design", DESIGNS)
def test_flops_of_design_equals_torchs_added_count(model: MustangoModel, design: str) -> None:
    before = measured_flops(lambda: forward(model, 8))
    adapters.attach(model, design, model.sites())
    added = measured_flops(lambda: forward(model, 8)) - before
    assert sum(costs.flops(part_cost, geometry_of(model, 8)) for part_cost in solve(model, design)) == pytest.approx(
        added
    )


@pytest.mark.parametrize("design", DESIGNS)
def test_activation_bytes_equals_what_autograd_saves(model: MustangoModel, design: str) -> None:
    adapters.attach(model, design, model.sites())
    estimated = costs.activation_bytes(solve(model, design), UNetShape.of(model.unet.config), geometry_of(model, 64))
    assert estimated == pytest.approx(saved_bytes(model, 64), rel=0.15)


def test_decoder_parameters_equals_the_model(model: MustangoModel) -> None:
    assert UNetShape.of(model.unet.config).decoder_parameters == model.own_parameters
