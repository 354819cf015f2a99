"""Captions and rights: their sources and which one wins."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from talim.corpus.captions import BUILT_FROM_LABELS, NEUTRAL_CAPTION, RecordingMetadata, file_metadata, write_editable
from talim.corpus.labels import Labels
from talim.corpus.metadata import read_table
from talim.corpus.recordings import AnnotatedSection, FileAudio, SourceFile
from talim.errors import TalimError


def source(folder: Path, name: str, row: dict[str, str] | None = None) -> SourceFile:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    return SourceFile(folder / name, name, FileAudio(folder / name), row or {})


def table(folder: Path, text: str) -> Path:
    (folder / "metadata.csv").write_text(text, encoding="utf-8")
    return folder / "metadata.csv"


@pytest.mark.parametrize("column", ["text", "caption", "Description", "PROMPT"])
def test_file_metadata_reads_the_caption_from_any_text_column(folder: Path, column: str) -> None:
    rows = read_table(table(folder, f"file_name,{column}\na.wav,slow alap\n"))
    assert file_metadata(source(folder, "a.wav", rows[0]), {}, "ignored").caption == "slow alap"


def test_file_metadata_selects_the_caption_by_priority(folder: Path) -> None:
    bare = source(folder, "a.wav")
    captioned = replace(bare, row={"text": "row", "tradition": "makam"})
    labelled = replace(bare, row={"tradition": "makam"})
    results = [file_metadata(captioned, {"text": "edited"}, "all")]
    results += [file_metadata(captioned, {"text": NEUTRAL_CAPTION}, "all")]
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
        (NEUTRAL_CAPTION, "none"),
    ]
    assert "makam" in results[4].caption or "Turkish" in results[4].caption


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
    assert metadata == RecordingMetadata(NEUTRAL_CAPTION, "none", recording="deep/a.b", licence="own", labels=Labels())


@pytest.mark.parametrize("cell", ["", " ", "unknown", "Unknown", "N/A", "-", "null", "nan"])
def test_file_metadata_treats_missing_value_cells_as_unknown(folder: Path, cell: str) -> None:
    rows = read_table(table(folder, f"file_name,performer,text\na.wav,{cell},x\n"))
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

        def read(self) -> None:
            raise AssertionError

    (folder / "a.txt").write_text("Sira\tKod", encoding="utf-8")
    assert file_metadata(SourceFile(folder / "a.npz", "a.npz", Silent()), {}, None).caption == NEUTRAL_CAPTION


def test_file_metadata_with_unreadable_text_file_raises(folder: Path) -> None:
    (folder / "a.txt").write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(TalimError, match=r"a\.txt: is not readable UTF-8"):
        file_metadata(source(folder, "a.wav"), {}, None)


def test_write_editable_adds_rows_and_keeps_edits(folder: Path) -> None:
    path = folder / "metadata.csv"
    neutral = RecordingMetadata(NEUTRAL_CAPTION, "none", recording="a", licence="CC0")
    captioned = RecordingMetadata("caption", "metadata", recording="b")
    write_editable(path, {"a.wav": neutral, "b.wav": captioned}, {})
    rows = read_table(path)
    assert rows == [{"file_name": "a.wav", "text": NEUTRAL_CAPTION, "recording": "a", "licence": "CC0"}]
    typed = {"a.wav": {"text": "typed", "raga": "Yaman"}, "gone.wav": {"text": "kept"}}
    new = RecordingMetadata(NEUTRAL_CAPTION, "none", recording="c")
    write_editable(path, {"a.wav": captioned, "c.wav": new}, typed)
    assert {row["file_name"]: row["text"] for row in read_table(path)} == {
        "a.wav": "typed",
        "gone.wav": "kept",
        "c.wav": NEUTRAL_CAPTION,
    }
    assert read_table(path)[0]["raga"] == "Yaman"


def test_write_editable_without_new_rows_writes_nothing(folder: Path) -> None:
    path = table(folder, "file_name;text\na.wav;typed\n")
    before = path.read_bytes()
    write_editable(path, {"a.wav": RecordingMetadata("typed", "corpus metadata.csv")}, {"a.wav": {"text": "typed"}})
    assert path.read_bytes() == before
    write_editable(folder / "other.csv", {"a.wav": RecordingMetadata("x", "--caption")}, {})
    assert not (folder / "other.csv").exists()
