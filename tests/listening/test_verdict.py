"""What a verdict says of all pairs: nothing of random votes, a planted effect, groups, the real music by name."""

from __future__ import annotations

import re
from typing import Any

import pytest
from fixtures.listening_test_folder import protocol_of
from fixtures.simulated_votes import simulated

from talim.listening.protocol import Protocol
from talim.listening.ratings import ALL_LISTENERS, rate_conditions
from talim.listening.ratings_report import shown_names
from talim.listening.verdict import verdict_sentences

TRUTH = {"linear": 0.8, "conv": 0.1, "untrained": -1.2, "real": 1.6}


def protocol() -> Protocol:
    trials = {"per_listener": 12, "repeats": 0, "attention": 0}
    return protocol_of(aspects=[{"name": "overall"}], trials=trials, exclusions={"same_answer_above": None})


def verdict(strengths: dict[str, float], listeners: int, seed: int) -> str:
    created = protocol()
    result = rate_conditions(simulated(created, strengths, listeners, seed=seed), created)
    return " ".join(verdict_sentences(result["groups"][ALL_LISTENERS]["overall"], shown_names(created)))


def rating(ranking: str, apart: set[str]) -> dict[str, Any]:
    """A rating whose conditions are letters, the best first; `apart` holds the pairs that are told apart."""
    conditions = [{"name": name, "strength": {"value": float(-place)}} for place, name in enumerate(ranking)]
    pairs = [
        {"first": a, "second": b, "preference": {"value": 0.7}, "significant": a + b in apart}
        for place, a in enumerate(ranking)
        for b in ranking[place + 1 :]
    ]
    return {"conditions": conditions, "pairs": pairs, "listeners": 12}


def said(ranking: str, *apart: str) -> str:
    sentences = verdict_sentences(rating(ranking, set(apart)), {name: name for name in ranking})
    return " ".join(sentences).replace("\u202f", " ").replace("\xa0", " ")


@pytest.mark.parametrize(
    "listeners", [pytest.param(6, marks=pytest.mark.slow), 10, pytest.param(16, marks=pytest.mark.slow)]
)
def test_verdict_of_random_votes_claims_a_difference_in_few_of_many_tests(listeners: int) -> None:
    equal = dict.fromkeys(TRUTH, 0.0)
    none = "None of the four can be told apart by these votes, the real music (real) included."
    claims = sum(verdict(equal, listeners, seed) != none for seed in range(60))
    assert claims <= 7  # 5 % of 60 are 3; more than 7 have a probability of 1 % in binomial draws


def test_verdict_of_a_planted_effect_names_it() -> None:
    found = [verdict(TRUTH, 16, seed) for seed in range(20)]
    preferred = [text for text in found if "None of" not in text and "untrained" in text.split("preferred to")[-1]]
    assert len(preferred) >= 19
    assert all("the real music (real)" in text.lower() for text in found)


def test_verdict_without_a_comparison_ranks_nothing() -> None:
    nothing = rating("abc", set())
    for row in (*(c["strength"] for c in nothing["conditions"]), *(pair["preference"] for pair in nothing["pairs"])):
        row["value"] = None
    said_of_it = verdict_sentences(nothing, {name: name for name in "abc"})
    assert said_of_it == ["No answer compares any two of the sounds, so there is no ranking."]


def test_verdict_of_few_listeners_tells_nothing_apart() -> None:
    assert verdict(TRUTH, 4, 0) == "4 listeners: too few to tell the four apart."


def test_verdict_says_what_all_pairs_say() -> None:
    assert said("ab") == "a and b cannot be told apart by these votes."
    assert said("abcde") == "None of the five can be told apart by these votes."
    assert said("ab", "ab") == "a leads: preferred to b in 70 % of comparisons."
    assert said("abcd", "ac", "ad", "bc", "bd") == (
        "a and b lead and cannot be told apart: preferred to c and d in 70 % of comparisons. "
        "c and d cannot be told apart."
    )
    assert said("abc", "ac") == (
        "a is preferred to c in 70 % of comparisons. a and b cannot be told apart. b and c cannot be told apart."
    )


def test_verdict_in_japanese_has_a_sentence_for_each_english_one() -> None:
    names = {name: name for name in "abcde"} | {"a": "本物の音楽（a）"}
    for ranking, *apart in (("ab",), ("abcde",), ("ab", "ab"), ("abcde", "ac", "ad", "bc", "bd"), ("abc", "ac")):
        found = rating(ranking, set(apart))
        japanese = verdict_sentences(found, names, "ja")
        assert len(japanese) == len(verdict_sentences(found, names))
        assert {*re.findall("[A-Za-z]+", "".join(japanese))} <= {*ranking}
    assert verdict_sentences(rating("ab", {"ab"}), names, "ja") == [
        "本物の音楽（a）が最も好まれ、bより上でした（比較の70\u202f%）。"
    ]


def test_verdict_names_every_pair_that_cannot_be_told_apart() -> None:
    text = said("abcd", "ab", "ad")
    assert "a and c cannot be told apart." in text
    assert "b, c and d cannot be told apart." in text


def test_verdict_of_many_conditions_stays_short() -> None:
    ranking = "abcdefghijklmnopqrst"
    apart = {a + b for place, a in enumerate(ranking) for b in ranking[place + 2 :]}
    sentences = verdict_sentences(rating(ranking, apart), {name: name for name in ranking})
    assert len(sentences) == 8
    assert sentences[-1] == "The table of pairs holds the rest."
