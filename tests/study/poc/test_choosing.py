"""The choice among designs: the cheapest that is shown not to be worse than the best by more than the margin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from talim.study.poc.choosing import choose

NAMES = [f"take-{n}" for n in range(6)]
PRICES = {"linear": 1.0, "conv": 2.0, "transformer": 3.0}


def falls(**means: float) -> dict[str, dict[str, float]]:
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 0.05, len(NAMES))  # what is hard for one design is hard for all
    return {
        design: {
            name: float(mean + hard + rng.normal(0, 0.001)) for name, hard in zip(NAMES, shared, strict=True)
        }
        for design, mean in means.items()
    }


def test_the_cheaper_of_two_equals_is_chosen_and_a_worse_one_is_not() -> None:
    choice = choose(falls(linear=0.195, conv=0.2, transformer=0.1), PRICES, 0.1)
    assert (choice.best, choice.design) == ("conv", "linear")
    assert choice.margin == pytest.approx(0.02, abs=0.002)
    assert "linear is cheaper" in choice.sentence
    worse = choose(falls(linear=0.1, conv=0.2, transformer=0.15), PRICES, 0.1)
    assert worse.design == "conv"
    assert "cannot tell" not in worse.sentence  # both are shown to be worse
    assert all(each.worse for each in worse.candidates if each.design != "conv")


def test_what_recordings_cannot_tell_is_said_and_chooses_nothing_cheaper() -> None:
    rows = falls(linear=0.195, conv=0.2)
    rows["linear"]["take-0"] -= 0.3
    rows["linear"]["take-1"] += 0.27
    choice = choose(rows, PRICES, 0.1)
    assert choice.design == "conv"
    assert "Whether linear would do as well these recordings cannot tell" in choice.sentence


def test_one_recording_gives_no_interval_and_one_design_no_choice() -> None:
    choice = choose({"linear": {"a": 0.1}, "conv": {"a": 0.10001}}, PRICES, 0.5)
    assert choice.design == "conv"
    assert not any(each.good_enough or each.worse for each in choice.candidates)
    assert choose({"linear": {"a": 0.1}}, PRICES, 0.5).sentence == "linear was the only design."


def test_where_nothing_fell_no_margin_makes_a_worse_one_good() -> None:
    choice = choose(falls(linear=-0.2, conv=-0.1), PRICES, 0.5)
    assert (choice.design, choice.margin) == ("conv", 0.0)


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=3), st.floats(0.01, 0.9))
def test_the_choice_is_the_best_or_cheaper_and_never_shown_worse(means: list[float], share: float) -> None:
    choice = choose(falls(**dict(zip(PRICES, means, strict=True))), PRICES, share)
    standing = {each.design: each for each in choice.candidates}
    assert standing[choice.best].mean == max(each.mean for each in choice.candidates)
    assert PRICES[choice.design] <= PRICES[choice.best]
    assert not standing[choice.design].worse
    assert choice.design == choice.best or standing[choice.design].good_enough
