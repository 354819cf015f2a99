"""Operations, files and memory are estimated from shapes; here they meet what really happens."""

from __future__ import annotations

import copy
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import talim.adapters as adapters
from talim.backbones.musicgen.backbone import MusicGen
from talim.designs import budget, costs
from talim.designs.expression import Design
from talim.designs.kinds import KINDS
from talim.designs.musicgen_sites import MusicGenShape
from talim.designs.site_selection import select_sites

DELAYS = 3  # frames that the delay of four codebooks adds to a clip


def batch_of(base: MusicGen, frames: int):
    tokens = np.random.default_rng(0).integers(0, 30, (base.codebooks, frames)).astype(np.int16)
    return base.collate([(tokens, base.encode_text(["slow flute"])[0])], [False])


def clip_of(base: MusicGen, frames: int) -> costs.SequenceShape:
    """What the base is reckoned to hear in that batch."""
    return costs.SequenceShape(frames + DELAYS, words=batch_of(base, frames).states.shape[1])


def solved(base: MusicGen, design: str) -> list[costs.SizedPart]:
    found = []
    for part in Design.parse(design).parts:
        sites = select_sites(part.site, base.sites())
        widths = budget.solve_width(part, sites, base.num_parameters) if part.size else (0,) * len(sites)
        found.append((part, sites, widths))
    return found


def operations(base: MusicGen, frames: int) -> int:
    """What torch counts in one pass; the products of attention only where they are written out."""
    batch = batch_of(base, frames)
    base.model.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        base.loss(batch)
    return counter.get_total_flops()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("features", "width", "frames"), [(32, 5, 7), (48, 130, 20)])
def test_operations_are_those_that_torch_counts(kind: str, features: int, width: int, frames: int) -> None:
    block = KINDS[kind](features, width)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        block(torch.randn(1, frames, features))
    assert KINDS[kind].flops_of(features, width, frames) == pytest.approx(counter.get_total_flops(), rel=1e-6)


def test_the_bases_operations(wide_base: MusicGen) -> None:
    shape = MusicGenShape.of(wide_base.config)
    reckoned = costs.base_flops(shape, clip_of(wide_base, 40))
    assert reckoned == pytest.approx(operations(wide_base, 40), rel=1e-3)


@pytest.mark.parametrize(
    "design",
    [
        "linear@conditioner:2%",
        "conv@post:2%",
        "transformer@deep:2%",
        "lora@deep:2%",
        "lora@conditioner:r9",
        "dora@post:r5",
        "dora@layers[2]:r5",
        "conv@shallow:2%+full@deep",
    ],
)
def test_operations_that_an_adapter_adds(wide_base: MusicGen, design: str) -> None:
    base = copy.deepcopy(wide_base)
    reckoned = sum(costs.flops(part, clip_of(base, 40)) for part in solved(base, design))
    bare = operations(base, 40)
    adapters.attach(base.model, design, base.sites())
    assert reckoned == pytest.approx(operations(base, 40) - bare, rel=0.02)


class Held:
    """A tensor that autograd holds on to; gone when autograd lets go of it."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


def kept(base: MusicGen, frames: int) -> int:
    """Bytes that autograd really keeps for one clip, weights left out, every storage once."""
    base.enable_training()
    batch, held = batch_of(base, frames), weakref.WeakSet()

    def note(tensor: torch.Tensor) -> Held:
        made = Held(tensor)
        held.add(made)
        return made

    with torch.autograd.graph.saved_tensors_hooks(note, lambda made: made.tensor):
        loss = base.loss(batch)
    weights = {w.untyped_storage().data_ptr() for w in base.model.parameters()}
    storages = {s.data_ptr(): s.nbytes() for s in (made.tensor.untyped_storage() for made in held)}
    assert loss.mean.requires_grad
    return sum(size for place, size in storages.items() if place not in weights)


@pytest.mark.parametrize(
    "design",
    [
        "linear@all:5%",
        "linear@conditioner:2%",
        "linear@post:2%",
        "conv@deep:5%",
        "transformer@all:5%",
        "transformer@post:2%",
        "lora@all:5%",
        "lora@post:2%",
        "dora@deep:2%",
        "dora@post:2%",
        "ia3@all",
        "full@deep",
        "full@post",
        "conv@shallow:2%+transformer@deep:2%",
    ],
)
def test_memory_is_what_autograd_keeps(wide_base: MusicGen, design: str) -> None:
    base = copy.deepcopy(wide_base)
    reckoned = costs.activation_bytes(solved(base, design), MusicGenShape.of(base.config), clip_of(base, 150))
    adapters.attach(base.model, design, base.sites())
    assert reckoned == pytest.approx(kept(base, 150), rel=0.15)


@pytest.mark.parametrize(
    "design",
    [
        "linear@all:5%",
        "conv@all:1%",
        "transformer@post:5%",
        "lora@post:r1",
        "dora@all:5%",
        "ia3@all",
        "full@deep",
        "conv@shallow:2%+full@layers[5]",
    ],
)
def test_files_are_as_large_as_said(wide_base: MusicGen, design: str, tmp_path: Path) -> None:
    base = copy.deepcopy(wide_base)
    parts = solved(base, design)
    model = adapters.attach(base.model, design, base.sites())
    adapters.save(model, tmp_path / "a", base={"name": base.name, "fingerprint": base.fingerprint})
    parameters = sum(weight.numel() for weight in adapters.trainable_parameters(model))
    headers = sum(costs.file_bytes(part, 0) for part in parts)
    real = (tmp_path / "a" / "adapter_model.safetensors").stat().st_size
    assert 4 * parameters + headers == pytest.approx(real, rel=0.02)
    assert headers == pytest.approx(real - 4 * parameters, rel=0.35)
