"""Captions and rights: their sources and which one wins."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from talim.audio import Audio
from talim.corpus.captions import (
    BUILT_FROM_LABELS,
    MAX_TEXT_BYTES,
    NO_CAPTION,
    PLACEHOLDER,
    RecordingMetadata,
    file_metadata,
    passed_over_notes,
    performer_name_notes,
    write_editable,
)
from talim.corpus.labels import Labels
from talim.corpus.recordings import AnnotatedSection, FileAudio, SourceFile
from talim.corpus.tables import MetadataRow, read_table


def source(folder: Path, name: str, row: dict[str, str] | None = None) -> SourceFile:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    return SourceFile(folder / name, name, FileAudio(folder / name), row or {})


def table(folder: Path, text: str) -> Path:
    (folder / "metadata.csv").write_text(text, encoding="utf-8")
    return folder / "metadata.csv"


def rows_of(path: Path) -> list[MetadataRow]:
    return [row for _, row in read_table(path).rows]


@pytest.mark.parametrize("column", ["text", "caption", "Description", "PROMPT"])
def test_file_metadata_reads_the_caption_from_any_text_column(folder: Path, column: str) -> None:
    rows = rows_of(table(folder, f"file_name,{column}\na.wav,slow alap\n"))
    assert file_metadata(source(folder, "a.wav", rows[0]), {}, "ignored").caption == "slow alap"


def test_file_metadata_selects_the_caption_by_priority(folder: Path) -> None:
    bare = source(folder, "a.wav")
    captioned = replace(bare, row={"text": "row", "tradition": "makam"})
    labelled = replace(bare, row={"tradition": "makam"})
    results = [file_metadata(captioned, {"text": "edited"}, "all")]
    results += [file_metadata(captioned, {"text": PLACEHOLDER}, "all")]
    (folder / "a.txt").write_text(" beside\nthe sound \n", encoding="utf-8")
    results += [file_metadata(labelled, {}, "all")]
    (folder / "a.txt").unlink()
    results += [file_metadata(labelled, {}, "all"), file_metadata(labelled, {}, None)]
    results += [file_metadata(bare, {}, None)]
    assert [(result.caption, result.origin) for result in results] == [
        ("edited", "corpus metadata.csv"),
        ("row", "metadata"),
        ("beside the sound", "text file"),
        ("all", "--caption"),
        (results[4].caption, BUILT_FROM_LABELS),
        (NO_CAPTION, "none"),
    ]
    assert "makam" in results[4].caption or "Turkish" in results[4].caption


def test_passed_over_notes_say_which_caption_is_used_for_how_many_recordings(folder: Path) -> None:
    files = [
        source(folder, f"{number}.wav", {"text": "row"} if number < 6 else {"raga": "Yaman"} if number < 8 else {})
        for number in range(9)
    ]
    for number in range(9):
        (folder / f"{number}.txt").write_text("row" if number == 0 else "beside", encoding="utf-8")
    (folder / "8.wav.txt").write_text("also", encoding="utf-8")
    edited = {"1.wav": {"text": "edited"}}
    metadata = {file.name: file_metadata(file, edited.get(file.name, {}), "for all") for file in files}
    assert metadata["0.wav"].passed_over == ("--caption",)  # the .txt says the same
    notes = passed_over_notes(metadata, folder / "my-corpus")
    table, text, labels = "the text in the recordings' own table", "the .txt beside the sound", "one made of its labels"
    assert f"for 1 recording the text in my-corpus/metadata.csv is the caption, {table} is not (1.wav)" in notes
    assert f"for 4 recordings {table} is the caption, {text} is not (2.wav, 3.wav, 4.wav, 5.wav)" in notes
    assert (
        f"for 5 recordings {table} is the caption, that of --caption is not (0.wav, 2.wav, 3.wav, 4.wav and 1 more)"
        in notes
    )
    assert any(note.startswith(f"for 2 recordings {text} is the caption, {labels} ") for note in notes)
    assert f"for 1 recording {text} is the caption, the second .txt beside it is not (8.wav)" in notes
    assert len(notes) == 8


def test_passed_over_notes_of_captions_that_stand_alone_are_none(folder: Path) -> None:
    files = [source(folder, "a.wav", {"text": "row", "raga": "Yaman"}), source(folder, "b.wav", {"raga": "Yaman"})]
    metadata = {file.name: file_metadata(file, {}, None) for file in [*files, source(folder, "c.wav")]}
    assert passed_over_notes(metadata, folder) == []


def test_performer_name_notes_name_the_recordings_whose_captions_have_a_performer_of_the_table() -> None:
    rows = {
        "a.wav": ("Raga Yaman after MEERA SEN, sitar", "Meera Sen and Zeki Müren"),
        "b.wav": ("a song that Zeki Muren's pupils sing", "me"),
        "c.wav": ("a sitar plays for me", "Meera Sen"),  # the word is no name
        "d.wav": ("ravine, sitar, dey", "Ravi | Dey"),  # no whole word; three letters
        "e.wav": ("山田太郎の尺八", "山田 太郎"),
    }
    metadata = {
        file: RecordingMetadata(caption, "metadata", performer=performer) for file, (caption, performer) in rows.items()
    }
    (note,) = performer_name_notes(metadata)
    assert note.startswith(
        "3 recordings whose captions have the name of a performer: "
        "a.wav (Meera Sen), b.wav (Zeki Müren), e.wav (山田 太郎). Nothing was changed or left out."
    )


@pytest.mark.parametrize(("origin", "performer"), [("metadata", "unknown"), (BUILT_FROM_LABELS, "Malhar")])
def test_performer_name_notes_without_a_name_or_a_written_caption_are_none(origin: str, performer: str) -> None:
    metadata = {"a.wav": RecordingMetadata("raga Malhar by an unknown musician", origin, performer=performer)}
    assert performer_name_notes(metadata) == []


def test_file_metadata_keeps_rights_and_marks_unknown_ones(folder: Path) -> None:
    row = {"license": "CC0", "artist": "Someone", "url": "https://x", "consent": "signed 2024", "tonic_hz": "220"}
    metadata = file_metadata(source(folder, "deep/a.b.wav", row), {}, None)
    assert (metadata.licence, metadata.performer, metadata.source, metadata.consent) == (
        "CC0",
        "Someone",
        "https://x",
        "signed 2024",
    )
    assert metadata.extra == {"tonic_hz": "220"}
    assert metadata.labels.tonic_hz == 220
    metadata = file_metadata(source(folder, "deep/a.b.wav", {"performer": ""}), {"licence": "own"}, None)
    assert metadata == RecordingMetadata(NO_CAPTION, "none", recording="deep/a.b", licence="own", labels=Labels())


@pytest.mark.parametrize(
    ("performer", "licence", "consent", "expected"),
    [
        ("me", "my own recording", "", "own performance"),
        ("自分", "自作", "", "own performance"),
        ("kendim", "kendi kaydım", "unknown", "own performance"),
        ("me; Rafiq", "my own recording", "", "unknown"),
        ("me and Rafiq", "my own recording", "", "unknown"),
        ("Rafiq", "my own recording", "", "unknown"),
        ("", "my own recording", "", "unknown"),
        ("me", "CC BY 4.0", "", "unknown"),
        ("me", "my own recording", "refused", "refused"),
    ],
)
def test_file_metadata_needs_no_consent_of_whoever_plays_alone_and_declares_it(
    folder: Path, performer: str, licence: str, consent: str, expected: str
) -> None:
    row = {"performer": performer, "licence": licence, "consent": consent}
    assert file_metadata(source(folder, "a.wav", row), {}, None).consent == expected


def test_file_metadata_takes_the_own_consent_back_where_the_performer_is_edited(folder: Path) -> None:
    file = source(folder, "a.wav", {"performer": "me", "licence": "my own recording"})
    edited = {"performer": "Rafiq", "licence": "my own recording", "consent": "own performance"}
    assert file_metadata(file, edited, None).consent == "unknown"


@pytest.mark.parametrize("cell", ["", " ", "unknown", "Unknown", "N/A", "-", "null", "nan"])
def test_file_metadata_treats_missing_value_cells_as_unknown(folder: Path, cell: str) -> None:
    rows = rows_of(table(folder, f"file_name,performer,text\na.wav,{cell},x\n"))
    assert file_metadata(source(folder, "a.wav", rows[0]), {}, None).performer == "unknown"


def test_caption_and_labels_follow_sections_and_seed(folder: Path) -> None:
    row = {"raga": "Yaman", "taal": "Tintal", "instrument": "Voice,Tabla", "mbid": "m"}
    file = replace(
        source(folder, "a.wav", row), sections=(AnnotatedSection(0, 60, "Alap"), AnnotatedSection(60, 60, "Khyal"))
    )
    metadata = file_metadata(file, {}, None)
    alap, khyal = metadata.caption_and_labels(0, 10, 0), metadata.caption_and_labels(80, 90, 0)
    assert alap[1].cycle == ()
    assert khyal[1].cycle == ("Tintal",)
    assert "Tintal" not in alap[0]
    assert "Tintal" in khyal[0]
    assert metadata.caption_and_labels(0, 10, 0) == alap
    assert len({metadata.caption_and_labels(80 + i, 90 + i, 0)[0] for i in range(20)}) > 2
    assert len({metadata.caption_and_labels(80, 90, seed)[0] for seed in range(20)}) > 2
    captioned = file_metadata(replace(file, row={**row, "text": "own caption"}), {}, None)
    assert captioned.caption_and_labels(0, 10, 0)[0] == "own caption"


def test_file_metadata_of_rendered_audio_ignores_text_files(folder: Path) -> None:
    class Silent:
        def hash(self) -> str:
            return "0" * 64

        def blocks(self, remarks: list[str]) -> Iterator[Audio]:
            raise AssertionError

        def tags(self) -> dict[str, str]:
            return {}

    (folder / "a.txt").write_text("Sira\tKod", encoding="utf-8")
    assert file_metadata(SourceFile(folder / "a.npz", "a.npz", Silent()), {}, None).caption == NO_CAPTION


def text_note(folder: Path) -> str:
    """The only note on the text beside a.wav; the recording itself stays usable, without a caption."""
    metadata = file_metadata(source(folder, "a.wav"), {}, None)
    assert metadata.origin == "none"
    (note,) = metadata.notes
    return note


def test_file_metadata_with_unreadable_text_file_says_so(folder: Path) -> None:
    (folder / "a.txt").write_bytes(b"\xff\xfe\x00\xd8")
    assert "a.txt is not used as its caption: is marked as UTF-16 and is damaged" in text_note(folder)
    (folder / "a.txt").write_bytes(b"x" * (MAX_TEXT_BYTES + 1))
    assert "at most 1,000,000 are read" in text_note(folder)
    (folder / "a.txt").write_bytes(b" \n")
    assert text_note(folder) == "a.txt is empty: no caption comes from it"
    (folder / "a.txt").unlink()
    os.mkfifo(folder / "a.txt")
    assert "is a pipe or a device, not a file" in text_note(folder)


def test_file_metadata_never_reads_a_text_outside_the_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("key", encoding="utf-8")
    (folder / "a.txt").symlink_to(tmp_path / "secret")
    assert "leads out of" in text_note(folder)
    (folder / "texts").mkdir()
    (folder / "texts" / "a").write_text("a link within the folder", encoding="utf-8")
    (folder / "a.txt").unlink()
    (folder / "a.txt").symlink_to(folder / "texts" / "a")
    assert file_metadata(source(folder, "a.wav"), {}, None).caption == "a link within the folder"


def test_file_metadata_reads_a_text_in_shift_jis_and_says_so(folder: Path) -> None:
    (folder / "a.txt").write_bytes("静かな朝の音楽".encode("cp932"))
    metadata = file_metadata(source(folder, "a.wav"), {}, None)
    assert metadata.caption == "静かな朝の音楽"
    assert "a.txt: read as Shift_JIS" in metadata.notes[0]


def test_file_metadata_of_a_very_long_caption_says_so(folder: Path) -> None:
    metadata = file_metadata(source(folder, "a.wav", {"text": "x" * 85_000}), {}, None)
    assert len(metadata.caption) == 85_000
    assert "85\u202f000 characters" in metadata.notes[0]


def test_file_metadata_keeps_words_of_a_second_column(folder: Path) -> None:
    row = {"licence": "CC BY 4.0", "copyright": "(c) Label", "performer": "Meera", "artist": "Meera"}
    assert file_metadata(source(folder, "a.wav", row), {}, None).extra == {"copyright": "(c) Label"}


def test_write_editable_adds_rows_and_keeps_edits(folder: Path) -> None:
    path = folder / "metadata.csv"
    neutral = RecordingMetadata(NO_CAPTION, "none", recording="a", licence="CC0")
    captioned = RecordingMetadata("caption", "metadata", recording="b")
    write_editable(path, {"a.wav": neutral, "b.wav": captioned}, {})
    assert rows_of(path) == [{"file_name": "a.wav"}]  # all others are for the user, and would win over a later table
    assert "a.wav,," in path.read_text("utf-8")
    typed = {"a.wav": {"text": "typed", "raga": "Yaman"}, "gone.wav": {"text": "kept"}}
    new = RecordingMetadata(NO_CAPTION, "none", recording="c")
    write_editable(path, {"a.wav": captioned, "c.wav": new}, typed)
    rows = {row["file_name"]: row for row in rows_of(path)}
    assert {name: row.get("text") for name, row in rows.items()} == {
        "a.wav": "typed",
        "gone.wav": "kept",
        "c.wav": None,
    }
    assert rows["a.wav"]["raga"] == "Yaman"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-5 dB", "@home", "'=quoted", "''=twice", "plain", "'plain"])
def test_write_editable_guards_formulas_and_reading_gives_them_back(folder: Path, text: str) -> None:
    path = folder / "metadata.csv"
    new, edited = RecordingMetadata(NO_CAPTION, "none"), {"text": text, "performer": "मीरा"}
    write_editable(path, {"=cmd|' /C calc'!A0.wav": new}, {"a.wav": edited})
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")  # so that spreadsheets read it as UTF-8
    cells = [cell for row in csv.reader(path.read_text("utf-8-sig").splitlines()) for cell in row]
    assert not [cell for cell in cells if cell[:1] in ("=", "+", "-", "@")]
    first, second = rows_of(path)
    assert first == {"file_name": "a.wav", **edited}
    assert second == {"file_name": "=cmd|' /C calc'!A0.wav"}


def test_write_editable_without_new_rows_writes_nothing(folder: Path) -> None:
    path = table(folder, "file_name;text\na.wav;typed\n")
    before = path.read_bytes()
    write_editable(path, {"a.wav": RecordingMetadata("typed", "corpus metadata.csv")}, {"a.wav": {"text": "typed"}})
    assert path.read_bytes() == before
    write_editable(folder / "other.csv", {"a.wav": RecordingMetadata("x", "--caption")}, {})
    assert not (folder / "other.csv").exists()
