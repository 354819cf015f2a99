"""The tables that describe recordings: metadata.csv or .jsonl, and sections.csv, row by row to the recordings.

First the tables as a whole; then what their columns mean, by the names that people write, with a note on all others;
last which recording a file name means: the same name, else the only one that people may have meant by it.
"""

from __future__ import annotations

import difflib
import math
import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from urllib.parse import unquote

from talim.audio import is_audio_name
from talim.corpus.beat_chord_files import COLUMNS as BEAT_CHORD_COLUMNS
from talim.corpus.captions import COLUMN_ALIASES, TEXT_COLUMNS
from talim.corpus.labels import COLUMNS as LABEL_COLUMNS
from talim.corpus.labels import names_tonic_by_note, without_wrong_numbers
from talim.corpus.recordings import GENERATED_COLUMN, AnnotatedSection, normalize_path
from talim.corpus.split_groups import SPLIT_COLUMN, side_of, unknown_word
from talim.corpus.tables import FILE_COLUMNS, MetadataRow, Table, format_lines, read_table
from talim.errors import TalimError, UsageError
from talim.html.formatting import format_counted
from talim.licences import allows_commercial_use
from talim.traditions.name_matching import split_ascii_words

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
MOST_UNMATCHED = "most of the table"  # in such a note where more than half of the rows are not used
_MAX_LISTED = 5  # rows or recordings in one note
_MOVED_LICENCE = re.compile(r"\s*(cc[ -]?(by|0)|creative commons|public domain|all rights reserved)", re.IGNORECASE)
MetadataNote = dict[str, str]
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
SUGGESTION_OR = " or "  # between the modes, or the cycles, that a recording does not tell apart
_MIN_PLURAL = 5  # letters of a name that may be meant where another one lacks or has an s: not key and keys
_MAX_COLUMNS = 20  # likewise of columns and their cells
_MAX_COMPARED = 2000  # names; looking for similar ones among more takes too long


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
        found = [*table.notes, *described.notes, *_unmatched_notes(described.unmatched, len(table.rows))]
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
        found = [*table.notes, *described.notes, *_unmatched_notes(described.unmatched, len(table.rows))]
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


def _unmatched_notes(unmatched: list[tuple[int, str, FileMatch]], total: int) -> list[str]:
    """What was not used of `total` rows: those that may mean several recordings, and those that match none."""
    notes = []
    several = [(line, text, match) for line, text, match in unmatched if match.candidates]
    for line, text, match in several[:_MAX_LISTED]:
        candidates = _listed(match.candidates, joint=" or ")
        notes.append(f"line {line} is not used: {_quoted(text)} may be {candidates}; write its whole name")
    if rest := several[_MAX_LISTED:]:
        notes.append(f"{format_lines([line for line, _, _ in rest])} not used, as each may be several recordings")
    if absent := [(line, text, match) for line, text, match in unmatched if not match.candidates]:
        texts = [
            f"{_quoted(text)} (is it {match.nearest}?)" if match.nearest else _quoted(text) for _, text, match in absent
        ]
        lines = format_lines([line for line, _, _ in absent])
        verb = "matches" if len(absent) == 1 else "match"
        most = f"; that is {MOST_UNMATCHED} ({len(absent)} of {format_counted(total, 'row')})"
        is_not = f"{'is' if len(absent) == 1 else 'are'} not used"
        notes.append(f"{lines} {verb} {UNMATCHED} and {is_not}: {_listed(texts)}{most * (2 * len(absent) > total)}")
    return notes


def _quoted(text: str) -> str:
    return f"'{text if len(text) <= 80 else text[:77] + '...'}'"


def _listed(texts: Collection[str], most: int = _MAX_LISTED, joint: str = ", ") -> str:
    shown = [*texts][:most]
    more = len(texts) - len(shown)
    return joint.join(shown) + (f" and {more} more" if more else "")


@dataclass(frozen=True)
class ColumnSet:
    """The columns that mean something in a kind of table; `found` looks a written name up."""

    names: tuple[str, ...]
    _by_key: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.names:
            self._by_key.setdefault("".join(split_ascii_words(name)), name)
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
    read_as = _listed([f"{typed(column)} as {name}" for column, name in renamed.items()], _MAX_COLUMNS)
    notes = [f"read as known columns: {read_as}"] if renamed else []
    unused = [column for column in columns if column not in known.names and column not in renamed]
    only_kept = [column for column in columns if column in _ONLY_KEPT]
    if suggested := [column for column in unused if column.startswith(SUGGESTION_PREFIX)]:
        rows = [(line, {c: text for c, text in cells.items() if c not in suggested}) for line, cells in rows]
        confirmed = {column: known.found(column.removeprefix(SUGGESTION_PREFIX)) for column in suggested}
        example = next((f"{old} to {new}" for old, new in confirmed.items() if new), "")
        advice = f"; rename a column that is right ({example})" if example else ""
        notes.append(f"suggestions that nobody has confirmed, not used: {_listed(suggested, _MAX_COLUMNS)}{advice}")
        unused = [column for column in unused if column not in suggested]
    if unused or only_kept:
        texts = [*(f"{typed(column)}{_nearest(column, known)}" for column in unused), *map(typed, only_kept)]
        notes.append(f"columns not used, only kept with the clips: {_listed(texts, _MAX_COLUMNS)}")
    if table.unit == "line" and SPLIT_COLUMN in known.names:
        _check_sides(table.path, rows)
    rows, wrong = _checked_numbers(rows, table.unit)
    return replace(table, rows=rows, notes=[*table.notes, *notes, *_conflict_notes(rows, table.unit), *wrong])


def _check_sides(path: Path, rows: list[tuple[int, MetadataRow]]) -> None:
    written = [(line, cells[SPLIT_COLUMN]) for line, cells in rows if SPLIT_COLUMN in cells]
    if unknown := [f"line {line}: {unknown_word(text)}" for line, text in written if not side_of(text)]:
        raise UsageError(
            f"{path}: the column {SPLIT_COLUMN} names no side of the split: {_listed(unknown, _MAX_COLUMNS)}; write "
            "train, validation or test, or leave the cell empty"
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
    rest = [number for numbers in [*lines.values()][_MAX_COLUMNS:] for number in numbers]
    more = [f"{format_lines(rest, unit)}: no number in a column of numbers, not used"] if rest else []
    if any(names_tonic_by_note(cells) for _, cells in checked):
        more.append("tonics that are notes are taken at A4 = 440 Hz: write Hz where the music is tuned otherwise")
    return checked, notes[:_MAX_COLUMNS] + more


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


@dataclass(frozen=True)
class FileMatch:
    """The recording that a name means, "" where none or several do; `exact` if it is the very same path."""

    name: str = ""
    exact: bool = False
    candidates: tuple[str, ...] = ()  # several recordings that the name may mean
    nearest: str = ""  # where nothing matches: the most similar name, or the only one of which one begins the other


@dataclass
class FileMatcher:
    """Finds recordings by names as people write them, relative to a table's folder.

    In this order: the path itself; in other letters (case, full-width, composed or not, %20); the end of a full path;
    without folders; without the ending. Each only where a single recording fits.
    """

    names: Collection[str]  # normalised paths of the recordings, relative to the source
    _tables: list[dict[str, list[str]]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._tables = [defaultdict(list) for _ in range(4)]
        for name in sorted(self.names):
            for table, key in zip(self._tables, _path_keys(_folded_path(name)), strict=True):
                table[key].append(name)

    def match(self, text: str, base: str = "") -> FileMatch:
        """The recording that `text` means in a table that lies in the folder `base`."""
        for path in _path_spellings(text):
            whole = normalize_path(posixpath.normpath(f"{base}/{path}" if base else path))
            if whole in self.names:
                return FileMatch(whole, exact=True)
        for path in _path_spellings(text):
            if match := self._match_folded(_folded_path(path), _folded_path(base)):
                return match
        wanted = _folded_path(next(_path_spellings(text)))
        stem = wanted.rpartition(".")[0] if is_audio_name(wanted) else wanted
        if len(self.names) > _MAX_COMPARED:
            return FileMatch()
        if near := difflib.get_close_matches(stem, self._tables[1], 1, 0.75):
            return FileMatch(nearest=self._tables[1][near[0]][0])
        bare, by_stem = stem.rpartition("/")[2], self._tables[3]
        only = [name for key in by_stem if _begins(key, bare) or _begins(bare, key) for name in by_stem[key]]
        return FileMatch(nearest=only[0] if len(only) == 1 else "")

    def _match_folded(self, path: str, base: str) -> FileMatch | None:
        whole, bare, tail, stem = self._tables
        relative = posixpath.normpath(posixpath.join(base, path)) if base else path
        wanted = path.rpartition("/")[2]
        shorter = wanted.rpartition(".")[0] if is_audio_name(wanted) else ""
        looked_up = [
            (whole, relative),
            (bare, relative),
            (whole, path),
            (tail, wanted),
            (stem, wanted),
            (stem, shorter),
        ]
        for table, key in looked_up:
            found = table.get(key, []) if key else []
            if len(found) > 1:
                found = _best_ending(found, path, base)
            if len(found) == 1:
                return FileMatch(found[0])
            if found:
                return FileMatch(candidates=tuple(found))
        return None


def _begins(name: str, start: str) -> bool:
    """Whether a name begins with whole words: "bhupali take 1" with "bhupali", but "take 10" not with "take 1"."""
    return bool(start) and name.startswith(start) and not name[len(start) :][:1].isalnum()


def _path_keys(folded: str) -> tuple[str, str, str, str]:
    """Whole path, path without the ending, name, name without the ending."""
    last = folded.rpartition("/")[2]
    return folded, folded.rpartition(".")[0], last, last.rpartition(".")[0]


def _best_ending(found: list[str], path: str, base: str) -> list[str]:
    """Of several, those that share the most folders with the path; then those below the table's folder."""
    wanted = path.split("/")[:-1]

    def shared(name: str) -> int:
        folders = _folded_path(name).split("/")[:-1]
        pairs = zip(reversed(folders), reversed(wanted), strict=False)
        return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(folders), len(wanted)))

    most = max(map(shared, found))
    best = [name for name in found if shared(name) == most]
    below = [name for name in best if base and _folded_path(name).startswith(f"{base}/")]
    return below or best


def _path_spellings(text: str) -> Iterator[str]:
    """The path as it is written, then as an address or with %20 it would be meant."""
    path = text.strip().replace("\\", "/")
    yield path
    address = re.sub(r"^file:/{2,3}", "/", path, flags=re.IGNORECASE)
    if address != path or "%" in path:
        yield unquote(address)
    if (quoted := path.strip("'\"“”‘’<>")) != path:
        yield quoted


def _folded_path(path: str) -> str:
    """A path for comparison: no case, one form of each letter, single blanks, no drive, no leading ./ or /."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", path).casefold())
    text = text.replace("i\u0307", "i").replace("ı", "i")
    text = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")  # marks of direction and the like
    parts = [" ".join(part.split()) for part in re.sub(r"^[a-z]:", "", text).split("/")]
    return "/".join(part for part in parts if part not in ("", "."))
