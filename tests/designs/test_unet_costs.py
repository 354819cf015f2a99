"""Operations and memory of a U-Net, reckoned from shapes: here they meet what torch really counts and keeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from fixtures import released_mustango
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import talim.adapters as adapters
from talim.backbones.mustango.conditioning import BeatTokens, ChordTokens
from talim.backbones.mustango.model import MustangoModel
from talim.beats_chords import BeatGrid, ChordTrack
from talim.designs import budget, costs
from talim.designs.expression import Design
from talim.designs.site_selection import select_sites
from talim.designs.unet_costs import UNetGeometry
from talim.designs.unet_sites import UNetShape

WORDS = 5
DESIGNS = ["linear@all:width4", "conv@down:width4", "transformer@up:width8", "conv@mid:width4", "lora@up:r2"]


@pytest.fixture
def model() -> MustangoModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return released_mustango.model().requires_grad_(False).train()


def places_of(model: MustangoModel, frames: int) -> UNetGeometry:
    clip = costs.sequence_shape(UNetShape.of(model.unet.config), frames, WORDS)
    assert isinstance(clip, UNetGeometry)
    return clip


def called(model: MustangoModel, frames: int) -> torch.Tensor:
    beats, chords = BeatTokens.of([BeatGrid()]), ChordTokens.of([ChordTrack()])
    mask = torch.ones(1, WORDS, dtype=torch.bool)
    width = model.unet.config.context_width[0]
    return model(
        torch.randn(1, 8, frames, 16), torch.tensor([9]), torch.randn(1, WORDS, width), mask, beats, chords
    )


def counted(call: Callable[[], Any]) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        call()
    return counter.get_total_flops()


def held(model: MustangoModel, frames: int) -> int:
    """Bytes that the way back keeps, every storage once, weights left out."""
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = called(model, frames)
    assert out.requires_grad
    return sum(storage.nbytes() for storage in kept.values())


def solved(model: MustangoModel, design: str) -> list[costs.SizedPart]:
    found = []
    for part in Design.parse(design).parts:
        sites = select_sites(part.site, model.sites())
        found.append((part, sites, budget.solve_width(part, sites, model.own_parameters)))
    return found


@pytest.mark.parametrize("frames", [8, 13])
def test_operations_of_the_bare_unet_are_those_that_torch_counts(model: MustangoModel, frames: int) -> None:
    reckoned = costs.base_flops(UNetShape.of(model.unet.config), places_of(model, frames))
    assert reckoned == pytest.approx(counted(lambda: called(model, frames)), rel=1e-9)


@pytest.mark.parametrize("design", DESIGNS)
def test_operations_that_a_design_adds(model: MustangoModel, design: str) -> None:
    before = counted(lambda: called(model, 8))
    adapters.attach(model, design, model.sites())
    added = counted(lambda: called(model, 8)) - before
    assert sum(costs.flops(each, places_of(model, 8)) for each in solved(model, design)) == pytest.approx(
        added
    )


@pytest.mark.parametrize("design", DESIGNS)
def test_what_training_keeps(model: MustangoModel, design: str) -> None:
    adapters.attach(model, design, model.sites())
    reckoned = costs.activation_bytes(
        solved(model, design), UNetShape.of(model.unet.config), places_of(model, 64)
    )
    assert reckoned == pytest.approx(held(model, 64), rel=0.15)


def test_parameters_are_those_of_the_model(model: MustangoModel) -> None:
    assert UNetShape.of(model.unet.config).decoder_parameters == model.own_parameters
