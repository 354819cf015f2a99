"""Words and rights: where they come from, which wins, and what is said about broken tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from talim.corpus.captions import (
    NEUTRAL,
    Words,
    built_caption,
    describe_file,
    read_metadata,
    read_table,
    write_editable,
)
from talim.corpus.importers import SourceFile
from talim.errors import TalimError


def source(folder: Path, name: str) -> SourceFile:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    return SourceFile(folder / name, name)


def table(folder: Path, text: str, name: str = "metadata.csv") -> Path:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


@pytest.mark.parametrize("column", ["text", "caption", "Description", "PROMPT"])
def test_a_text_column_by_any_of_its_names(folder: Path, column: str) -> None:
    rows = read_table(table(folder, f"file_name,{column}\na.wav,slow alap\n"))
    assert describe_file(source(folder, "a.wav"), rows[0], {}, "ignored").caption == "slow alap"


@pytest.mark.parametrize(
    "text",
    [
        'file_name,text\na.wav,"one, two"\n',
        "\ufefffile_name;text\r\na.wav;one, two\r\n",
        "File Name\ttext\na.wav\tone, two\n",
    ],
)
def test_csv_as_spreadsheets_write_it(folder: Path, text: str) -> None:
    assert read_table(table(folder, text)) == [{"file_name": "a.wav", "text": "one, two"}]


def test_jsonl_rows(folder: Path) -> None:
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
def test_broken_tables_name_file_and_line(folder: Path, name: str, content: bytes, reason: str) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(TalimError, match=reason) as caught:
        read_table(folder / name)
    assert str(folder / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tables_name_files_relative_to_themselves(folder: Path, tmp_path: Path) -> None:
    files = [source(folder, name) for name in ("a.wav", "deep/b.wav", "deep/c.wav")]
    table(folder, "file_name,text\na.wav,first\ndeep\\c.wav,third\nabsent.wav,nobody\n")
    table(folder, "file_name,text\nb.wav,second\n", "deep/metadata.csv")
    rows, notes = read_metadata(folder, tmp_path / "out", files)
    assert {name: row["text"] for name, row in rows.items()} == {
        "a.wav": "first",
        "deep/b.wav": "second",
        "deep/c.wav": "third",
    }
    assert notes == [{"file": "metadata.csv", "note": "names 1 files that are not there, such as absent.wav"}]


def test_contradicting_rows_are_noted(folder: Path, tmp_path: Path) -> None:
    table(folder, "file_name,text\na.wav,first\na.wav,second\n")
    rows, notes = read_metadata(folder, tmp_path / "out", [source(folder, "a.wav")])
    assert rows["a.wav"]["text"] == "second"
    assert "several rows name a.wav" in notes[0]["note"]


def test_a_part_of_a_collection_is_described_by_the_table_above(folder: Path, tmp_path: Path) -> None:
    table(tmp_path, f"file_name,text\n{folder.name}/a.wav,mine\na.wav,not mine\nother/b.wav,not mine\n")
    rows, notes = read_metadata(folder, tmp_path / "out", [source(folder, "a.wav"), source(folder, "b.wav")])
    assert {name: row["text"] for name, row in rows.items()} == {"a.wav": "mine"}
    assert notes[0]["file"] == "../metadata.csv"
    table(folder, "file_name,text\nb.wav,own\n")
    rows, notes = read_metadata(folder, tmp_path / "out", [source(folder, "a.wav"), source(folder, "b.wav")])
    assert {name: row["text"] for name, row in rows.items()} == {"b.wav": "own"}
    assert notes == []


def test_a_broken_table_above_is_nobodys_business(folder: Path, tmp_path: Path) -> None:
    table(tmp_path, "something,else\n1,2\n")
    assert read_metadata(folder, tmp_path / "out", [source(folder, "a.wav")]) == ({}, [])


def test_which_words_win(folder: Path) -> None:
    file = source(folder, "a.wav")
    row, edited = {"text": "row", "tradition": "makam"}, {"text": "edited"}
    columns = {"tradition": "makam"}
    said = [describe_file(file, row, edited, "all")]
    said += [describe_file(file, row, {"text": NEUTRAL}, "all")]
    (folder / "a.txt").write_text(" beside\nthe sound \n", encoding="utf-8")
    said += [describe_file(file, columns, {}, "all")]
    (folder / "a.txt").unlink()
    said += [describe_file(file, columns, {}, "all"), describe_file(file, columns, {}, None)]
    said += [describe_file(file, {}, {}, None)]
    assert [(words.caption, words.origin) for words in said] == [
        ("edited", "corpus metadata.csv"),
        ("row", "metadata"),
        ("beside the sound", "text file"),
        ("all", "describe"),
        ("Makam music", "built from columns"),
        (NEUTRAL, "none"),
    ]


def test_rights_are_kept_and_unknown_is_said(folder: Path) -> None:
    file = source(folder, "deep/a.b.wav")
    row = {
        "license": "CC0",
        "artist": "Someone",
        "url": "https://x",
        "consent": "signed 2024",
        "tonic_hz": "220",
    }
    said = describe_file(file, row, {}, None)
    assert (said.licence, said.performer, said.source, said.consent) == (
        "CC0",
        "Someone",
        "https://x",
        "signed 2024",
    )
    assert said.extra == {"tonic_hz": "220"}
    said = describe_file(file, {"performer": ""}, {"licence": "own"}, None)
    assert said == Words(NEUTRAL, "none", recording="deep/a.b", licence="own")


@pytest.mark.parametrize("cell", ["", " ", "unknown", "Unknown", "N/A", "-", "null", "nan"])
def test_cells_that_say_nothing(folder: Path, cell: str) -> None:
    rows = read_table(table(folder, f"file_name,performer,text\na.wav,{cell},x\n"))
    assert describe_file(source(folder, "a.wav"), rows[0], {}, None).performer == "unknown"


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (
            {
                "tradition": "hindustani",
                "mode": "Yaman Kalyan",
                "mode_kind": "raga",
                "instruments": "voice|tanpura|tabla",
            },
            "Hindustani music, raga Yaman Kalyan, voice, tanpura and tabla",
        ),
        (
            {
                "tradition": "western",
                "mode": "F# minor",
                "mode_kind": "key",
                "instruments": "string orchestra",
            },
            "Western music, in F# minor, string orchestra",
        ),
        ({"makam": "Hicaz", "usul": "aksak", "instrument": "ney, ud"}, "makam Hicaz, usul aksak, ney and ud"),
        (
            {"raga": "Yaman", "taal": "tintal", "tempo_bpm": "90"},
            "raga Yaman, tala tintal, 90 beats per minute",
        ),
        ({"tradition": "makam", "mode_kind": "makam"}, "Makam music"),
        ({"tonic_hz": "220"}, ""),
    ],
)
def test_built_captions_read_well(cells: dict[str, str], expected: str) -> None:
    assert built_caption(cells) == expected


def test_unreadable_words_beside_the_sound(folder: Path) -> None:
    (folder / "a.txt").write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(TalimError, match=r"a\.txt: is not readable UTF-8"):
        describe_file(source(folder, "a.wav"), {}, {}, None)


def test_the_editable_table_keeps_what_was_typed(folder: Path) -> None:
    path = folder / "metadata.csv"
    silent = Words(NEUTRAL, "none", recording="a", licence="CC0")
    told = Words("told", "metadata", recording="b")
    assert write_editable(path, {"a.wav": silent, "b.wav": told}, {}) == ["a.wav"]
    rows = read_table(path)
    assert rows == [{"file_name": "a.wav", "text": NEUTRAL, "recording": "a", "licence": "CC0"}]
    typed = {"a.wav": {"text": "mine", "raga": "Yaman"}, "gone.wav": {"text": "kept"}}
    new = Words(NEUTRAL, "none", recording="c")
    assert write_editable(path, {"a.wav": told, "c.wav": new}, typed) == ["c.wav"]
    assert {row["file_name"]: row["text"] for row in read_table(path)} == {
        "a.wav": "mine",
        "gone.wav": "kept",
        "c.wav": NEUTRAL,
    }
    assert read_table(path)[0]["raga"] == "Yaman"


def test_the_editable_table_is_not_touched_without_need(folder: Path) -> None:
    path = table(folder, "file_name;text\na.wav;mine\n")
    before = path.read_bytes()
    write_editable(path, {"a.wav": Words("mine", "corpus metadata.csv")}, {"a.wav": {"text": "mine"}})
    assert path.read_bytes() == before
    write_editable(folder / "other.csv", {"a.wav": Words("x", "describe")}, {})
    assert not (folder / "other.csv").exists()
