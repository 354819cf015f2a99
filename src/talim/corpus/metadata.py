"""Reads the tables that describe recordings: metadata.csv or .jsonl, and sections.csv."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from talim.atomic_io import parse_json
from talim.corpus.recordings import AnnotatedSection, normalize_path
from talim.errors import TalimError

METADATA_NAMES = ("metadata.csv", "metadata.jsonl")
SECTIONS_NAME = "sections.csv"
FILE_COLUMNS = ("file_name", "filename", "file", "path", "audio", "audio_path")
MISSING_VALUES = frozenset({"", "unknown", "-", "?", "n/a", "na", "nan", "none", "null"})
_SECTION_COLUMNS = ("file_name", "start_seconds", "seconds", "end_seconds", "name")

MetadataRow = dict[str, str]
MetadataNote = dict[str, str]


def read_metadata(
    folder: Path, subfolders: Iterable[Path], names: set[str]
) -> tuple[dict[str, MetadataRow], list[MetadataNote]]:
    """Rows for the files `names` (relative to `folder`) from all metadata files, and notes on odd rows.

    As in the audiofolder convention, a metadata file names files relative to itself. If there is none in
    `subfolders`, the one in the folder above is used, provided it names files in here.
    """
    rows: dict[str, MetadataRow] = {}
    notes: list[MetadataNote] = []
    paths = [path / name for path in subfolders for name in METADATA_NAMES if (path / name).is_file()]
    if not paths:
        return _rows_from_above(folder, names)
    for path in paths:
        base, absent = normalize_path(path.parent.relative_to(folder)), []
        table_name = normalize_path(path.relative_to(folder))
        for row in read_table(path):
            name = normalize_path(f"{base}/{row.pop('file_name')}")
            if name not in names:
                absent.append(name)
                continue
            if rows.get(name, row) != row:
                notes.append({"file": table_name, "note": f"several rows name {name}; the last one counts"})
            rows[name] = row
        if absent:
            note = f"names {len(absent)} files that do not exist, such as {absent[0]}"
            notes.append({"file": table_name, "note": note})
    return rows, notes


def _rows_from_above(folder: Path, names: set[str]) -> tuple[dict[str, MetadataRow], list[MetadataNote]]:
    """Rows for these files from the metadata of the folder above, for a part of a collection."""
    root = folder.resolve()
    prefix = f"{normalize_path(root.name)}/"
    for path in (root.parent / name for name in METADATA_NAMES):
        try:
            table = read_table(path) if path.is_file() else []
        except TalimError:  # outside the source, so it may be about anything
            continue
        by_name = {normalize_path(row.pop("file_name")): row for row in table}
        rows = {name: by_name[prefix + name] for name in names if prefix + name in by_name}
        if rows:
            note = f"in the folder above: it describes {len(rows)} of these recordings"
            return rows, [{"file": f"../{path.name}", "note": note}]
    return {}, []


def read_sections(folder: Path, subfolders: Iterable[Path]) -> dict[str, tuple[AnnotatedSection, ...]]:
    """Sections by file name from every sections.csv in `subfolders`.

    Columns: file_name, start_seconds, name, seconds or end_seconds, and labels of the section (tala, laya, usul ...).
    Raises TalimError, naming file and line, for times that are not numbers.
    """
    sections: dict[str, list[AnnotatedSection]] = defaultdict(list)
    for path in (subfolder / SECTIONS_NAME for subfolder in subfolders):
        if not path.is_file():
            continue
        base = normalize_path(path.parent.relative_to(folder))
        for line, row in enumerate(read_table(path), 2):
            try:
                start = float(row["start_seconds"])
                seconds = float(row["seconds"]) if "seconds" in row else float(row["end_seconds"]) - start
            except (KeyError, ValueError) as error:
                needed = "start_seconds and seconds (or end_seconds) as numbers"
                raise TalimError(f"{path}: row {line} needs {needed} ({error})") from error
            cells = {column: text for column, text in row.items() if column not in _SECTION_COLUMNS}
            name = normalize_path(f"{base}/{row['file_name']}")
            sections[name].append(AnnotatedSection(start, seconds, row.get("name", ""), cells))
    return {name: tuple(sorted(parts, key=lambda part: part.start_seconds)) for name, parts in sections.items()}


def read_table(path: Path) -> list[MetadataRow]:
    """The rows of a metadata.csv or .jsonl: lower-case columns, no empty cells, always with file_name.

    Raises TalimError, naming file and line, where it cannot be read.
    """
    rows = []
    for line, cells in read_rows(path):
        column = next((column for column in FILE_COLUMNS if column in cells), None)
        if column is None:
            present = ", ".join(cells)
            raise TalimError(f"{path}: line {line} names no file; a column file_name is needed (has: {present})")
        rows.append({"file_name": cells.pop(column)} | cells)
    return rows


def read_rows(path: Path) -> list[tuple[int, MetadataRow]]:
    """The rows of any .csv or .jsonl table with their line numbers: lower-case columns, no empty cells.

    Raises TalimError, naming file and line, where it cannot be read.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise TalimError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise TalimError(f"{path}: is not UTF-8 text; save it again as 'CSV UTF-8' ({error.reason})") from error
    rows = _jsonl_rows(path, text) if path.suffix == ".jsonl" else _csv_rows(path, text)
    return [(line, plain_row(row)) for line, row in rows]


def _csv_rows(path: Path, text: str) -> list[tuple[int, dict[str, object]]]:
    header = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restkey="")
    try:
        return [(reader.line_num, dict(row)) for row in reader if any(row.values())]
    except csv.Error as error:
        raise TalimError(f"{path}: line {reader.line_num} is not CSV: {error}") from error


def _jsonl_rows(path: Path, text: str) -> list[tuple[int, dict[str, object]]]:
    rows = []
    for line, content in enumerate(text.split("\n"), 1):
        if not content.strip():
            continue
        try:
            row = parse_json(content)
        except ValueError as error:
            raise TalimError(f"{path}: line {line} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise TalimError(f'{path}: line {line} is not a JSON object such as {{"file_name": "a.wav"}}')
        rows.append((line, row))
    return rows


def plain_row(row: Mapping[str, object]) -> MetadataRow:
    """A row as text: lower-case columns with underscores, lists joined by |, empty and missing cells dropped."""
    cells: MetadataRow = {}
    for name, value in row.items():
        column = str(name or "").strip().lower().replace(" ", "_").replace("-", "_")
        parts = value if isinstance(value, list | tuple) else [value]
        texts = [" ".join(str(part).split()) for part in parts if part is not None]
        text = " | ".join(text for text in texts if text.lower() not in MISSING_VALUES)
        if column and text:
            cells[column] = text
    return cells
