"""Exclusion rules."""

from __future__ import annotations

from typing import Any

from fixtures.listening_test_folder import protocol_of
from fixtures.simulated_votes import simulated

from talim.listening import protocol as p
from talim.listening.exclusions import exclusion_reason

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
    rules = {"repeats_reversed_above": 0.5, "same_answer_above": None}
    assert exclusion_reason(turned, protocol(exclusions=rules)) == "repeats_reversed"
