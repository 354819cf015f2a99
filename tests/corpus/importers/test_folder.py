"""The folder importer lists every audio file and nothing that talim wrote itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from talim.corpus.importers.folder import list_recordings
from talim.corpus.recordings import SourceFile
from talim.errors import UsageError


def find_recordings(folder: Path, out: Path) -> tuple[SourceFile, ...]:
    return list_recordings(folder, out).files


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_list_recordings_finds_all_audio_files_in_order(folder: Path, tmp_path: Path) -> None:
    touch(
        folder, "b.WAV", "a/c.mp3", "a/b/d.m4a", "notes.txt", "metadata.csv", ".hidden.wav", "a/._c.mp3", ".git/e.wav"
    )
    imported = find_recordings(folder, tmp_path / "out")
    assert [file.name for file in imported] == ["a/b/d.m4a", "a/c.mp3", "b.WAV"]
    assert all(file.path.is_file() for file in imported)


def test_list_recordings_ignores_corpora_and_the_output_folder(folder: Path) -> None:
    touch(folder, "a.wav", "corpus/clips/x.flac", "old/corpus.jsonl", "old/clips/y.flac")
    assert [file.name for file in find_recordings(folder, folder / "corpus")] == ["a.wav"]


def test_list_recordings_follows_file_links_and_skips_broken_ones(folder: Path, tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/a.wav")
    os.symlink(tmp_path / "elsewhere" / "a.wav", folder / "linked.wav")
    os.symlink(folder, folder / "circle")
    os.symlink(tmp_path / "gone.wav", folder / "broken.wav")
    (folder / "folder.wav").mkdir()
    imported = list_recordings(folder, tmp_path / "out")
    assert [file.name for file in imported.files] == ["linked.wav"]
    assert imported.skipped == (
        {"file": "broken.wav", "reason": "a broken link: gone.wav does not exist"},
        {"file": "folder.wav", "reason": "a folder, although it has an audio file's name"},
    )


def test_list_recordings_recognizes_audio_by_its_header(folder: Path, tmp_path: Path) -> None:
    (folder / "take").write_bytes(b"fLaC" + bytes(20))
    (folder / "bank.sf2").write_bytes(b"RIFF" + bytes(4) + b"sfbk" + bytes(20))
    (folder / "wave.bin").write_bytes(b"RIFF" + bytes(4) + b"WAVE" + bytes(20))
    (folder / "notes.txt").write_text("fL")
    assert [file.name for file in find_recordings(folder, tmp_path / "out")] == ["take", "wave.bin"]


def test_list_recordings_of_undecodable_names_gives_valid_utf8(folder: Path, tmp_path: Path) -> None:
    (folder / "two\nlines.wav").write_bytes(b"x")
    (Path(os.fsdecode(os.fsencode(folder) + b"/bad-\xff.wav"))).write_bytes(b"x")
    names = [file.name for file in find_recordings(folder, tmp_path / "out")]
    assert names == ["bad-%ff.wav", "two\nlines.wav"]
    assert "".join(names).encode("utf-8")


def test_list_recordings_of_an_invalid_source_raises_usage_error(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no audio file"):
        find_recordings(folder, tmp_path / "out")
    touch(folder, "a.wav")
    with pytest.raises(UsageError, match="is a file; give its folder"):
        find_recordings(folder / "a.wav", tmp_path / "out")
    with pytest.raises(UsageError, match="no such folder"):
        find_recordings(folder / "absent", tmp_path / "out")
    with pytest.raises(UsageError, match="choose another --out"):
        find_recordings(folder, folder)
