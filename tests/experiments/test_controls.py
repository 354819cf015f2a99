"""Controls on synthetic trials: each passes where a difference could be seen, else it names the reason."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.simulated_study import SMALL, write_with_controls

from research.validation.simulated_studies import SimulatedStudy
from talim.experiments import controls
from talim.experiments.controls import Control, ControlData, Question
from talim.experiments.hypotheses import Comparison, Contrast
from talim.experiments.hypothesis_tests import verdict_of
from talim.experiments.learning_curves import Curve, growth_at_twice_the_steps, plateau_fraction
from talim.experiments.results import TrialResult, read_study
from talim.experiments.tuning import RATE, TunedFamily, read_tuning

RECORDINGS = [f"take-{n}" for n in range(8)]
FLAT = tuple((step, 3.0 - 1.0 * (1 - 0.5 ** (step / 5))) for step in range(0, 101, 10))


def trial(design: str = "conv@all:2.7%", seed: int = 0, *, corpus: str = "makam", **more: Any) -> TrialResult:
    """A trial that passes: its loss ends 0.5 below the last token, its curve is flat, its learning rate was tuned."""
    rng = np.random.default_rng([seed, sum(design.encode()), len(corpus)])
    reduction = {name: 1.0 + 0.02 * float(rng.normal()) for name in RECORDINGS}
    measures = {
        "base_loss": dict.fromkeys(RECORDINGS, 3.0),
        "loss_reduction": reduction,
        "adapted_loss": {name: 3.0 - value for name, value in reduction.items()},
        "unigram_loss": dict.fromkeys(RECORDINGS, 3.3),
        "last_token_loss": dict.fromkeys(RECORDINGS, 2.5),
    }
    values: dict[str, Any] = {
        "id": f"{design} {seed} {corpus}", "status": "done", "design": design, "seed": seed, "corpus": corpus,
        "settings_hash": corpus, "factors": {"base": "tiny", "kind": design.partition("@")[0]},
        "measures": measures | more.pop("measures", {}), "curve": FLAT, "tuned": {RATE: 0.002},
    }  # fmt: skip
    return TrialResult.model_validate(values | more)


def losses(adapted: Sequence[float], **predictors: float) -> dict[str, dict[str, float]]:
    named = {name: dict.fromkeys(RECORDINGS, value) for name, value in predictors.items()}
    return {"adapted_loss": dict(zip(RECORDINGS, adapted, strict=True)), **named}


def family(rates: Sequence[float] = (0.001, 0.002, 0.004), chosen: float = 0.002, **more: Any) -> TunedFamily:
    values: dict[str, Any] = {
        "base": "tiny", "group": "makam", "family": "conv", "corpora": ["makam", "hindustani"],
        "designs": ["conv@all:2.7%"], "representative": "conv@all:2.7%", "tuned_on": ["makam"], "seeds": [0],
        "candidates": [{"values": {RATE: rate}, "loss": 1.0} for rate in rates], "chosen": {RATE: chosen},
        "inside": True,
    }  # fmt: skip
    return TunedFamily.model_validate(values | more)


def ask(trials: Sequence[TrialResult], measure: str = "loss_reduction", **more: Any) -> Question:
    return Question([trials], measure, **more)


NOTHING = ControlData()
TUNED = ControlData(tuning=[family()])


# predictors


def test_predictor_control_passes_where_the_interval_lies_below() -> None:
    found = controls.predictor_control("last token", ask([trial(seed=n) for n in range(3)]), NOTHING)
    assert (found.passed, found.corpus, found.base) == (True, "makam", "tiny")
    assert found.value == pytest.approx(0.5, abs=0.02)
    assert found.low is not None
    assert found.low > 0.45


def test_predictor_control_of_a_mean_below_within_its_error_fails() -> None:
    adapted = [2.5 - 0.02 + 0.3 * (-1) ** n for n in range(8)]
    found = controls.predictor_control("last token", ask([trial(measures=losses(adapted))]), NOTHING)
    assert found.passed is False
    assert found.value == pytest.approx(0.02)
    assert "not shown" in found.reason
    above = controls.predictor_control("last token", ask([trial(measures=losses([2.6] * 8))]), NOTHING)
    assert above.passed is False
    assert "calibration" in above.reason


def test_predictor_control_needs_every_side_and_every_corpus_below() -> None:
    bad = trial("linear@all:2.7%", measures=losses([2.7] * 8))
    question = Question([[trial()], [bad]])
    found = controls.predictor_control("last token", question, NOTHING)
    assert found.passed is False
    assert "linear@all:2.7%" in found.reason
    elsewhere = trial(corpus="hindustani", measures=losses([2.7] * 8))
    found = controls.predictor_control("last token", ask([trial(), elsewhere]), NOTHING)
    assert (found.passed, found.corpus) == (False, "hindustani")


def test_predictor_control_of_a_diffusion_base_uses_constant_and_linear_predictions() -> None:
    measures = losses([0.4] * 8, constant_loss=1.0, linear_loss=0.3)
    one = trial(measures=measures)
    diffusion = one.model_copy(
        update={"measures": {k: v for k, v in one.measures.items() if k not in ("unigram_loss", "last_token_loss")}}
    )
    assert controls.predictor_control("unigram", ask([diffusion]), NOTHING).passed is True
    found = controls.predictor_control("last token", ask([diffusion]), NOTHING)
    assert found.passed is False
    assert "linear" in found.reason


def test_predictor_control_without_the_predictors_loss_or_with_one_number_is_not_known() -> None:
    bare = trial().model_copy(update={"measures": {"loss_reduction": {"a": 1.0}}})
    assert controls.predictor_control("unigram", ask([bare]), NOTHING).passed is None
    single = trial().model_copy(
        update={"measures": {"adapted_loss": {"a": 1.0}, "unigram_loss": {"a": 2.0}, "last_token_loss": {"a": 2.0}}}
    )
    found = controls.predictor_control("unigram", ask([single]), NOTHING)
    assert found.passed is None
    assert found.as_dict()["low"] is None


# curves


def test_curve_control_names_the_design_that_still_learns() -> None:
    steep = tuple((step, 3.0 - step / 100) for step in range(0, 101, 10))
    flat = controls.curve_control(ask([trial()]), NOTHING)
    assert flat.passed is True
    assert flat.value is not None
    assert flat.value < 0.02
    found = controls.curve_control(ask([trial(), trial("linear@all:2.7%", curve=steep)]), NOTHING)
    assert (found.passed, found.value) == (False, pytest.approx(0.2))
    assert "linear@all:2.7%" in found.reason
    assert "training.steps" in found.reason


def test_curve_control_is_of_the_mean_over_seeds() -> None:
    late = (*FLAT[:-1], (100, FLAT[-1][1] - 0.03))  # one seed alone still gains three per cent
    assert controls.curve_control(ask([trial(curve=late)]), NOTHING).passed is False
    assert controls.curve_control(ask([trial(curve=late), trial(seed=1)]), NOTHING).passed is True


def test_curve_control_without_a_curve_is_not_known_and_without_a_fall_fails() -> None:
    assert controls.curve_control(ask([trial(), trial(seed=1, curve=())]), NOTHING).passed is None
    assert controls.curve_control(ask([trial(curve=((0, 3.0), (50, 2.0)))]), NOTHING).passed is None
    worse = tuple((step, 3.0 + step / 100) for step in range(0, 101, 10))
    assert controls.curve_control(ask([trial(curve=worse)]), NOTHING).passed is False


LATE = tuple((step, 3.0 - 1.0 * (step / 100) ** 0.2) for step in range(0, 101, 10))  # 4.4 % in the last fifth


def one_gain(one: TrialResult, mean: float) -> TrialResult:
    gains = {name: mean + value - 1.0 for name, value in one.measures["loss_reduction"].items()}
    return one.model_copy(update={"measures": {**one.measures, "loss_reduction": gains}})


def test_curve_control_of_a_comparison_passes_where_more_steps_would_not_change_the_answer() -> None:
    assert plateau_fraction(LATE) == pytest.approx(1 - 0.8**0.2, abs=0.002)
    contrast = {"measure": "loss_reduction", "treatment": {"kind": "conv"}, "control": {"kind": "linear"}}
    alike = [trial(design, seed, curve=LATE) for design in ("conv@all:2.7%", "linear@all:2.7%") for seed in (0, 1)]
    unlike = [each if each.factors["kind"] == "conv" else each.model_copy(update={"curve": FLAT}) for each in alike]
    growth = growth_at_twice_the_steps(plateau_fraction(LATE) or 0.0)  # of a gain of 1, on one side alone

    def curve(trials: Sequence[TrialResult], smallest: float, **more: Any) -> Control:
        comparison = Comparison.model_validate({**contrast, **more, "smallest_effect": smallest})
        answer = partial(verdict_of, comparison=comparison, confidence=0.95, comparisons=1)
        found = controls.comparison_controls(trials, comparison, NOTHING, answer=answer)
        return {each.name: each for each in found}["curve"]

    assert curve(alike, 0.1).passed is True  # both gain 0.14
    assert "not flat" in curve(alike, 0.1).reason
    assert curve(alike, 0.1).value == pytest.approx(plateau_fraction(LATE))
    assert curve(unlike, 1.9 * growth).passed is False  # "no difference" would not hold with twice the change
    assert curve(unlike, 2.5 * growth).passed is True
    plain = Contrast.model_validate(contrast)  # of no answer
    assert not [c for c in controls.comparison_controls(alike, plain, NOTHING) if c.name == "curve" and c.passed]
    # of a difference of differences what both corpora gain cancels, too
    both = [
        trial(
            f"{kind}@all:2.7%", seed, corpus=genre, curve=points, factors={"base": "tiny", "kind": kind, "genre": genre}
        )
        for genre in ("makam", "hindustani")
        for kind, points in (("conv", LATE), ("linear", FLAT))
        for seed in (0, 1)
    ]
    better = [one_gain(each, 2.0 if each.factors["kind"] == "conv" else 1.0) for each in unlike]
    assert curve(better, 0.1).passed is True  # supported, and more so with more steps
    close = [one_gain(each, 1.0 if each.factors["kind"] == "conv" else 1.1) for each in unlike]
    assert curve(close, 0.05).passed is False  # contradicted now, and the other way round with more steps
    groups = [{"genre": "makam"}, {"genre": "hindustani"}]
    assert curve(both, 0.1).passed is False
    assert curve(both, 0.1, interaction=groups, hypothesis="different").passed is True


def test_curve_control_of_a_comparison_fails_of_curves_that_are_nearly_straight() -> None:
    steep = tuple((step, 3.0 - step / 100) for step in range(0, 101, 10))
    trials = [trial(design, curve=steep) for design in ("conv@all:2.7%", "linear@all:2.7%")]
    comparison = Comparison(
        measure="loss_reduction", treatment={"kind": "conv"}, control={"kind": "linear"}, smallest_effect=100.0
    )
    answer = partial(verdict_of, comparison=comparison, confidence=0.95, comparisons=1)
    found = {c.name: c for c in controls.comparison_controls(trials, comparison, NOTHING, answer=answer)}["curve"]
    assert found.passed is False
    assert "training.steps" in found.reason


def test_curve_control_of_a_choice_asks_what_longer_training_brings_to_other_designs(tmp_path: Path) -> None:
    study = read_study(write_with_controls(tmp_path, SMALL))
    (table, *_), designs = study.tables, study.tables[0].designs[:2]
    growth = growth_at_twice_the_steps(plateau_fraction(LATE) or 0.0)
    mean = np.mean([list(each.measures["loss_reduction"].values()) for each in table.of_design(designs[1])])

    def curve(of_first: Curve, of_second: Curve, margin: float) -> Control:
        curves = dict(zip(designs, (of_first, of_second), strict=True))
        trials = [t.model_copy(update={"curve": curves[t.design]}) for t in table.trials if t.design in curves]
        found = controls.choice_controls(
            [replace(table, trials=trials)], designs, designs[:1], {"loss_reduction": margin}, NOTHING
        )
        return {each.name: each for each in found}["curve"]

    assert curve(FLAT, FLAT, 1e-9).passed is True
    assert curve(FLAT, LATE, 1.9 * growth * float(mean)).passed is False
    assert curve(FLAT, LATE, 2.1 * growth * float(mean)).passed is True
    assert curve(LATE, FLAT, 1e-9).passed is True  # the chosen one would lead by more


# learning rates


def test_rate_control_passes_inside_the_grid_only() -> None:
    assert controls.rate_control(ask([trial()]), TUNED).passed is True
    edge = family(chosen=0.004)
    of_edge = trial(tuned={RATE: 0.004})
    found = controls.rate_control(ask([of_edge]), ControlData(tuning=[edge]))
    assert found.passed is False
    assert "end of its grid (0.001 to 0.004)" in found.reason


@pytest.mark.parametrize(
    ("tuned", "tuning", "reason"),
    [
        ({}, [], "was not tuned"),
        ({}, [family()], "was not tuned"),
        ({RATE: 0.002}, [], "was not tuned"),
        ({RATE: 0.001}, [family()], "another learning rate"),
        ({RATE: 0.002}, [family(rates=(0.002,))], "three or more"),
        ({RATE: 0.002}, [family(designs=["linear@all:2.7%"])], "was not tuned"),
    ],
)
def test_rate_control_says_what_is_missing(tuned: dict[str, float], tuning: list[TunedFamily], reason: str) -> None:
    found = controls.rate_control(ask([trial(tuned=tuned)]), ControlData(tuning=tuning))
    assert not found.passed
    assert reason in found.reason


def test_rate_control_is_not_passed_by_one_of_two_designs() -> None:
    found = controls.rate_control(ask([trial(), trial("linear@all:2.7%")]), TUNED)
    assert (found.passed, found.value) == (False, 0.5)


# planted differences


def planted(loss: float, seeds: int = 4, **more: Any) -> list[TrialResult]:
    """Trials that learn `loss` less than those of the same seed."""
    trials = []
    for seed in range(seeds):
        partner = trial(seed=seed, **more)
        less = {name: value - loss for name, value in partner.measures["loss_reduction"].items()}
        about: dict[str, Any] = {"control": "planted", "inserted": "half of the steps", "id": f"half {seed}"}
        trials.append(partner.model_copy(update=about | {"measures": {**partner.measures, "loss_reduction": less}}))
    return trials


def main_trials(**more: Any) -> list[TrialResult]:
    return [trial(seed=seed, **more) for seed in range(4)]


def test_inserted_control_finds_a_planted_difference() -> None:
    found = controls.inserted_control(ask(main_trials()), ControlData(planted(0.05)))
    assert (found.passed, found.value, found.measure) == (True, pytest.approx(0.05), "loss_reduction")
    assert "half of the steps" in found.reason


@pytest.mark.parametrize("loss", [0.0, -0.05])
def test_inserted_control_without_a_difference_or_with_its_reverse_fails(loss: float) -> None:
    noisy = [
        each.model_copy(
            update={
                "measures": {
                    **each.measures,
                    "loss_reduction": {
                        name: value + 0.01 * (-1) ** (n + each.seed)
                        for n, (name, value) in enumerate(each.measures["loss_reduction"].items())
                    },
                }
            }
        )
        for each in planted(loss)
    ]
    assert controls.inserted_control(ask(main_trials()), ControlData(noisy)).passed is False


def test_inserted_control_needs_every_corpus_the_measure_and_partners() -> None:
    both = main_trials() + main_trials(corpus="hindustani")
    assert controls.inserted_control(ask(both), ControlData(planted(0.05))).passed is None
    full = planted(0.05) + planted(0.05, corpus="hindustani")
    found = controls.inserted_control(ask(both), ControlData(full))
    assert found.passed is True
    assert found.corpus == "makam, hindustani"
    assert controls.inserted_control(ask(main_trials(), "repeat_gain"), ControlData(planted(0.05))).passed is None
    assert controls.inserted_control(ask(main_trials()), NOTHING).passed is None
    others = [each.model_copy(update={"settings_hash": "other"}) for each in planted(0.05)]
    assert controls.inserted_control(ask(main_trials()), ControlData(others)).passed is None


def test_inserted_control_of_a_distance_asks_whether_it_is_larger() -> None:
    def with_distance(trials: list[TrialResult], distance: float) -> list[TrialResult]:
        return [
            each.model_copy(
                update={
                    "measures": {**each.measures, "score.d": {"run": distance + 0.1 * each.seed}},
                    "directions": {"score.d": "lower_is_better"},
                }
            )
            for each in trials
        ]

    main = with_distance(main_trials(), 10.0)
    for distance, passed in ((12.0, True), (8.0, False)):
        data = ControlData(with_distance(planted(0.0), distance))
        assert controls.inserted_control(ask(main, "score.d"), data).passed is passed


# equal pairs


def test_halves_are_disjoint_each_pair_once() -> None:
    assert controls.halves(4) == [((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2))]
    assert len(controls.halves(5)) == 15
    for count in (6, 8, 13, 20):
        found = controls.halves(count)
        assert 0 < len(found) <= controls.MAX_SPLITS
        assert all(not set(first) & set(second) and len(first) == len(second) == count // 2 for first, second in found)


def test_equal_control_needs_four_seeds_which_an_equal_grid_may_add() -> None:
    found = controls.equal_control(ask([trial(seed=n) for n in range(3)]), NOTHING)
    assert found.passed is None
    assert "3 seeds" in found.reason
    more = ControlData([trial(seed=7, control="equal")])
    found = controls.equal_control(ask([trial(seed=n) for n in range(3)]), more)
    assert found.passed is True
    assert re.search(r", 0\.0\u202f% \(interval \d+\u202f% or less\)", found.reason)


def test_equal_control_fails_where_seeds_fall_into_two_groups() -> None:
    groups = [
        trial(seed=seed, measures={"loss_reduction": {name: seed // 2 + 0.001 * n for n, name in enumerate("abcd")}})
        for seed in range(4)
    ]
    found = controls.equal_control(ask(groups), NOTHING)
    assert (found.passed, found.value) == (False, pytest.approx(1 / 3))


def test_equal_control_of_equal_seeds_is_passed_by_nearly_all_studies() -> None:
    plan = SimulatedStudy(["conv@all:2.7%", "linear@all:2.7%"], seeds=4, corpora=(("makam", "solo"),))
    from research.validation.simulated_studies import rows

    passed = [
        controls.equal_control(ask([TrialResult.model_validate(row) for row in rows(plan, seed)]), NOTHING).passed
        for seed in range(40)
    ]
    assert passed.count(True) >= 38


# separation


def test_separation_control_of_a_loss_asks_whether_training_moves_it() -> None:
    assert controls.separation_control(ask(main_trials()), NOTHING).passed is True
    idle = [
        each.model_copy(update={"measures": {"repeat_gain": {n: 0.1 * (-1) ** k for k, n in enumerate(RECORDINGS)}}})
        for each in main_trials()
    ]
    found = controls.separation_control(ask(idle, "repeat_gain"), NOTHING)
    assert found.passed is False
    assert "move this measure" in found.reason
    assert controls.separation_control(ask(main_trials(), "repeat_gain"), NOTHING).passed is None


def scored(value: float, **facts: float | None) -> list[TrialResult]:
    known = {"reference": 0.6, "baseline": 0.2, "separation_p": 0.01, "floor": 0.0, "ceiling": 1.0} | facts
    return [
        each.model_copy(
            update={"measures": {**each.measures, "score.novelty": {"run": value}}, "scores": {"novelty": known}}
        )
        for each in main_trials()
    ]


@pytest.mark.parametrize(
    ("value", "facts", "passed", "reason"),
    [
        (0.4, {}, True, "tells real music 0.600 and the base 0.200"),
        (0.4, {"separation_p": 0.3}, False, "does not tell"),
        (0.995, {}, False, "ceiling"),
        (0.01, {}, False, "floor"),
        (0.4, {"separation_p": None}, None, "not known"),
        (5.0, {"ceiling": None}, True, "apart"),
        (0.0, {"ceiling": None}, False, "floor"),
    ],
)
def test_separation_control_of_a_score(
    value: float, facts: dict[str, float | None], passed: bool | None, reason: str
) -> None:
    found = controls.separation_control(ask(scored(value, **facts), "score.novelty"), NOTHING)
    assert found.passed is passed
    assert reason in found.reason


# together


def test_costs_rest_on_no_control() -> None:
    assert controls.run_controls([ask(main_trials(), "log_seconds")], NOTHING) == []


def test_untestable_reason_counts_what_is_not_known_as_not_passed() -> None:
    found = controls.run_controls([ask(main_trials())], NOTHING)
    failed = controls.not_passed(found)
    assert [each.name for each in failed] == ["rate", "planted"]
    assert controls.untestable_reason(found).startswith("Rate: The learning rate of conv@all:2.7% was not tuned")


def test_controls_of_a_sound_study_pass_for_tables_comparisons_and_choices(tmp_path: Path) -> None:
    study = read_study(write_with_controls(tmp_path, SMALL))
    data = ControlData(study.controls, read_tuning(tmp_path))
    assert len(study.controls) == len(study.trials) + 24 * 3
    assert not {each.id for each in study.trials} & {each.id for each in study.controls}
    contrast = Contrast(measure="loss_reduction", treatment={"kind": "conv"}, control={"kind": "linear"})
    measures = ["loss_reduction", "repeat_gain", "score.kernel_distance_timbre"]
    designs = study.tables[0].designs
    found: list[Control] = [
        *controls.table_controls(study.tables[0], [(each, None) for each in measures], data),
        *controls.comparison_controls(study.trials, contrast, data, 0.99),
        *controls.choice_controls(study.tables, designs, designs[:1], dict.fromkeys(measures, 0.1), data),
    ]
    assert not controls.not_passed(found)
    assert len(found) == 13 + 7 + 13
    assert {each.name for each in found} == {
        "unigram", "last token", "curve", "rate", "planted", "equal", "separation"
    }  # fmt: skip


def test_controls_of_a_study_in_which_nothing_differs_do_not_pass(tmp_path: Path) -> None:
    study = read_study(write_with_controls(tmp_path, replace(SMALL, inserted=0.0)))
    data = ControlData(study.controls, read_tuning(tmp_path))
    found = controls.table_controls(study.tables[0], [], data)
    assert [each.name for each in controls.not_passed(found)] == ["planted"]
