"""What is kept besides runs: stamps, the time spent over resumptions, and plans that make room for each other."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path

import pytest

from talim.atomic_io import read_json, write_json
from talim.errors import UsageError
from talim.poc import state
from talim.poc.state import StageCache, TimeLog
from talim.progress import Progress


def test_stamps_need_both_the_file_and_the_same_inputs(tmp_path: Path) -> None:
    stamps = StageCache(tmp_path / "poc.json")
    made = tmp_path / "page"
    stamps.set("report", "k1")
    assert not stamps.is_current("report", "k1", made)
    made.write_text("")
    again = StageCache(tmp_path / "poc.json")
    assert again.is_current("report", "k1", made)
    assert not again.is_current("report", "k2", made)


def test_time_is_counted_over_resumptions_and_by_purpose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    spent = TimeLog(tmp_path / "spent.json", "all k")
    with spent.counting(Progress()) as progress:
        now += 4
        progress.step("training", 1, 9)
        assert spent.seconds == 0  # not worth a write yet
        now += 4
        progress.step("training", 2, 9)
        assert TimeLog(tmp_path / "spent.json", "all k").seconds == 8  # what a kill now would leave
        now += 1
    now += 1000  # nobody works
    again = TimeLog(tmp_path / "spent.json", "all k")
    with contextlib.suppress(KeyboardInterrupt), again.counting(Progress()):
        now += 2
        raise KeyboardInterrupt
    assert again.seconds == 11
    assert TimeLog(tmp_path / "spent.json", "extend k").seconds == 0


def plan(folder: Path, key: str, run: str) -> None:
    write_json(folder / run / "cost.json", {"of": key})
    write_json(folder / state.PLAN, {"key": key})
    write_json(folder / state.STAGES, {"of": key})


def test_another_plan_makes_room_and_comes_back_whole(tmp_path: Path) -> None:
    plan(tmp_path, "one", "linear")
    state.bind_folder(tmp_path, "one", Progress())
    assert read_json(tmp_path / "linear" / "cost.json") == {"of": "one"}
    state.bind_folder(tmp_path, "two", Progress())
    assert not (tmp_path / state.PLAN).exists()
    assert read_json(tmp_path / "earlier" / "one" / "linear" / "cost.json") == {"of": "one"}
    plan(tmp_path, "two", "linear")
    state.bind_folder(tmp_path, "one", Progress())
    assert read_json(tmp_path / "linear" / "cost.json") == {"of": "one"}
    assert read_json(tmp_path / state.STAGES) == {"of": "one"}
    assert read_json(tmp_path / "earlier" / "two" / "linear" / "cost.json") == {"of": "two"}


def test_a_move_that_was_cut_off_is_finished(tmp_path: Path) -> None:
    plan(tmp_path, "one", "linear")
    write_json(tmp_path / "conv" / "cost.json", {"of": "one"})
    state.bind_folder(tmp_path, "two", Progress())
    kept = tmp_path / "earlier" / "one"
    os.replace(kept / "linear", tmp_path / "linear")  # as if killed on the way back: the plan comes last
    state.bind_folder(tmp_path, "one", Progress())
    assert read_json(tmp_path / state.PLAN) == {"key": "one"}
    assert all((tmp_path / name / "cost.json").is_file() for name in ("linear", "conv"))
    shutil.rmtree(tmp_path / "conv")  # and on the way there
    (tmp_path / "earlier" / "one" / "conv").mkdir(parents=True)
    state.bind_folder(tmp_path, "three", Progress())
    assert (kept / "linear").is_dir()
    assert not (tmp_path / "linear").exists()


def test_runs_that_no_plan_knows_make_room_too(tmp_path: Path) -> None:
    write_json(tmp_path / "run" / "cost.json", {})  # of a version before plans
    state.bind_folder(tmp_path, "one", Progress())
    assert (tmp_path / "earlier" / "before" / "run" / "cost.json").is_file()


def test_keep_writes_only_what_is_new(tmp_path: Path) -> None:
    state.write_if_changed(tmp_path / "a.json", {"x": 1})
    os.utime(tmp_path / "a.json", ns=(0, 0))
    state.write_if_changed(tmp_path / "a.json", {"x": 1})
    assert (tmp_path / "a.json").stat().st_mtime_ns == 0
    state.write_if_changed(tmp_path / "a.json", {"x": 2})
    assert read_json(tmp_path / "a.json") == {"x": 2}


def test_the_key_follows_the_recordings(tmp_path: Path, recordings: Path) -> None:
    folder, out = tmp_path / "takes", tmp_path / "out"
    shutil.copytree(recordings, folder)
    key = state.recordings_key(folder, out, [])
    assert state.recordings_key(folder, out, []) == key
    assert state.recordings_key(folder, out, [1]) != key
    os.utime(folder / "take-0.wav", ns=(0, 0))
    second = state.recordings_key(folder, out, [])
    assert second != key
    (out / "corpus").mkdir(parents=True)
    words = out / "corpus" / "metadata.csv"  # words typed into the corpus count as well
    words.write_text("file_name,text\n")
    assert state.recordings_key(folder, out, []) != second


def test_places_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        state.check_folders(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(UsageError, match="lies within the recordings"):
        state.check_folders(tmp_path, tmp_path / "out")
