"""Export of votes as JSONL and CSV, and merging of exports from several sites."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StrictInt, ValidationError

from talim.atomic_io import read_jsonl
from talim.errors import TalimError
from talim.strict_yaml import expected

DATABASE = "votes.db"
COLUMNS = (
    *("test", "site", "listener", "group", "familiarity", "language", "position", "kind", "item", "aspect"),
    *("first", "second", "answer", "condition", "score", "listened_seconds", "at"),
)
_Text = Annotated[str, Field(strict=True, max_length=200)]
_Seconds = Annotated[FiniteFloat, Field(strict=True)]
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


class ExportRow(BaseModel):
    """What every row of an export has."""

    model_config = ConfigDict(extra="ignore")
    test: _Text
    site: _Text
    listener: _Text
    group: _Text
    familiarity: StrictInt = Field(ge=1, le=5)
    language: _Text
    position: StrictInt = Field(ge=0, le=100_000)
    kind: Literal["normal", "repeat", "attention"]
    item: _Text
    aspect: _Text
    listened_seconds: _Seconds = Field(ge=0)
    at: _Seconds


class PairwiseRow(ExportRow):
    """An answer on two conditions: 2 for "first much better" to -2, null for "cannot say"."""

    first: _Text
    second: _Text
    answer: Annotated[StrictInt, Field(ge=-2, le=2)] | None


class MushraRow(ExportRow):
    """A rating of one condition."""

    condition: _Text
    score: StrictInt = Field(ge=0, le=100)


def row_fault(row: Any) -> str | None:
    """What is wrong with a row of an export, such as "answer is 100: expected at most 2"; None for a row that can
    be used.
    """
    if not isinstance(row, dict):
        return f"{repr(row)[:40]} is no JSON object"
    try:
        (PairwiseRow if "answer" in row else MushraRow).model_validate(row)
    except ValidationError as error:
        first = error.errors()[0]
        where = str(first["loc"][0])
        arrived = f"{where} is {repr(row[where])[:40]}" if where in row else f"{where} is missing"
        return arrived if where not in row else f"{arrived}: {expected(first)}"
    return None


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
    """The rows of a JSONL export; TalimError with the line for one that is no row of an export."""
    if path.is_dir():
        raise TalimError(f"{path}: is a folder; give the JSONL file that the organiser's page of that site saves")
    rows = read_jsonl(path)
    if len(rows) < sum(bool(line.strip()) for line in path.read_text("utf-8", "replace").rstrip("\n").split("\n")):
        raise TalimError(f"{path}: its last line is cut off; save the export again")
    for number, row in enumerate(rows, start=1):
        if fault := row_fault(row):
            raise TalimError(f"{path}: row {number}: {fault}; give the JSONL export of a talim test, unedited")
    return rows
