"""Small MusicGens as the adapter tests need them: cheap to make again, unlike each other where it matters."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures import released

from talim.backbones.load import load
from talim.backbones.musicgen import MusicGen


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mono base of two layers (read only by agreement)."""
    return released.write(tmp_path_factory.mktemp("bases") / "tiny")


@pytest.fixture(scope="session")
def fresh(base_folder: Path) -> Callable[..., MusicGen]:
    """Give an untouched copy of the base."""
    loaded = {word: load(base_folder, precision=word, device="cpu") for word in ("fp32", "bf16")}
    return lambda precision="fp32": copy.deepcopy(loaded[precision])  # type: ignore[return-value]
