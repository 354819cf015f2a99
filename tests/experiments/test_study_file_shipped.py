"""The study files of the repository: their control grids, with results that are made up, and what a dry run says."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from talim.experiments import controls, hypotheses, study_corpora, study_file
from talim.experiments.controls import Control, ControlData
from talim.experiments.estimates import TrialEstimates
from talim.experiments.hypothesis_tests import compared_trials
from talim.experiments.results import StudyResults, read_study
from talim.experiments.runner import list_trials, run_study, study_problems
from talim.experiments.study_file import settings_hash, trial_factors
from talim.experiments.trial import TrialJob, trial_record
from talim.experiments.tuning import read_tuning
from talim.progress import Progress

STUDIES = Path(__file__).parents[2] / "studies"
RECORDINGS = [f"take-{n:02d}" for n in range(6)]
CURVE = [(n / 10, 3.0 - (1 - 0.5 ** (2 * n))) for n in range(11)]  # by the part of the steps
SCORES = (
    *("diversity_timbre", "adherence_mode", "note_stability_cents", "beat_phase_coherence"),
    *("kernel_distance_timbre", "ngram_repetition"),
)
EFFECT, NOISE, BEST_RATE = 0.5, 0.02, 0.001


def made_up(job: TrialJob, learns: bool) -> dict[str, Any]:
    """A line of a trial that trains well and loses half of it where a difference is planted, or learns nothing."""
    spec = job.spec
    curve = [[round(part * spec.recipe.training.steps), loss] for part, loss in CURVE]
    line = {**trial_record(spec), "status": "done", "curve": curve, "cost": {"seconds": 1.0}}
    line |= {"factors": trial_factors(spec, 10**7, 10**5), "settings_hash": settings_hash(spec, spec.corpus)}
    if spec.stage != "trial":
        loss = 2.0 + math.log(spec.recipe.training.learning_rate / BEST_RATE) ** 2
        return line | {"measures": {"loss_reduction": {"r": 0.1}, "adapted_loss": {"r": loss}}}
    rng = np.random.default_rng(int(spec.id, 16))
    gain = EFFECT * (0.5 if spec.control == "planted" else 1.0) if learns else 0.0

    def measure(value: float) -> dict[str, float]:
        shift = NOISE * rng.normal()
        return {name: float(value + shift + NOISE * rng.normal()) for name in RECORDINGS}

    predictors = ("constant", "linear") if "mustango" in spec.base else ("unigram", "last_token")
    measures = {f"{name}_loss": measure(3.0) for name in ("base", *predictors)}
    measures |= {"adapted_loss": measure(2.8 - gain if learns else 3.1)}
    measures |= {name: measure(gain) for name in ("loss_reduction", "ornament_gain", "repeat_gain")}
    measures |= {name: {"run": 1.0} for name in ("log_seconds", "log_memory")}
    facts = {}
    if spec.generation is not None:
        measures |= {f"score.{name}": measure(0.2 + gain) for name in SCORES}
        facts = {name: {"separation_p": 0.001 if learns else 0.4, "floor": 0.0, "ceiling": 1.0} for name in SCORES}
    return line | {"measures": measures, "scores": facts, "run": job.run_name}


@pytest.fixture
def run_made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[StudyResults, ControlData]]:
    """Runs a study file of `studies/paper` with made-up results: all its pilots, its tuning, its trials."""
    corpus = SimpleNamespace(held_out=[], folder=tmp_path)
    monkeypatch.setattr(study_corpora, "build_corpus", lambda *_, **__: corpus)

    def run(name: str, *, learns: bool = True) -> tuple[StudyResults, ControlData]:
        def execute(jobs: Sequence[TrialJob], progress: Progress) -> Iterator[dict[str, Any]]:
            return (made_up(job, learns) for job in jobs)

        out = tmp_path / f"{name}-{learns}"
        summary = run_study(STUDIES / "paper" / f"{name}.yaml", out, execute=execute)
        assert summary["failed"] == []
        study = read_study(out)
        assert list(study.excluded) == []
        return study, ControlData(study.controls, read_tuning(out))

    return run


def claims_of(study: StudyResults, data: ControlData, file: str = "claims") -> Mapping[str, Sequence[Control]]:
    """The controls of every comparison of the paper's claims, or a file's, that the study has trials for."""
    claims = hypotheses.load(STUDIES / "paper" / f"{file}.yaml").claims
    return {
        f"{claim.id} {each.measure} {dict(each.treatment)} {dict(each.control)}": controls.comparison_controls(
            study.trials, each, data
        )
        for claim in claims
        for each in claim.comparisons
        if compared_trials(study.trials, each)
    }


@pytest.mark.parametrize("name", ["nano", "played"])
def test_every_control_of_every_claim_passes_where_there_is_something_to_see(
    name: str, run_made_up: Callable[..., tuple[StudyResults, ControlData]]
) -> None:
    """So no claim is "not testable here" for want of trials."""
    found = claims_of(*run_made_up(name))
    missing = {title: [each.name for each in rows if not each.passed] for title, rows in found.items()}
    assert missing == {title: [] for title in found}
    asked = {title.split()[0] for title in found}
    assert asked >= ({"1", "2", "3", "4", "7", "8"} if name == "nano" else {"5", "6", "8"})
    for title, rows in found.items():
        assert bool(rows) == (" log_" not in title), title


def test_every_control_of_the_questions_that_came_up_later_passes_too(
    run_made_up: Callable[..., tuple[StudyResults, ControlData]],
) -> None:
    found = claims_of(*run_made_up("nano"), "later")
    assert len(found) == sum(
        len(claim.comparisons) for claim in hypotheses.load(STUDIES / "paper" / "later.yaml").claims
    )
    assert {title: [each.name for each in rows if not each.passed] for title, rows in found.items()} == {
        title: [] for title in found
    }


@pytest.mark.slow
def test_every_control_of_every_claim_fails_where_nothing_is_learnt(
    run_made_up: Callable[..., tuple[StudyResults, ControlData]],
) -> None:
    found = [rows for rows in claims_of(*run_made_up("played", learns=False)).values() if rows]
    assert len(found) == 8
    passed = [{each.name: each.passed for each in rows} for rows in found]
    for each in passed:
        assert set(each) == {"unigram", "last token", "curve", "rate", "planted", "equal", "separation"}
        assert not any(each[name] for name in ("unigram", "last token", "separation"))
    assert sum(each["planted"] for each in passed) <= 1  # where there is none it is found by chance, in one of 40


@pytest.mark.parametrize("name", ["nano", "played", "full"])
def test_studies_of_the_paper_tune_find_a_plateau_and_plant_a_difference_in_every_base(name: str) -> None:
    study = study_file.load(STUDIES / "paper" / f"{name}.yaml")
    assert study.plateau is not None
    assert study.tune is not None
    assert len(study.tune.learning_rate) >= controls.MIN_RATES
    trials = study_file.expand(study)
    seeds: dict[tuple[str, str, str], set[int]] = {}
    for trial in trials:
        if trial.control != "planted":
            seeds.setdefault((trial.base, trial.corpus, str(trial.design)), set()).add(trial.seed)
    for base, corpus in {(trial.base, trial.corpus) for trial in trials}:
        assert any((t.base, t.corpus, t.control) == (base, corpus, "planted") for t in trials), (base, corpus)
        most = max(len(each) for (of, on, _), each in seeds.items() if (of, on) == (base, corpus))
        assert most >= controls.MIN_SEEDS, (base, corpus)
    if study.generation is not None:
        assert study.generation.clips >= 40


@pytest.mark.slow
def test_every_control_of_the_full_study_passes_where_there_is_something_to_see(
    run_made_up: Callable[..., tuple[StudyResults, ControlData]],
) -> None:
    study, data = run_made_up("full")
    assert len(study.tables) == 4
    for table in study.tables:
        measures = [(f"score.{name}", None) for name in SCORES]
        found = controls.table_controls(table, measures, data)
        # equal pairs of noise are told apart by chance in some of so many measures
        refused = [each for each in found if each.passed is None or (not each.passed and each.name != controls.EQUAL)]
        assert [(each.name, each.measure, each.reason) for each in refused] == []


@pytest.mark.slow
@pytest.mark.parametrize("file", ["demo.yaml", "paper/nano.yaml", "paper/played.yaml", "paper/full.yaml"])
def test_dry_run_of_every_study_file_needs_no_weights(file: str, tmp_path: Path) -> None:
    """Of each base the first trial is enough: the shapes of large ones are traced without weights."""
    path = STUDIES / file
    rows = list_trials(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    bases = {base for _, _, base in rows}
    estimates = TrialEstimates(path.parent, "rtx-a6000")
    firsts = {base: next((trial, base) for trial, _, of in rows if of == base) for base in bases}
    for trial, base in firsts.values():
        found = estimates.estimate(trial, base)
        assert found is not None, (trial.name, base)
        assert found["hours"] > 0
    unknown = [problem for problem in study_problems(path) if "no such folder of recordings" not in problem]
    assert unknown == []
