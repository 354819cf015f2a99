"""Preliminary trials: what is run next follows from the lines of those that are finished."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from talim.atomic_io import write_json
from talim.errors import TalimError
from talim.experiments import study_file
from talim.experiments.preliminary_rules import RATE, STEPS, least_steps
from talim.experiments.preliminary_trials import (
    DIVERGED,
    PLATEAU_RECORD,
    Decision,
    decide,
    decision_notes,
    is_outcome,
    read_plateau,
    undecided,
)
from talim.experiments.results_log import ResultRecord
from talim.experiments.study_file import StudyConfig, TrialSpec
from talim.experiments.tuning import family_of, read_tuning

CORPORA = {
    "solo": {"synthesize": {"tradition": "makam", "ensemble_size": 1}},
    "trio": {"synthesize": {"tradition": "makam", "ensemble_size": 3}},
    "raga": {"synthesize": {"tradition": "hindustani", "ensemble_size": 1}},
}
DESIGNS = ["conv@all:1%", "conv@all:2%", "conv@deep:3%", "linear@all:2%"]
TUNE = {"learning_rate": [0.0003, 0.001, 0.003], "seeds": [100, 101]}
BEST = {"conv": 0.001, "linear": 0.006, "lora": 0.001}  # of the simulated losses


def study(**changes: Any) -> StudyConfig:
    grids = {"a": {"designs": DESIGNS, "seeds": [0, 1, 2]}}
    return StudyConfig.model_validate({"corpora": CORPORA, "grids": grids, "tune": TUNE, **changes})


def line_of(spec: TrialSpec) -> ResultRecord:
    """A finished preliminary trial: its loss is least at BEST; a pilot's curve falls with 40 steps."""
    kind, rate = spec.design.parts[0].kind, spec.recipe.training.learning_rate or 0.001  # of a pilot that none tunes
    loss = 3 + math.log(rate / BEST[kind]) ** 2 + spec.seed / 1000
    steps = spec.recipe.training.steps
    curve = [[step, 3 + math.exp(-step / 40)] for step in range(0, steps + 1, spec.recipe.training.eval_every)]
    measures = {"adapted_loss": {"r": loss - 0.1, "q": loss + 0.1}}
    return {"id": spec.id, "status": "done", "design": str(spec.design), "measures": measures, "curve": curve}


def run_all(config: StudyConfig, line: Callable[[TrialSpec], ResultRecord] = line_of) -> tuple[Decision, list]:
    """The decision after all preliminary trials, and these in the order in which they were asked for."""
    lines, specs = {}, []
    while (decision := decide(config, lines)).missing:
        assert not {spec.id for spec in decision.missing} & set(lines)
        specs += decision.missing
        lines |= {spec.id: line(spec) for spec in decision.missing}
    return decision, specs


def test_decide_without_rules_has_nothing_to_run() -> None:
    assert decide(study(tune=None), {}) == Decision(study_file.StudyChoices())


def test_decide_trains_one_design_of_each_family_on_each_corpus_with_each_rate_and_seed() -> None:
    first = decide(study(), {}).missing
    assert len(first) == 2 * 3 * 3 * 2  # kinds, corpora, rates, seeds
    assert {str(spec.design) for spec in first} == {"conv@all:2%", "linear@all:2%"}  # the middle one of the first grid
    assert {spec.seed for spec in first} == {100, 101}
    assert {spec.recipe.training.learning_rate for spec in first} == {0.0003, 0.001, 0.003}
    assert all(spec.stage == "tuning" and spec.generation is None for spec in first)
    assert len({spec.id for spec in first}) == len(first)


def test_decide_grows_the_grid_of_the_families_that_need_it() -> None:
    decision, specs = run_all(study())
    later = specs[2 * 3 * 3 * 2 :]
    assert {spec.design.parts[0].kind for spec in later} == {"linear"}
    assert {spec.recipe.training.learning_rate for spec in later} == {0.009, 0.027}
    families = decision.choices.families
    assert len(families) == 2 * 3
    chosen = {(family.group, family.family): family.chosen for family in families}
    assert chosen["trio", "conv"] == {RATE: 0.001}
    assert chosen["trio", "linear"] == {RATE: 0.009}
    assert all(family.inside for family in families)
    conv = family_of(families, "nano-musicgen", "raga", "conv@deep:3%")
    assert conv is not None
    assert conv.corpora == ("raga",)
    assert conv.rates == [0.0003, 0.001, 0.003]
    wanted = [3.1005 + math.log(rate / 0.001) ** 2 for rate in conv.rates]
    assert conv.losses == pytest.approx(wanted)  # the mean over seeds (100, 101) and recordings


def test_decide_per_genre_shares_the_settings_of_the_named_corpora() -> None:
    decision, specs = run_all(study(tune={**TUNE, "corpora": ["solo", "raga"], "per": "genre"}))
    assert {spec.corpus for spec in specs} == {"solo", "raga"}
    makam = family_of(decision.choices.families, "nano-musicgen", "trio", "linear@all:2%")
    assert makam is not None
    assert (makam.group, makam.corpora, makam.tuned_on) == ("makam", ("solo", "trio"), ("solo",))
    decision, specs = run_all(study(tune={**TUNE, "per": "genre"}))
    assert {spec.corpus for spec in specs} == set(CORPORA)
    assert len(decision.choices.families) == 2 * 2


@pytest.mark.parametrize(
    ("family", "count"), [(["kind"], 2), (["kind", "site"], 3), (["kind", "site", "size"], len(DESIGNS))]
)
def test_decide_tunes_families_of_the_named_factors(family: list, count: int) -> None:
    decision, _ = run_all(study(tune={**TUNE, "family": family}))
    assert len(decision.choices.families) == count * len(CORPORA)


def test_decide_added_grids_change_neither_trials_nor_choices() -> None:
    grids = {"a": {"designs": DESIGNS, "seeds": [0, 1, 2]}, "more": {"designs": ["conv@all:9%", "lora@all:2%"]}}
    before, after = run_all(study()), run_all(study(grids=grids))
    assert {spec.id for spec in before[1]} <= {spec.id for spec in after[1]}
    assert {spec.design.parts[0].kind for spec in after[1]} == {"conv", "linear", "lora"}
    ids = [{t.id for t in study_file.expand(config, decision.choices)} for config, (decision, _) in
           ((study(), before), (study(grids=grids), after))]  # fmt: skip
    assert ids[0] < ids[1]


def test_decide_lora_has_its_alpha_ratio_tuned_too() -> None:
    grids = {"a": {"designs": ["lora@all:2%", "linear@all:2%"], "corpora": ["solo"]}}
    decision, specs = run_all(study(grids=grids, tune={**TUNE, "lora_alpha_ratio": [1, 2, 4]}))
    lora = [spec for spec in specs if spec.design.parts[0].kind == "lora"]
    assert {spec.recipe.kind_options["lora"]["alpha_per_rank"] for spec in lora} >= {1, 2, 4}
    assert all(not spec.recipe.kind_options for spec in specs if spec not in lora)
    chosen = {family.family: set(family.chosen) for family in decision.choices.families}
    assert chosen == {"lora": {RATE, "kind_options.lora.alpha_per_rank"}, "linear": {RATE}}


def test_expand_tuned_trials_share_one_table_and_are_those_of_any_rule_that_chooses_the_same() -> None:
    config = study(grids={"a": {"designs": DESIGNS, "corpora": ["solo"]}})
    decision, _ = run_all(config)
    trials = study_file.expand(config, decision.choices)
    rates = {str(trial.design): trial.recipe.training.learning_rate for trial in trials}
    assert (rates["conv@all:1%"], rates["linear@all:2%"]) == (0.001, 0.009)
    assert {trial.tuned[RATE] for trial in trials} == {0.001, 0.009}
    assert len({study_file.settings_hash(trial, "corpus") for trial in trials}) == 1
    assert undecided(config, decision, trials) == []
    plain = study_file.expand(study(grids=config.model_dump()["grids"], tune=None))
    assert not {trial.id for trial in trials} & {trial.id for trial in plain}  # whose rate is left open
    other = study(grids=config.model_dump()["grids"], tune={**TUNE, "seeds": [55]})
    by_other_rule = study_file.expand(other, run_all(other)[0].choices)
    assert [trial.id for trial in trials] == [trial.id for trial in by_other_rule]
    hashes = [study_file.settings_hash(each[0], "corpus") for each in (trials, plain, by_other_rule)]
    assert len(set(hashes)) == 3


def test_expand_trials_with_other_steps_do_not_share_the_table_of_tuned_ones() -> None:
    config = study(overrides={"training.steps": 60})
    first, second = (study_file.expand(each, run_all(each)[0].choices)[0] for each in (study(), config))
    assert study_file.settings_hash(first, "c") != study_file.settings_hash(second, "c")


def test_decide_failed_tuning_leaves_out_its_family_until_it_is_retried() -> None:
    def line(spec: TrialSpec) -> ResultRecord:
        if spec.corpus == "trio" and spec.design.parts[0].kind == "conv":
            return {"id": spec.id, "status": "failed", "error": "out of memory"}
        return line_of(spec)

    config = study()
    decision, _ = run_all(config, line)
    assert {failed["error"] for failed in decision.failed} == {"out of memory"}
    trials = study_file.expand(config, decision.choices)
    left_out = undecided(config, decision, trials)
    assert {(t.corpus, t.design.parts[0].kind) for t in left_out} == {("trio", "conv")}
    assert len(left_out) == 3 * 3
    assert decision_notes(decision, len(left_out))[-1].startswith("left out: 9 trials, as the preliminary trials")


def test_decide_training_that_diverges_is_an_outcome() -> None:
    def line(spec: TrialSpec) -> ResultRecord:
        diverged = spec.recipe.training.learning_rate > 0.002
        return {"id": spec.id, "status": "failed", "error": "x", DIVERGED: True} if diverged else line_of(spec)

    decision, _ = run_all(study(), line)
    assert decision.failed == ()
    linear = family_of(decision.choices.families, "nano-musicgen", "solo", "linear@all:2%")
    assert linear is not None
    assert (linear.chosen, linear.losses[-1], linear.inside) == ({RATE: 0.001}, None, True)
    decision, _ = run_all(study(), lambda spec: {**line_of(spec), "status": "failed", DIVERGED: True, "error": "x"})
    assert decision.choices.families == ()
    assert "not finite with any of the values" in decision.failed[0]["error"]
    assert [is_outcome(row) for row in ({"status": "failed"}, {"status": "failed", DIVERGED: True})] == [False, True]


def test_decision_notes_say_where_a_choice_lies_at_a_bound() -> None:
    decision, _ = run_all(study(tune={**TUNE, "max_growth": 0}))
    notes = decision_notes(decision, 0)
    assert "tuned: conv in nano-musicgen on solo: training.learning_rate 0.001" in notes
    assert any(note.startswith("tuned: linear") and "not inside the grid: training.lear" in note for note in notes)


PLATEAU = {"max_steps": 500}


def test_decide_pilots_set_the_steps_of_all_trials_before_they_are_tuned() -> None:
    config = study(plateau=PLATEAU)
    pilots = decide(config, {}).missing
    assert {spec.stage for spec in pilots} == {"pilot"}
    assert {(str(spec.design), spec.corpus) for spec in pilots} == {("conv@deep:3%", name) for name in CORPORA}
    training = pilots[0].recipe.training
    assert (training.steps, training.eval_every, training.learning_rate) == (500, 20, 0.001)
    decision, specs = run_all(config)
    assert decision.plateau is not None
    # 3 + exp(-s / 40): the last fifth brings less than 2 % from s = 168 on
    assert (decision.plateau.steps, decision.plateau.flat) == (180, True)
    assert {spec.recipe.training.steps for spec in specs if spec.stage == "tuning"} == {180}
    trials = study_file.expand(config, decision.choices)
    assert {trial.recipe.training.steps for trial in trials} == {180}
    assert len({study_file.settings_hash(trial, "c") for trial in trials}) == 1
    assert decision_notes(decision, 0)[0] == "steps of all trials: 180"


def test_decide_pilots_the_largest_steps_count() -> None:
    def line(spec: TrialSpec) -> ResultRecord:
        constant = {"solo": 20, "trio": 60, "raga": 40}[spec.corpus]
        return line_of(spec) | {"curve": [[n, math.exp(-n / constant)] for n in range(0, 501, 20)]}

    decision, _ = run_all(study(plateau=PLATEAU, tune=None), line)
    assert decision.plateau is not None
    steps = {pilot.corpus: pilot.flat_from for pilot in decision.plateau.pilots}
    assert steps == {"solo": 100, "trio": 260, "raga": 180}  # 84, 252 and 168, rounded up to an evaluation
    assert decision.choices.steps == 260


def test_decide_curve_that_never_flattens_takes_all_steps_and_says_so() -> None:
    def line(spec: TrialSpec) -> ResultRecord:
        return line_of(spec) | {"curve": [[n, 9 - n / 100] for n in range(0, 501, 20)] if spec.corpus == "trio" else []}

    decision, _ = run_all(study(plateau=PLATEAU, tune=None), line)
    assert decision.plateau is not None
    assert (decision.plateau.steps, decision.plateau.flat) == (500, False)
    (note,) = decision_notes(decision, 0)
    assert note.startswith("steps of all trials: 500; not flat within plateau.max_steps: conv@deep:3% on solo")


def test_decide_pilots_of_named_designs_and_corpora() -> None:
    plateau = {**PLATEAU, "designs": ["full@all", "conv@all:1%"], "corpora": ["raga"], "seed": 9}
    pilots = decide(study(plateau=plateau), {}).missing
    assert {(str(spec.design), spec.corpus, spec.seed) for spec in pilots} == {
        ("full@all", "raga", 9), ("conv@all:1%", "raga", 9),
    }  # fmt: skip


HALF = {"control": "planted", "steps_fraction": 0.5, "designs": ["conv@all:1%"], "seeds": [0]}


def falling(constant: float) -> Callable[[TrialSpec], ResultRecord]:
    """Lines of pilots whose loss falls by e in `constant` steps: flat from about 4.2 times as many."""

    def line(spec: TrialSpec) -> ResultRecord:
        every, steps = spec.recipe.training.eval_every, spec.recipe.training.steps
        evaluated = sorted({*range(0, steps, every), steps})
        return line_of(spec) | {"curve": [[step, 3 + math.exp(-step / constant)] for step in evaluated]}

    return line


def test_decide_steps_within_the_warm_up_are_raised_to_an_evaluated_step_and_it_is_said() -> None:
    config = study(plateau=PLATEAU, tune=None, overrides={"training.warmup_steps": 95})
    decision, _ = run_all(config)
    assert decision.choices.steps == 200  # the first evaluation from 2 x 95 on
    assert study_file.expand(config, decision.choices)[0].recipe.training.steps == 200
    assert decision.plateau is not None
    assert (decision.plateau.raised_from, decision.plateau.flat) == (180, True)
    (note,) = decision_notes(decision, 0)
    assert note.startswith("steps of all trials: 200, not 180, from where on the pilots are flat: every trial, also")


def test_decide_steps_leave_a_planted_half_its_own_room() -> None:
    """Two warm-ups were enough for the others only: half of them ended with the warm-up, or could not be trained."""
    grids = {"a": {"designs": DESIGNS, "seeds": [0]}, "half": HALF}
    config = study(plateau=PLATEAU, tune=None, grids=grids, overrides={"training.warmup_steps": 100})
    decision, _ = run_all(config, falling(20))
    assert decision.choices.steps == 400
    (half,) = [trial for trial in study_file.expand(config, decision.choices) if trial.corpus == "solo"][-1:]
    assert (half.control, half.recipe.training.steps) == ("planted", 200)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 120), st.integers(20, 600), st.floats(1, 300), st.sampled_from([None, 0.1, 0.3, 0.5, 0.75, 0.9]))
def test_decide_no_trial_is_within_its_warm_up(
    warmup: int, longest: int, constant: float, fraction: float | None
) -> None:
    grids = {"a": {"designs": ["conv@all:1%"], "seeds": [0]}}
    if fraction:
        grids["less"] = HALF | {"steps_fraction": fraction}
    values = {"plateau": {"max_steps": longest}, "tune": None, "grids": grids}
    overrides = {"training.warmup_steps": warmup}
    if longest < least_steps(warmup, [fraction] if fraction else []):
        with pytest.raises(ValidationError, match=f"plateau.max_steps: {longest} steps: too few for the warm-up"):
            study(**values, overrides=overrides)
        return
    config = study(**values, overrides=overrides)
    decision, _ = run_all(config, falling(constant))
    plateau = decision.plateau
    assert plateau is not None
    evaluated = {step for step, _ in plateau.pilots[0].curve}
    assert plateau.steps in evaluated
    assert plateau.steps <= longest
    for trial in study_file.expand(config, decision.choices):
        assert trial.recipe.training.steps >= 2 * trial.recipe.training.warmup_steps
    starts = [pilot.flat_from for pilot in plateau.pilots if pilot.flat_from is not None]
    if len(starts) < len(plateau.pilots):
        assert (plateau.steps, plateau.flat, plateau.raised_from) == (longest, False, None)
    elif plateau.raised_from is None:
        assert plateau.steps == max(starts)
    else:
        assert plateau.raised_from == max(starts) < config.least_steps <= plateau.steps
        assert not any(config.least_steps <= step < plateau.steps for step in evaluated)


def test_decide_failed_pilot_leaves_out_all_trials() -> None:
    config = study(plateau=PLATEAU)
    decision, _ = run_all(config, lambda spec: {"id": spec.id, "status": "failed", "error": "no memory"})
    assert len(decision.failed) == len(CORPORA)
    trials = study_file.expand(config, decision.choices)
    assert undecided(config, decision, trials) == trials
    assert trials[0].recipe.training.steps == 500


def test_write_stores_what_read_returns(tmp_path: Path) -> None:
    decision, _ = run_all(study(plateau=PLATEAU))
    assert (read_plateau(tmp_path), read_tuning(tmp_path)) == (None, [])
    decision.write(tmp_path)
    assert read_plateau(tmp_path) == decision.plateau
    assert read_tuning(tmp_path) == list(decision.choices.families)
    write_json(tmp_path / PLATEAU_RECORD, {"steps": 3})
    with pytest.raises(TalimError, match="is damaged"):
        read_plateau(tmp_path)


def test_preliminary_trials_have_ids_of_their_own() -> None:
    """So that a trial is never taken for finished because its twin was measured on validation."""
    config = study(plateau=PLATEAU)
    decision, specs = run_all(config)
    assert not {spec.id for spec in specs} & {trial.id for trial in study_file.expand(config, decision.choices)}
    assert STEPS in specs[0].tuned
