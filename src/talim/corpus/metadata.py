"""The tables that describe recordings: metadata.csv or .jsonl, and sections.csv, row by row to the recordings."""

from __future__ import annotations

import difflib
import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from talim.corpus.captions import COLUMN_ALIASES
from talim.corpus.columns import SECTION_COLUMNS, recording_columns, section_columns, with_known_columns
from talim.corpus.file_matching import FileMatch, FileMatcher
from talim.corpus.recordings import AnnotatedSection, normalize_path
from talim.corpus.tables import MetadataRow, Table, format_lines, read_table
from talim.errors import TalimError
from talim.html.formatting import format_counted
from talim.licences import allows_commercial_use

METADATA_NAMES = ("metadata.csv", "metadata.jsonl")
SECTIONS_NAME = "sections.csv"
_TABLE_SUFFIXES = frozenset(
    [
        ".csv",
        ".tsv",
        ".tab",
        ".xls",
        ".xlsx",
        ".xlsm",
        ".xlsb",
        ".ods",
        ".fods",
        ".numbers",
        ".jsonl",
        ".ndjson",
        ".gsheet",
        ".parquet",
    ]
)
_TEXT_SUFFIXES = frozenset(
    [".txt", ".json", ".yaml", ".yml", ".xml", ".doc", ".docx", ".odt", ".rtf", ".pages", ".pdf", ".bak", ".old", ".md"]
)
UNMATCHED = "no recording here"  # in notes on rows that match none
_MAX_LISTED = 5
_MOVED_LICENCE = re.compile(r"\s*(cc[ -]?(by|0)|creative commons|public domain|all rights reserved)", re.IGNORECASE)

MetadataNote = dict[str, str]


@dataclass
class _Described:
    """The rows of one table that have found their recording, and the lines that have not."""

    rows: list[tuple[int, str, bool, MetadataRow]] = field(default_factory=list)  # line, recording, exact, cells
    unmatched: list[tuple[int, str, FileMatch]] = field(default_factory=list)  # line, file name as written
    notes: list[str] = field(default_factory=list)


def read_metadata(
    folder: Path, subfolders: Iterable[Path], names: Collection[str]
) -> tuple[dict[str, MetadataRow], list[MetadataNote]]:
    """Rows for the files `names` (relative to `folder`) from all metadata files, and notes on all else.

    As in the audiofolder convention, a metadata file names files relative to itself. If there is none in
    `subfolders`, the one in the folder above is used, provided it names files in here. Every row is either used or
    told in a note. Raises TalimError where a table cannot be read, or where cells may stand in a wrong column.
    """
    rows: dict[str, MetadataRow] = {}
    notes: list[MetadataNote] = []
    paths: list[Path] = []
    for subfolder in subfolders:
        found, odd = find_tables(subfolder)
        paths += found
        notes += [{"file": normalize_path((subfolder / name).relative_to(folder)), "note": note} for name, note in odd]
    if not paths:
        above, more = _rows_from_above(folder, names)
        return above, [*notes, *more]
    matcher = FileMatcher(frozenset(names))
    origins: dict[str, tuple[str, int, bool]] = {}  # table and line of each row that counts; whether by the very name
    for path in paths:
        table = with_known_columns(read_table(path, folder), recording_columns())
        table_name = normalize_path(path.relative_to(folder))
        described = _describe(table, matcher, normalize_path(path.parent.relative_to(folder)))
        repeated: list[int] = []
        for line, name, exact, cells in sorted(described.rows, key=lambda row: row[2]):  # exact ones last
            here = (table_name, line, exact)
            if before := origins.get(name):
                counts, passed_over = (before, here) if before[2] and not exact else (here, before)
                differ = "they are equal" if rows[name] == cells else f"they differ, and line {counts[1]} counts"
                lines = f"line {passed_over[1]} of {passed_over[0]} and line {counts[1]}"
                note = f"several rows name {name}: {lines}; {differ}"
                described.notes += [note] * (len(repeated) < _MAX_LISTED or passed_over[0] != table_name)
                repeated += [passed_over[1]] * (passed_over[0] == table_name)
                if counts is before:
                    continue
            rows[name], origins[name] = cells, here
        if more := repeated[_MAX_LISTED:]:
            described.notes.append(
                f"{format_lines(more)} likewise: another row describes the same recording and counts"
            )
        found = [*table.notes, *described.notes, *_unmatched_notes(described.unmatched)]
        notes += [{"file": table_name, "note": note} for note in found]
    return rows, notes


def find_tables(folder: Path) -> tuple[list[Path], list[tuple[str, str]]]:
    """The metadata files in a folder, and (name, note) of what looks like a table and is not read."""
    try:
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith((".", "~$")))
    except OSError:
        return [], []  # the importer tells of folders that cannot be read
    present = {path.name for path in entries}
    tables: list[Path] = []
    notes: list[tuple[str, str]] = []
    others: list[str] = []
    for path in entries:
        folded = unicodedata.normalize("NFKC", path.name).casefold()
        wanted = folded if folded in (*METADATA_NAMES, SECTIONS_NAME) else ""
        if wanted and not path.is_file():
            notes.append((path.name, f"is {'a folder' if path.is_dir() else 'not a regular file'}: not read"))
        elif wanted in METADATA_NAMES and (path.name == wanted or wanted not in present):
            tables.append(path)
            if path.name != wanted:
                notes.append((path.name, f"read as {wanted}"))
        elif path.name == SECTIONS_NAME or (path.is_dir() and path.suffix.lower() not in _TABLE_SUFFIXES):
            continue
        elif near := _near_table_name(path):
            notes.append((path.name, f"not read: save it as {near} (a spreadsheet's 'CSV UTF-8') beside it"))
        elif path.suffix.lower() in _TABLE_SUFFIXES:
            others.append(path.name)
    if others:
        listed = f" ({_listed(others)})" if len(others) > 1 else ""
        notes.append((others[0], f"not read{listed}: recordings are described in metadata.csv or metadata.jsonl"))
    return tables, notes


def _near_table_name(path: Path) -> str:
    """The name that a look-alike such as "metadata (1).csv" or "meta data.xlsx" should have; "" for other files."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if not (path.suffix == "" or {*suffixes} & (_TABLE_SUFFIXES | _TEXT_SUFFIXES)):
        return ""
    stem = unicodedata.normalize("NFKC", path.name).casefold().split(".")[0]
    letters = re.sub(r"[^a-z]", "", stem)
    for wanted in ("metadata", "sections"):
        near = difflib.SequenceMatcher(None, letters, wanted).ratio() >= 0.85
        if near or wanted in letters:
            return "sections.csv" if wanted == "sections" else "metadata.csv"
    return ""


def _rows_from_above(folder: Path, names: Collection[str]) -> tuple[dict[str, MetadataRow], list[MetadataNote]]:
    """Rows for these files from the metadata of the folder above, for a part of a collection."""
    root = folder.resolve()
    prefix = f"{normalize_path(root.name)}/"
    for path in (root.parent / name for name in METADATA_NAMES):
        try:
            table = read_table(path) if path.is_file() else Table(path)
        except TalimError:  # outside the source, so it may be about anything
            continue
        by_name: dict[str, tuple[int, MetadataRow]] = {}
        repeated = list[int]()
        for line, row in table.rows:
            name = normalize_path(row.pop("file_name"))
            if name.startswith(prefix) and by_name.get(name, (0, row))[1] != row:
                repeated.append(by_name[name][0])
            by_name[name] = (line, row)
        rows = {name: by_name[prefix + name] for name in names if prefix + name in by_name}
        if rows:
            described = with_known_columns(Table(path, [*rows.values()], typed=table.typed), recording_columns())
            note = f"in the folder above: it describes {len(rows)} of these {format_counted(len(names), 'recording')}"
            cells = dict(zip(rows, (row for _, row in described.rows), strict=True))
            twice = (
                [f"{format_lines(repeated)}: another row describes the same recording and counts"] if repeated else []
            )
            found = (note, *table.notes, *described.notes, *twice)
            return cells, [{"file": f"../{path.name}", "note": text} for text in found]
    return {}, []


def read_sections(
    folder: Path, subfolders: Iterable[Path], names: Collection[str]
) -> tuple[dict[str, tuple[AnnotatedSection, ...]], list[MetadataNote]]:
    """Sections by file name from every sections.csv in `subfolders`, and notes on rows that match no recording.

    Columns: file_name, start_seconds, name, seconds or end_seconds, and labels of the section (tala, laya, usul ...).
    Raises TalimError, naming file and line, for times that are no numbers, before 0, or without a length.
    """
    sections: dict[str, list[AnnotatedSection]] = defaultdict(list)
    notes: list[MetadataNote] = []
    matcher = FileMatcher(frozenset(names))
    for path in (subfolder / SECTIONS_NAME for subfolder in subfolders):
        if not path.is_file():
            continue
        table = with_known_columns(read_table(path, folder), section_columns())
        described = _describe(table, matcher, normalize_path(path.parent.relative_to(folder)))
        for line, name, _, row in described.rows:
            start, seconds = _section_times(path, line, row)
            cells = {column: text for column, text in row.items() if column not in SECTION_COLUMNS}
            sections[name].append(AnnotatedSection(start, seconds, row.get("name", ""), cells))
        table_name = normalize_path(path.relative_to(folder))
        found = [*table.notes, *described.notes, *_unmatched_notes(described.unmatched)]
        notes += [{"file": table_name, "note": note} for note in found]
    by_name = {name: tuple(sorted(parts, key=lambda part: part.start_seconds)) for name, parts in sections.items()}
    return by_name, notes


def _section_times(path: Path, line: int, row: Mapping[str, str]) -> tuple[float, float]:
    """Start and length of a section in seconds."""
    try:
        start = float(row["start_seconds"])
        seconds = float(row["seconds"]) if "seconds" in row else float(row["end_seconds"]) - start
    except (KeyError, ValueError) as error:
        needed = "start_seconds and seconds (or end_seconds) as numbers"
        raise TalimError(f"{path}: line {line} needs {needed} ({error})") from error
    if not (math.isfinite(start) and math.isfinite(seconds) and start >= 0 and seconds > 0):
        raise TalimError(
            f"{path}: line {line} is a section from {start:g} s that lasts {seconds:g} s; a section starts at 0 s or "
            "later and is longer than 0 s"
        )
    return start, seconds


def _describe(table: Table, matcher: FileMatcher, base: str) -> _Described:
    """The rows of a table by recording."""
    described = _Described()
    renamed: list[str] = []
    for line, cells in table.rows:
        _check_licence_column(table.path, line, cells)
        written = cells.pop("file_name")
        match = matcher.match(written, base)
        if not match.name:
            described.unmatched.append((line, written, match))
            continue
        described.rows.append((line, match.name, match.exact, cells))
        if not match.exact:
            renamed.append(f"{_quoted(written)} (line {line}) is {match.name}")
    if renamed:
        shown = "; ".join(renamed[:_MAX_LISTED]) + (f"; and {len(renamed) - _MAX_LISTED} more" * (len(renamed) > 5))
        described.notes.append(f"{format_counted(len(renamed), 'row')} matched by a similar name: {shown}")
    return described


def _check_licence_column(path: Path, line: int, cells: Mapping[str, str]) -> None:
    """TalimError where a licence stands beside the licence column, as behind a comma without quotation marks."""
    licence = next((cells[column] for column in COLUMN_ALIASES["licence"] if column in cells), "")
    if not licence or allows_commercial_use(licence) != "unknown" or _MOVED_LICENCE.match(licence):
        return
    for name in ("performer", "source", "consent"):
        for column in COLUMN_ALIASES[name]:
            if _MOVED_LICENCE.match(cells.get(column, "")):
                raise TalimError(
                    f"{path}: line {line} has the licence {cells[column]!r} in column {column}, and {licence[:60]!r} "
                    "as its licence: a text with a comma needs quotation marks, or its words move into the next columns"
                )


def _unmatched_notes(unmatched: list[tuple[int, str, FileMatch]]) -> list[str]:
    """What was not used: rows that may mean several recordings, and rows that match none."""
    notes = []
    several = [(line, text, match) for line, text, match in unmatched if match.candidates]
    for line, text, match in several[:_MAX_LISTED]:
        notes.append(
            f"line {line} is not used: {_quoted(text)} may be {_listed(match.candidates, ' or ')}; write its whole name"
        )
    if rest := several[_MAX_LISTED:]:
        notes.append(f"{format_lines([line for line, _, _ in rest])} not used, as each may be several recordings")
    if absent := [(line, text, match) for line, text, match in unmatched if not match.candidates]:
        texts = [
            f"{_quoted(text)} (is it {match.nearest}?)" if match.nearest else _quoted(text) for _, text, match in absent
        ]
        lines = format_lines([line for line, _, _ in absent])
        verb = "matches" if len(absent) == 1 else "match"
        notes.append(f"{lines} {verb} {UNMATCHED} and {'is' if len(absent) == 1 else 'are'} not used: {_listed(texts)}")
    return notes


def _quoted(text: str) -> str:
    return f"'{text if len(text) <= 80 else text[:77] + '...'}'"


def _listed(texts: Collection[str], joint: str = ", ") -> str:
    shown = [*texts][:_MAX_LISTED]
    more = len(texts) - len(shown)
    return joint.join(shown) + (f" and {more} more" if more else "")
