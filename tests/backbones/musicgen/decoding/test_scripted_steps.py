"""Layers in one call of TorchScript against the same operations called one by one."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from talim.backbones.musicgen.backbone import MusicGen
from talim.backbones.musicgen.decoding import Decoder, fused_steps, layer_steps, scripted_steps
from talim.backbones.musicgen.decoding.scripted_steps import ScriptedLayers

PROMPTS = ["slow", "a lively dance with drums and a long caption", "ney"]


@pytest.mark.parametrize("prompts", [PROMPTS[:1], PROMPTS])  # guidance's rows with and without a text
@pytest.mark.parametrize("design", ["", "conv@deep:width8"])
def test_scripted_steps_have_the_same_logits_as_single_operations(
    base_with: Callable[..., MusicGen], monkeypatch: pytest.MonkeyPatch, design: str, prompts: list[str]
) -> None:
    made: list[ScriptedLayers | None] = []
    scripted = scripted_steps.scripted_layers

    def kept(*arguments: Any) -> ScriptedLayers | None:
        made.append(scripted(*arguments))
        return made[-1]

    def logits(base: MusicGen) -> list[torch.Tensor]:
        steps: list[torch.Tensor] = []
        step = Decoder.step
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Decoder, "step", lambda *each: steps.append(step(*each)) or steps[-1])
            base.generate_tokens(prompts, 0.8, seed=3)
        return steps

    monkeypatch.setattr(layer_steps, "scripted_layers", kept)
    together = logits(base_with(design))
    assert all(made)
    assert max(len(each.module.pasts) for each in made if each) > 1
    monkeypatch.setattr(layer_steps, "scripted_layers", lambda *_: None)
    apart = logits(base_with(design))
    assert len(together) == len(apart) > 10
    assert all(torch.equal(a, b) for a, b in zip(together, apart, strict=True))


def test_scripted_layers_follow_buffers_that_are_made_anew(base_with: Callable[..., MusicGen]) -> None:
    """Rows that end make room, and a longer piece has longer buffers: never those of before."""
    base = base_with("conv@deep:width8")

    def piece() -> np.ndarray:
        return base.generate_tokens(PROMPTS[:1], 0.4, seed=3)[0]

    first = piece()
    base.generate_tokens(PROMPTS, 0.8, seed=4)
    assert np.array_equal(piece(), first)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_error_of_an_adapter_leaves_scripted_layers_as_it_is(
    base_with: Callable[..., MusicGen], monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """Ctrl-C between two operations as well, and the next piece is made as ever."""
    base = base_with("conv@deep:width8")
    first = base.generate_tokens(PROMPTS[:1], 0.4, seed=3)[0]

    def fails(*_: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(fused_steps.FusedConvStep, "_frame", fails)
        with pytest.raises(error):
            base.generate_tokens(PROMPTS[:1], 0.4, seed=3)
    assert np.array_equal(base.generate_tokens(PROMPTS[:1], 0.4, seed=3)[0], first)


def test_scripted_layers_are_freed_with_their_decoder(base_with: Callable[..., MusicGen]) -> None:
    """By counting references alone: the copies of a base's weights do not wait for the garbage collector."""
    base = base_with("conv@deep:width8")
    gc.collect()
    before = set(scripted_steps._scripted)
    decoder = Decoder(base.model)
    made = set(scripted_steps._scripted) - before
    assert made
    gc.disable()
    try:
        del decoder
        assert not made & set(scripted_steps._scripted)
    finally:
        gc.enable()


def test_scripted_layers_without_torchscript_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.jit, "script")
    assert scripted_steps.scripted_layers([], [], 1e-5, 4, []) is None
