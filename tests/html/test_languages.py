"""A further language is a further folder of words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from talim.html import languages as module
from talim.html.languages import duration_in, from_fields, languages, to_fields, words


def test_languages_are_the_folders_with_texts_of_a_name_english_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (
        languages()
        == languages("poc")
        == languages("listen")
        == languages("review")
        == languages("app")
        == ("en", "ja")
    )
    assert languages("corpus") == ("ja",)  # the English page is written in its template
    assert languages("study") == ("en", "ja")
    for code, texts in (("en", {"and": " and ", "comma": ", "}), ("aa", {"comma": "; "})):
        (tmp_path / code).mkdir()
        (tmp_path / code / "report.json").write_text(json.dumps(texts))
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    assert (languages(), languages("poc")) == (("en", "aa"), ())
    assert words("aa") == {"and": " and ", "comma": "; "}
    assert words("aa", "app") == {}


def test_duration_in_english_is_that_of_the_formatter() -> None:
    assert [duration_in("en", seconds) for seconds in (48, 252, 7500, 260_000)] == [
        "48 s",
        "4 min 12 s",
        "2 h 5 min",
        "3 days",
    ]


def test_fields_of_a_text_by_language_give_it_back() -> None:
    texts = {"en": "a", "aa": "b", "bb": "c"}
    fields = to_fields("note", texts)
    assert fields == {"note": "a", "note_translated": {"aa": "b", "bb": "c"}}
    assert from_fields(fields, "note") == texts
