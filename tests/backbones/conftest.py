"""Small MusicGens in the released layout, mono and stereo, loaded once."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures import released_musicgen

from talim.backbones.load import load
from talim.backbones.musicgen.backbone import MusicGen


@pytest.fixture(
    scope="session", params=["mono", "stereo", "melody", pytest.param("stereo melody", marks=pytest.mark.slow)]
)
def released_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder per channel layout (do not modify)."""
    folder = tmp_path_factory.mktemp("released") / f"tiny-{request.param}"
    channels = 2 if request.param.startswith("stereo") else 1
    return released_musicgen.write(folder, channels=channels, melody=request.param.endswith("melody"))


@pytest.fixture(scope="session")
def shared(released_folder: Path) -> MusicGen:
    """The folder's model in fp32 (do not modify)."""
    return load(released_folder, precision="fp32", device="cpu")  # type: ignore[return-value]


@pytest.fixture
def modifiable(tmp_path: Path) -> MusicGen:
    """A mono model that a test may modify."""
    return load(released_musicgen.write(tmp_path / "tiny"), precision="fp32", device="cpu")  # type: ignore[return-value]
