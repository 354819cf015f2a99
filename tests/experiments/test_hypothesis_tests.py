"""Hypothesis tests: simulated effects are detected, absent ones are not, and missing data are undecided."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from talim.evaluation.intervals import two_way_effect
from talim.experiments.comparison import factor_questions
from talim.experiments.effects import pooled_effect
from talim.experiments.hypotheses import Contrast, Hypotheses
from talim.experiments.hypothesis_tests import (
    CONTRADICTED,
    NOT_TESTABLE,
    SUPPORTED,
    UNDECIDED,
    InsufficientData,
    compared_trials,
    decide_hypotheses,
    paired_effect,
)
from talim.experiments.results import BaseModelResults, TrialCost, TrialResult

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
    found = trials({("", "conv"): 0.3}, seeds=6)  # that there is no difference takes more seeds
    assert verdict(found, {"treatment": {"kind": "linear"}, "control": {"kind": "transformer"}}) == CONTRADICTED
    one_of_two = trials({("", "conv"): 0.3, ("", "transformer"): 0.3}, seeds=6)
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
        assert (result["pairs"], result["seeds"]) == (12, 6)  # two sites; three seeds in each genre
        assert result["recordings"] == 6
        assert result["confidence"] == pytest.approx(1 - 0.05 / 8)


def seeds_with_many_pairs(draw: np.random.Generator, seeds: int, pairs: int, recordings: int) -> list[TrialResult]:
    """Trials without an effect whose pairs of one seed err alike: several sites of each of two kinds."""
    found = []
    for seed in range(seeds):
        of_seed = {kind: draw.normal() for kind in ("conv", "linear")}
        for site in range(pairs):
            for kind, common in of_seed.items():
                values = {f"r{r}": common + 0.3 * draw.normal() for r in range(recordings)}
                found.append(trial({"kind": kind, "site": f"site {site}"}, seed, {"loss_reduction": values}))
    return found


OVER_LINEAR = Contrast(measure="loss_reduction", treatment={"kind": "conv"}, control={"kind": "linear"})


def test_the_interval_of_pairs_that_share_a_seed_counts_seeds() -> None:
    """Eleven pairs of each of three seeds: as 33 independent ones they hold the truth in fewer than half of draws."""
    draw = np.random.default_rng(2)
    by_seed, by_pair = [], []
    for _ in range(120):
        found = seeds_with_many_pairs(draw, seeds=3, pairs=11, recordings=4)
        effect = paired_effect(found, OVER_LINEAR)
        assert (effect.pairs, effect.seeds, effect.recordings) == (33, 3, 4)
        low, high = effect.interval()
        by_seed.append(low <= 0 <= high)
        rows = [t.measures["loss_reduction"] for t in found]
        table = np.array([[*a.values()] for a in rows[::2]]) - np.array([[*b.values()] for b in rows[1::2]])
        low, high = two_way_effect(table).interval()
        by_pair.append(low <= 0 <= high)
    assert np.mean(by_seed) > 0.9
    assert np.mean(by_pair) < 0.5


def test_one_control_with_several_treatments_counts_once() -> None:
    draw = np.random.default_rng(4)
    control = {(seed, r): draw.normal() for seed in range(3) for r in range(5)}
    found = [
        trial({"kind": kind}, seed, {"loss_reduction": {f"r{r}": shift + control[seed, r] * sign for r in range(5)}})
        for kind, shift, sign in (("conv", 0.2, 0), ("lora", 0.4, 0), ("linear", 0.0, 1))
        for seed in range(3)
    ]
    contrast = Contrast(measure="loss_reduction", treatment={"kind": "*"}, control={"kind": "linear"})
    effect = paired_effect(found, contrast)
    of_seeds = 0.3 - np.array([[control[seed, r] for r in range(5)] for seed in range(3)])
    assert (effect.pairs, effect.seeds) == (6, 3)  # and none of the control with itself
    assert (effect.mean, effect.error) == pytest.approx((of_seeds.mean(), two_way_effect(of_seeds).error))


def test_times_of_two_machines_are_not_compared() -> None:
    found = [
        TrialResult(
            id=f"{kind}{seed}", status="done", design=kind, corpus="c", seed=seed, factors={"kind": kind},
            measures={"log_seconds": {"run": seconds}, "loss_reduction": {"a": 0.1}},
            cost=TrialCost(device="CPU, 2 cores", processor=processor),
        )
        for kind, seed, seconds, processor in [
            ("linear", 0, 1.0, "old"), ("conv", 0, 1.5, "old"), ("linear", 1, 1.0, "old"), ("conv", 1, 0.5, "new"),
        ]
    ]  # fmt: skip
    times = Contrast(measure="log_seconds", treatment={"kind": "conv"}, control={"kind": "linear"})
    assert paired_effect(found, times).mean == pytest.approx(0.5)
    assert len(compared_trials(found, times)) == 1
    losses = times.model_copy(update={"measure": "loss_reduction"})
    assert len(compared_trials(found, losses)) == 2
    with pytest.raises(InsufficientData):
        paired_effect(found[2:], times)


def test_a_seed_with_more_pairs_weighs_no_more() -> None:
    found = [
        trial({"kind": kind, "site": site}, seed, {"loss_reduction": {"a": value, "b": value}})
        for seed, site, gain in ((0, "all", 1.0), (0, "deep", 1.0), (0, "post", 1.0), (1, "all", 2.0))
        for kind, value in (("conv", gain), ("linear", 0.0))
    ]
    effect = paired_effect(found, OVER_LINEAR)
    assert (effect.mean, effect.pairs, effect.seeds) == (pytest.approx(1.5), 4, 2)


def test_an_interaction_on_the_same_recordings_is_compared_within_seeds() -> None:
    """What seeds and recordings add to both sites cancels: the difference of the differences is exact."""
    draw = np.random.default_rng(8)
    common = {(seed, r): draw.normal() for seed in range(3) for r in range(4)}
    found = [
        trial(
            {"kind": kind, "site": site},
            seed,
            {"loss_reduction": {f"r{r}": gain * common[seed, r] + more for r in range(4)}},
        )
        for seed in range(3)
        for site, more_of_conv in (("all", 0.5), ("post", 0.2))
        for kind, gain, more in (("conv", 1.0, more_of_conv), ("linear", 0.0, 0.0))
    ]
    contrast = OVER_LINEAR.model_copy(update={"interaction": ({"site": "all"}, {"site": "post"})})
    effect = paired_effect(found, contrast)
    assert effect.mean == pytest.approx(0.3)
    assert effect.error == pytest.approx(0.0, abs=1e-12)
    assert (effect.seeds, effect.recordings, effect.pairs) == (3, 4, 6)


def two_bases(draw: np.random.Generator, seeds: int, recordings: int, alike: float) -> list[TrialResult]:
    """Trials without an effect of two bases on one corpus, which find the same recordings hard."""
    of_recording = alike * draw.normal(size=recordings)
    return [
        trial({"kind": kind, "base": base}, seed, {"loss_reduction": {f"r{n}": float(v) for n, v in enumerate(row)}})
        for base in ("nano-musicgen", "nano-mustango")
        for seed in range(seeds)
        for kind, row in (("conv", of_recording + 0.3 * draw.normal(size=recordings)), ("linear", 0 * of_recording))
    ]


def test_the_interval_of_two_bases_on_one_corpus_counts_its_recordings_once() -> None:
    """As independent ones they hold the truth in 85 % of draws, not in 95."""
    draw = np.random.default_rng(6)
    covered = []
    for _ in range(150):
        found = two_bases(draw, seeds=2, recordings=12, alike=1.0)
        together = paired_effect(found, OVER_LINEAR)
        assert (together.pairs, together.seeds, together.recordings) == (4, 2, 12)
        bases = ("nano-musicgen", "nano-mustango")
        alone = [paired_effect(found, OVER_LINEAR.model_copy(update={"where": {"base": base}})) for base in bases]
        ends = [effect.interval() for effect in (together, pooled_effect(alone))]
        covered.append([low <= 0 <= high for low, high in ends])
    now, before = np.mean(covered, axis=0)
    assert now > 0.93
    assert before < 0.9


def test_an_interaction_of_two_bases_is_compared_within_recordings() -> None:
    """What makes a recording hard for both bases cancels in the difference of the two."""
    draw = np.random.default_rng(7)
    found = two_bases(draw, seeds=3, recordings=8, alike=5.0)
    contrast = OVER_LINEAR.model_copy(update={"interaction": ({"base": "nano-musicgen"}, {"base": "nano-mustango"})})
    effect = paired_effect(found, contrast)
    assert effect.error < 0.2
    assert (effect.seeds, effect.recordings, effect.pairs) == (3, 8, 6)


def test_decide_hypotheses_interaction_compares_the_difference_between_genres() -> None:
    contrast: dict[str, Any] = {"treatment": {"kind": "conv"}, "control": {"kind": "transformer"}}
    contrast["interaction"] = [{"genre": "hindustani"}, {"genre": "makam"}]
    assert verdict(trials({("hindustani", "conv"): 0.4}), contrast) == SUPPORTED
    assert verdict(trials({("", "conv"): 0.4}, seeds=6), contrast) == CONTRADICTED
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

    def obstacle(some: Any, comparison: Any, confidence: float, comparisons: int) -> str:
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
        found, claims(*CONV_OVER), (), lambda _, each, *__: "no" if each.control["kind"] == "linear" else ""
    )[0]
    assert (row["verdict"], row["reason"]) == (CONTRADICTED, "")


def test_without_data_a_hypothesis_is_not_testable_once_controls_are_asked_for() -> None:
    row = decide_hypotheses([], claims(*CONV_OVER), (), lambda *_: "")[0]
    assert row["verdict"] == NOT_TESTABLE
    assert row["reason"].startswith("No two trials differ in this alone")


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
