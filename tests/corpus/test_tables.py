"""Tables as spreadsheets and people write them: rows with lines, notes on what is odd, errors for what may mislead."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from talim.corpus.tables import Table, format_lines, guard_formula, plain_row, read_table, unguard_formula
from talim.errors import TalimError


def table(folder: Path, content: str | bytes, name: str = "metadata.csv") -> Table:
    data = content.encode("utf-8") if isinstance(content, str) else content
    (folder / name).write_bytes(data)
    return read_table(folder / name)


@pytest.mark.parametrize(
    "text",
    [
        'file_name,text\na.wav,"one, two"\n',
        "\ufefffile_name;text\r\na.wav;one, two\r\n",
        "File Name\ttext\na.wav\tone, two\n",
        "file_name|text\na.wav|one, two\n",
        "sep=;\r\nfile_name;text\r\na.wav;one, two\r\n",
        '"sep=;"\nfile_name;text\na.wav;one, two\n',
        "ＦＩＬＥ＿ＮＡＭＥ\tＴｅｘｔ\na.wav\tone, two\n",
        ' FILE-NAME , Text: \r a.wav , "one, two" \r',
        'file_name,text\na.wav,"one,\n two"\n',
        '\n ,\nfile_name,text\n\n,\na.wav,"one, two"\n\n',
        'file_name,text,\na.wav,"one, two",\n',
    ],
)
def test_read_table_of_spreadsheet_csv_dialects_gives_rows(folder: Path, text: str) -> None:
    read = table(folder, text)
    assert [row for _, row in read.rows] == [{"file_name": "a.wav", "text": "one, two"}]
    assert read.notes == []


def test_read_table_counts_lines_as_editors_do(folder: Path) -> None:
    text = 'sep=,\nfile_name,text\na.wav,"two\nlines"\n\nb.wav,one\n'
    assert [line for line, _ in table(folder, text).rows] == [3, 6]


def test_read_table_of_jsonl_gives_text_cells(folder: Path) -> None:
    rows = [{"file_name": "a.wav", "text": "x", "tonic_hz": 220, "instruments": ["ney", "ud"], "mode": None}]
    rows += [{"file_name": 1.0, "nested": {"a": 1}, "loop": True}]
    read = table(folder, "\n".join(json.dumps(row) for row in rows) + "\n\n", "metadata.jsonl")
    assert read.rows == [
        (1, {"file_name": "a.wav", "text": "x", "tonic_hz": "220", "instruments": "ney | ud"}),
        (2, {"file_name": "1", "nested": '{"a": 1}', "loop": "true"}),
    ]


def test_read_table_replaces_halves_of_characters_and_says_so(folder: Path) -> None:
    read = table(folder, '{"file_name": "a.wav", "text": "x\\ud800"}\n', "metadata.jsonl")
    assert read.rows[0][1]["text"].encode("utf-8") == b"x?"
    assert "line 1 with halves of characters" in read.notes[0]


@pytest.mark.parametrize(
    ("content", "note"),
    [
        ("", "holds no row"),
        (" \n\n", "holds no row"),
        ("file_name,text\n", "holds no row"),
        ("file_name,text\n , \n", "holds no row"),
        ("file_name,text\na.wav,x\n ,lost words\n", "line 3 without a file name: not used"),
        ("file_name,text,licence\na.wav,x\nb.wav\n", "lines 2 to 3 with fewer cells than columns"),
        ("file_name,text\na.wav,x,,\n", "line 2 with more cells than columns, the last ones empty"),
        ("file_name,,text\na.wav,lost,x\nb.wav,,y\n", "column 2 has no name in the first line: its text in 1 row"),
        ("file_name,text\na.wav,静かな朝の音楽\n".encode("cp932"), "read as Shift_JIS"),
        ("file_name,text\na.wav,x\n".encode("utf-16"), "read as UTF-16"),
    ],
)
def test_read_table_notes_what_is_odd(folder: Path, content: str | bytes, note: str) -> None:
    (found,) = table(folder, content).notes
    assert note in found


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        (
            "metadata.csv",
            "text,licence\nhello,CC0\n",
            r"line 2 names no file; a column file_name is needed \(has: text, licence",
        ),
        ("metadata.csv", "a.wav,raga Yaman\nb.wav,x\n", "line 2 names no file; .*for example file_name,text"),
        ("metadata.csv", "file_name,text,Text\na.wav,x,y\n", "the column text is there twice"),
        (
            "metadata.csv",
            "file_name,text,performer\na.wav,raga Yaman, female voice, tanpura,Meera\n",
            "line 2 has 5 cells for 3 columns .*needs quotation marks",
        ),
        ("metadata.csv", "file_name\ttext\na.wav\tx\ty\n", "line 2 has 3 cells for 2 columns"),
        ("metadata.csv", 'file_name,text\na.wav,"open\nb.wav,y\n', "line 2 is not CSV: .*opens a cell"),
        ("metadata.csv", 'file_name,text\na.wav,"open\nb.wav,"y"\n', "line 2 is not CSV"),
        (
            "metadata.csv",
            'file_name,text\na.wav,"open\nb.wav,"\nc.wav,z\n',
            "line 2 opens a quotation mark that closes lines",
        ),
        ("metadata.csv", 'file_name,text,x\na,"open\nb,y,"\nc,z,\n', "line 2 opens a quotation mark that closes lines"),
        ("metadata.csv", 'file_name,text\na.wav,"a "quoted" word"\n', "line 2 is not CSV"),
        ("metadata.csv", b"file_name,text\na.wav,\x81\xff\n", "is not UTF-8 text"),
        ("metadata.csv", b"PK\x03\x04\x14\0\0\0", "is no text"),
        ("metadata.csv", f"file_name,text\na.wav,{'x' * 200_000}\n", "line 2 is not CSV: field larger"),
        ("metadata.jsonl", '{"file_name": "a.wav"}\n{oops\n', "line 2 is not JSON"),
        ("metadata.jsonl", "[1]\n", "line 1 is not a JSON object"),
        ("metadata.jsonl", '{"text": "x"}\n', "line 1 names no file"),
        ("metadata.jsonl", f'{{"file_name": {"[" * 100_000}', "line 1 is not JSON: it is nested too deeply"),
        ("metadata.jsonl", '{"Text": "x", "text": "y", "file": "a"}\n', "line 1 has the column text twice"),
    ],
)
def test_read_table_of_invalid_file_names_file_and_line(
    folder: Path, name: str, content: str | bytes, reason: str
) -> None:
    with pytest.raises(TalimError, match=reason) as caught:
        table(folder, content, name)
    assert str(folder / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_read_table_of_pipes_folders_and_links_that_lead_out_raises(folder: Path, tmp_path: Path) -> None:
    os.mkfifo(folder / "metadata.csv")
    with pytest.raises(TalimError, match="a pipe"):
        read_table(folder / "metadata.csv")
    (folder / "metadata.csv").unlink()
    (tmp_path / "secret").write_text("file_name,text\n")
    (folder / "metadata.csv").symlink_to(tmp_path / "secret")
    with pytest.raises(TalimError, match="leads out of"):
        read_table(folder / "metadata.csv")


def test_plain_row_normalizes_columns_and_drops_missing_cells() -> None:
    row = plain_row({"File Name": "a.wav", "Tempo-BPM": 90.5, "mode": None, "tags": ["x", None, "y"], "z": "nan"})
    assert row == {"file_name": "a.wav", "tempo_bpm": "90.5", "tags": "x | y"}


def test_plain_row_keeps_names_of_files_as_they_are() -> None:
    assert plain_row({"file": " 録音\u3000 1.wav ", "text": "two\u3000words"}) == {
        "file": "録音\u3000 1.wav",
        "text": "two words",
    }
    assert plain_row({"file_name": "unknown"}) == {"file_name": "unknown"}


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@a", "'=1", "''=1", "a", "'a", "", "'", "\tx"])
def test_guard_formula_and_unguard_formula_are_inverse(text: str) -> None:
    assert guard_formula(text)[:1] not in ("=", "+", "-", "@", "\t")
    assert unguard_formula(guard_formula(text)) == text


def test_format_lines_names_every_line() -> None:
    assert format_lines([3]) == "line 3"
    assert format_lines([7, 2, 3, 5, 3]) == "lines 2 to 3, 5 and 7"


def test_a_file_name_with_a_line_break_is_no_swallowed_row(tmp_path: Path) -> None:
    path = tmp_path / "metadata.csv"
    path.write_text('file_name,text\n"two\nlines 14.ogg",slow\nb.wav,fast\n', encoding="utf-8")
    assert [row["file_name"] for _, row in read_table(path).rows] == ["two\nlines 14.ogg", "b.wav"]
