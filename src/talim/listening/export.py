"""Export of votes as JSONL and CSV, and merging of exports from several sites."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from talim.atomic_io import read_jsonl
from talim.errors import TalimError

DATABASE = "votes.db"
COLUMNS = (
    *("test", "site", "listener", "group", "familiarity", "language", "position", "kind", "item", "aspect"),
    *("first", "second", "answer", "condition", "score", "listened_seconds", "at"),
)
_REQUIRED = frozenset(COLUMNS[:10])
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def to_jsonl(rows: Sequence[dict[str, Any]]) -> str:
    """One JSON object per line; the format that `merge` reads."""
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


def to_csv(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as CSV; an empty `answer` means "cannot say". Cells that look like formulas are quoted."""
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    for row in rows:
        risky = {key for key, value in row.items() if isinstance(value, str) and value.startswith(_FORMULA_STARTS)}
        table.writerow({key: f"'{value}" if key in risky else value for key, value in row.items()})
    return text.getvalue()


def merge(tables: Sequence[tuple[str, Sequence[dict[str, Any]]]]) -> list[dict[str, Any]]:
    """The rows of several sites, given as (source name, rows), in one list without duplicates.

    TalimError if they belong to different tests, or if two sources contradict each other about one answer.
    """
    merged: dict[tuple[Any, ...], dict[str, Any]] = {}
    origin: dict[str, str] = {}
    for source, rows in tables:
        for row in rows:
            if missing := _REQUIRED - row.keys():
                raise TalimError(f"{source}: a row lacks {', '.join(sorted(missing))}; give an export of talim")
            origin.setdefault(row["test"], source)
            key = tuple(row.get(name) for name in ("site", "listener", "position", "aspect", "condition"))
            if merged.setdefault(key, row) != row:
                raise TalimError(
                    f"{source}: site {row['site']}, listener {row['listener']}, trial {row['position']} was "
                    "answered differently in another source; every site needs its own --site name"
                )
    if len(origin) > 1:
        tests = ", ".join(f"{source} (test {test})" for test, source in origin.items())
        raise TalimError(f"these are different tests and cannot be merged: {tests}")
    return list(merged.values())


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL export; TalimError for a line that is not a JSON object."""
    rows = read_jsonl(path)
    if not all(isinstance(row, dict) for row in rows):
        raise TalimError(f"{path}: expected one JSON object per line, as in the JSONL export")
    return rows
