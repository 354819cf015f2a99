"""State of the PoC folder: finished stages, time over sessions, and earlier configurations."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from fixtures.fake_pipeline import CollectedProgress

from talim.atomic_io import read_json, write_json
from talim.errors import TalimError, UsageError
from talim.poc import state
from talim.poc.state import StageCache
from talim.progress import Progress


def test_stage_cache_needs_the_output_and_the_same_inputs(tmp_path: Path) -> None:
    cache = StageCache(tmp_path / "stage_cache.json")
    output = tmp_path / "page"
    cache.mark_done("report", "k1")
    assert not cache.is_current("report", "k1", output)
    output.write_text("")
    again = StageCache(tmp_path / "stage_cache.json")
    assert again.is_current("report", "k1", output)
    assert not again.is_current("report", "k2", output)


def plan(folder: Path, key: str, run: str) -> None:
    write_json(folder / run / "cost.json", {"of": key})
    write_json(folder / state.PLAN, {"key": key})
    write_json(folder / state.STAGES, {"of": key})
    write_json(folder / "tuning.json", {"of": key})


def test_bind_folder_moves_and_restores_earlier_results(tmp_path: Path) -> None:
    plan(tmp_path, "one", "linear")
    state.bind_folder(tmp_path, "one", Progress())
    assert read_json(tmp_path / "linear" / "cost.json") == {"of": "one"}
    write_json(tmp_path / "listening" / "ratings.json", {"of": "one"})
    write_json(tmp_path / state.PAGE, {})
    said = CollectedProgress()
    state.bind_folder(tmp_path, "two", said)
    assert not (tmp_path / state.PLAN).exists()
    assert not (tmp_path / state.PAGE).exists()  # it would be taken for one of the new configuration
    assert not (tmp_path / "listening").exists()
    assert f"(their page: talim report {tmp_path / 'earlier' / 'one'})" in said.messages[-1]
    assert read_json(tmp_path / "earlier" / "one" / "linear" / "cost.json") == {"of": "one"}
    plan(tmp_path, "two", "linear")
    state.bind_folder(tmp_path, "one", Progress())
    assert read_json(tmp_path / "linear" / "cost.json") == {"of": "one"}
    assert read_json(tmp_path / "listening" / "ratings.json") == {"of": "one"}  # people's answers come back with it
    assert read_json(tmp_path / state.STAGES) == read_json(tmp_path / "tuning.json") == {"of": "one"}
    assert read_json(tmp_path / "earlier" / "two" / "linear" / "cost.json") == {"of": "two"}


def test_bind_folder_interrupted_move_is_completed(tmp_path: Path) -> None:
    plan(tmp_path, "one", "linear")
    write_json(tmp_path / "conv" / "cost.json", {"of": "one"})
    state.bind_folder(tmp_path, "two", Progress())
    stored = tmp_path / "earlier" / "one"
    os.replace(stored / "linear", tmp_path / "linear")  # as if killed while restoring: the plan comes last
    state.bind_folder(tmp_path, "one", Progress())
    assert read_json(tmp_path / state.PLAN) == {"key": "one"}
    assert all((tmp_path / name / "cost.json").is_file() for name in ("linear", "conv"))
    shutil.rmtree(tmp_path / "conv")  # and while moving
    (tmp_path / "earlier" / "one" / "conv").mkdir(parents=True)
    state.bind_folder(tmp_path, "three", Progress())
    assert (stored / "linear").is_dir()
    assert not (tmp_path / "linear").exists()


def test_bind_folder_moves_runs_without_a_plan(tmp_path: Path) -> None:
    write_json(tmp_path / "run" / "cost.json", {})  # without a plan
    state.bind_folder(tmp_path, "one", Progress())
    assert (tmp_path / "earlier" / "before" / "run" / "cost.json").is_file()


def test_write_if_changed_same_value_is_not_written(tmp_path: Path) -> None:
    state.write_if_changed(tmp_path / "a.json", {"x": 1})
    os.utime(tmp_path / "a.json", ns=(0, 0))
    state.write_if_changed(tmp_path / "a.json", {"x": 1})
    assert (tmp_path / "a.json").stat().st_mtime_ns == 0
    state.write_if_changed(tmp_path / "a.json", {"x": 2})
    assert read_json(tmp_path / "a.json") == {"x": 2}


def test_recordings_key_changes_with_files_captions_and_options(tmp_path: Path, recordings: Path) -> None:
    folder, out = tmp_path / "takes", tmp_path / "out"
    shutil.copytree(recordings, folder)
    key = state.recordings_key(folder, out, [])
    assert state.recordings_key(folder, out, []) == key
    assert state.recordings_key(folder, out, [1]) != key
    os.utime(folder / "take-0.wav", ns=(0, 0))
    second = state.recordings_key(folder, out, [])
    assert second != key
    (out / "corpus").mkdir(parents=True)
    captions = out / "corpus" / "metadata.csv"  # edited captions count as well
    captions.write_text("file_name,text\n")
    assert state.recordings_key(folder, out, []) != second


def test_check_folders_missing_or_nested_raise(tmp_path: Path) -> None:
    with pytest.raises(TalimError, match="no such folder"):
        state.check_folders(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(UsageError, match="lies within the recordings"):
        state.check_folders(tmp_path, tmp_path / "out")


STAGE = {"name": "cost", "title": "Cost", "gate": {}, "passed": True, "sentences": []}
STAGE |= {"stopped": "", "stopped_translated": {}}
LISTS = {"stages": [STAGE], "designs": [], "continuations": [], "chosen": None}
DECIDED = LISTS | dict.fromkeys(state.OTHERS)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, ""),
        ({"stages": 3}, "'stages' is no list"),
        ({"stages": [3]}, "'name' of entry 1 of 'stages'"),
        ({"stages": [STAGE, STAGE | {"passed": "yes"}]}, "'passed' of entry 2 of 'stages'"),
        ({"designs": [{"design": "x"}]}, "'run' of entry 1 of 'designs'"),
        ({"continuations": None}, "'continuations' is no list"),
        ({"chosen": {"run": "../x"}}, "'chosen' names no design and run"),
    ],
)
def test_read_stages_says_what_is_wrong_with_the_file(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    path = tmp_path / "stages.json"
    write_json(path, LISTS)
    with pytest.raises(TalimError, match="'plan' is missing"):
        state.read_stages(path)
    write_json(path, DECIDED | changes)
    if not problem:
        assert state.read_stages(path) == DECIDED
        return
    with pytest.raises(TalimError, match=f"is not as talim poc writes it .{re.escape(problem)}"):
        state.read_stages(path)
