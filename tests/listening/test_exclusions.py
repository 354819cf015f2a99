"""Exclusion rules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fixtures.listening_test_folder import protocol_of
from fixtures.simulated_votes import simulated

from talim.listening import protocol as p
from talim.listening.exclusions import exclusion_reason, left_out_sentences, one_side_p_value

TRUTH = {"linear": 0.8, "conv": 0.2, "untrained": -1.0, "real": 1.6}
TRIALS = {"per_listener": 12, "repeats": 3, "attention": 2}


def protocol(**changes: Any) -> p.Protocol:
    return protocol_of(trials=TRIALS, **changes)


def test_exclusion_reason_each_rule_applies() -> None:
    rows = simulated(protocol(), TRUTH, 1)
    assert exclusion_reason(rows, protocol()) is None
    assert exclusion_reason(rows[:2], protocol(exclusions={"trials_below": 3})) == "too_few_trials"
    same = [row | ({"answer": 1} if row["kind"] == "normal" else {}) for row in rows]
    assert exclusion_reason(same, protocol()) == "same_answer"
    turned = [row | {"answer": 2 if row["kind"] == "normal" else row["answer"]} for row in rows]
    turned = [row | ({"answer": 2} if row["kind"] == "repeat" else {}) for row in turned]
    rules = {"repeats_reversed_above": 0.5, "same_answer_above": None, "one_side_p_below": None}
    assert exclusion_reason(turned, protocol(exclusions=rules)) == "repeats_reversed"


def test_exclusion_reason_of_whoever_always_chooses_one_side() -> None:
    rows = simulated(protocol(), TRUTH, 1)
    rng = np.random.default_rng(0)
    always_a = [row | {"answer": int(rng.integers(1, 3))} for row in rows]  # "better" and "much better": no same answer
    always_b, unchecked = [row | {"answer": -row["answer"]} for row in always_a], {"attention_below": None}
    assert exclusion_reason(always_a, protocol(exclusions=unchecked)) == "one_side"
    assert exclusion_reason(always_b, protocol(exclusions=unchecked)) == "one_side"
    assert exclusion_reason(always_a, protocol(exclusions=unchecked | {"one_side_p_below": None})) is None
    assert one_side_p_value(always_a[: 8 * 2], protocol()) == pytest.approx(2 / 2**8)  # two aspects of eight pages
    undecided = [row | {"answer": 0 if row["position"] > 6 else row["answer"]} for row in always_a]
    assert one_side_p_value(undecided, protocol()) == pytest.approx(2 / 2**7)  # seven of one side are no evidence
    assert one_side_p_value([row | {"answer": None} for row in rows], protocol()) == 1.0


def test_one_side_rule_excludes_hardly_anybody_who_listens() -> None:
    for truth in (TRUTH, dict.fromkeys(TRUTH, 0.0)):
        rows = simulated(protocol(exclusions={"same_answer_above": None}), truth, 150)
        by_listener: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            by_listener.setdefault(row["listener"], []).append(row)
        assert sum(one_side_p_value(own, protocol()) < 0.01 for own in by_listener.values()) <= 3


def test_left_out_sentences_name_count_and_rule() -> None:
    (text,) = left_out_sentences({"one_side": 1}, protocol())
    assert text["ja"].startswith("事前に決めた規則により回答をすべて除いた人：1人（理由：偶然とは言えないほど")
    assert text["en"].startswith(
        "Left out with all answers, by a rule that was set before: 1 listener who chose one side"
    )
    (text,) = left_out_sentences({"attention": 2}, protocol())
    assert text["en"].endswith("2 listeners who missed attention checks.")
