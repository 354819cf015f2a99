"""Operations, files and memory are estimated from shapes; here they meet what really happens."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import talim.adapters as adapters
from talim.backbones.musicgen import MusicGen
from talim.designs import costs, sizing
from talim.designs.expression import parse
from talim.designs.kinds import KINDS
from talim.designs.places import select
from talim.designs.sites import MusicGenShape


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("features", "width", "frames"), [(32, 5, 7), (48, 130, 20)])
def test_operations_are_those_that_torch_counts(kind: str, features: int, width: int, frames: int) -> None:
    block = KINDS[kind](features, width)
    # torch counts the products of attention only where they are written out
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        block(torch.randn(1, frames, features))
    counted = counter.get_total_flops()
    assert KINDS[kind].flops_of(features, width, frames) == pytest.approx(counted, rel=0.02)


def test_the_bases_operations(wide_base: MusicGen) -> None:
    batch = batch_of(wide_base, 40)
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        wide_base.loss(batch)
    shape = MusicGenShape.of(wide_base.config)
    words = batch.states.shape[1]
    fewer = shape.layers * 4 * shape.hidden**2 + 2 * shape.text_width * shape.hidden  # per word
    expected = costs.base_flops(shape, 40 + 3) - (costs.WORDS - words) * fewer
    assert expected == pytest.approx(counter.get_total_flops(), rel=0.05)


def batch_of(base: MusicGen, frames: int):
    tokens = np.random.default_rng(0).integers(0, 30, (base.codebooks, frames)).astype(np.int16)
    return base.collate([(tokens, base.describe(["slow flute"])[0])], [False])


def kept(base: MusicGen, frames: int) -> int:
    """Bytes that autograd really keeps for one clip, weights left out, every storage once."""
    base.enable_training()
    weights = {w.untyped_storage().data_ptr() for w in base.model.parameters()}
    seen: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            seen[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    alive: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        base.loss(batch_of(base, frames))
    return sum(seen.values())


@pytest.mark.parametrize(
    "design",
    [
        "linear@all:5%",
        "conv@deep:5%",
        "transformer@all:5%",
        "linear@post:2%",
        "lora@all:5%",
        "lora@deep:2%",
        "full@deep",
        "ia3@all",
        "conv@shallow:2%+transformer@deep:2%",
    ],
)
def test_memory_is_what_autograd_keeps(wide_base: MusicGen, design: str) -> None:
    base = copy.deepcopy(wide_base)
    shape = MusicGenShape.of(base.config)
    solved = []
    for part in parse(design).parts:
        sites = select(part.site, base.sites())
        widths = sizing.solve(part, sites, base.parameters) if part.size else (0,) * len(sites)
        solved.append((part, sites, widths))
    adapters.attach(base.model, design, base.sites())
    frames = 200
    estimate = costs.kept_bytes(solved, shape, costs.Clip(frames))
    assert estimate == pytest.approx(kept(base, frames), rel=0.2)


@pytest.mark.parametrize(
    "design", ["linear@all:5%", "conv@deep:5%", "transformer@post:5%", "dora@all:5%", "full@deep"]
)
def test_files_are_as_large_as_said(wide_base: MusicGen, design: str, tmp_path: Path) -> None:
    base = copy.deepcopy(wide_base)
    part = parse(design).parts[0]
    sites = select(part.site, base.sites())
    model = adapters.attach(base.model, design, base.sites())
    adapters.save(model, tmp_path / "a", base={"name": base.name, "fingerprint": base.fingerprint})
    parameters = sum(w.numel() for w in adapters.trainable_parameters(model))
    said = 4 * parameters + costs.HEADER_PER_TENSOR * costs.tensors(part, sites)
    assert said == pytest.approx((tmp_path / "a" / "adapter_model.safetensors").stat().st_size, rel=0.05)
