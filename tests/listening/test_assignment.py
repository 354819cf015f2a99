"""Who hears what: balance, hidden repeats, checks, and that all of it follows from the seed."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talim.listening import protocol as p
from talim.listening.assignment import LOW_QUALITY_ANCHOR, design_cell, trials_for
from talim.listening.protocol import ANCHOR
from talim.strict_yaml import build


def make(conditions: int = 4, per_listener: int = 10, **changes: object) -> p.Protocol:
    values = {
        "name": "t",
        "conditions": [{"name": f"c{i}", "source": "x"} for i in range(conditions)],
        "trials": {"per_listener": per_listener, "repeats": 2, "attention": 2},
    }
    return build(p.Protocol, values | changes, p.FILE)


@given(st.integers(2, 6), st.integers(1, 7), st.integers(1, 200), st.integers(0, 99))
def test_design_cell_any_length_balances_pairs_and_items(conditions: int, n_items: int, length: int, seed: int) -> None:
    protocol = make(conditions, seed=seed)
    items = [f"i{k}" for k in range(n_items)]
    drawn = [design_cell(protocol, items, index) for index in range(length)]
    by_pair = Counter(order for _, order, _ in drawn)
    by_cell = Counter((item, order) for item, order, _ in drawn)
    assert max(by_pair.values()) - (min(by_pair.values()) if len(by_pair) == len(protocol.pairs) else 0) <= 1
    whole = length // (len(protocol.pairs) * n_items)
    assert all(whole <= by_cell[i, pair] <= whole + 1 for i in items for pair in protocol.pairs)


@given(st.integers(0, 30), st.integers(0, 20))
def test_trials_for_listener_have_counts_of_protocol(number: int, seed: int) -> None:
    protocol = make(seed=seed)
    trials = trials_for(protocol, ["a", "b", "c"], number, "site/expert")
    kinds = Counter(trial.kind for trial in trials)
    assert kinds == {"normal": 10, "repeat": 2, "attention": 2}
    assert trials == trials_for(protocol, ["a", "b", "c"], number, "site/expert")
    for trial in (t for t in trials if t.kind == "attention"):
        assert set(trial.order) == {"c0", LOW_QUALITY_ANCHOR}
    first = sum(t.order[0] < t.order[1] for t in trials if t.kind == "normal")
    assert first == 5  # sides are halved
    for index, trial in enumerate(trials):
        if trial.kind == "repeat":
            measured = [t for t in trials[:index] if t.kind == "normal" and t.item == trial.item]
            assert any(t.order == trial.order[::-1] for t in measured)
    assert trials[0].kind == "normal"


def test_trials_for_other_listener_stream_or_seed_differ() -> None:
    protocol = make()
    a_value = trials_for(protocol, ["a", "b"], 0, "x/expert")
    assert a_value != trials_for(protocol, ["a", "b"], 1, "x/expert")
    assert a_value != trials_for(protocol, ["a", "b"], 0, "y/expert")
    assert a_value != trials_for(make(seed=1), ["a", "b"], 0, "x/expert")


def test_trials_for_repeats_follow_originals_with_swapped_sides() -> None:
    protocol = make(per_listener=12)
    for number in range(20):
        trials = trials_for(protocol, ["a", "b", "c"], number)
        for index, trial in enumerate(trials):
            if trial.kind == "repeat":
                turned = trial.order[::-1]
                before = [i for i, t in enumerate(trials[:index]) if (t.item, t.order) == (trial.item, turned)]
                assert before
                assert index - before[0] > 3


@pytest.mark.parametrize("anchor", [True, False])
def test_trials_for_mushra_cover_aspects_and_include_hidden_reference(anchor: bool) -> None:
    protocol = make(3, per_listener=12, kind="mushra", reference="c0", anchor=anchor)
    items = ["a", "b", "c"]
    drawn = Counter((item, aspect) for item, _, aspect in (design_cell(protocol, items, k) for k in range(18)))
    assert set(drawn.values()) == {1}
    assert len(drawn) == 18
    for trial in trials_for(protocol, items, 0):
        assert {"c0", "c1", "c2"} <= set(trial.order)
        if trial.kind == "normal":
            assert (ANCHOR in trial.order) == anchor
        assert trial.aspect in p.ASPECTS
