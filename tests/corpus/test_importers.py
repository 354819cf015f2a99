"""Finding recordings: everything that sounds, nothing that talim wrote itself."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from talim.corpus.importers import file_hash, find_recordings, plain_name
from talim.errors import TalimError, UsageError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_all_sound_files_below_are_found_in_order(folder: Path, tmp_path: Path) -> None:
    touch(
        folder,
        "b.WAV",
        "a/c.mp3",
        "a/b/d.m4a",
        "notes.txt",
        "metadata.csv",
        ".hidden.wav",
        "a/._c.mp3",
        ".git/e.wav",
    )
    found = find_recordings(folder, tmp_path / "out")
    assert [file.name for file in found] == ["a/b/d.m4a", "a/c.mp3", "b.WAV"]
    assert all(file.path.is_file() for file in found)


def test_corpora_and_the_output_folder_are_left_out(folder: Path) -> None:
    touch(folder, "a.wav", "corpus/clips/x.flac", "old/corpus.jsonl", "old/clips/y.flac")
    assert [file.name for file in find_recordings(folder, folder / "corpus")] == ["a.wav"]


def test_linked_files_count_and_folders_that_link_in_circles_do_not(folder: Path, tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/a.wav")
    os.symlink(tmp_path / "elsewhere" / "a.wav", folder / "linked.wav")
    os.symlink(folder, folder / "circle")
    os.symlink(tmp_path / "gone.wav", folder / "broken.wav")
    assert [file.name for file in find_recordings(folder, tmp_path / "out")] == ["linked.wav"]


def test_what_cannot_be_a_folder_of_recordings(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no sound file"):
        find_recordings(folder, tmp_path / "out")
    touch(folder, "a.wav")
    with pytest.raises(UsageError, match="is a file; give the folder"):
        find_recordings(folder / "a.wav", tmp_path / "out")
    with pytest.raises(UsageError, match="no such folder"):
        find_recordings(folder / "absent", tmp_path / "out")
    with pytest.raises(UsageError, match="choose another --out"):
        find_recordings(folder, folder)


def test_names_compare_across_systems() -> None:
    assert plain_name("a\\b//./c.wav") == "a/b/c.wav"
    assert plain_name("rāga.wav") == plain_name("r\u0101ga.wav") == "r\u0101ga.wav"


def test_file_hash(folder: Path) -> None:
    touch(folder, "a.wav")
    assert file_hash(folder / "a.wav") == hashlib.sha256(b"x").hexdigest()
    with pytest.raises(TalimError, match="No such file"):
        file_hash(folder / "b.wav")
