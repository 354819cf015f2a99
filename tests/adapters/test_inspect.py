"""Listing and describing stored adapters."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from talim.adapters import inspect
from talim.errors import TalimError
from talim.run import Run


def test_find_adapters_lists_readable_and_unreadable_ones(tmp_path: Path, finished_run: Run) -> None:
    shutil.copytree(finished_run.adapter, tmp_path / "a" / "adapter")
    shutil.copytree(finished_run.adapter, tmp_path / "b" / "adapter")
    shutil.copytree(finished_run.adapter, tmp_path / ".adapter.x.part")
    (tmp_path / "b" / "adapter" / "talim.json").write_text("{torn")
    rows = inspect.find_adapters(tmp_path)
    assert [row["folder"] for row in rows] == [str(tmp_path / n / "adapter") for n in "ab"]
    assert "linear@all:10%  4,159 parameters  for tiny" in inspect.adapter_line(rows[0])
    assert "unreadable" in inspect.adapter_line(rows[1])


def test_adapter_info_has_size_and_base(finished_run: Run) -> None:
    info = inspect.adapter_info(finished_run.adapter)
    assert info["bytes"] == (finished_run.adapter / "adapter_model.safetensors").stat().st_size
    assert info["base"]["name"] == "tiny"


def test_find_adapters_missing_folder_raises_talim_error(tmp_path: Path) -> None:
    with pytest.raises(TalimError, match="no such folder"):
        inspect.find_adapters(tmp_path / "no")
