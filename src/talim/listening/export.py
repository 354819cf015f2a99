"""Votes as files: JSONL and CSV out, and the votes of several sites back in as one table."""

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
    *("first", "second", "answer", "condition", "score", "heard_seconds", "at"),
)
_NEEDED = frozenset(COLUMNS[:10])


def to_jsonl(rows: Sequence[dict[str, Any]]) -> str:
    """One JSON document a line; what merges."""
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


def to_csv(rows: Sequence[dict[str, Any]]) -> str:
    """The same as a table; an empty `answer` is cannot say. No cell begins a formula in a spreadsheet."""
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    for row in rows:
        table.writerow({key: _escape_formula(value) for key, value in row.items()})
    return text.getvalue()


def merge(tables: Sequence[tuple[str, Sequence[dict[str, Any]]]]) -> list[dict[str, Any]]:
    """The rows of several sites, each (where it is from, rows), in one list; the same vote twice counts once.

    TalimError where they are of different tests, or where two places contradict each other about one answer.
    """
    merged: dict[tuple[Any, ...], dict[str, Any]] = {}
    origin: dict[str, str] = {}
    for where, rows in tables:
        for row in rows:
            if missing := _NEEDED - row.keys():
                raise TalimError(
                    f"{where}: a row lacks {', '.join(sorted(missing))}; give an export of talim"
                )
            origin.setdefault(row["test"], where)
            keys = ("site", "listener", "position", "aspect", "condition")
            key = tuple(row.get(name) for name in keys)
            if merged.setdefault(key, row) != row:
                raise TalimError(
                    f"{where}: site {row['site']}, listener {row['listener']}, trial {row['position']} was "
                    "answered differently elsewhere; two sites must not use one --site name"
                )
    if len(origin) > 1:
        told = ", ".join(f"{where} (test {digest})" for digest, where in origin.items())
        raise TalimError(f"these are different tests and cannot be merged: {told}")
    return list(merged.values())


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL export; TalimError for a line that is none."""
    rows = read_jsonl(path)
    if not all(isinstance(row, dict) for row in rows):
        raise TalimError(f"{path}: expected one JSON object a line, as the JSONL export writes it")
    return rows


def _escape_formula(value: Any) -> Any:
    risky = isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r")
    return f"'{value}" if risky else value
