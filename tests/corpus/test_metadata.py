"""Metadata tables as spreadsheets write them, and the errors for invalid ones.

Columns by the names that people write: none is ignored without a word.

Names in tables as people write them, and the recordings that they mean.
"""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

import pytest

from talim.corpus import metadata
from talim.corpus.corpus_folder import read_edited_captions
from talim.corpus.importers.folder import walk_folders
from talim.corpus.labels import parse_labels
from talim.corpus.metadata import (
    FileMatch,
    FileMatcher,
    MetadataNote,
    read_sections,
    recording_columns,
    section_columns,
    with_known_columns,
)
from talim.corpus.tables import MetadataRow, Table, plain_row
from talim.errors import TalimError, UsageError

NAMES = frozenset({
    "yaman.m4a", "Bhupali at the temple.mp3", "deep/Kırık Hava.wav", "deep/take.wav", "other/take.wav", "both.wav",
    "both.mp3", "1.wav", "çargâh.wav", "İstanbul.wav", "録音 一.wav", "a.b.wav",
})  # fmt: skip


def table(folder: Path, text: str, name: str = "metadata.csv") -> Path:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def read_metadata(folder: Path, out: Path, *names: str) -> tuple[dict[str, MetadataRow], list[MetadataNote]]:
    return metadata.read_metadata(folder, walk_folders(folder, out), {*names})


def test_read_metadata_resolves_names_relative_to_each_table(folder: Path, tmp_path: Path) -> None:
    table(folder, "file_name,text\na.wav,first\ndeep\\c.wav,third\nabsent.wav,nobody\n")
    table(folder, "file_name,text\nb.wav,second\n", "deep/metadata.csv")
    rows, notes = read_metadata(folder, tmp_path / "out", "a.wav", "deep/b.wav", "deep/c.wav")
    assert {name: row["text"] for name, row in rows.items()} == {
        "a.wav": "first",
        "deep/b.wav": "second",
        "deep/c.wav": "third",
    }
    (note,) = notes
    assert note["note"] == "line 4 matches no recording here and is not used: 'absent.wav'"


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


def notes_of(folder: Path, out: Path, *names: str) -> list[str]:
    return [f"{note['file']}: {note['note']}" for note in read_metadata(folder, out, *names)[1]]


@pytest.mark.parametrize(
    ("written", "note"),
    [
        ("Yaman.M4A", "1 row matched by a similar name: 'Yaman.M4A' (line 2) is yaman.m4a"),
        ("yaman", "'yaman' (line 2) is yaman.m4a"),
        (r"C:\\Users\\me\\yaman.m4a", "is yaman.m4a"),
        ("nobody.wav", "line 2 matches no recording here and is not used: 'nobody.wav'"),
        ("yamann.m4a", "'yamann.m4a' (is it yaman.m4a?)"),
        ("take", "line 2 is not used: 'take' may be take.mp3 or take.wav; write its whole name"),
        ("deep", "line 2 matches no recording here"),
    ],
)
def test_read_metadata_says_what_became_of_a_row(folder: Path, tmp_path: Path, written: str, note: str) -> None:
    table(folder, f"file_name,text\n{written},x\n")
    rows, _ = read_metadata(folder, tmp_path / "out", "yaman.m4a", "take.wav", "take.mp3", "deep/b.wav")
    (found,) = notes_of(folder, tmp_path / "out", "yaman.m4a", "take.wav", "take.mp3", "deep/b.wav")
    assert note in found
    assert bool(rows) == ("matched by" in found)


def test_read_metadata_names_every_unused_line(folder: Path, tmp_path: Path) -> None:
    table(folder, "file_name,text\n" + "".join(f"gone-{number}.wav,x\n" for number in range(40)))
    (note,) = notes_of(folder, tmp_path / "out", "yaman.m4a")
    assert "lines 2 to 41 match no recording here" in note
    assert "'gone-4.wav' and 35 more" in note


def test_read_metadata_lets_the_very_name_win(folder: Path, tmp_path: Path) -> None:
    table(folder, "file_name,text\na.wav,exact\nA.mp3,similar\n")
    rows, notes = read_metadata(folder, tmp_path / "out", "a.wav")
    assert rows == {"a.wav": {"text": "exact"}}
    assert any(
        "several rows name a.wav" in note["note"] and "and line 2; they differ, and line 2 counts" in note["note"]
        for note in notes
    )
    table(folder, "file_name,text\nA.WAV,elsewhere\n", "z/metadata.csv")
    assert read_metadata(folder, tmp_path / "out", "a.wav")[0] == {"a.wav": {"text": "exact"}}


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("metadata.xlsx", "not read: save it as metadata.csv"),
        ("Metadata.ODS", "not read: save it as metadata.csv"),
        ("metadata.numbers", "not read: save it as metadata.csv"),
        ("metadata.tsv", "not read: save it as metadata.csv"),
        ("metadata (1).csv", "not read: save it as metadata.csv"),
        ("metadata - Copy.csv", "not read: save it as metadata.csv"),
        ("metadata.csv.txt", "not read: save it as metadata.csv"),
        ("metadata.json", "not read: save it as metadata.csv"),
        ("metadata", "not read: save it as metadata.csv"),
        ("meta data.csv", "not read: save it as metadata.csv"),
        ("metdata.csv", "not read: save it as metadata.csv"),
        ("ｍｅｔａｄａｔａ.xlsx", "not read: save it as metadata.csv"),
        ("Sections.csv", "not read: save it as sections.csv"),
        ("recordings.csv", "not read: recordings are described in metadata.csv"),
        ("録音リスト.xlsx", "not read: recordings are described in metadata.csv"),
    ],
)
def test_read_metadata_names_tables_that_it_does_not_read(folder: Path, tmp_path: Path, name: str, note: str) -> None:
    (folder / "deep").mkdir()
    (folder / "deep" / name).write_bytes(b"file_name,text\na.wav,x\n")
    rows, _ = read_metadata(folder, tmp_path / "out", "deep/a.wav")
    (found,) = notes_of(folder, tmp_path / "out", "deep/a.wav")
    assert found.startswith(f"deep/{name}: {note}")
    assert rows == {}


@pytest.mark.parametrize(
    "name", ["notes.txt", "README.md", "cover.jpg", "a.txt", ".metadata.csv.swp", "~$metadata.xlsx"]
)
def test_read_metadata_says_nothing_of_other_files(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).write_bytes(b"x")
    assert notes_of(folder, tmp_path / "out", "a.wav") == []


def test_read_metadata_reads_the_name_in_other_letters(folder: Path, tmp_path: Path) -> None:
    table(folder, "file_name,text\na.wav,x\n", "Metadata.CSV")
    assert read_metadata(folder, tmp_path / "out", "a.wav") == (
        {"a.wav": {"text": "x"}},
        [{"file": "Metadata.CSV", "note": "read as metadata.csv"}],
    )
    table(folder, "file_name,text\na.wav,y\n")
    rows, notes = read_metadata(folder, tmp_path / "out", "a.wav")
    assert rows == {"a.wav": {"text": "y"}}
    assert "not read" in notes[0]["note"]


def test_read_metadata_of_a_folder_or_pipe_called_like_a_table_says_so(folder: Path, tmp_path: Path) -> None:
    (folder / "metadata.csv").mkdir()
    os.mkfifo(folder / "metadata.jsonl")
    assert notes_of(folder, tmp_path / "out", "a.wav") == [
        "metadata.csv: is a folder: not read",
        "metadata.jsonl: is not a regular file: not read",
    ]


def test_read_metadata_notes_unknown_columns_with_the_nearest_known_one(folder: Path, tmp_path: Path) -> None:
    table(folder, "file_name,licens,weather,text,seed\na.wav,CC0,rain,x,1\n")
    rows, notes = read_metadata(folder, tmp_path / "out", "a.wav")
    assert rows["a.wav"]["weather"] == "rain"
    assert notes[0]["note"] == "columns not used, only kept with the clips: licens (is it license?), weather"


def test_read_metadata_notes_two_columns_of_one_meaning(folder: Path, tmp_path: Path) -> None:
    table(folder, "file_name,licence,copyright\na.wav,CC0,(c) Label\nb.wav,CC0,CC0\n")
    (note,) = notes_of(folder, tmp_path / "out", "a.wav", "b.wav")
    assert "line 2 with several columns for the licence: licence counts, not copyright" in note


def test_read_metadata_of_a_licence_in_the_next_column_raises(folder: Path, tmp_path: Path) -> None:
    table(folder, "file_name,text,performer,licence,source\na.wav,raga Yaman, female voice,Meera,CC BY 4.0\n")
    with pytest.raises(
        TalimError, match=r"line 2 has the licence 'CC BY 4.0' in column source, and 'Meera' as its licence"
    ):
        read_metadata(folder, tmp_path / "out", "a.wav")


def test_read_sections_gives_times_and_labels_or_names_the_row(folder: Path, tmp_path: Path) -> None:
    table(
        folder,
        "file_name,start_seconds,end_seconds,name,tala,laya\nb.wav,60,90,gat,tintal,drut\nb.wav,0,60,alap,,\n",
        "deep/sections.csv",
    )
    sections, notes = read_sections(folder, walk_folders(folder, tmp_path / "out"), {"deep/b.wav"})
    first, second = sections["deep/b.wav"]
    assert notes == []
    assert (first.start_seconds, first.seconds, first.name, first.cells) == (0.0, 60.0, "alap", {})
    assert (second.seconds, second.cells) == (30.0, {"tala": "tintal", "laya": "drut"})


@pytest.mark.parametrize(
    ("start", "seconds", "reason"),
    [
        ("soon", "60", "line 2 needs start_seconds"),
        ("-1", "60", "line 2 is a section from -1 s"),
        ("0", "0", "that lasts 0 s"),
        ("0", "-5", "that lasts -5 s"),
        ("0", "inf", "that lasts inf s"),
        ("nan", "5", "line 2"),
        ("inf", "5", "line 2 is a section from inf s"),
        ("", "5", "line 2 needs start_seconds"),
    ],
)
def test_read_sections_of_impossible_times_raises(
    folder: Path, tmp_path: Path, start: str, seconds: str, reason: str
) -> None:
    table(folder, f"file_name,start_seconds,seconds\nb.wav,{start},{seconds}\n", "sections.csv")
    with pytest.raises(TalimError, match=rf"sections\.csv: {reason}|sections\.csv: line 2.*{reason}"):
        read_sections(folder, walk_folders(folder, tmp_path / "out"), {"b.wav"})


def test_read_sections_matches_names_and_tells_what_is_left(folder: Path, tmp_path: Path) -> None:
    table(folder, "file_name,start_seconds,seconds\nB,0,5\ngone.wav,0,5\n", "sections.csv")
    sections, notes = read_sections(folder, walk_folders(folder, tmp_path / "out"), {"b.wav"})
    assert [*sections] == ["b.wav"]
    assert ["line 3 matches no recording" in note["note"] for note in notes] == [False, True]


ODD_TABLES: list[tuple[str, str, bytes, dict[str, str], str]] = [
    # what is odd, the table's name, its bytes, the row of yaman.wav (or {}), what is said (or "")
    (
        "tabs",
        "metadata.csv",
        b"file_name\ttext\tperformer\nyaman.wav\tslow, soft\tMeera\n",
        {"text": "slow, soft", "performer": "Meera"},
        "",
    ),
    ("pipes", "metadata.csv", b"file_name|text\nyaman.wav|slow; soft, low\n", {"text": "slow; soft, low"}, ""),
    (
        "semicolons and decimal commas",
        "metadata.csv",
        b"file_name;tempo_bpm;text\nyaman.wav;92,5;slow\n",
        {"tempo_bpm": "92,5", "text": "slow"},
        "",
    ),
    ("a colon between cells", "metadata.csv", b"file_name:text\nyaman.wav:slow\n", {}, "names no file"),
    ("blanks between cells", "metadata.csv", b"file_name text\nyaman.wav slow\n", {}, "names no file"),
    (
        "another separator in the rows",
        "metadata.csv",
        b"file_name;text\nyaman.wav,slow\n",
        {},
        "line 2 with fewer cells than columns",
    ),
    (
        "the mark of UTF-8",
        "metadata.csv",
        b"\xef\xbb\xbffile_name,text\nyaman.wav,k\xc4\xb1rm\xc4\xb1z\xc4\xb1\n",
        {"text": "kırmızı"},
        "",
    ),
    (
        "that mark twice",
        "metadata.csv",
        b"\xef\xbb\xbf\xef\xbb\xbffile_name,text\nyaman.wav,slow\n",
        {"text": "slow"},
        "",
    ),
    (
        "UTF-16 with its mark",
        "metadata.csv",
        "file_name,text\nyaman.wav,Uşşak\n".encode("utf-16"),
        {"text": "Uşşak"},
        "read as UTF-16",
    ),
    (
        "Turkish code page",
        "metadata.csv",
        "file_name,text\nyaman.wav,Uşşak ağır\n".encode("cp1254"),
        {"text": "Uşşak ağır"},
        "read as Windows Turkish",
    ),
    (
        "a quoted line break",
        "metadata.csv",
        b'file_name,text\nyaman.wav,"slow\nand soft"\nother.wav,x\n',
        {"text": "slow and soft"},
        "line 4 matches no recording",
    ),
    ("line breaks of old Macs", "metadata.csv", b"file_name,text\ryaman.wav,slow\r", {"text": "slow"}, ""),
    ("an open quotation mark", "metadata.csv", b'file_name,text\nyaman.wav,"slow\n', {}, "line 2 is not CSV"),
    (
        "a header twice",
        "metadata.csv",
        b"file_name,text,text\nyaman.wav,slow,fast\n",
        {},
        "the column text is there twice",
    ),
    (
        "a header twice in other letters",
        "metadata.csv",
        b"file_name,Text,TEXT\nyaman.wav,slow,fast\n",
        {},
        "the column text is there twice",
    ),
    (
        "headers with units",
        "metadata.csv",
        b"File name,Tempo (BPM),Tonic [Hz],Duration (s)\nyaman.wav,92,146.8,61\n",
        {"tempo_bpm": "92", "tonic_hz": "146.8", "duration_(s)": "61"},
        "columns not used, only kept with the clips: Duration (s)",
    ),
    (
        "a header without a name",
        "metadata.csv",
        b"file_name,,text\nyaman.wav,secret,slow\n",
        {"text": "slow"},
        "column 2 has no name in the first line: its text in 1 row is not used",
    ),
    (
        "a misspelt header",
        "metadata.csv",
        b"file_name,perfomer\nyaman.wav,Meera\n",
        {"perfomer": "Meera"},
        "perfomer (is it performer?)",
    ),
    (
        "serial dates of spreadsheets",
        "metadata.csv",
        b"file_name,date,text\nyaman.wav,46085,slow\n",
        {"date": "46085", "text": "slow"},
        "columns not used, only kept with the clips: date",
    ),
    (
        "a file name that became a date",
        "metadata.csv",
        b"file_name,text\n46085,slow\n",
        {},
        "line 2 matches no recording",
    ),
    (
        "a tempo that became a date",
        "metadata.csv",
        b"file_name,tempo_bpm\nyaman.wav,3-Apr\n",
        {},
        "'3-Apr' in tempo_bpm is not used",
    ),
    ("a tempo with its unit", "metadata.csv", b"file_name,tempo_bpm\nyaman.wav,92 bpm\n", {"tempo_bpm": "92 bpm"}, ""),
    (
        "a title above the header",
        "metadata.csv",
        b"My recordings\nfile_name,text\nyaman.wav,slow\n",
        {},
        "2 cells for 1 column",
    ),
    (
        "the header again",
        "metadata.csv",
        b"file_name,text\nyaman.wav,slow\nfile_name,text\n",
        {"text": "slow"},
        "line 3 matches no recording",
    ),
    ("blanks around everything", "metadata.csv", b" file_name , text \n yaman.wav , slow \n", {"text": "slow"}, ""),
    (
        "hard blanks",
        "metadata.csv",
        "file_name,text\n\u00a0yaman.wav\u00a0,\u00a0slow\n".encode(),
        {"text": "slow"},
        "",
    ),
    (
        "marks of direction",
        "metadata.csv",
        "file_name,text\n\u200fyaman.wav\u200e,نرم\n".encode(),
        {"text": "نرم"},
        "matched by a similar name",
    ),
    (
        "two files in a cell",
        "metadata.csv",
        b"file_name,text\nyaman.wav; bhairav.wav,slow\n",
        {},
        "line 2 matches no recording",
    ),
    (
        "rows that contradict",
        "metadata.csv",
        b"file_name,text\nyaman.wav,slow\nyaman.wav,fast\n",
        {"text": "fast"},
        "line 2 of metadata.csv and line 3; they differ, and line 3 counts",
    ),
    ("a formula", "metadata.csv", b"file_name,text\nyaman.wav,'=1+1\n", {"text": "=1+1"}, ""),
    ("no rows", "metadata.csv", b"file_name,text\n", {}, "holds no row"),
    ("nothing", "metadata.csv", b"", {}, "holds no row"),
    ("a workbook called .csv", "metadata.csv", b"PK\x03\x04\0\0\0\0", {}, "is no text"),
    (
        "the ending of tabs",
        "metadata.tsv",
        b"file_name\ttext\nyaman.wav\tslow\n",
        {},
        "not read: save it as metadata.csv",
    ),
    ("packed", "metadata.csv.gz", b"\x1f\x8b", {}, "not read: save it as metadata.csv"),
    ("capitals", "METADATA.CSV", b"file_name,text\nyaman.wav,slow\n", {"text": "slow"}, "read as metadata.csv"),
    ("another name", "my takes.csv", b"file_name,text\nyaman.wav,slow\n", {}, "not read"),
    (
        "JSON of several lines",
        "metadata.jsonl",
        b'{"file_name": "yaman.wav",\n "text": "slow"}\n',
        {},
        "line 1 is not JSON",
    ),
    (
        "a list of JSON",
        "metadata.jsonl",
        b'[{"file_name": "yaman.wav", "text": "slow"}]',
        {},
        "line 1 is not a JSON object",
    ),
    (
        "a key twice",
        "metadata.jsonl",
        b'{"file_name": "yaman.wav", "text": "slow", "text": "fast"}',
        {},
        "the key 'text' is there twice",
    ),
    (
        "a key without a name",
        "metadata.jsonl",
        b'{"file_name": "yaman.wav", "text": "slow", "": "secret"}',
        {"text": "slow"},
        "line 1 with a value that has no name: not used",
    ),
    (
        "several files in a list",
        "metadata.jsonl",
        b'{"file_name": ["yaman.wav", "bhairav.wav"], "text": "slow"}',
        {"text": "slow"},
        "line 1 with several files: the first counts",
    ),
    (
        "numbers and lists",
        "metadata.jsonl",
        b'{"file_name": "yaman.wav", "tempo_bpm": 92.0, "instruments": ["sitar", "tabla"]}',
        {"tempo_bpm": "92", "instruments": "sitar | tabla"},
        "",
    ),
]


@pytest.mark.parametrize(
    ("name", "content", "row", "said"), [case[1:] for case in ODD_TABLES], ids=[case[0] for case in ODD_TABLES]
)
def test_read_metadata_of_odd_tables_uses_or_names_everything(
    folder: Path, name: str, content: bytes, row: dict[str, str], said: str
) -> None:
    (folder / name).write_bytes(content)
    try:
        rows, notes = read_metadata(folder, folder / "out", "yaman.wav", "bhairav.wav")
    except TalimError as error:
        place, rows = f"{folder / name}: ", {}
        notes = [
            {"file": name, "note": f"{str(error).removeprefix(place)}{'' if place in str(error) else ' NO PLACE'}"}
        ]
    assert rows.get("yaman.wav", {}) == row
    text = "\n".join(note["note"] for note in notes)
    assert "NO PLACE" not in text
    assert said in text if said else "not used" not in text and "not read" not in text


def test_read_metadata_of_two_tables_that_contradict_says_which_counts(folder: Path) -> None:
    (folder / "metadata.csv").write_text("file_name,raga\nyaman.wav,Yaman\n")
    (folder / "metadata.jsonl").write_text('{"file_name": "yaman.wav", "raga": "Bhairav"}\n')
    rows, notes = read_metadata(folder, folder / "out", "yaman.wav")
    (note,) = [note["note"] for note in notes]
    assert rows == {"yaman.wav": {"raga": "Bhairav"}}
    assert note == "several rows name yaman.wav: line 2 of metadata.csv and line 1; they differ, and line 1 counts"
    (folder / "deep").mkdir()
    (folder / "deep" / "metadata.csv").write_text("file_name,raga\n../yaman.wav,Marwa\n")
    rows, notes = read_metadata(folder, folder / "out", "yaman.wav")
    assert rows == {"yaman.wav": {"raga": "Marwa"}}
    assert "line 1 of metadata.jsonl and line 2; they differ, and line 2 counts" in notes[-1]["note"]


def test_read_metadata_of_a_table_above_with_two_rows_for_a_file_says_so(folder: Path) -> None:
    part = folder / "part"
    part.mkdir()
    (folder / "metadata.csv").write_text(
        "file_name,raga\npart/a.wav,Yaman\npart/a.wav,Marwa\nother/b.wav,x\nother/b.wav,y\n"
    )
    rows, notes = read_metadata(part, part / "out", "a.wav")
    assert rows == {"a.wav": {"raga": "Marwa"}}
    assert [note["note"] for note in notes][-1] == "line 2: another row describes the same recording and counts"


@pytest.mark.parametrize(
    "written", ["take.1.wav", "take.1", "TAKE.1.WAV", "./take.1.wav", "take.1.wav ", "sub\\take.1.wav"]
)
def test_read_metadata_of_names_with_dots_finds_them(folder: Path, written: str) -> None:
    (folder / "metadata.csv").write_text(f"file_name,text\n{written},slow\n")
    rows, _ = read_metadata(folder, folder / "out", "take.1.wav", "take.2.wav", "take.wav")
    assert rows == {"take.1.wav": {"text": "slow"}}


def test_read_metadata_of_names_that_differ_in_case_only_needs_the_very_name(folder: Path) -> None:
    (folder / "metadata.csv").write_text("file_name,text\ntake.wav,low\nTAKE.wav,odd\n")
    rows, notes = read_metadata(folder, folder / "out", "take.wav", "Take.wav")
    assert rows == {"take.wav": {"text": "low"}}
    assert "line 3 is not used: 'TAKE.wav' may be" in notes[-1]["note"]


def test_find_tables_tells_of_a_table_that_is_a_folder(folder: Path) -> None:
    (folder / "takes.numbers").mkdir()
    _, notes = read_metadata(folder, folder / "out", "yaman.wav")
    assert [note["note"] for note in notes] == ["not read: recordings are described in metadata.csv or metadata.jsonl"]


@pytest.mark.parametrize(
    ("written", "column"),
    [
        ("TITLE", "title"),
        ("Raag", "raag"),
        ("Rāga", "raga"),
        ("Raga name", "raga"),
        ("Makam Adı", ""),
        ("Makamı", "makam"),
        ("Usûl", "usul"),
        ("usulü", "usul"),
        ("Tempo (BPM)", "tempo_bpm"),
        ("Tonic [Hz]", "tonic_hz"),
        ("Instrument(s)", "instruments"),
        ("Artist Name", "artist"),
        ("Track title", "title"),
        ("Performer's name", "performers"),
        ("Time-Signature", "time_signature"),
        ("LicenceURL", "licence"),
        ("Licence (rights)", "licence"),
        ("Rights", "rights"),
        ("Licence terms", ""),  # told, see below
        ("Singers", "singer"),
        ("Keys", ""),  # of a piano
        ("raga2", ""),
        ("composer", "composer"),
        ("備考", ""),
        ("", ""),
    ],
)
def test_found_takes_names_as_people_write_them(written: str, column: str) -> None:
    (plain,) = plain_row({written: "x"}) or [""]
    assert recording_columns().found(plain) == column


def test_read_metadata_shows_columns_as_typed_and_offers_a_rights_column(tmp_path: Path) -> None:
    text = "File name,Licence (rights),Licence terms,Where\na.wav,CC0,x,y\n"
    (tmp_path / "metadata.csv").write_text(text, encoding="utf-8")
    rows, notes = metadata.read_metadata(tmp_path, [tmp_path], {"a.wav"})
    assert rows["a.wav"]["licence"] == "CC0"
    assert [note["note"] for note in notes] == [
        "read as known columns: Licence (rights) as licence",
        "columns not used, only kept with the clips: Licence terms (is it licence?), Where",
    ]


def test_found_gives_every_known_column_itself() -> None:
    for known in (recording_columns(), section_columns()):
        assert [known.found(name) for name in known.names] == [*known.names]


def test_with_known_columns_renames_and_names_what_is_not_used() -> None:
    rows = [
        (2, {"raga_name": "Yaman", "venue": "Pune", "licens": "CC0"}),
        (3, {"raga_name": "Bhairav", "mood": "calm"}),
    ]
    table = with_known_columns(Table(Path("metadata.csv"), rows, notes=["odd"]), recording_columns())
    assert table.rows == [
        (2, {"raga": "Yaman", "venue": "Pune", "licens": "CC0"}),
        (3, {"raga": "Bhairav", "mood": "calm"}),
    ]
    assert table.notes == [
        "odd",
        "read as known columns: raga_name as raga",
        "columns not used, only kept with the clips: venue, licens (is it license?)",
    ]


def test_with_known_columns_of_two_for_one_keeps_both_and_says_which_counts() -> None:
    rows = [(2, {"raga": "Yaman", "raga_name": "Iman", "makam": "Rast"})]
    table = with_known_columns(Table(Path("metadata.csv"), rows), recording_columns())
    assert table.rows == rows
    assert table.notes == [
        "columns not used, only kept with the clips: raga_name (there is raga too)",
        "line 2 with several columns for the mode: raga counts, not makam",
    ]
    assert parse_labels(table.rows[0][1]).mode == ("Yaman",)


def test_with_known_columns_names_the_column_that_counts_in_each_row() -> None:
    rows = [
        (2, {"caption": "raga Yaman", "prompt": "slow alap"}),
        (3, {"text": "raga Bhairav", "caption": "raga Bhairav", "prompt": "slow alap"}),
        (4, {"text": "raga Todi", "caption": "raga Todi"}),
        (5, {"venue": "Pune"}),
    ]
    table = with_known_columns(Table(Path("metadata.csv"), rows), recording_columns())
    assert table.notes[1:] == [
        "line 2 with several columns for the caption: caption counts, not prompt",
        "line 3 with several columns for the caption: text counts, not prompt",
    ]


def test_with_known_columns_lists_all_of_many_unknown_ones() -> None:
    rows = [(2, {f"field_{number:02d}": "x" for number in range(18)})]
    (note,) = with_known_columns(Table(Path("metadata.csv"), rows), recording_columns()).notes
    assert all(f"field_{number:02d}" in note for number in range(18))


@pytest.mark.parametrize("place", ["metadata.csv", "sections.csv", "../metadata.csv", "corpus"])
def test_every_table_is_read_with_its_columns_told(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir()
    name = f"{folder.name}/a.wav" if place.startswith("..") else "a.wav"
    target = folder if place == "corpus" else folder / place
    path = target / "metadata.csv" if place == "corpus" else target
    path.write_text(
        f"file_name,start_seconds,seconds,Raag Name,Venue,BPM\nother.wav,0,5,Todi,,\n{name},0,5,Yaman,Pune,fast\n",
        encoding="utf-8",
    )
    if place == "corpus":
        rows, notes = read_edited_captions(folder, ["a.wav"])
        cells = rows["a.wav"]
    elif place == "sections.csv":
        sections, notes = read_sections(folder, [folder], {"a.wav"})
        cells = sections["a.wav"][0].cells
    else:
        described, notes = metadata.read_metadata(folder, [folder], {"a.wav"})
        cells = described["a.wav"]
    assert cells["raag"] == "Yaman"
    text = " ".join(note["note"] for note in notes)
    assert "Raag Name as raag" in text
    assert "not used" in text
    assert "Venue" in text
    assert "line 3: 'fast' in bpm is not used" in text
    assert "bpm" not in cells


@pytest.mark.parametrize(
    ("column", "cell", "kept", "wrong"),
    [
        ("tempo_bpm", "fast", "", "'fast'"),
        ("tempo_bpm", "92,5", "92,5", ""),
        ("tonic", "1,234", "", "'1.234'"),
        ("tempo_bpm", "92", "92", ""),
        ("tempo_bpm", "92 BPM", "92 BPM", ""),
        ("bpm", "60; 120", "60; 120", ""),
        ("bpm", "60; presto", "60", "'presto'"),
        ("bpm", "-80", "", "'-80'"),
        ("bpm", "1e9", "", "'1e9'"),
        ("tempo_bpm", "inf", "", "'inf'"),
        ("tempo_bpm", "vilambit, 40", "40", "'vilambit'"),
        ("tonic_hz", "146.8", "146.8", ""),
        ("tonic", "Sa = C#", "Sa = C#", ""),
        ("tonic", "ré", "", "'ré'"),
        ("karar_hz", "220 hz", "220 hz", ""),
        ("tonic", "0", "", "'0'"),
        ("tempo", "fast", "fast", ""),  # a column of words
        ("year", "about 1950", "about 1950", ""),
    ],
)
def test_with_known_columns_tells_words_in_a_column_of_numbers_with_their_line(
    column: str, cell: str, kept: str, wrong: str
) -> None:
    rows = [(2, {"raga": "Yaman"}), (3, {"raga": "Yaman", column: cell}), (7, {column: cell})]
    table = with_known_columns(Table(Path("metadata.csv"), rows), recording_columns())
    assert [row.get(column, "") for _, row in table.rows] == ["", kept, kept]
    notes = [note for note in table.notes if "no number" in note]
    if not wrong:
        assert notes == []
        return
    (note,) = notes
    assert note.startswith(f"lines 3 and 7: {wrong} in {column} is not used, being no number from ")
    assert ("column of their own, tempo" in note) == (column in ("tempo_bpm", "bpm"))
    assert note.endswith(" and no note such as C#, Db or D4") == (column == "tonic")


@pytest.mark.parametrize(("tonic", "told"), [("D♭", 1), ("138.6", 0)])
def test_with_known_columns_tells_once_how_notes_are_tuned(tonic: str, told: int) -> None:
    rows = [(line, {"tonic": tonic}) for line in range(2, 40)]
    notes = with_known_columns(Table(Path("metadata.csv"), rows), recording_columns()).notes
    assert sum("A4 = 440 Hz" in note for note in notes) == told


def test_with_known_columns_counts_wrong_numbers_of_many_kinds() -> None:
    rows = [(line, {"bpm": f"word{line}"}) for line in range(2, 40)]
    notes = with_known_columns(Table(Path("metadata.csv"), rows), recording_columns()).notes
    assert len(notes) == 21
    assert notes[-1] == "lines 22 to 39: no number in a column of numbers, not used"


def test_with_known_columns_refuses_sides_of_the_split_where_they_can_be_mended() -> None:
    rows = [(2, {"split": "dev"}), (5, {"split": "tset"})]
    with pytest.raises(UsageError, match=r"line 5: 'tset' \(is it test\?\); write train, validation or test"):
        with_known_columns(Table(Path("metadata.csv"), rows), recording_columns())
    of_a_data_set = with_known_columns(Table(Path("owner/name"), rows, unit="row"), recording_columns())
    assert [cells["split"] for _, cells in of_a_data_set.rows] == ["dev", "tset"]


@pytest.mark.parametrize("written", ["suggested_other_modes", "suggested_mode_probability", "suggested_colour"])
def test_with_known_columns_advises_no_column_that_is_not_read(written: str) -> None:
    for others, advice in (({}, ""), ({"suggested_raga": "Yaman"}, "suggested_raga to raga")):
        rows = [(2, {"file_name": "a.wav", written: "x", **others})]
        (note,) = with_known_columns(Table(Path("metadata.csv"), rows), recording_columns()).notes
        assert written in note
        assert note.endswith(f"; rename a column that is right ({advice})") if advice else "rename" not in note


def named_columns(text: str) -> set[str]:
    """The columns that a text of talim names: column licence, columns `licence`, `source` and `consent`."""
    found = set()
    for names in re.findall(r"\bcolumns? ((?:`?[a-z]+(?:_[a-z]+)*`?(?:, | and | or )?)+)", text):
        found |= {*re.findall(r"`([a-z_]+)`", names)} | {*re.findall(r"\b[a-z]+_[a-z_]+\b", names)}
    return found


def test_columns_that_messages_and_guides_name_are_read() -> None:
    root = Path(__file__).parents[2]
    known = {*recording_columns().names, *section_columns().names}
    pages = [*(root / "docs").rglob("*.md"), root / "README.md", *(root / "src" / "talim" / "corpus").rglob("*.py")]
    pages += [*(root / "src" / "talim" / "reporting").rglob("*.py"), root / "src/talim/evaluation/suggested_labels.py"]
    named = {page.name: columns for page in pages if (columns := named_columns(page.read_text("utf-8")))}
    assert len(set().union(*named.values())) > 8
    assert {page: columns - known for page, columns in named.items() if columns - known} == {}


def test_columns_of_the_reference_are_read() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/corpus-formats.md").read_text("utf-8")
    table = page.partition("## Metadata columns")[2].partition("\n\nSeveral values")[0]
    named = {
        name
        for row in table.splitlines()
        for name in re.findall(r"`([a-z_]+)`", row.split("|")[2] if "|" in row else "")
    }
    assert len(named) > 30
    assert named - {*recording_columns().names} == set()


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("Yaman.M4A", "yaman.m4a"),
        ("yaman", "yaman.m4a"),
        ("yaman.wav", "yaman.m4a"),
        ("./yaman.m4a", "yaman.m4a"),
        (" yaman.m4a ", "yaman.m4a"),
        ("'yaman.m4a'", "yaman.m4a"),
        (r"C:\Users\Meera\Music\yaman.m4a", "yaman.m4a"),
        ("/Volumes/Takes/YAMAN.m4a", "yaman.m4a"),
        ("file:///media/takes/yaman.m4a", "yaman.m4a"),
        ("Bhupali%20at%20the%20temple.mp3", "Bhupali at the temple.mp3"),
        ("bhupali  at the\u00a0temple", "Bhupali at the temple.mp3"),
        ("kirik hava.wav", "deep/Kırık Hava.wav"),
        ("DEEP/KIRIK HAVA.WAV", "deep/Kırık Hava.wav"),
        ("istanbul", "İstanbul.wav"),
        ("ISTANBUL.WAV", "İstanbul.wav"),
        (unicodedata.normalize("NFD", "Çargâh.WAV"), "çargâh.wav"),
        ("ｙａｍａｎ．ｍ４ａ", "yaman.m4a"),
        ("録音\u3000一.wav", "録音 一.wav"),
        ("1", "1.wav"),
        ("a.b", "a.b.wav"),
        ("other\\take", "other/take.wav"),
        ("x/y/other/take.wav", "other/take.wav"),
    ],
)
def test_match_finds_the_only_recording_that_is_meant(written: str, name: str) -> None:
    assert FileMatcher(NAMES).match(written).name == name


def test_match_of_the_very_name_is_exact() -> None:
    matcher = FileMatcher(NAMES)
    assert matcher.match("yaman.m4a") == FileMatch("yaman.m4a", exact=True)
    assert matcher.match(unicodedata.normalize("NFD", "çargâh.wav")).exact
    assert matcher.match("take.wav", "deep") == FileMatch("deep/take.wav", exact=True)
    assert matcher.match("../both.mp3", "deep") == FileMatch("both.mp3", exact=True)


def test_match_in_a_folder_prefers_what_lies_in_it() -> None:
    assert FileMatcher(NAMES).match("TAKE", "deep") == FileMatch("deep/take.wav")
    assert FileMatcher(NAMES).match("yaman", "deep") == FileMatch("yaman.m4a")


@pytest.mark.parametrize(
    ("written", "candidates"),
    [
        ("both", ("both.mp3", "both.wav")),
        ("take.wav", ("deep/take.wav", "other/take.wav")),
        ("Both.flac", ("both.mp3", "both.wav")),
    ],
)
def test_match_of_an_ambiguous_name_gives_all_candidates(written: str, candidates: tuple[str, ...]) -> None:
    assert FileMatcher(NAMES).match(written) == FileMatch(candidates=candidates)


@pytest.mark.parametrize(
    "written", ["nobody.wav", "deep", "deep/", "*.wav", "..", "/", "%", "\\\\server\\share\\x.wav"]
)
def test_match_of_another_name_gives_none(written: str) -> None:
    assert FileMatcher(NAMES).match(written).name == ""


def test_match_offers_the_nearest_name() -> None:
    assert FileMatcher(NAMES).match("yamann.m4a").nearest == "yaman.m4a"


@pytest.mark.parametrize(
    ("written", "nearest"),
    [
        ("bhupali.mp3", "in/bhupali take 1.mp3"),
        ("Desh-alap, slow, evening, second.wav", "desh-alap.wav"),
        ("kafi.wav", ""),  # two of that name
        ("bhup.mp3", ""),  # no whole word
    ],
)
def test_match_offers_the_only_name_that_begins_with_the_other(written: str, nearest: str) -> None:
    names = ["in/bhupali take 1.mp3", "desh-alap.wav", "kafi with tabla 1.wav", "kafi with tabla 2.wav"]
    assert FileMatcher(names).match(written) == FileMatch(nearest=nearest)


def test_read_metadata_says_where_most_rows_match_nothing(folder: Path, tmp_path: Path) -> None:
    for absent, told in ((2, "; that is most of the table (2 of 3 rows)"), (1, "")):
        rows = "".join(f"nobody-{number}.mid,x\n" for number in range(absent))
        table(folder, f"file_name,text\nyaman.m4a,x\n{rows}")
        (note,) = notes_of(folder, tmp_path / "out", "yaman.m4a")
        assert note.endswith(f"'nobody-{absent - 1}.mid'{told}")
