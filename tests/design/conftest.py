"""Bases of which one knows the true numbers: the tiny random one, and the miniature that ships."""

from __future__ import annotations

from pathlib import Path

import pytest

from talim.backbones.load import load


@pytest.fixture(scope="session")
def tiny_model(tiny_base: Path):
    """The tiny base, loaded (read only by agreement)."""
    return load(str(tiny_base), precision="fp32", device="cpu")


@pytest.fixture(scope="session")
def wide_base():
    """nano-musicgen in float32 (read only by agreement)."""
    return load("nano-musicgen", precision="fp32", device="cpu")
