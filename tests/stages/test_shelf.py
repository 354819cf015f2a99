"""Stored adapters are found, told apart and checked; a broken one does not hide the others."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from talim.errors import TalimError
from talim.run import Run
from talim.stages import shelf


def test_adapters_are_found_and_a_broken_one_is_named(tmp_path: Path, finished_run: Run) -> None:
    shutil.copytree(finished_run.adapter, tmp_path / "a" / "adapter")
    shutil.copytree(finished_run.adapter, tmp_path / "b" / "adapter")
    shutil.copytree(finished_run.adapter, tmp_path / ".adapter.x.part")
    (tmp_path / "b" / "adapter" / "talim.json").write_text("{torn")
    rows = shelf.find(tmp_path)
    assert [row["folder"] for row in rows] == [str(tmp_path / n / "adapter") for n in "ab"]
    assert "linear@all:10%  4,159 parameters  for tiny" in shelf.line(rows[0])
    assert "unreadable" in shelf.line(rows[1])


def test_info_knows_the_size(finished_run: Run) -> None:
    info = shelf.info(finished_run.adapter)
    assert info["bytes"] == (finished_run.adapter / "adapter_model.safetensors").stat().st_size
    assert info["base"]["name"] == "tiny"


def test_check_loads_it(finished_run: Run, tiny_base: Path) -> None:
    assert shelf.check(finished_run.adapter, str(tiny_base))["fits"]


def test_no_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TalimError, match="no such folder"):
        shelf.find(tmp_path / "no")
