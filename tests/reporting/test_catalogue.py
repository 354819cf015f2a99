"""Catalogues of sentences: both languages have the same keys, and the same placeholders but for those named here."""

from __future__ import annotations

import re
import string

import pytest

from talim.html.languages import languages, words
from talim.html.render import TEMPLATES
from talim.reporting.catalogue import either, in_languages, interval_in_languages, machine_price, shown_ends

# Sentences in which one language says more than the other.
UNEQUAL = {
    "best_demonstrated": {"design"},
    "best_inconclusive": {"amount", "interval", "tolerance"},
    "best_only_design": {"amount", "interval"},
    "cheaper_inconclusive": {"unresolved"},
    "stability": {"fraction"},
    "cost": {"time"},
    "full_training": {"passes", "why"},
    "plan_full": {"passes", "why"},
    "plan_passes": {"passes", "text", "time"},
    "point_energy_unknown": {"note"},
    "point_judged": {"judged"},
    "copies_elsewhere": {"what"},
    "copies_found": {"have", "source"},
    "copies_none": {"source"},
    "copies_none_checked": {"reasons", "sources"},
    "copies_unchecked": {"reasons"},
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


@pytest.mark.parametrize(
    ("ends", "values", "english", "japanese"),
    [
        ((-0.1, 0.5), [0.1, 0.2, 0.3, 0.2], "95 % interval −0.100 to 0.500", "95%信頼区間：−0.100〜0.500"),
        ((None, None), [0.1], "95 % interval not known", "95%信頼区間：不明"),
        (
            (-1.07, 1.47),
            [0.1, 0.3],
            "2 recordings: 0.100 and 0.300, too few for an interval",
            "録音2本：0.100と0.300、区間には少なすぎます",
        ),
        (
            (0.05, 0.35),  # what a verdict goes by is told
            [0.19, 0.2, 0.21],
            "3 recordings: 0.190, 0.200 and 0.210; 95 % interval 0.050 to 0.350",
            "録音3本：0.190、0.200と0.210、95%信頼区間：0.050〜0.350",
        ),
    ],
)
def test_interval_in_languages_of_few_recordings_tells_their_values(
    ends: tuple[float | None, float | None], values: list[float], english: str, japanese: str
) -> None:
    told = interval_in_languages(*ends, values)
    assert told["en"].replace("\u202f", " ") == english
    assert told["ja"].replace("\u202f", " ") == japanese


def test_shown_ends_leaves_out_what_only_few_recordings_make_wide() -> None:
    assert shown_ends(-1.07, 1.47, [0.1, 0.3]) == (None, None)
    assert shown_ends(0.05, 0.35, [0.19, 0.2, 0.21]) == (0.05, 0.35)
    assert shown_ends(-0.1, 0.5, [0.1, 0.2, 0.3, 0.2]) == (-0.1, 0.5)
    assert shown_ends(None, None, [0.1]) == (None, None)


def test_either_names_the_last_apart_and_one_as_it_is() -> None:
    one, two, three = ({"en": text, "ja": text} for text in "abc")
    assert either([one, two, three]) == {"en": "a, b or c", "ja": "a、b、またはc"}
    assert either([one]) == one


def test_machine_price_follows_a_time_and_is_empty_without_a_price() -> None:
    assert machine_price(1800.0, 0.5)["en"] == ", which costs 0.25 at 0.50 per machine hour"
    assert machine_price(1800.0, None) == {"en": "", "ja": ""}
