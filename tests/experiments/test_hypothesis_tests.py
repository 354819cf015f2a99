"""Hypothesis tests: simulated effects are detected, absent ones are not, and missing data are undecided."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from talim.experiments.comparison import factor_questions
from talim.experiments.hypotheses import Hypotheses
from talim.experiments.hypothesis_tests import CONTRADICTED, NOT_TESTABLE, SUPPORTED, UNDECIDED, decide_hypotheses
from talim.experiments.results import BaseModelResults, TrialResult

KINDS = ("linear", "conv", "transformer")


def trial(factors: dict[str, Any], seed: int, measures: dict[str, dict[str, float]]) -> TrialResult:
    return TrialResult(id="", status="done", design="", seed=seed, corpus="", factors=factors, measures=measures)


def trials(
    effects: dict[tuple[str, str], float], *, noise: float = 0.05, seeds: int = 3, recordings: int = 8, rng: Any = 0
) -> list[TrialResult]:
    """A grid of kinds, sites and genres; loss reductions differ by `effects[genre or "", kind]` and noise."""
    draw = np.random.default_rng(rng)
    found = []
    difficulty = {(g, r): draw.normal() for g in ("hindustani", "makam") for r in range(recordings)}
    for genre in ("hindustani", "makam"):
        for kind in KINDS:
            for site in ("shallow", "deep"):
                for seed in range(seeds):
                    seed_effect = noise / 2 * draw.normal()
                    effect = effects.get(("", kind), 0.0) + effects.get((genre, kind), 0.0)
                    reductions = {
                        f"{genre}-{r}": difficulty[genre, r] + effect + seed_effect + noise * draw.normal()
                        for r in range(recordings)
                    }
                    factors = {"base": "tiny", "genre": genre, "kind": kind, "site": site, "size_fraction": 0.027}
                    found.append(trial(factors, seed, {"loss_reduction": reductions}))
    return found


def claims(*comparisons: dict[str, Any], count: int = 8) -> Hypotheses:
    """The comparisons as one hypothesis, with others that only widen the intervals."""
    default = {"measure": "loss_reduction", "smallest_effect": 0.1}
    rows = [{"id": "it", "statement": "tested", "comparisons": [default | each for each in comparisons]}]
    rows += [
        {
            "id": str(n),
            "statement": "-",
            "comparisons": [default | {"treatment": {"kind": "a"}, "control": {"kind": "b"}}],
        }
        for n in range(count - 1)
    ]
    return Hypotheses.model_validate({"claims": rows})


CONV_OVER = [{"treatment": {"kind": "conv"}, "control": {"kind": other}} for other in ("linear", "transformer")]


def verdict(found: list[TrialResult], *comparisons: dict[str, Any]) -> str:
    return decide_hypotheses(found, claims(*comparisons))[0]["verdict"]


def test_decide_hypotheses_with_a_simulated_effect_supports_it_alone() -> None:
    found = trials({("", "conv"): 0.3})
    assert verdict(found, *CONV_OVER) == SUPPORTED
    assert verdict(found, {"treatment": {"kind": "linear"}, "control": {"kind": "conv"}}) == CONTRADICTED
    assert verdict(found, {"treatment": {"kind": "linear"}, "control": {"kind": "transformer"}}) == CONTRADICTED
    one_of_two = trials({("", "conv"): 0.3, ("", "transformer"): 0.3})
    assert verdict(one_of_two, *CONV_OVER) == CONTRADICTED


def test_decide_hypotheses_not_greater_is_the_reverse_of_greater() -> None:
    found = trials({("", "conv"): 0.3})
    reverse = {"treatment": {"kind": "conv"}, "control": {"kind": "linear"}, "hypothesis": "not_greater"}
    assert verdict(found, reverse) == CONTRADICTED
    assert verdict(trials({}), reverse) == SUPPORTED


def test_decide_hypotheses_with_large_noise_is_undecided_with_a_minimum_detectable_effect() -> None:
    found = trials({("", "conv"): 0.12}, noise=1.0, recordings=3)
    row = decide_hypotheses(found, claims(*CONV_OVER))[0]
    assert row["verdict"] == UNDECIDED
    for result in row["results"]:
        assert result["low"] < result["mean"] < result["high"]
        assert result["min_detectable_effect"] > 0.12
        assert result["pairs"] == 12
        assert result["recordings"] == 6
        assert result["confidence"] == pytest.approx(1 - 0.05 / 8)


def test_decide_hypotheses_interaction_compares_the_difference_between_genres() -> None:
    contrast = {"treatment": {"kind": "conv"}, "control": {"kind": "transformer"}}
    contrast["interaction"] = [{"genre": "hindustani"}, {"genre": "makam"}]
    assert verdict(trials({("hindustani", "conv"): 0.4}), contrast) == SUPPORTED
    assert verdict(trials({("", "conv"): 0.4}), contrast) == CONTRADICTED
    [row] = [decide_hypotheses(trials({("hindustani", "conv"): 0.4}), claims(contrast))[0]["results"][0]]
    assert row["mean"] == pytest.approx(0.4, abs=0.1)


def test_decide_hypotheses_where_restricts_both_groups() -> None:
    found = trials({("makam", "conv"): 0.4}, recordings=20)
    assert verdict(found, CONV_OVER[0] | {"where": {"genre": "makam"}}) == SUPPORTED
    assert verdict(found, CONV_OVER[0] | {"where": {"genre": "hindustani"}}) == CONTRADICTED


def test_decide_hypotheses_without_pairs_is_undecided_with_a_reason() -> None:
    row = decide_hypotheses(trials({}), claims({"treatment": {"kind": "conv"}, "control": {"kind": "lora"}}))[0]
    assert row["verdict"] == UNDECIDED
    assert "no two trials" in row["results"][0]["reason"]
    row = decide_hypotheses(trials({}), claims(CONV_OVER[0] | {"measure": "beauty"}))[0]
    assert "beauty" in row["results"][0]["reason"]


def test_decide_hypotheses_recording_missing_in_one_trial_is_dropped_from_its_group() -> None:
    found = trials({("", "conv"): 0.3})
    dropped = next(t for t in found if t.factors["kind"] == "conv" and t.factors["site"] == "deep")
    measures = {
        "loss_reduction": {
            name: value for name, value in dropped.measures["loss_reduction"].items() if not name.endswith("-0")
        }
    }
    found[found.index(dropped)] = dropped.model_copy(update={"measures": measures})
    assert decide_hypotheses(found, claims(*CONV_OVER))[0]["results"][0]["recordings"] == 15


@pytest.mark.slow
def test_decide_hypotheses_error_rates_are_within_the_level() -> None:
    """Without an effect, support is rarer than the level allows; with one, power is above 90 %."""
    nothing = [verdict(trials({}, rng=n), CONV_OVER[0] | {"smallest_effect": 1e-6}) for n in range(400)]
    assert np.mean([v == SUPPORTED for v in nothing]) < 0.05
    found = [verdict(trials({("", "conv"): 0.2}, rng=n), *CONV_OVER) for n in range(200)]
    assert np.mean([v == SUPPORTED for v in found]) > 0.9


def test_a_comparison_with_an_obstacle_is_not_testable_whatever_its_effect() -> None:
    found = trials({("", "conv"): 0.5})
    asked: list[tuple[str, float]] = []

    def obstacle(some: Any, comparison: Any, confidence: float) -> str:
        asked.append((comparison.control["kind"], confidence))
        return "Rate: not tuned." if comparison.control["kind"] == "linear" else ""

    row = decide_hypotheses(found, claims(*CONV_OVER), (), obstacle)[0]
    assert (row["verdict"], row["reason"]) == (NOT_TESTABLE, "Rate: not tuned.")
    assert [each["verdict"] for each in row["results"]] == [NOT_TESTABLE, SUPPORTED]
    assert row["results"][0]["mean"] == pytest.approx(0.5, abs=0.1)
    assert asked[0][1] == pytest.approx(1 - 0.05 / 8)
    assert decide_hypotheses(found, claims(*CONV_OVER), (), lambda *_: "")[0]["verdict"] == SUPPORTED


def test_a_testable_contradiction_stands_beside_an_untestable_comparison() -> None:
    found = trials({("", "conv"): -0.5})
    row = decide_hypotheses(
        found, claims(*CONV_OVER), (), lambda _, each, __: "no" if each.control["kind"] == "linear" else ""
    )[0]
    assert (row["verdict"], row["reason"]) == (CONTRADICTED, "")


def test_without_data_a_hypothesis_is_not_testable_once_controls_are_asked_for() -> None:
    row = decide_hypotheses([], claims(*CONV_OVER), (), lambda *_: "")[0]
    assert row["verdict"] == NOT_TESTABLE
    assert "no two trials differ in this alone" in row["reason"]


@pytest.mark.parametrize("hypothesis", ["greater", "not_greater", "different"])
def test_no_difference_is_said_only_where_the_smallest_one_would_have_been_seen(hypothesis: str) -> None:
    """Equal kinds: below the minimum detectable effect nothing is said, even if the interval happens to end below."""
    comparison = {"treatment": {"kind": "conv"}, "control": {"kind": "linear"}, "hypothesis": hypothesis}
    said = SUPPORTED if hypothesis == "not_greater" else CONTRADICTED
    for rng in range(12):
        found = trials({}, rng=rng)
        row = decide_hypotheses(found, claims(comparison, count=1))[0]["results"][0]
        detectable = row["min_detectable_effect"]
        for smallest in np.linspace(0.2, 2.0, 10) * detectable:
            verdict = decide_hypotheses(found, claims(comparison | {"smallest_effect": smallest}, count=1))[0][
                "verdict"
            ]
            assert verdict != said or smallest >= detectable
        sure = decide_hypotheses(found, claims(comparison | {"smallest_effect": 3 * detectable}, count=1))[0]["verdict"]
        assert sure == said


def test_the_reverse_of_a_claim_contradicts_it_without_being_a_smallest_effect() -> None:
    found = trials({("", "conv"): -0.06}, noise=0.02)
    comparison = {"treatment": {"kind": "conv"}, "control": {"kind": "linear"}, "smallest_effect": 0.001}
    row = decide_hypotheses(found, claims(comparison, count=1))[0]
    assert row["results"][0]["min_detectable_effect"] > 0.001
    assert row["verdict"] == CONTRADICTED


def test_equal_width_is_compared_beside_equal_share_and_only_where_the_width_is_named() -> None:
    """At equal shares conv is 1 better than linear; at width 64, where it has five times the parameters, 3 better."""
    reductions = {("linear", None): 1.0, ("conv", None): 2.0, ("linear", 64): 2.0, ("conv", 64): 5.0, ("conv", 8): 9.0}
    shares = {("linear", 64): 0.01, ("conv", 64): 0.05, ("conv", 8): 0.006}
    found = [
        trial(
            {
                "base": "b",
                "genre": "g",
                "kind": kind,
                "size_fraction": shares.get((kind, width), 0.027),
                "width": width,
            },
            seed,
            {"loss_reduction": {f"r{n}": mean + 0.1 * n + 0.01 * seed * n for n in range(6)}},
        )
        for (kind, width), mean in reductions.items()
        for seed in range(3)
    ]
    kinds: dict[str, Any] = {"treatment": {"kind": "conv"}, "control": {"kind": "linear"}}
    share, width = (
        decide_hypotheses(found, claims(kinds | where))[0]["results"][0] for where in ({}, {"where": {"width": 64}})
    )
    assert (share["mean"], share["pairs"]) == (pytest.approx(1.0), 3)
    assert (width["mean"], width["pairs"]) == (pytest.approx(3.0), 3)
    sizes = claims({"treatment": {"width": 64}, "control": {"width": 8}})
    assert decide_hypotheses(found, sizes)[0]["results"][0]["mean"] == pytest.approx(-4.0)
    labels = {q.label for q in factor_questions([BaseModelResults("b", "", "", found)])}
    assert {"conv over linear", "conv over linear, at width 64", "width 64 over width 8"} <= labels


def test_a_difference_of_the_smallest_size_of_interest_is_supported_whichever_side_its_estimate_falls() -> None:
    """An effect of exactly the smallest size is found by nearly all studies that have the power for it."""
    comparison = {"treatment": {"kind": "conv"}, "control": {"kind": "linear"}, "smallest_effect": 0.1}
    rows = [
        decide_hypotheses(trials({("", "conv"): 0.1}, noise=0.03, rng=rng), claims(comparison))[0] for rng in range(20)
    ]
    below = [row["results"][0]["mean"] < 0.1 for row in rows]
    assert 4 <= sum(below) <= 16
    assert sum(row["verdict"] == SUPPORTED for row in rows) >= 18


def test_a_significant_difference_below_the_smallest_size_is_not_supported() -> None:
    comparison = {"treatment": {"kind": "conv"}, "control": {"kind": "linear"}, "smallest_effect": 0.1}
    for hypothesis, expected in (("greater", CONTRADICTED), ("not_greater", SUPPORTED), ("different", CONTRADICTED)):
        found = trials({("", "conv"): 0.03}, noise=0.01)
        row = decide_hypotheses(found, claims(comparison | {"hypothesis": hypothesis}))[0]
        assert row["results"][0]["low"] > 0
        assert row["verdict"] == expected
