"""Columns by the names that people write: none is ignored without a word."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from talim.corpus.columns import recording_columns, section_columns, with_known_columns
from talim.corpus.corpus_folder import read_edited_captions
from talim.corpus.labels import parse_labels
from talim.corpus.metadata import read_metadata, read_sections
from talim.corpus.tables import Table, plain_row
from talim.errors import UsageError


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
    rows, notes = read_metadata(tmp_path, [tmp_path], {"a.wav"})
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
        described, notes = read_metadata(folder, [folder], {"a.wav"})
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
