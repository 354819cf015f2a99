"""The study files of the repository: their control grids, with results that are made up, and what a dry run says."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from talim.experiments import controls, hypotheses, study_corpora
from talim.experiments.controls import Control, ControlData
from talim.experiments.hypothesis_tests import compared_trials
from talim.experiments.results import StudyResults, read_study
from talim.experiments.runner import run_study
from talim.experiments.study_file import settings_hash, trial_factors
from talim.experiments.trial import TrialJob, trial_record
from talim.experiments.tuning import read_tuning
from talim.progress import Progress

STUDIES = Path(__file__).parents[2] / "studies"
RECORDINGS = [f"take-{n:02d}" for n in range(6)]
CURVE = [[step, 3.0 - (1 - 0.5 ** (step / 5))] for step in range(0, 101, 10)]
SCORES = (
    *("diversity_timbre", "adherence_mode", "note_stability_cents", "beat_phase_coherence"),
    *("kernel_distance_timbre", "ngram_repetition"),
)
EFFECT, NOISE, BEST_RATE = 0.5, 0.02, 0.001


def made_up(job: TrialJob, learns: bool) -> dict[str, Any]:
    """A line of a trial that trains well and loses half of it where a difference is planted, or learns nothing."""
    spec = job.spec
    line = {**trial_record(spec), "status": "done", "curve": CURVE, "cost": {"seconds": 1.0}}
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
        return study, controls.study_data(study, read_tuning(out))

    return run


def claims_of(study: StudyResults, data: ControlData) -> Mapping[str, Sequence[Control]]:
    """The controls of every comparison of the paper's claims that the study has trials for."""
    claims = hypotheses.load(STUDIES / "paper" / "claims.yaml").claims
    return {
        f"{claim.id} {each.measure} {dict(each.treatment)}": controls.comparison_controls(study.trials, each, data)
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


@pytest.mark.slow
def test_every_control_of_every_claim_fails_where_nothing_is_learnt(
    run_made_up: Callable[..., tuple[StudyResults, ControlData]],
) -> None:
    for title, rows in claims_of(*run_made_up("played", learns=False)).items():
        if rows:
            passed = {each.name: each.passed for each in rows}
            assert set(passed) == {"unigram", "last token", "curve", "rate", "planted", "equal", "separation"}, title
            assert not any(passed[name] for name in ("unigram", "last token", "planted", "separation")), title
