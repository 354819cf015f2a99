"""Layers in one call of TorchScript against the same operations called one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from talim.backbones.musicgen.backbone import MusicGen
from talim.backbones.musicgen.decoding import Decoder, layer_steps, scripted_steps

PROMPTS = ["slow", "a lively dance with drums and a long caption", "ney"]


@pytest.mark.parametrize("prompts", [PROMPTS[:1], PROMPTS])  # guidance's rows with and without a text
@pytest.mark.parametrize("design", ["", "conv@deep:width8"])
def test_scripted_steps_have_the_same_logits_as_single_operations(
    base_with: Callable[..., MusicGen], monkeypatch: pytest.MonkeyPatch, design: str, prompts: list[str]
) -> None:
    scripted = scripted_steps.scripted_steps()
    assert scripted is not None
    layers: list[int] = []

    def counted(*arguments: Any) -> torch.Tensor:
        layers.append(len(arguments[0]))
        return scripted(*arguments)

    def logits(base: MusicGen) -> list[torch.Tensor]:
        made: list[torch.Tensor] = []
        step = Decoder.step
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Decoder, "step", lambda *each: made.append(step(*each)) or made[-1])
            base.generate_tokens(prompts, 0.8, seed=3)
        return made

    base = base_with(design)
    monkeypatch.setattr(layer_steps, "scripted_steps", lambda: counted)
    together = logits(base)
    assert max(layers) > 1
    monkeypatch.setattr(layer_steps, "scripted_steps", lambda: None)
    apart = logits(base)
    assert len(together) == len(apart) > 10
    assert all(torch.equal(a, b) for a, b in zip(together, apart, strict=True))


def test_scripted_steps_without_torchscript_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.jit, "script")
    scripted_steps.scripted_steps.cache_clear()
    try:
        assert scripted_steps.scripted_steps() is None
    finally:
        scripted_steps.scripted_steps.cache_clear()
