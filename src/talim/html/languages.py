"""The languages of pages: a folder of talim/words with a report.json is one, and none is named in code but English.

Its files are report.json (reports and ratings), poc.json (stages of a proof of concept), corpus.json (the page of a
corpus), study.json (where a study recommends no design), heads.json (headings and the heads of tables, which pages of
runs, corpora and studies have in English), listen.json and review.json (the pages of listeners and reviewers), and
app.json. Keys that report.json and app.json lack are in English; the other files are whole, or left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from talim.atomic_io import read_json
from talim.html.formatting import format_count, format_counted, format_duration

FOLDER = Path(__file__).parents[1] / "words"
ENGLISH = "en"
NOTHING: dict[str, str] = {ENGLISH: ""}  # a text by language that is empty in all


def languages(name: str = "report") -> tuple[str, ...]:
    """The codes of the languages that have the texts of words/LANGUAGE/NAME.json, English first where it has them."""
    return _languages(FOLDER, name)


def words(language: str, name: str = "report") -> dict[str, Any]:
    """The texts of words/LANGUAGE/NAME.json; of keys that it lacks, the English ones."""
    return _words(FOLDER, language, name)


def duration_in(language: str, seconds: float) -> str:
    """A duration as `format_duration` has it, in the words of a language: `4 min 12 s`, `4分12秒`."""
    texts, parts = words(language), re.findall(r"(\S+) (\w+)", format_duration(seconds))
    return texts["duration_join"].join(texts[f"duration_{unit}"].format(count=count) for count, unit in parts)


def counted_in(language: str, value: int, noun: str) -> str:
    """A number of things: `3 recordings`, `3本`; KeyError for a noun without a counter."""
    if language == ENGLISH:
        return format_counted(value, noun)
    return str(words(language)[f"counter_{noun}"].format(count=format_count(value)))


def to_fields(key: str, texts: Mapping[str, Any]) -> dict[str, Any]:
    """What a file keeps of a text by language: KEY in English, and the others by language in KEY_translated."""
    return {key: texts[ENGLISH], f"{key}_translated": {code: texts[code] for code in texts if code != ENGLISH}}


def from_fields(fields: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The text by language of which a file keeps `to_fields`."""
    return {ENGLISH: fields[key], **fields[f"{key}_translated"]}


@cache
def _languages(folder: Path, name: str) -> tuple[str, ...]:
    found = [path.parent.name for path in folder.glob(f"*/{name}.json")]
    return tuple(sorted(found, key=lambda code: (code != ENGLISH, code)))


@cache
def _words(folder: Path, language: str, name: str) -> dict[str, Any]:
    english = {} if language == ENGLISH or ENGLISH not in _languages(folder, name) else _words(folder, ENGLISH, name)
    path = folder / language / f"{name}.json"
    return english | (read_json(path) if path.is_file() else {})
