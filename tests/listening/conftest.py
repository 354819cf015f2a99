"""A small listening test on disk, as a fixture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixtures.listening_test import write_test


@pytest.fixture
def make_test(tmp_path: Path) -> Callable[..., Path]:
    """Write a test's folder with its runs; keyword arguments change the protocol."""

    def make(**changes: Any) -> Path:
        return write_test(tmp_path / "test", **changes)

    return make
