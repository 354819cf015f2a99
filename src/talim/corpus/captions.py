"""Words and rights of recordings: metadata.csv or .jsonl, .txt files beside the sound, or one description."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from talim.corpus.importers import SourceFile, plain_name, walk
from talim.corpus.manifest import UNKNOWN
from talim.errors import TalimError
from talim.run import write_text

NEUTRAL = "a recording of music"
METADATA_NAMES = ("metadata.csv", "metadata.jsonl")
EDITABLE_COLUMNS = ("file_name", "text", "performer", "recording", "licence", "source", "consent")
_FILE_COLUMNS = ("file_name", "filename", "file", "path", "audio", "audio_path")
_TEXT_COLUMNS = ("text", "caption", "description", "prompt")
_ALIASES = {
    "performer": ("performer", "performers", "artist", "artists", "singer", "musician", "musicians"),
    "recording": ("recording", "recording_id"),
    "licence": ("licence", "license", "rights", "copyright"),
    "source": ("source", "url", "origin", "collection"),
    "consent": ("consent",),
}
_MISSING = frozenset({"", UNKNOWN, "-", "?", "n/a", "na", "nan", "none", "null"})


@dataclass(frozen=True)
class Words:
    """What is said about one recording; "unknown" where nothing is."""

    caption: str
    origin: str  # where the caption comes from
    performer: str = UNKNOWN
    recording: str = ""
    licence: str = UNKNOWN
    source: str = UNKNOWN
    consent: str = UNKNOWN
    extra: dict[str, str] = field(default_factory=dict)


def read_metadata(
    folder: Path, out: Path, files: Iterable[SourceFile]
) -> tuple[dict[str, dict[str, str]], list[dict[str, str]]]:
    """Rows by file name (relative to folder) from every metadata file below it, and notes on odd rows.

    As in the audiofolder convention a metadata file names files relative to itself. Where there is none
    below, the one in the folder above is taken if it names files in here.
    """
    known = {file.name for file in files}
    rows: dict[str, dict[str, str]] = {}
    notes: list[dict[str, str]] = []
    tables = [
        place / name for place in walk(folder, out) for name in METADATA_NAMES if (place / name).is_file()
    ]
    for path in tables:
        base, strays = plain_name(path.parent.relative_to(folder)), []
        shown = plain_name(path.relative_to(folder))
        for row in read_table(path):
            name = plain_name(f"{base}/{row.pop('file_name')}")
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


def _rows_from_above(folder: Path, known: set[str]) -> tuple[dict[str, dict[str, str]], list[dict[str, str]]]:
    """Rows for these files in the metadata of the folder above, for a part of a collection."""
    here = folder.resolve()
    prefix = f"{plain_name(here.name)}/"
    for path in (here.parent / name for name in METADATA_NAMES):
        try:
            table = read_table(path) if path.is_file() else []
        except TalimError:  # a table that nobody pointed at may be about anything
            continue
        named = {plain_name(row.pop("file_name")): row for row in table}
        rows = {name: named[prefix + name] for name in known if prefix + name in named}
        if rows:
            note = f"in the folder above: {len(rows)} recordings are described there"
            return rows, [{"file": f"../{path.name}", "note": note}]
    return {}, []


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a metadata.csv or .jsonl: lower-case columns, no empty cells, file_name always there.

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
    return [_canonical_row(path, line, row) for line, row in rows]


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


def _canonical_row(path: Path, line: int, row: Mapping[str, object]) -> dict[str, str]:
    cells: dict[str, str] = {}
    for name, value in row.items():
        column = str(name or "").strip().lower().replace(" ", "_").replace("-", "_")
        text = " | ".join(str(part) for part in value) if isinstance(value, list) else str(value)
        if column and value is not None and text.strip().lower() not in _MISSING:
            cells[column] = " ".join(text.split())
    for column in _FILE_COLUMNS:
        if column in cells:
            cells = {"file_name": cells.pop(column)} | cells
            return cells
    raise TalimError(
        f"{path}: line {line} names no file; a column file_name is needed (has: {', '.join(map(str, row))})"
    )


def describe_file(
    file: SourceFile, row: Mapping[str, str], edited: Mapping[str, str], describe: str | None
) -> Words:
    """The words of one recording. Edits in the corpus's own metadata.csv win over the folder's row.

    Caption: a text column, else a .txt beside the sound, else --describe, else built from descriptive
    columns, else a neutral one.
    """
    own = {name: text for name, text in edited.items() if not (name in _TEXT_COLUMNS and text == NEUTRAL)}
    cells = {**row, **own}
    rights: dict[str, str] = {}
    for name, columns in _ALIASES.items():
        rights[name] = next((cells[column] for column in columns if cells.get(column)), "")
    used = {column for columns in _ALIASES.values() for column in columns} | set(_TEXT_COLUMNS)
    caption, origin = _caption(file, row, own, describe)
    return Words(
        caption=caption,
        origin=origin,
        performer=rights["performer"] or UNKNOWN,
        recording=rights["recording"] or file.name.rpartition(".")[0],
        licence=rights["licence"] or UNKNOWN,
        source=rights["source"] or UNKNOWN,
        consent=rights["consent"] or UNKNOWN,
        extra={name: text for name, text in sorted(cells.items()) if name not in used},
    )


def _caption(
    file: SourceFile, row: Mapping[str, str], edited: Mapping[str, str], describe: str | None
) -> tuple[str, str]:
    for cells, origin in ((edited, "corpus metadata.csv"), (row, "metadata")):
        text = next((cells[column] for column in _TEXT_COLUMNS if cells.get(column)), "")
        if text:
            return text, origin
    beside = _text_beside(file.path)
    if beside:
        return beside, "text file"
    if describe:
        return describe, "describe"
    built = built_caption({**row, **edited})
    return (built, "built from columns") if built else (NEUTRAL, "none")


def _text_beside(path: Path) -> str:
    for beside in (path.with_suffix(".txt"), path.with_name(f"{path.name}.txt")):
        if beside.is_file():
            try:
                return " ".join(beside.read_bytes().decode("utf-8-sig").split())
            except (OSError, UnicodeDecodeError) as error:
                raise TalimError(f"{beside}: is not readable UTF-8 text; save it again as UTF-8") from error
    return ""


def built_caption(cells: Mapping[str, str]) -> str:
    """A readable caption from descriptive columns (tradition, mode, tala, form, instruments...), or "" ."""
    parts = []
    tradition = cells.get("tradition") or cells.get("genre") or cells.get("style")
    if tradition:
        parts.append(f"{tradition[0].upper()}{tradition[1:]} music")
    mode, kind = cells.get("mode", ""), cells.get("mode_kind", "").lower()
    if mode:
        parts.append(f"in {mode}" if kind in ("key", "") else f"{kind} {mode}")
    for columns, word in (
        (("raga", "raag"), "raga"),
        (("makam",), "makam"),
        (("tala", "taal"), "tala"),
        (("usul",), "usul"),
    ):
        value = next((cells[column] for column in columns if cells.get(column)), "")
        if value:
            parts.append(f"{word} {value}")
    parts += [cells[column] for column in ("form", "laya", "tempo", "mood") if cells.get(column)]
    if cells.get("tempo_bpm"):
        parts.append(f"{cells['tempo_bpm']} beats per minute")
    instruments = cells.get("instruments") or cells.get("instrument") or ""
    names = [
        name.strip() for name in instruments.replace(";", "|").replace(",", "|").split("|") if name.strip()
    ]
    if names:
        parts.append(" and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0])
    return ", ".join(parts)


def write_editable(
    path: Path, words: Mapping[str, Words], edited: Mapping[str, Mapping[str, str]]
) -> list[str]:
    """Keep a metadata.csv with a row for every recording without words; what was typed into it stays.

    Returns the names of the recordings that still wait for words.
    """
    waiting = [name for name, said in words.items() if said.origin == "none"]
    new = [name for name in waiting if name not in edited]
    if not new:
        return waiting
    columns = list(EDITABLE_COLUMNS)
    columns += sorted({column for row in edited.values() for column in row} - set(columns))
    buffer = io.StringIO(newline="")
    table = csv.DictWriter(buffer, columns, restval="", lineterminator="\n")
    table.writeheader()
    for name, row in edited.items():
        table.writerow({**row, "file_name": name})
    for name in new:
        said = words[name]
        known = {column: getattr(said, column) for column in EDITABLE_COLUMNS[2:]}
        cells = {column: value for column, value in known.items() if value != UNKNOWN}
        table.writerow({"file_name": name, "text": NEUTRAL, **cells})
    write_text(path, buffer.getvalue())
    return waiting
