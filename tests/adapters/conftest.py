"""Small MusicGens as the adapter tests need them: cheap to make again, unlike each other where it matters."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures import released_musicgen, released_mustango

from talim.backbones.load import load
from talim.backbones.musicgen.backbone import MusicGen
from talim.backbones.mustango.backbone import Mustango


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mono base of two layers (read only by agreement)."""
    return released_musicgen.write(tmp_path_factory.mktemp("bases") / "tiny")


@pytest.fixture(scope="session")
def fresh(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., MusicGen]:
    """Give an untouched copy of the base, in a precision, with two layers or more."""
    loaded: dict[tuple[str, int, bool], MusicGen] = {}

    def copied(precision: str = "fp32", layers: int = 2, melody: bool = False) -> MusicGen:
        key = precision, layers, melody
        if key not in loaded:
            folder = base_folder
            if layers != 2 or melody:
                folder = tmp_path_factory.mktemp("bases") / f"tiny{layers}"
                released_musicgen.write(folder, layers=layers, melody=melody)
            loaded[key] = load(folder, precision=precision, device="cpu")  # type: ignore[assignment]
        return copy.deepcopy(loaded[key])

    return copied


@pytest.fixture(scope="session")
def fresh_unet(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Mustango]:
    """Give an untouched copy of a Mustango of two levels."""
    loaded = load(
        released_mustango.write(tmp_path_factory.mktemp("bases") / "mustango"), precision="fp32", device="cpu"
    )
    return lambda: copy.deepcopy(loaded)  # type: ignore[return-value]
