"""Tables that describe recordings: metadata.csv or .jsonl, sections.csv, and the names their columns go by."""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

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
    folder: Path, places: Iterable[Path], known: set[str]
) -> tuple[dict[str, MetadataRow], list[MetadataNote]]:
    """Rows by file name (relative to folder) from the metadata files in `places`, and notes on odd rows.

    As in the audiofolder convention a metadata file names files relative to itself. Where there is none,
    the one in the folder above is taken if it names files in here.
    """
    rows: dict[str, MetadataRow] = {}
    notes: list[MetadataNote] = []
    tables = [place / name for place in places for name in METADATA_NAMES if (place / name).is_file()]
    for path in tables:
        base, strays = normalize_path(path.parent.relative_to(folder)), []
        shown = normalize_path(path.relative_to(folder))
        for row in read_table(path):
            name = normalize_path(f"{base}/{row.pop('file_name')}")
            if name not in known:
                strays.append(name)
                continue
            if rows.get(name, row) != row:
                notes.append({"file": shown, "note": f"several rows name {name}; the last one counts"})
            rows[name] = row
        if strays:
            text = f"names {len(strays)} files that are not there, such as {strays[0]}"
            notes.append({"file": shown, "note": text})
    if not tables:
        rows, notes = _rows_from_above(folder, known)
    return rows, notes


def _rows_from_above(folder: Path, known: set[str]) -> tuple[dict[str, MetadataRow], list[MetadataNote]]:
    """Rows for these files in the metadata of the folder above, for a part of a collection."""
    here = folder.resolve()
    prefix = f"{normalize_path(here.name)}/"
    for path in (here.parent / name for name in METADATA_NAMES):
        try:
            table = read_table(path) if path.is_file() else []
        except TalimError:  # a table that nobody pointed at may be about anything
            continue
        named = {normalize_path(row.pop("file_name")): row for row in table}
        rows = {name: named[prefix + name] for name in known if prefix + name in named}
        if rows:
            note = f"in the folder above: {len(rows)} recordings are described there"
            return rows, [{"file": f"../{path.name}", "note": note}]
    return {}, []


def read_sections(folder: Path, places: Iterable[Path]) -> dict[str, tuple[AnnotatedSection, ...]]:
    """Sections by file name from every sections.csv in `places`: file_name, start_seconds, name, then
    seconds or end_seconds, and labels that hold there only (tala, laya, usul, form ...).

    Raises TalimError, naming file and line, for times that are no numbers.
    """
    found: dict[str, list[AnnotatedSection]] = defaultdict(list)
    for path in (place / SECTIONS_NAME for place in places):
        if not path.is_file():
            continue
        base = normalize_path(path.parent.relative_to(folder))
        for line, row in enumerate(read_table(path), 2):
            try:
                start = float(row["start_seconds"])
                seconds = float(row["seconds"]) if "seconds" in row else float(row["end_seconds"]) - start
            except (KeyError, ValueError) as error:
                raise TalimError(
                    f"{path}: row {line} needs start_seconds and seconds (or end_seconds) as numbers ({error})"
                ) from error
            cells = {column: text for column, text in row.items() if column not in _SECTION_COLUMNS}
            name = normalize_path(f"{base}/{row['file_name']}")
            found[name].append(AnnotatedSection(start, seconds, row.get("name", ""), cells))
    return {name: tuple(sorted(parts, key=lambda p: p.start_seconds)) for name, parts in found.items()}


def read_table(path: Path) -> list[MetadataRow]:
    """The rows of a metadata.csv or .jsonl: lower-case columns, no empty cells, file_name always there.

    Raises TalimError, naming file and line, for what cannot be read.
    """
    rows = []
    for line, cells in read_rows(path):
        column = next((column for column in FILE_COLUMNS if column in cells), None)
        if column is None:
            raise TalimError(
                f"{path}: line {line} names no file; a column file_name is needed (has: {', '.join(cells)})"
            )
        rows.append({"file_name": cells.pop(column)} | cells)
    return rows


def read_rows(path: Path) -> list[tuple[int, MetadataRow]]:
    """The rows of any .csv or .jsonl table with their line numbers: lower-case columns, no empty cells.

    Raises TalimError, naming file and line, for what cannot be read.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise TalimError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise TalimError(
            f"{path}: is not UTF-8 text; save it again as 'CSV UTF-8' ({error.reason})"
        ) from error
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
            row = json.loads(content)
        except ValueError as error:
            raise TalimError(f"{path}: line {line} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise TalimError(f'{path}: line {line} is not a JSON object such as {{"file_name": "a.wav"}}')
        rows.append((line, row))
    return rows


def plain_row(row: Mapping[str, object]) -> MetadataRow:
    """A row of any source as text: lower-case columns with underscores, lists joined by |, nothing empty."""
    cells: MetadataRow = {}
    for name, value in row.items():
        column = str(name or "").strip().lower().replace(" ", "_").replace("-", "_")
        parts = value if isinstance(value, list | tuple) else [value]
        texts = [" ".join(str(part).split()) for part in parts if part is not None]
        text = " | ".join(text for text in texts if text.lower() not in MISSING_VALUES)
        if column and text:
            cells[column] = text
    return cells
