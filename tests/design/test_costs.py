"""Estimated FLOPs, file sizes and activation memory against measured ones."""

from __future__ import annotations

import copy
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures import released_musicgen
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, MusicgenMelodyForConditionalGeneration

import talim.adapters as adapters
from talim.backbones.load import load
from talim.backbones.musicgen.backbone import MusicGen
from talim.backbones.musicgen.melody import MusicGenMelody
from talim.design import budget, costs
from talim.design.adapter_kinds import KINDS
from talim.design.expression import Design
from talim.design.musicgen_sites import MusicGenShape
from talim.design.site_selection import select_sites

DELAYS = 3  # frames that the delay of four codebooks adds to a clip


def batch_of(base: MusicGen, frames: int):
    tokens = np.random.default_rng(0).integers(0, 30, (base.codebooks, frames)).astype(np.int16)
    return base.collate([(tokens, base.encode_text(["slow flute"])[0])], [False])


def clip_of(base: MusicGen, frames: int) -> costs.SequenceShape:
    """Sequence lengths of that batch."""
    text_tokens = batch_of(base, frames).states.shape[1]
    return costs.sequence_shape(MusicGenShape.of(base.config), frames + DELAYS, text_tokens)  # type: ignore[return-value]


def solve(base: MusicGen, design: str) -> list[costs.SizedPart]:
    parts = []
    for part in Design.parse(design).parts:
        sites = select_sites(part.site, base.sites())
        widths = budget.solve_width(part, sites, base.num_parameters) if part.size else (0,) * len(sites)
        parts.append((part, sites, widths))
    return parts


def measured_flops(base: MusicGen, frames: int) -> int:
    """torch's count for one pass; the math backend, as fused attention is not counted."""
    batch = batch_of(base, frames)
    base.model.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        base.loss(batch)
    return counter.get_total_flops()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("features", "width", "frames"), [(32, 5, 7), (48, 130, 20)])
def test_flops_of_kind_equals_torchs_count(kind: str, features: int, width: int, frames: int) -> None:
    block = KINDS[kind](features, width)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        block(torch.randn(1, frames, features))
    assert KINDS[kind].flops_of(features, width, frames) == pytest.approx(counter.get_total_flops(), rel=1e-6)


def test_base_flops_equals_torchs_count(wide_base: MusicGen) -> None:
    shape = MusicGenShape.of(wide_base.config)
    estimated = costs.base_flops(shape, clip_of(wide_base, 40))
    assert estimated == pytest.approx(measured_flops(wide_base, 40), rel=1e-3)


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
def test_flops_of_design_equals_torchs_added_count(wide_base: MusicGen, design: str) -> None:
    base = copy.deepcopy(wide_base)
    estimated = sum(costs.flops(part, clip_of(base, 40)) for part in solve(base, design))
    bare = measured_flops(base, 40)
    adapters.attach(base.model, design, base.sites())
    assert estimated == pytest.approx(measured_flops(base, 40) - bare, rel=0.02)


@pytest.fixture(scope="module")
def wide_melody_base(tmp_path_factory: pytest.TempPathFactory) -> MusicGen:
    """Random weights, as wide as the miniature; 40 frames of melody (do not modify)."""
    folder = released_musicgen.write(tmp_path_factory.mktemp("bases") / "wide", melody=True)
    config: Any = AutoConfig.from_pretrained(folder)
    config.decoder.hidden_size, config.decoder.ffn_dim, config.decoder.num_hidden_layers = 256, 1024, 6
    config.decoder.num_attention_heads, config.decoder.vocab_size, config.chroma_length = 4, 512, 40
    config.decoder.pad_token_id = config.decoder.bos_token_id = 512
    model = MusicgenMelodyForConditionalGeneration(config)
    tokenizer = load(folder, device="cpu").tokenizer  # type: ignore[attr-defined]
    return MusicGenMelody(model, tokenizer, preprocessor={}, name="wide", licence="none")


def test_base_flops_of_a_melody_base_equals_torchs_count(wide_melody_base: MusicGen) -> None:
    shape, clip = MusicGenShape.of(wide_melody_base.config), clip_of(wide_melody_base, 40)
    assert clip.positions == 43 + 40 + clip.text_tokens
    assert costs.base_flops(shape, clip) == pytest.approx(measured_flops(wide_melody_base, 40), rel=1e-3)


@pytest.mark.parametrize(
    "design", ["linear@conditioner:2%", "conv@post:2%", "transformer@deep:2%", "lora@all:2%", "dora@post:r5"]
)
def test_flops_of_design_on_a_melody_base_equals_torchs_added_count(wide_melody_base: MusicGen, design: str) -> None:
    base = copy.deepcopy(wide_melody_base)
    estimated = sum(costs.flops(part, clip_of(base, 40)) for part in solve(base, design))
    bare = measured_flops(base, 40)
    adapters.attach(base.model, design, base.sites())
    assert estimated == pytest.approx(measured_flops(base, 40) - bare, rel=0.02)


@pytest.mark.parametrize(
    "design",
    ["linear@all:5%", "conv@deep:5%", "transformer@all:5%", "lora@all:5%", "full@deep", "linear@conditioner:2%"],
)
def test_activation_bytes_of_a_melody_base_equals_what_autograd_saves(wide_melody_base: MusicGen, design: str) -> None:
    base = copy.deepcopy(wide_melody_base)
    estimated = costs.activation_bytes(solve(base, design), MusicGenShape.of(base.config), clip_of(base, 150))
    adapters.attach(base.model, design, base.sites())
    assert estimated == pytest.approx(saved_bytes(base, 150), rel=0.15)


class SavedTensor:
    """A tensor saved by autograd; collected when autograd releases it."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


def saved_bytes(base: MusicGen, frames: int) -> int:
    """Bytes that autograd saves for one clip, without weights, each storage once."""
    base.enable_training()
    batch, saved = batch_of(base, frames), weakref.WeakSet()

    def pack(tensor: torch.Tensor) -> SavedTensor:
        wrapper = SavedTensor(tensor)
        saved.add(wrapper)
        return wrapper

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda wrapper: wrapper.tensor):
        loss = base.loss(batch)
    weights = {w.untyped_storage().data_ptr() for w in base.model.parameters()}
    storages = {s.data_ptr(): s.nbytes() for s in (wrapper.tensor.untyped_storage() for wrapper in saved)}
    assert loss.mean.requires_grad
    return sum(size for pointer, size in storages.items() if pointer not in weights)


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
def test_activation_bytes_equals_what_autograd_saves(wide_base: MusicGen, design: str) -> None:
    base = copy.deepcopy(wide_base)
    estimated = costs.activation_bytes(solve(base, design), MusicGenShape.of(base.config), clip_of(base, 150))
    adapters.attach(base.model, design, base.sites())
    assert estimated == pytest.approx(saved_bytes(base, 150), rel=0.15)


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
def test_file_bytes_equals_the_saved_file(wide_base: MusicGen, design: str, tmp_path: Path) -> None:
    base = copy.deepcopy(wide_base)
    parts = solve(base, design)
    model = adapters.attach(base.model, design, base.sites())
    adapters.save(model, tmp_path / "a", base={"name": base.name, "fingerprint": base.fingerprint})
    parameters = sum(weight.numel() for weight in adapters.trainable_parameters(model))
    headers = sum(costs.file_bytes(part, 0) for part in parts)
    size = (tmp_path / "a" / "adapter_model.safetensors").stat().st_size
    assert 4 * parameters + headers == pytest.approx(size, rel=0.02)
    assert headers == pytest.approx(size - 4 * parameters, rel=0.35)
