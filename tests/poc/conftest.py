"""Recordings of one clip each, for tests of stages that take as long as their corpus."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def short_takes(tmp_path_factory: pytest.TempPathFactory, make_recordings: Callable[..., Path]) -> Path:
    """Folder of twelve short synthetic recordings with metadata.csv (read only by agreement): four, two and six."""
    return make_recordings(tmp_path_factory.mktemp("short") / "takes", count=12, seconds=2.5)
