"""Recordings for corpus tests: short seeded tones, each different."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from talim.audio import Audio, write

RATE_HZ = 8000
MakeRecording = Callable[..., Path]


def music(seed: int, seconds: float, rate_hz: int = RATE_HZ) -> Audio:
    """A gliding tone with some noise, never silent; another seed is another sound."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    phase = 2 * np.pi * (200 + 10 * (seed % 50)) * time + 3 * np.sin(2 * np.pi * 0.3 * time)
    return Audio(0.4 * np.sin(phase) + 0.01 * random.normal(size=time.size), rate_hz)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "recordings"
    path.mkdir()
    return path


@pytest.fixture
def record(folder: Path) -> MakeRecording:
    """record("a.wav", seconds=20, seed=1) writes a recording into the folder."""

    def make(name: str, seconds: float = 20.0, seed: int | None = None, rate_hz: int = RATE_HZ) -> Path:
        path = folder / name
        write(path, music(len(list(folder.rglob("*"))) if seed is None else seed, seconds, rate_hz))
        return path

    return make


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "corpus"


@pytest.fixture
def three(folder: Path, record: MakeRecording) -> Path:
    for name in ("a.wav", "deep/b.flac", "c.ogg"):
        (folder / name).parent.mkdir(exist_ok=True)
        record(name, 25)
    return folder
