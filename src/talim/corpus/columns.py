"""The columns of a table by the names that people write: read as the known ones, and a note on all others."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from talim.corpus.beat_chord_files import COLUMNS as BEAT_CHORD_COLUMNS
from talim.corpus.captions import COLUMN_ALIASES, TEXT_COLUMNS
from talim.corpus.generated_recordings import COLUMN as GENERATED_COLUMN
from talim.corpus.labels import COLUMNS as LABEL_COLUMNS
from talim.corpus.labels import names_tonic_by_note, without_wrong_numbers
from talim.corpus.split_column import COLUMN as SPLIT_COLUMN
from talim.corpus.split_column import side_of, unknown_word
from talim.corpus.tables import FILE_COLUMNS, MetadataRow, Table, format_lines
from talim.errors import UsageError
from talim.traditions.name_matching import split_ascii_words

SECTION_COLUMNS = ("file_name", "start_seconds", "seconds", "end_seconds", "name")
# Usual columns without a meaning here: told as not used, and no other one is meant by them.
_ONLY_KEPT = ("composer", "id", "notes", "comment", "year", "date")
# Columns that talim's own corpora and data sets have.
_KEPT_COLUMNS = ("mode_kind", "cycle_kind", "lead_performer", "lead_instrument", "release_mbid", "work_mbid", "seed",
                 *_ONLY_KEPT)  # fmt: skip
# Further usual names, in letters only, and the column that each is read as.
_ALIASES = {"rag": "raga", "ragam": "raga", "makami": "makam", "tal": "tala", "talam": "tala", "usulu": "usul",
            "player": "performer", "vocalist": "singer", "instrumentalist": "musician", "song": "title",
            "songtitle": "title", "tracktitle": "title", "piece": "title", "link": "url", "sourceurl": "url",
            "licenceurl": "licence", "licenseurl": "license"}  # fmt: skip
_NAME_WORDS = frozenset({"name", "names"})
_RIGHTS = frozenset(COLUMN_ALIASES["licence"])
SUGGESTION_PREFIX = "suggested_"  # of columns that nothing reads until they are renamed
_MIN_PLURAL = 5  # letters of a name that may be meant where another one lacks or has an s: not key and keys
_MAX_LISTED = 20


@dataclass(frozen=True)
class ColumnSet:
    """The columns that mean something in a kind of table; `found` looks a written name up."""

    names: tuple[str, ...]
    _by_key: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.names:
            self._by_key.setdefault(_key(name), name)
        for alias, name in _ALIASES.items():
            if name in self.names:
                self._by_key.setdefault(alias, name)

    def found(self, written: str) -> str:
        """The known column that a name means (case, accents, spaces, a unit in brackets, "name", plural); else ""."""
        if written in self.names:
            return written
        words = split_ascii_words(written)
        bare = [word for word in words if word not in _NAME_WORDS]
        for parts in (words, bare):
            key = "".join(parts)
            spellings = [key] if len(key) < _MIN_PLURAL else [key, key.removesuffix("s"), f"{key}s"]
            if column := next((self._by_key[text] for text in spellings if text in self._by_key), ""):
                return column
        rights = [self.found(word) for word in words] if len(words) > 1 else [""]
        return rights[0] if {*rights} <= _RIGHTS else ""  # "Licence (rights)"


def _key(name: str) -> str:
    return "".join(split_ascii_words(name))


@cache
def recording_columns() -> ColumnSet:
    """The columns of a table of recordings."""
    synonyms = (*LABEL_COLUMNS.values(), *COLUMN_ALIASES.values(), TEXT_COLUMNS, BEAT_CHORD_COLUMNS, FILE_COLUMNS)
    names = [*(column for columns in synonyms for column in columns), *_KEPT_COLUMNS, GENERATED_COLUMN, SPLIT_COLUMN]
    return ColumnSet(tuple(dict.fromkeys(names)))


@cache
def section_columns() -> ColumnSet:
    """The columns of a table of sections: times, a name and labels."""
    labels = [column for columns in LABEL_COLUMNS.values() for column in columns]
    return ColumnSet(tuple(dict.fromkeys([*SECTION_COLUMNS, *labels, *FILE_COLUMNS, *_KEPT_COLUMNS])))


def with_known_columns(table: Table, known: ColumnSet) -> Table:
    """The table with its columns under their known names, and a note on every one that is renamed or not used.

    Raises UsageError with the line of a side of the split that is none, where it can be mended: in a file of lines.
    """
    columns = [column for column in dict.fromkeys(column for _, cells in table.rows for column in cells) if column]
    renamed: dict[str, str] = {}

    def typed(column: str) -> str:
        return table.typed.get(column, column)

    for column in columns:
        name = known.found(column)
        if name and name not in (*columns, *renamed.values()):  # of two columns for one the first counts
            renamed[column] = name
    rows = [(line, {renamed.get(column, column): text for column, text in cells.items()}) for line, cells in table.rows]
    notes = [f"read as known columns: {_listed([f'{typed(c)} as {n}' for c, n in renamed.items()])}"] if renamed else []
    unused = [column for column in columns if column not in known.names and column not in renamed]
    only_kept = [column for column in columns if column in _ONLY_KEPT]
    if suggested := [column for column in unused if column.startswith(SUGGESTION_PREFIX)]:
        rows = [(line, {c: text for c, text in cells.items() if c not in suggested}) for line, cells in rows]
        confirmed = {column: known.found(column.removeprefix(SUGGESTION_PREFIX)) for column in suggested}
        example = next((f"{old} to {new}" for old, new in confirmed.items() if new), "")
        advice = f"; rename a column that is right ({example})" if example else ""
        notes.append(f"suggestions that nobody has confirmed, not used: {_listed(suggested)}{advice}")
        unused = [column for column in unused if column not in suggested]
    if unused or only_kept:
        texts = [*(f"{typed(column)}{_nearest(column, known)}" for column in unused), *map(typed, only_kept)]
        notes.append(f"columns not used, only kept with the clips: {_listed(texts)}")
    if table.unit == "line" and SPLIT_COLUMN in known.names:
        _check_sides(table.path, rows)
    rows, wrong = _checked_numbers(rows, table.unit)
    return replace(table, rows=rows, notes=[*table.notes, *notes, *_conflict_notes(rows, table.unit), *wrong])


def _check_sides(path: Path, rows: list[tuple[int, MetadataRow]]) -> None:
    written = [(line, cells[SPLIT_COLUMN]) for line, cells in rows if SPLIT_COLUMN in cells]
    if unknown := [f"line {line}: {unknown_word(text)}" for line, text in written if not side_of(text)]:
        raise UsageError(
            f"{path}: the column {SPLIT_COLUMN} names no side of the split: {_listed(unknown)}; write train, "
            "validation or test, or leave the cell empty"
        )


def _checked_numbers(rows: list[tuple[int, MetadataRow]], unit: str) -> tuple[list[tuple[int, MetadataRow]], list[str]]:
    """The rows without words where numbers are expected, and a note with the lines of each such cell."""
    checked, lines = [], dict[str, list[int]]()
    for line, cells in rows:
        kept, faults = without_wrong_numbers(cells)
        checked.append((line, kept))
        for fault in faults.values():
            lines.setdefault(fault, []).append(line)
    notes = [f"{format_lines(numbers, unit)}: {fault}" for fault, numbers in lines.items()]
    rest = [number for numbers in [*lines.values()][_MAX_LISTED:] for number in numbers]
    more = [f"{format_lines(rest, unit)}: no number in a column of numbers, not used"] if rest else []
    if any(names_tonic_by_note(cells) for _, cells in checked):
        more.append("tonics that are notes are taken at A4 = 440 Hz: write Hz where the music is tuned otherwise")
    return checked, notes[:_MAX_LISTED] + more


def _conflict_notes(rows: list[tuple[int, MetadataRow]], unit: str) -> list[str]:
    """Rows that state one thing in several columns: a line for each set of columns that differ from the one used."""
    notes = []
    labels = {name: synonyms for name, synonyms in LABEL_COLUMNS.items() if name != "performers"}
    for name, synonyms in {**labels, **COLUMN_ALIASES, "caption": TEXT_COLUMNS}.items():
        lines: dict[tuple[str, ...], list[int]] = {}
        for line, cells in rows:
            counts, *others = [column for column in synonyms if column in cells] or [""]
            if differing := [column for column in others if cells[column] != cells[counts]]:
                lines.setdefault((counts, *differing), []).append(line)
        plain = name.replace("_", " ")
        notes += [
            f"{format_lines(numbers, unit)} with several columns for the {plain}: {counts} counts, not "
            + ", ".join(others)
            for (counts, *others), numbers in lines.items()
        ]
    return notes


def _nearest(column: str, known: ColumnSet) -> str:
    if means := known.found(column):
        return f" (there is {means} too)"
    near = difflib.get_close_matches(column, known.names, 1, cutoff=0.75)
    near = near or [name for word in split_ascii_words(column) if (name := known.found(word)) in _RIGHTS]
    return f" (is it {near[0]}?)" if near else ""


def _listed(texts: Collection[str]) -> str:
    more = len(texts) - _MAX_LISTED
    return ", ".join([*texts][:_MAX_LISTED]) + (f" and {more} more" if more > 0 else "")
