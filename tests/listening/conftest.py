"""A small listening test on disk, as a fixture: copied, because to measure loudness anew takes its time."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from fixtures.listening_test import protocol_values, write_test

from talim.listening import material, protocol


@pytest.fixture(scope="session")
def prepared_test(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A test with its sounds made (read only by agreement)."""
    folder = write_test(tmp_path_factory.mktemp("tests") / "test")
    material.prepare(folder, protocol.load(folder))
    return folder


@pytest.fixture
def make_test(tmp_path: Path, prepared_test: Path) -> Callable[..., Path]:
    """A copy of the prepared test; keyword arguments change the protocol."""

    def make(**changes: Any) -> Path:
        folder = tmp_path / "test"
        shutil.copytree(prepared_test, folder)
        text = yaml.safe_dump(protocol_values(**changes), sort_keys=False)
        (folder / "protocol.yaml").write_text(text, encoding="utf-8")
        return folder

    return make
