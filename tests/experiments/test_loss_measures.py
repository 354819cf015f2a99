"""A trial's losses by recording and by musical event."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fixtures.fake_trials import QUICK, write_study

from talim.experiments import study_corpora
from talim.experiments.loss_measures import event_measures
from talim.experiments.runner import list_trials
from talim.experiments.trial import TrialJob, TrialWorkerCache, run_trial
from talim.progress import Progress


class LoggedProgress(Progress):
    """Keeps what is told."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def log(self, text: str) -> None:
        self.lines.append(text)


def test_event_measures_are_reductions_by_recording() -> None:
    def loss(base: float, adapted: float) -> dict[str, float]:
        return {"base_loss": base, "adapted_loss": adapted}

    events = {
        "a": {"first": loss(5.0, 4.0), "repeat": loss(5.0, 2.5), "plain": loss(3.0, 3.5)},
        "b": {"repeat": loss(4.0, 3.0)},
    }
    assert event_measures(events) == {
        "loss_reduction_plain": {"a": -0.5},
        "loss_reduction_first": {"a": 1.0},
        "loss_reduction_repeat": {"a": 2.5, "b": 1.0},
    }


@pytest.fixture
def synthetic_jobs(tmp_path: Path, tiny_base: Path) -> Any:
    """Makes the job of a trial on a synthetic corpus with some length of pieces and of training crops."""

    def make(seconds: float, crop_seconds: float) -> TrialJob:
        synthesize = {"tradition": "makam", "ensemble_size": 1, "count": 4, "seconds": seconds}
        spec = {"synthesize": synthesize, "clip_seconds": seconds, "rate_hz": 16000, "held_out_fraction": 0.5}
        file = write_study(
            tmp_path / "study.yaml", tmp_path, tiny_base,
            corpora={"makam": spec}, overrides={**QUICK, "training.crop_seconds": crop_seconds},
            grids={"a": {"bases": [str(tiny_base)], "designs": ["linear@post:300"]}},
        )  # fmt: skip
        ((trial, _, base),) = list_trials(file, tmp_path)
        study_corpora.build_corpus(trial.corpus_spec, "makam", tmp_path, tmp_path, Progress())
        return TrialJob(trial, tmp_path, tmp_path / "corpora" / "makam" / "corpus", base)

    return make


@pytest.mark.slow
def test_a_trial_on_a_synthetic_corpus_measures_ornaments_and_returns(synthetic_jobs: Any) -> None:
    told = LoggedProgress()
    line = run_trial(synthetic_jobs(20.0, 20.0), TrialWorkerCache(), told)
    measures = line["measures"]
    assert measures["ornament_gain"].keys() == measures["loss_reduction"].keys()
    assert measures["repeat_gain"].keys() == measures["repeat_gain_control"].keys()
    assert 0 < len(measures["repeat_gain"]) <= len(measures["loss_reduction"])
    for gains in (measures["ornament_gain"], measures["repeat_gain"]):
        assert all(0 < abs(gain) < 1 for gain in gains.values())  # three steps of training
    assert line["directions"]["ornament_gain"] == line["directions"]["repeat_gain"] == "higher_is_better"
    assert "notes" not in line
    assert not any("repeat_gain" in text for text in told.lines)


@pytest.mark.slow
def test_short_training_crops_have_no_gain_on_returns_and_it_is_said(synthetic_jobs: Any) -> None:
    told = LoggedProgress()
    line = run_trial(synthetic_jobs(20.0, 1.0), TrialWorkerCache(), told)
    assert "repeat_gain" not in line["measures"]
    assert line["measures"]["ornament_gain"]
    assert "training.crop_seconds must be 20 or more" in line["notes"]["repeat_gain"]
    assert any(text == f"note: repeat_gain: {line['notes']['repeat_gain']}" for text in told.lines)
