"""The folder importer lists every audio file and nothing that talim wrote itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from talim.corpus.importers.folder import list_recordings
from talim.corpus.recordings import SourceFile
from talim.errors import TalimError, UsageError


def find_recordings(folder: Path, out: Path) -> tuple[SourceFile, ...]:
    return list_recordings(folder, out).files


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_list_recordings_finds_all_audio_files_in_order(folder: Path, tmp_path: Path) -> None:
    touch(folder, "b.WAV", "a/c.mp3", "a/b/d.m4a", "notes.txt", "cover.jpg", ".hidden.wav", "a/._c.mp3", ".git/e.wav")
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
    with pytest.raises(TalimError, match="no audio file"):
        find_recordings(folder, tmp_path / "out")
    touch(folder, "a.wav")
    with pytest.raises(TalimError, match="is a file; give its folder"):
        find_recordings(folder / "a.wav", tmp_path / "out")
    with pytest.raises(TalimError, match="no such folder"):
        find_recordings(folder / "absent", tmp_path / "out")
    with pytest.raises(UsageError, match="choose another --out"):
        find_recordings(folder, folder)


@pytest.mark.parametrize(
    "head",
    [
        b"RIFF\0\0\0\0WAVE", b"RF64\0\0\0\0WAVE", b"FORM\0\0\0\0AIFF", b"fLaC\0", b"OggS\0", b"ID3\x03", b"caff\0\1",
        b"\xff\xfb\x90\0", b"\xff\xf1P\x80", b"\0\0\0\x20ftypM4A ", b"\0\0\0\x20ftypisom", b"\x1aE\xdf\xa3\1",
        b"0&\xb2u\x8ef\xcf\x11\xa6\xd9", b"#!AMR\n", b".snd\0\0",
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["recording", "recording.dat"])
def test_list_recordings_takes_sound_by_its_header_whatever_its_name(
    folder: Path, tmp_path: Path, name: str, head: bytes
) -> None:
    (folder / name).write_bytes(head)
    assert [file.name for file in find_recordings(folder, tmp_path / "out")] == [name]


@pytest.mark.parametrize(
    "head",
    [
        b"RIFF\0\0\0\0WEBP", b"\xff\xd8\xff\xe0", "UTF-16".encode("utf-16"), b"\x89PNG\r\n", b"%PDF-1.7", b"PK\3\4",
        b"\0\0\0\x20ftypheic", b"words", b"", b"\xff\xff\xff\xff",
    ],
)  # fmt: skip
def test_list_recordings_takes_no_other_file_for_sound(folder: Path, tmp_path: Path, head: bytes) -> None:
    touch(folder, "a.wav")
    (folder / "other").write_bytes(head)
    imported = list_recordings(folder, tmp_path / "out")
    assert [file.name for file in imported.files] == ["a.wav"]
    assert imported.skipped == ()


def test_list_recordings_names_sound_that_is_not_read(folder: Path, tmp_path: Path) -> None:
    touch(folder, "a.wav", "deep/audible.AAX", "score.mid")
    skipped = list_recordings(folder, tmp_path / "out").skipped
    assert {row["file"]: row["reason"] for row in skipped} == {
        "score.mid": "talim does not read .mid files; export it as WAV or FLAC",
        "deep/audible.AAX": "talim does not read .aax files; export it as WAV or FLAC",
    }
    (folder / "a.wav").unlink()
    with pytest.raises(TalimError, match=r"no audio file .*score\.mid: talim does not read"):
        list_recordings(folder, tmp_path / "out")


def test_list_recordings_names_texts_that_differ_from_a_recording_in_case(folder: Path, tmp_path: Path) -> None:
    touch(folder, "Yaman.wav", "yaman.TXT", "deep/b.flac", "deep/B.beats", "deep/b.chords", "Yaman.txt", "readme.txt")
    notes = {note["file"]: note["note"] for note in list_recordings(folder, tmp_path / "out").notes}
    assert notes == {
        "yaman.TXT": "not read: for Yaman.wav it must be called Yaman.txt",
        "deep/B.beats": "not read: for b.flac it must be called b.beats",
    }


ODD_FILES: list[tuple[str, str]] = [  # a file, why it is not read ("" where it is)
    (".hidden.wav", "hidden, as its name begins with a dot"),
    (".take.wav.icloud", "in iCloud and not on this machine; download it first"),
    ("take.wav.lnk", "a shortcut of Windows, not the sound itself; copy that here"),
    ("take.mp3.crdownload", "an unfinished download"),
    ("take.flac.part", "an unfinished download"),
    ("take.wav.gz", "packed; unpack it"),
    ("takes.zip", "an archive, into which talim does not look; unpack it"),
    ("session.aup3", "talim does not read .aup3 files; export it as WAV or FLAC"),
    ("song.mid", "talim does not read .mid files; export it as WAV or FLAC"),
    ("TAKE.AIFF", ""), ("take.wma", ""), ("take.opus", ""), ("concert.mts", ""), ("take.1.wav", ""),
    ("take.wav ", ""), ("نغمة.wav", ""), ("a\nb.wav", ""),
]  # fmt: skip


@pytest.mark.parametrize(("name", "reason"), ODD_FILES)
def test_list_recordings_reads_or_names_every_file_of_sound(
    folder: Path, tmp_path: Path, name: str, reason: str
) -> None:
    touch(folder, "a.wav", name)
    imported = list_recordings(folder, tmp_path / "out")
    assert {file.name for file in imported.files} == {"a.wav"} | ({name} if not reason else set())
    assert imported.skipped == (({"file": name, "reason": reason},) if reason else ())


def test_list_recordings_names_folders_that_it_does_not_enter(folder: Path, tmp_path: Path) -> None:
    touch(folder, "a.wav", "old/corpus.jsonl", "old/clips/y.flac", "out/corpus.jsonl")
    touch(tmp_path, "elsewhere/b.wav")
    os.symlink(tmp_path / "elsewhere", folder / "linked")
    os.symlink(folder, folder / "circle")  # all in it is read anyway
    imported = list_recordings(folder, folder / "out")
    assert [file.name for file in imported.files] == ["a.wav"]
    assert {row["file"]: row["reason"] for row in imported.skipped} == {
        "linked": "a link to a folder, which is not followed; give that folder, or copy it",
        "old": "a corpus of talim prepare, not recordings",
    }


def test_list_recordings_of_one_name_in_two_unicode_forms_names_the_second(folder: Path, tmp_path: Path) -> None:
    touch(folder, "\u00e9.wav", "e\u0301.wav")
    imported = list_recordings(folder, tmp_path / "out")
    assert [file.name for file in imported.files] == ["\u00e9.wav"]
    assert [row["file"] for row in imported.skipped] == ["\u00e9.wav"]
    assert "another file has this name too" in imported.skipped[0]["reason"]


def test_list_recordings_keeps_names_that_differ_in_case_only(folder: Path, tmp_path: Path) -> None:
    touch(folder, "Take.wav", "take.wav")
    assert [file.name for file in find_recordings(folder, tmp_path / "out")] == ["Take.wav", "take.wav"]


def test_list_recordings_names_texts_that_are_nearly_called_like_a_recording(folder: Path, tmp_path: Path) -> None:
    touch(folder, "yaman slow.wav", "bhairav.wav", "bhairav.txt")
    touch(folder, "yaman_slow.txt", "README.txt", "bhairav2.txt", "lost.beats")
    notes = {row["file"]: row["note"] for row in list_recordings(folder, tmp_path / "out").notes}
    assert notes == {
        "yaman_slow.txt": "not read: for yaman slow.wav it must be called yaman slow.txt",
        "lost.beats": "not read: no recording has this name",
    }
