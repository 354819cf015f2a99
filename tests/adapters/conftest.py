"""Small MusicGens as the adapter tests need them: cheap to make again, unlike each other where it matters."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixtures import released_musicgen, released_mustango

from talim.backbones.load import load
from talim.backbones.musicgen.backbone import MusicGen
from talim.backbones.mustango.backbone import Mustango


def copy_for_adapters(base: Any) -> Any:
    """A copy whose model may be changed; what is beside the model (tokenizer, Mustango's VAE) is the original's.

    The VAE is half of the objects of a small Mustango, and a test copies it once or more.
    """
    shared = base.tokenizer, base.reader, getattr(base, "mel_vae", None)
    return copy.deepcopy(base, {id(part): part for part in shared})


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
        return copy_for_adapters(loaded[key])

    return copied


@pytest.fixture(scope="session")
def fresh_unet(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Mustango]:
    """Give an untouched copy of a Mustango of two levels."""
    loaded = load(
        released_mustango.write(tmp_path_factory.mktemp("bases") / "mustango"), precision="fp32", device="cpu"
    )
    return lambda: copy_for_adapters(loaded)
