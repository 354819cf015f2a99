"""Catalogues of sentences: both languages have the same keys, and the same placeholders but for those named here."""

from __future__ import annotations

import re
import string

import pytest

from talim.html.languages import languages, words
from talim.html.render import TEMPLATES
from talim.reporting.catalogue import either, in_languages, machine_price

# Sentences in which one language says more than the other.
UNEQUAL = {
    "best_demonstrated": {"design"},
    "best_inconclusive": {"amount", "interval", "tolerance"},
    "best_only_design": {"amount", "interval"},
    "cheaper_inconclusive": {"unresolved"},
    "stability": {"fraction"},
    "cost": {"time"},
    "full_training": {"passes", "why"},
    "point_energy_unknown": {"note"},
    "point_judged": {"judged"},
}


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def test_words_have_the_same_keys_and_placeholders_in_both_languages() -> None:
    english, japanese = (words(language) for language in languages())
    assert list(english) == list(japanese)
    unequal = {key: placeholders(english[key]) ^ placeholders(japanese[key]) for key in english}
    assert {key: names for key, names in unequal.items() if names} == UNEQUAL


def test_in_languages_takes_values_by_language() -> None:
    assert in_languages("amount", value={"en": "1", "ja": "一"}, unit="nats") == {"en": "1 nats", "ja": "一nats"}
    with pytest.raises(KeyError):
        in_languages("amount", value="1")


@pytest.mark.parametrize("name", ["usefulness.html", "ratings.html"])
def test_template_that_is_rendered_in_every_language_has_its_words_from_the_catalogue(name: str) -> None:
    (body,) = re.findall(r"{% macro body\(p\) %}(.*?){% endmacro %}", (TEMPLATES / name).read_text("utf-8"), re.DOTALL)
    keys = {*re.findall(r'\bt\("(\w+)"(?! ~)', body)}
    assert len(keys) > 5
    assert keys <= words("en").keys()
    bare = re.sub(r"<[^>]*>", " ", re.sub(r"{{.*?}}|{%.*?%}", " ", body, flags=re.DOTALL))
    assert re.findall(r"[A-Za-z]+", bare) == []


def test_either_names_the_last_apart_and_one_as_it_is() -> None:
    one, two, three = ({"en": text, "ja": text} for text in "abc")
    assert either([one, two, three]) == {"en": "a, b or c", "ja": "a、b、またはc"}
    assert either([one]) == one


def test_machine_price_follows_a_time_and_is_empty_without_a_price() -> None:
    assert machine_price(1800.0, 0.5)["en"] == ", which costs 0.25 at 0.50 per machine hour"
    assert machine_price(1800.0, None) == {"en": "", "ja": ""}
