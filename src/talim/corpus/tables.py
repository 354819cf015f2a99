"""Tables that people write, .csv or .jsonl: their rows with line numbers, and a note on everything odd in them.

A fault that may have moved words into another column is an error; all others are notes.
"""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from talim.atomic_io import parse_json
from talim.audio.read import PHONE_SUFFIXES, SOUNDFILE_SUFFIXES
from talim.corpus.text_encoding import decode_text
from talim.errors import TalimError
from talim.html.formatting import format_counted
from talim.inside_folder import read_inside

FILE_COLUMNS = ("file_name", "filename", "file", "path", "audio", "audio_path")
MISSING_VALUES = frozenset(["", "unknown", "-", "--", "—", "?", "n/a", "na", "nan", "none", "null"]).union(
    ["yok", "bilinmiyor", "bilinmeyen", "なし", "無し", "不明", "不詳", "未詳", "अज्ञात"]
)
DELIMITERS = ",;\t|"
FORMULA = re.compile(r"'*[=+\-@\t\r]")
_MAX_LISTED = 6
_AUDIO_SUFFIXES = "|".join(re.escape(suffix[1:]) for suffix in sorted(SOUNDFILE_SUFFIXES | PHONE_SUFFIXES))

MetadataRow = dict[str, str]


@dataclass
class Table:
    """The rows of a table with the lines they begin in, and notes on what is odd in it."""

    path: Path
    rows: list[tuple[int, MetadataRow]] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)  # all that it names, in their order
    notes: list[str] = field(default_factory=list)
    typed: dict[str, str] = field(default_factory=dict)  # columns as they were written
    unit: str = "line"  # what the numbers of the rows count: lines of a text file, or rows of a table without lines


def read_table(path: Path, folder: Path | None = None) -> Table:
    """The table of a .csv or .jsonl file: lower-case columns, no empty cells, every row with file_name.

    The file must lie within `folder` (default: its own), links followed. Raises TalimError, naming file and line, where
    it cannot be read, or where cells may stand in a wrong column.
    """
    table = read_rows(path, folder)
    if table.columns and not {*table.columns} & {*FILE_COLUMNS}:
        present = ", ".join(column for column in table.columns if column)
        line = f"line {table.rows[0][0]}" if table.rows else "its first line"
        raise TalimError(
            f"{path}: {line} names no file; a column file_name is needed (has: {present[:300]}): "
            "the first line names the columns, for example file_name,text,performer,licence"
        )
    named, nameless = [], []
    for line, cells in table.rows:
        column = next((column for column in FILE_COLUMNS if column in cells), None)
        if column is None:
            nameless.append(line)
        else:
            named.append((line, {"file_name": cells.pop(column)} | cells))
    if nameless:
        table.notes.append(f"{format_lines(nameless)} without a file name: not used")
    if not table.rows:
        table.notes.append("holds no row: nothing is read from it")
    return Table(path, named, table.columns, table.notes, table.typed)


def read_rows(path: Path, folder: Path | None = None) -> Table:
    """The rows of any .csv or .jsonl file: lower-case columns, no empty cells; TalimError as in `read_table`."""
    try:
        decoded = decode_text(read_inside(folder or path.parent, path))
    except ValueError as error:
        raise TalimError(f"{path}: {error}") from error
    notes = [decoded.note] if decoded.note else []
    text = decoded.text.removeprefix("\ufeff")
    jsonl = path.suffix.lower() == ".jsonl"
    columns: list[str] = []
    try:
        rows = [*_jsonl_rows(text, notes)] if jsonl else [*_csv_rows(text, columns, notes)]
    except ValueError as error:
        raise TalimError(f"{path}: {error}") from error
    damaged = [line for line, row in rows if any(not _is_text(cell) for cell in row.values())]
    if damaged:
        notes.append(f"{format_lines(damaged)} with halves of characters, which became \ufffd")
    cells = [(line, plain_row(row)) for line, row in rows]
    columns = columns or list(dict.fromkeys(plain_column(str(name)) for _, row in rows for name in row))
    typed = {plain_column(str(name)): " ".join(str(name).split()) for _, row in rows for name in row}
    return Table(path, [(line, row) for line, row in cells if row], columns, notes, typed)


def plain_row(row: Mapping[str, object]) -> MetadataRow:
    """A row as text: lower-case columns with underscores, lists joined by |, empty and missing cells dropped.

    The name of a file keeps its blanks, and may be a word that elsewhere means "unknown".
    """
    cells: MetadataRow = {}
    for name, value in row.items():
        column = plain_column(str(name or ""))
        parts = value if isinstance(value, list | tuple) else [value]
        texts = [_plain_text(part) for part in parts if part is not None]
        if column in FILE_COLUMNS:
            text = texts[0].strip() if texts else ""
        else:
            texts = [" ".join(text.split()) for text in texts]
            text = " | ".join(text for text in texts if not is_missing(text))
        if column and text:
            cells[column] = text
    return cells


def is_missing(text: str) -> bool:
    """Whether a cell, or one of its values, is empty or a word for "unknown", in any case and width of letters."""
    return unicodedata.normalize("NFKC", text).strip().casefold() in MISSING_VALUES


def plain_column(name: str) -> str:
    """The name of a column in lower case with underscores; full-width letters become plain ones."""
    text = unicodedata.normalize("NFKC", name).strip().strip("\ufeff\"'*:").strip().casefold()
    return re.sub(r"[\s\-]+", "_", text)


def guard_formula(text: str) -> str:
    """A cell that no spreadsheet runs as a formula; `unguard_formula` gives the text back."""
    return f"'{text}" if FORMULA.match(text) else text


def unguard_formula(text: str) -> str:
    """The text of a cell that `guard_formula` may have marked."""
    return text[1:] if text.startswith("'") and FORMULA.match(text[1:]) else text


def format_lines(lines: list[int], unit: str = "line") -> str:
    """Line numbers in words: "line 3", "lines 2, 5 and 7 to 90"."""
    ranges: list[list[int]] = []
    for line in sorted({*lines}):
        if ranges and line == ranges[-1][1] + 1:
            ranges[-1][1] = line
        else:
            ranges.append([line, line])
    texts = [str(first) if first == last else f"{first} to {last}" for first, last in ranges]
    listed = " and ".join([", ".join(texts[:-1]), texts[-1]]) if len(texts) > 1 else texts[0]
    return f"{unit}{'s' if len({*lines}) > 1 else ''} {listed}"


def _plain_text(value: object) -> str:
    """A value of JSON or of a cell as text; halves of characters, which no file can hold, become U+FFFD."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list | bool) else str(value)
    text = text.encode("utf-8", "replace").decode("utf-8") if not _is_text(text) else text
    return unguard_formula(text)


def _is_text(value: object) -> bool:
    parts = value if isinstance(value, list | tuple) else [value]
    return not any("\ud800" <= letter <= "\udfff" for part in parts if isinstance(part, str) for letter in part)


def _jsonl_rows(text: str, notes: list[str]) -> Iterator[tuple[int, dict[str, object]]]:
    nameless: list[int] = []
    several: list[int] = []
    for line, content in enumerate(text.split("\n"), 1):
        if not content.strip():
            continue
        try:
            row = parse_json(content, unique=True)
        except ValueError as error:
            raise ValueError(f"line {line} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f'line {line} is not a JSON object such as {{"file_name": "a.wav"}}')  # noqa: TRY004
        columns = Counter(plain_column(str(name)) for name in row)
        if twice := [name for name, count in columns.items() if count > 1 and name]:
            raise ValueError(f"line {line} has the column {twice[0]} twice; delete one")
        nameless += [line] * any(not plain_column(str(name)) and value not in (None, "") for name, value in row.items())
        files = [value for name, value in row.items() if plain_column(str(name)) in FILE_COLUMNS]
        several += [line] * any(isinstance(value, list) and len(value) > 1 for value in files)
        yield line, row
    if nameless:
        notes.append(f"{format_lines(nameless)} with a value that has no name: not used")
    if several:
        notes.append(f"{format_lines(several)} with several files: the first counts")


def _csv_rows(text: str, columns: list[str], notes: list[str]) -> Iterator[tuple[int, dict[str, object]]]:
    """Rows by columns as written, with the lines that each begins in; ValueError where cells may be misplaced.

    The names of the columns and what is odd are added to `columns` and `notes`.
    """
    separator = re.match(r'"?sep=(.)"?[^\r\n]*(?:\r\n|\r|\n|$)', text, re.IGNORECASE)
    body = text[separator.end() :] if separator else text
    first_line = 2 if separator else 1
    lines = [line.rstrip(" ") for line in re.split(r"\r\n|\r|\n", body)]
    skipped = next((number for number, line in enumerate(lines) if line.strip(f" \t{DELIMITERS}")), len(lines))
    header_text = re.sub(r'"[^"]*"', "", lines[skipped]) if skipped < len(lines) else ""
    delimiter = separator.group(1) if separator else max(DELIMITERS, key=header_text.count)
    body = "\n".join(lines[skipped:])
    reader = csv.reader(io.StringIO(body, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    start, header = first_line + skipped, None
    written: list[str] = []
    surplus: list[int] = []
    missing: list[int] = []
    nameless: Counter[int] = Counter()
    try:
        for cells in reader:
            line, start = start, first_line + skipped + reader.line_num
            if header is None:
                header, written = _header(cells), cells
                columns += header
                continue
            if not any(cell.strip() for cell in cells):
                continue
            _check_row(cells, header, line, delimiter)
            if len(cells) != len(header):
                (surplus if len(cells) > len(header) else missing).append(line)
            nameless.update(n for n, cell in enumerate(cells[: len(header)]) if cell.strip() and not header[n])
            yield line, {text: cell for name, text, cell in zip(header, written, cells, strict=False) if name}
    except csv.Error as error:
        hint = "a quotation mark opens a cell and does not close it, or stands within one (write it twice)"
        raise ValueError(f"line {start} is not CSV: {error}; often {hint}") from error
    if surplus:
        notes.append(f"{format_lines(surplus)} with more cells than columns, the last ones empty: {_COMMA_HINT}")
    if missing:
        notes.append(f"{format_lines(missing)} with fewer cells than columns: what is missing counts as unknown")
    for number, count in sorted(nameless.items()):
        rows = format_counted(count, "row")
        notes.append(f"column {number + 1} has no name in the first line: its text in {rows} is not used")


_COMMA_HINT = "check that no text with a comma lacks its quotation marks"


def _header(cells: list[str]) -> list[str]:
    names = [plain_column(cell) for cell in cells]
    if twice := [name for name, count in Counter(names).items() if count > 1 and name]:
        raise ValueError(f"the column {twice[0]} is there twice; delete one or name it otherwise")
    return names


def _check_row(cells: list[str], header: list[str], line: int, delimiter: str) -> None:
    """ValueError where a row's cells cannot be told apart: too many of them, or other rows within a cell."""
    if any(cell.strip() for cell in cells[len(header) :]):
        shown = " | ".join(" ".join(cell.split())[:40] for cell in cells[:_MAX_LISTED])
        counts = f"{format_counted(len(cells), 'cell')} for {format_counted(len(header), 'column')}"
        raise ValueError(
            f"line {line} has {counts} ({shown} ...): a text with a "
            f'{"tab" if delimiter == chr(9) else delimiter!r} in it needs quotation marks: "raga Yaman, female voice"'
        )
    # a file name may hold a line break: "two\nlines.ogg" alone is no row of a table with more columns
    end = re.escape(delimiter) if len(header) > 1 else "$"
    row_start = re.compile(rf'^\s*"?[^\n{re.escape(delimiter)}]*\.({_AUDIO_SUFFIXES})"?\s*{end}', re.I)
    for cell in cells:
        for part in re.split(r"\r\n|\r|\n", cell)[1:]:
            if row_start.match(part) or (len(header) > 2 and part.count(delimiter) >= len(header) - 1):
                raise ValueError(
                    f"line {line} opens a quotation mark that closes lines later, with other rows in between "
                    f"({part.strip()[:60]}); close it on its line"
                )
