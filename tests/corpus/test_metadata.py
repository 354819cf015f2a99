"""Metadata tables as spreadsheets write them, and the errors for invalid ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from talim.corpus import metadata
from talim.corpus.importers.folder import walk_folders
from talim.corpus.metadata import MetadataNote, MetadataRow, plain_row, read_sections, read_table
from talim.errors import TalimError


def table(folder: Path, text: str, name: str = "metadata.csv") -> Path:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def read_metadata(folder: Path, out: Path, *names: str) -> tuple[dict[str, MetadataRow], list[MetadataNote]]:
    return metadata.read_metadata(folder, walk_folders(folder, out), {*names})


@pytest.mark.parametrize(
    "text",
    [
        'file_name,text\na.wav,"one, two"\n',
        "\ufefffile_name;text\r\na.wav;one, two\r\n",
        "File Name\ttext\na.wav\tone, two\n",
    ],
)
def test_read_table_of_spreadsheet_csv_dialects_gives_rows(folder: Path, text: str) -> None:
    assert read_table(table(folder, text)) == [{"file_name": "a.wav", "text": "one, two"}]


def test_read_table_of_jsonl_gives_text_cells(folder: Path) -> None:
    rows = [{"file_name": "a.wav", "text": "x", "tonic_hz": 220, "instruments": ["ney", "ud"], "mode": None}]
    path = table(folder, "\n".join(json.dumps(row) for row in rows) + "\n\n", "metadata.jsonl")
    expected = {"file_name": "a.wav", "text": "x", "tonic_hz": "220", "instruments": "ney | ud"}
    assert read_table(path) == [expected]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("metadata.csv", b"text,licence\nhello,CC0\n", "line 2 names no file; a column file_name is needed"),
        ("metadata.csv", "file_name,text\na.wav,ağır\n".encode("cp1254"), "not UTF-8"),
        ("metadata.jsonl", b'{"file_name": "a.wav"}\n{oops\n', "line 2 is not JSON"),
        ("metadata.jsonl", b"[1]\n", "line 1 is not a JSON object"),
    ],
)
def test_read_table_of_invalid_file_names_file_and_line(folder: Path, name: str, content: bytes, reason: str) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(TalimError, match=reason) as caught:
        read_table(folder / name)
    assert str(folder / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_read_metadata_resolves_names_relative_to_each_table(folder: Path, tmp_path: Path) -> None:
    table(folder, "file_name,text\na.wav,first\ndeep\\c.wav,third\nabsent.wav,nobody\n")
    table(folder, "file_name,text\nb.wav,second\n", "deep/metadata.csv")
    rows, notes = read_metadata(folder, tmp_path / "out", "a.wav", "deep/b.wav", "deep/c.wav")
    assert {name: row["text"] for name, row in rows.items()} == {
        "a.wav": "first",
        "deep/b.wav": "second",
        "deep/c.wav": "third",
    }
    assert notes == [{"file": "metadata.csv", "note": "names 1 files that do not exist, such as absent.wav"}]


def test_read_metadata_with_contradicting_rows_notes_them(folder: Path, tmp_path: Path) -> None:
    table(folder, "file_name,text\na.wav,first\na.wav,second\n")
    rows, notes = read_metadata(folder, tmp_path / "out", "a.wav")
    assert rows["a.wav"]["text"] == "second"
    assert "several rows name a.wav" in notes[0]["note"]


def test_read_metadata_without_table_uses_the_folder_above(folder: Path, tmp_path: Path) -> None:
    table(tmp_path, f"file_name,text\n{folder.name}/a.wav,own\na.wav,foreign\nother/b.wav,foreign\n")
    rows, notes = read_metadata(folder, tmp_path / "out", "a.wav", "b.wav")
    assert {name: row["text"] for name, row in rows.items()} == {"a.wav": "own"}
    assert notes[0]["file"] == "../metadata.csv"
    table(folder, "file_name,text\nb.wav,own\n")
    rows, notes = read_metadata(folder, tmp_path / "out", "a.wav", "b.wav")
    assert {name: row["text"] for name, row in rows.items()} == {"b.wav": "own"}
    assert notes == []


def test_read_metadata_ignores_an_invalid_table_above(folder: Path, tmp_path: Path) -> None:
    table(tmp_path, "something,else\n1,2\n")
    assert read_metadata(folder, tmp_path / "out", "a.wav") == ({}, [])


def test_plain_row_normalizes_columns_and_drops_missing_cells() -> None:
    row = plain_row({"File Name": "a.wav", "Tempo-BPM": 90.5, "mode": None, "tags": ["x", None, "y"], "z": "nan"})
    assert row == {"file_name": "a.wav", "tempo_bpm": "90.5", "tags": "x | y"}


def test_read_sections_gives_times_and_labels_or_names_the_row(folder: Path, tmp_path: Path) -> None:
    table(
        folder,
        "file_name,start_seconds,end_seconds,name,tala,laya\nb.wav,60,90,gat,tintal,drut\nb.wav,0,60,alap,,\n",
        "deep/sections.csv",
    )
    first, second = read_sections(folder, walk_folders(folder, tmp_path / "out"))["deep/b.wav"]
    assert (first.start_seconds, first.seconds, first.name, first.cells) == (0.0, 60.0, "alap", {})
    assert (second.seconds, second.cells) == (30.0, {"tala": "tintal", "laya": "drut"})
    table(folder, "file_name,start_seconds,seconds\nb.wav,soon,60\n", "deep/sections.csv")
    with pytest.raises(TalimError, match=r"sections\.csv: row 2 needs start_seconds"):
        read_sections(folder, walk_folders(folder, tmp_path / "out"))
