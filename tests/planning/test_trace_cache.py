"""Tests of talim.planning.trace_cache: traces are read again for the same step only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from talim.design.expression import Design
from talim.planning import training_step
from talim.planning.trace_cache import TraceCache, default_cache_folder
from talim.planning.training_step import StepConfig
from talim.progress import Progress


def test_trace_is_cached_by_step_and_base(
    tiny_base: Path, make_base: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = StepConfig(str(tiny_base), Design.parse("conv@all:10%"), 4.0, precision="fp32")
    first = TraceCache(tmp_path / "cache", Progress()).trace(config)
    with monkeypatch.context() as patch:
        patch.setattr(training_step, "trace_step", lambda _: pytest.fail("traced again"))
        assert TraceCache(tmp_path / "cache", Progress()).trace(config) == first
    (file,) = (tmp_path / "cache" / "traces").glob("*.json")
    file.write_text("{", encoding="utf-8")
    assert TraceCache(tmp_path / "cache", Progress()).trace(config) == first  # damaged: traced again
    larger = replace(config, base=str(make_base(tmp_path / "larger", layers=3)))
    assert TraceCache(tmp_path / "cache", Progress()).trace(larger).peak_bytes > first.peak_bytes


def test_default_cache_folder_is_set_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALIM_CACHE", str(tmp_path / "own"))
    assert default_cache_folder() == tmp_path / "own"
    monkeypatch.delenv("TALIM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_folder() == tmp_path / "talim"
