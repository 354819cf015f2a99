"""The version in the code is the version of the package."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from talim.version import __version__

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def test_version_is_a_release_number() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)


def test_version_is_that_of_the_package() -> None:
    assert tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["version"] == __version__
