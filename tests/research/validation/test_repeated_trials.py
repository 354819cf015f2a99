"""Trials that are run again: equal ones are called equal, others are not, and only those that were drawn are run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from research.validation.repeated_trials import repeat_trials
from talim.backbones.precision import processor
from talim.errors import TalimError
from talim.experiments import study_corpora
from talim.experiments.results_log import ResultRecord, ResultsLog
from talim.experiments.runner import TrialExecutor, run_study
from talim.experiments.study_file import settings_hash, trial_factors
from talim.experiments.trial import TrialJob, trial_record
from talim.progress import Progress

STUDY = """
corpora: {a: {synthesize: {tradition: hindustani, count: 6, seconds: 5}}}
overrides: {training.steps: 4}
tune: {learning_rate: [0.001, 0.01, 0.1], seeds: [100]}
grids:
  g: {kinds: [linear, conv], sites: [all], size_percent: [1], seeds: [0, 1, 2, 3]}
"""


def made_up(job: TrialJob, shift: float) -> ResultRecord:
    spec = job.spec
    loss = abs(spec.recipe.training.learning_rate - 0.01) + (shift if spec.stage == "trial" else 0.0)
    measures: dict[str, Any] = {"loss_reduction": {"r": 0.1}, "adapted_loss": {"r": loss}}
    line = {**trial_record(spec), "status": "done", "measures": measures, "curve": [[0, 1.0], [4, 0.5]]}
    line |= {"factors": trial_factors(spec, 10**6, 10**4), "settings_hash": settings_hash(spec, spec.corpus)}
    measures["log_seconds"] = {"run": shift}
    return line | {"cost": {"seconds": 1.0}, "run": job.run_name}


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    corpus = SimpleNamespace(held_out=[], folder=tmp_path)
    monkeypatch.setattr(study_corpora, "build_corpus", lambda *_, **__: corpus)
    file = tmp_path / "study.yaml"
    file.write_text(STUDY, encoding="utf-8")
    run_study(file, tmp_path / "study", execute=executor([], 0.0))
    return file


def executor(ran: list[str], shift: float) -> TrialExecutor:
    def execute(jobs: Sequence[TrialJob], progress: Progress) -> Iterator[ResultRecord]:
        for job in jobs:
            ran.append(job.spec.id)
            yield made_up(job, shift)

    return execute


@pytest.mark.parametrize(("shift", "equal"), [(0.0, 3), (0.25, 0)])
def test_repeat_trials_runs_those_drawn_and_compares_their_measures(
    study: Path, tmp_path: Path, shift: float, equal: int
) -> None:
    ran: list[str] = []
    out = tmp_path / "again"
    found = repeat_trials(study, tmp_path / "study", out, count=3, execute=executor(ran, shift))
    assert sorted(ran) == sorted(row["id"] for row in found["trials"])
    assert len(set(ran)) == 3
    assert found["equal"] == equal
    assert found["largest_by_measure"] == {"adapted_loss": shift, "curve": 0.0, "loss_reduction": 0.0}
    repeat_trials(study, tmp_path / "study", out, count=3, execute=executor(ran, shift))
    assert len(ran) == 3


def test_repeat_trials_of_more_than_are_finished_is_refused(study: Path, tmp_path: Path) -> None:
    log = ResultsLog(tmp_path / "study")
    log.add({**next(iter(log.lines.values())), "id": "of an earlier study file"})
    with pytest.raises(TalimError, match="8 trials are finished, 9"):
        repeat_trials(study, tmp_path / "study", tmp_path / "again", count=9)


def test_repeat_trials_here_draws_of_those_on_this_processor(study: Path, tmp_path: Path) -> None:
    log = ResultsLog(tmp_path / "study")
    *here, _, _, _ = sorted(log.lines)
    for id_ in here:
        log.add({**log.lines[id_], "cost": {"seconds": 1.0, "processor": processor()}})
    found = repeat_trials(study, tmp_path / "study", tmp_path / "a", count=5, here=True, execute=executor([], 0.0))
    assert {row["id"] for row in found["trials"]} == {*here}
    with pytest.raises(TalimError, match="5 trials are finished, 6"):
        repeat_trials(study, tmp_path / "study", tmp_path / "b", count=6, here=True)
