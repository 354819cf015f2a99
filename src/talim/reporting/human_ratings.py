"""Results of listening tests and usefulness briefs of a folder's runs, read for the report."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from talim.html.formatting import format_counted
from talim.reporting.run_results import read_mapping

# of a listening test: without the first no interval, without the second one with a warning
MIN_LISTENERS, ENOUGH_LISTENERS = 6, 12
NO_LISTENERS = "Nobody has answered yet."
RATINGS, USEFULNESS = "ratings.json", "usefulness.json"


@dataclass(frozen=True)
class HumanRating:
    """One listening test or brief: title, sentences, a link to its own page ("" for none), sentences by language."""

    title: str
    sentences: tuple[str, ...]
    link: str
    translated: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def load_ratings(folder: Path, page: Path) -> list[HumanRating]:
    """Every ratings.json and usefulness.json in FOLDER, up to two levels below it; links are relative to `page`."""
    ratings = []
    for name, summarize, own_page in (
        (RATINGS, _summarize_ratings, "ratings/index.html"),
        (USEFULNESS, _summarize_usefulness, "usefulness/index.html"),
    ):
        for path in find_result_files(folder, name):
            result = read_mapping(path)
            title, sentences = summarize(result)
            target = path.parent / own_page
            link = Path(os.path.relpath(target, page.parent)).as_posix() if target.is_file() else ""
            others = result.get("sentences_translated") or {}
            translated = {code: tuple(_texts(*texts)) for code, texts in others.items()}
            ratings.append(HumanRating(title, tuple(sentences), link, translated))
    return ratings


def find_result_files(folder: Path, name: str) -> list[Path]:
    """Every file of that name in FOLDER, up to two levels below it, except in `earlier` folders."""
    found = [path for pattern in ("", "*/", "*/*/") for path in sorted(folder.glob(pattern + name))]
    return [path for path in found if path.is_file() and "earlier" not in path.relative_to(folder).parts]


def _summarize_ratings(result: Mapping[str, Any]) -> tuple[str, list[str]]:
    listeners = result.get("listeners") or {}
    counted, answered = listeners.get("counted", 0), listeners.get("answered", 0)
    verb = "is" if answered == 1 else "are"
    sentence = f"{counted} of {format_counted(answered, 'listener')} {verb} counted." if answered else NO_LISTENERS
    texts = _texts(result.get("verdict"), sentence, *(result.get("left_out") or ()))
    return f"Blind listening: {result.get('name', 'a test')}", texts


def listen_command(folder: str) -> str:
    """The command that serves a listening test of a folder (one word of a shell) to enough listeners."""
    return f"talim listen {folder} --invites {ENOUGH_LISTENERS}"


def _summarize_usefulness(result: Mapping[str, Any]) -> tuple[str, list[str]]:
    name = (result.get("brief") or {}).get("name", "a brief")
    return f"Usefulness: {name}", _texts(*(result.get("sentences") or ()))


def _texts(*texts: Any) -> list[str]:
    return [text for text in texts if isinstance(text, str) and text]
