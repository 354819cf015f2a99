"""Tests of talim.atomic_io: writes are whole or absent, incomplete logs are read, errors name the path."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from talim import atomic_io
from talim.errors import TalimError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_write_json_replaces_the_file_and_leaves_no_other(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "scores.json"
    atomic_io.write_json(path, {"a": 1})
    atomic_io.write_json(path, {"b": "ç"})
    assert atomic_io.read_json(path) == {"b": "ç"}
    assert names(path.parent) == ["scores.json"]


def test_write_text_on_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "scores.json"
    atomic_io.write_text(path, "old")

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(TalimError, match=r"scores\.json: cannot be written \(No space left on device\)"):
        atomic_io.write_text(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["scores.json"]


def test_write_json_of_nan_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range"):
        atomic_io.write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert names(tmp_path) == []


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=8,
    )
)
def test_to_jsonable_of_any_value_is_valid_json_and_idempotent(value: Any) -> None:
    for digits in (None, 3):
        plain = atomic_io.to_jsonable(value, digits)
        assert json.loads(json.dumps(plain, allow_nan=False)) == plain
        assert atomic_io.to_jsonable(plain, digits) == plain


def test_to_jsonable_rounds_floats_and_keeps_integers() -> None:
    value = {1: (np.float32(0.1234567), float("nan"), -float("inf")), "n": 123456789, "yes": True, "far": 123456.7}
    assert atomic_io.to_jsonable(value, 3) == {"1": [0.123, None, None], "n": 123456789, "yes": True, "far": 123000.0}
    assert atomic_io.to_jsonable(value)["far"] == 123456.7
    assert atomic_io.to_jsonable(-1.7976931348623157e308, 3) == -1.7976931348623157e308


def test_write_json_below_a_file_names_the_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TalimError, match=r"file/run\.json: cannot be written"):
        atomic_io.write_json(tmp_path / "file" / "run.json", {})


@pytest.mark.parametrize("text", ["", "{", "\xff"])
def test_read_json_of_damaged_file_names_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(text.encode("latin1"))
    with pytest.raises(TalimError, match=r"x\.json: cannot be read as JSON"):
        atomic_io.read_json(path)


@given(st.lists(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3), max_size=5))
def test_read_jsonl_returns_appended_and_written_rows(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict]
) -> None:
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    path.touch()
    for row in rows:
        atomic_io.append_jsonl(path, row)
    assert atomic_io.read_jsonl(path) == rows
    atomic_io.write_jsonl(path, rows)
    assert atomic_io.read_jsonl(path) == rows


def test_read_jsonl_drops_only_an_incomplete_last_line(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"st')
    assert atomic_io.read_jsonl(path) == [{"step": 1}]
    path.write_text('{"st\n{"step": 2}\n')
    with pytest.raises(TalimError, match="line 1 is not JSON"):
        atomic_io.read_jsonl(path)


@pytest.mark.parametrize("torn", ['{"st', '{"step": 1, "loss": ', "\x00\x00"])
def test_append_jsonl_after_a_crash_cuts_the_incomplete_line_off(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n' + torn)
    atomic_io.append_jsonl(path, {"step": 2})
    assert atomic_io.read_jsonl(path) == [{"step": 1}, {"step": 2}]


def test_append_jsonl_keeps_a_whole_last_line_without_a_line_break(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}')
    atomic_io.append_jsonl(path, {"step": 3})
    assert [row["step"] for row in atomic_io.read_jsonl(path)] == [1, 2, 3]


def test_read_json_of_deep_nesting_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[" * 100_000)
    with pytest.raises(TalimError, match=r"x\.json: cannot be read as JSON \(it is nested too deeply"):
        atomic_io.read_json(tmp_path / "x.json")
    (tmp_path / "x.jsonl").write_text("[" * 100_000 + "\n{}\n")
    with pytest.raises(TalimError, match="line 1 is not JSON"):
        atomic_io.read_jsonl(tmp_path / "x.jsonl")


@pytest.mark.parametrize(("mask", "file_mode", "folder_mode"), [(0o077, 0o600, 0o700), (0o022, 0o644, 0o755)])
def test_new_files_and_folders_have_the_mode_of_the_umask(
    tmp_path: Path, mask: int, file_mode: int, folder_mode: int
) -> None:
    before = os.umask(mask)
    try:
        atomic_io.write_json(tmp_path / "x.json", {})
        atomic_io.append_jsonl(tmp_path / "x.jsonl", {})
        with atomic_io.new_folder(tmp_path / "adapter") as folder:
            (folder / "a").write_text("1")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"x.json": file_mode, "x.jsonl": file_mode, "adapter": folder_mode}


def test_json_of_a_name_that_is_not_utf8_reads_back_as_it_was(tmp_path: Path) -> None:
    row = {"file": "t\udcfcrk\udcfc.wav"}
    atomic_io.write_json(tmp_path / "x.json", row)
    atomic_io.append_jsonl(tmp_path / "x.jsonl", row)
    assert atomic_io.read_json(tmp_path / "x.json") == row
    assert atomic_io.read_jsonl(tmp_path / "x.jsonl") == [row]


def test_write_text_to_a_name_of_255_bytes_is_written(tmp_path: Path) -> None:
    atomic_io.write_text(tmp_path / ("ş" * 127 + "x"), "1")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["1"]


def test_new_folder_appears_only_when_the_block_succeeds(tmp_path: Path) -> None:
    final = tmp_path / "adapter"
    with atomic_io.new_folder(final) as folder:
        (folder / "a").write_text("1")
        assert not final.exists()
    assert names(final) == ["a"]
    with pytest.raises(ZeroDivisionError), atomic_io.new_folder(final) as folder:
        (folder / "b").write_text(str(1 / 0))
    assert names(final) == ["a"]
    assert names(tmp_path) == ["adapter"]


def test_new_folder_replaces_all_files_of_an_old_one(tmp_path: Path) -> None:
    for text in ("1", "2"):
        with atomic_io.new_folder(tmp_path / "adapter") as folder:
            (folder / text).write_text(text)
    assert names(tmp_path / "adapter") == ["2"]


def test_check_writable_leaves_no_file_and_refuses_unwritable_paths(tmp_path: Path) -> None:
    atomic_io.check_writable(tmp_path / "new" / "deeper" / "a.flac")
    assert names(tmp_path) == []
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "a.flac", tmp_path, Path("/proc/no/a.flac")):
        with pytest.raises(TalimError, match="cannot be written"):
            atomic_io.check_writable(path)


@pytest.mark.parametrize("row", ["[]", "null", "3", '"a"', "NaN"])
def test_read_jsonl_of_a_row_that_is_no_object_names_the_line(tmp_path: Path, row: str) -> None:
    (tmp_path / "x.jsonl").write_text(f'{{"a": 1}}\n{row}\n')
    with pytest.raises(TalimError, match=rf"x.jsonl: line 2 is {re.escape(row)}: no JSON object"):
        atomic_io.read_jsonl(tmp_path / "x.jsonl")


@pytest.mark.parametrize("value", [None, [], "x", {}, {"a": None, "b": 1}, {"a": [], "b": "1"}, {"a": {}, "b": 1}])
def test_check_keys_of_another_shape_says_what_to_do(value: object) -> None:
    types = {"a": list, "b": (int, float)}
    with pytest.raises(TalimError, match=r"F: [ab] is missing or not as talim wrote it; copy it"):
        atomic_io.check_keys(value, types, "F", "copy it")
    atomic_io.check_keys({"a": [], "b": 2.5, "c": 0}, types, "F", "copy it")
