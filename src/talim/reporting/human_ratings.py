"""What people said of a folder's runs: listeners' ratings and a brief's usefulness, read for the report's page."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from talim.atomic_io import read_json
from talim.errors import TalimError

RATINGS, USEFULNESS = "ratings.json", "usefulness.json"


@dataclass(frozen=True)
class HumanRating:
    """One judgement by people: what it is, its sentences, and the way to its own page ("" where it has none)."""

    title: str
    sentences: tuple[str, ...]
    link: str


def load_ratings(folder: Path, page: Path) -> list[HumanRating]:
    """Every ratings.json and usefulness.json in FOLDER, up to two levels below it; links are relative to `page`."""
    found = []
    for name, tell, own in (
        (RATINGS, _ratings, "ratings/index.html"),
        (USEFULNESS, _usefulness, "usefulness/index.html"),
    ):
        for path in find_result_files(folder, name):
            title, sentences = tell(_mapping(path))
            target = path.parent / own
            link = Path(os.path.relpath(target, page.parent)).as_posix() if target.is_file() else ""
            found.append(HumanRating(title, tuple(sentences), link))
    return found


def find_result_files(folder: Path, name: str) -> list[Path]:
    """Every file of that name in FOLDER, up to two levels below it, but for what is kept of earlier runs."""
    nested = [path for pattern in ("*", "*/*") for path in sorted(folder.glob(f"{pattern}/{name}"))]
    return [
        path
        for path in (folder / name, *nested)
        if path.is_file() and "earlier" not in path.relative_to(folder).parts
    ]


def _mapping(path: Path) -> dict[str, Any]:
    value = read_json(path)
    if not isinstance(value, dict):
        raise TalimError(
            f"{path}: expected one JSON object; delete it and run the command that wrote it again"
        )
    return value


def _ratings(told: Mapping[str, Any]) -> tuple[str, list[str]]:
    people = told.get("listeners") or {}
    counted = f"{people.get('counted', 0)} of {people.get('answered', 0)} listeners count."
    return f"Blind listening: {told.get('name', 'a test')}", [*_lines(told.get("verdict")), counted]


def _usefulness(told: Mapping[str, Any]) -> tuple[str, list[str]]:
    name = (told.get("brief") or {}).get("name", "a brief")
    return f"Usefulness: {name}", [*_lines(*(told.get("sentences") or ()))]


def _lines(*texts: Any) -> list[str]:
    return [text for text in texts if isinstance(text, str) and text]
