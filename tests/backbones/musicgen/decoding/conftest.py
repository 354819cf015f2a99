"""Small MusicGens for the decoder: each test gets its own copy."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from fixtures import adapter_designs, released_musicgen

import talim.adapters as adapters
from talim.backbones.load import load
from talim.backbones.musicgen.backbone import MusicGen


@pytest.fixture(scope="session")
def base_with(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., MusicGen]:
    """Give a copy of a base with a design whose weights are all random; "" is without adapter."""
    loaded: dict[tuple[Any, ...], MusicGen] = {}

    def make(design: str = "", *, melody: bool = False, channels: int = 1, precision: str = "fp32") -> MusicGen:
        key = melody, channels, precision
        if key not in loaded:
            folder = tmp_path_factory.mktemp("bases") / "tiny"
            released_musicgen.write(folder, layers=adapter_designs.LAYERS, melody=melody, channels=channels)
            loaded[key] = load(folder, precision=precision, device="cpu")  # type: ignore[assignment]
        shared = loaded[key].tokenizer, loaded[key].reader
        base = copy.deepcopy(loaded[key], {id(part): part for part in shared})
        if design:
            adapter_designs.randomize_adapter(adapters.attach(base.model, design, base.sites()))
        return base

    return make
