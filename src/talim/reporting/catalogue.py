"""Reads the catalogues of sentences: words/en.json and words/ja.json have the same keys, others are in English."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from talim.html.formatting import NOT_KNOWN, format_ci

LANGUAGES = ("en", "ja")


@cache
def words(name: str) -> dict[str, Any]:
    """The catalogue words/NAME.json."""
    return json.loads((Path(__file__).parent / "words" / f"{name}.json").read_text(encoding="utf-8"))


def in_languages(key: str, **values: Any) -> dict[str, str]:
    """A sentence in every language, by language; each value may be given by language too."""
    return {
        language: words(language)[key].format(
            **{name: value[language] if isinstance(value, dict) else value for name, value in values.items()}
        )
        for language in LANGUAGES
    }


def interval_in_languages(low: float | None, high: float | None) -> dict[str, str]:
    """The ends of an interval, or that they are not known."""
    text = format_ci(low, high)
    if text == NOT_KNOWN:
        return in_languages("interval_not_known")
    return in_languages("interval", ends={"en": text, "ja": text.replace(" to ", "〜")})
