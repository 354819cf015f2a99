"""Preliminary trials are measured on validation clips: the test side is not even encoded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fixtures.fake_trials import QUICK, write_study

from talim.corpus.manifest import Corpus
from talim.errors import TalimError
from talim.experiments import study_file, trial
from talim.experiments.preliminary_rules import RATE
from talim.experiments.trial import TrialJob, TrialWorkerCache
from talim.training import batches


@pytest.fixture
def job(tmp_path: Path, tiny_base: Path, corpus_folder: Path) -> TrialJob:
    file = write_study(tmp_path / "study.yaml", corpus_folder, tiny_base, overrides=QUICK)
    study = study_file.load(file)
    design = study_file.expand(study)[0].design
    spec = study_file.preliminary_trial(study, "tuning", str(tiny_base), 100, "takes", design, {RATE: 0.02})
    return TrialJob(spec, tmp_path, corpus_folder, str(tiny_base))


def test_tuning_trial_reads_no_clip_of_the_test_side(job: TrialJob, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus, encoded = Corpus.load(job.corpus), set()
    encode = batches._targets

    def record(cache: Any, corpus: Any, clip: Any, backbone: Any) -> Any:
        encoded.add(clip.id)
        return encode(cache, corpus, clip, backbone)

    monkeypatch.setattr(batches, "_targets", record)
    line = trial.run_trial(job, TrialWorkerCache())
    assert encoded == {clip.id for clip in (*corpus.train, *corpus.validation)}
    assert not encoded & {clip.id for clip in corpus.held_out}
    assert set(line["measures"]["adapted_loss"]) == {clip.sound_group for clip in corpus.validation}
    assert {"base_loss", "adapted_loss", "loss_reduction"} <= set(line["measures"])
    for name, value in line["measures"]["loss_reduction"].items():
        assert value == pytest.approx(line["measures"]["base_loss"][name] - line["measures"]["adapted_loss"][name])
    assert line["tuned"] == {RATE: 0.02}
    assert line["run"] == f"tuning/{job.spec.id}"
    assert (job.folder / line["run"]).is_dir()


def test_tuning_trial_on_a_corpus_without_validation_raises(job: TrialJob, monkeypatch: pytest.MonkeyPatch) -> None:
    load = Corpus.load

    def without_validation(folder: Path) -> Corpus:
        corpus = load(folder)
        return replace(corpus, clips=[clip for clip in corpus.clips if clip not in corpus.validation])

    monkeypatch.setattr(Corpus, "load", staticmethod(without_validation))
    with pytest.raises(TalimError, match="no validation recordings, on which settings are chosen"):
        trial.run_trial(job, TrialWorkerCache())
