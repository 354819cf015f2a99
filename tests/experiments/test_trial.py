"""One trial: what a process keeps between trials, interruption, what is left of a run, lines of results."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.fake_trials import QUICK, write_study

from talim import audio
from talim.atomic_io import read_json, write_json
from talim.backbones.musicgen.backbone import MusicGen
from talim.backbones.precision import processor
from talim.corpus.manifest import Corpus
from talim.corpus.prepare import prepare
from talim.evaluation.loss_by_event import frame_losses
from talim.experiments import trial
from talim.experiments.results import TrialResult
from talim.experiments.runner import list_trials
from talim.experiments.trial import TrialJob, TrialWorkerCache, delete_artifacts, failed_trial_record
from talim.interrupts import RESUME_PREFIX, Interrupted
from talim.progress import Progress
from talim.run import Run
from talim.training.batches import encode_clips


def test_train_and_evaluate_trains_a_run_once_and_measures_its_memory(
    quick_recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[Any] = []
    monkeypatch.setattr("talim.training.train.train", lambda *arguments: trained.append(arguments))
    monkeypatch.setattr(trial, "MemoryGrowth", lambda _: _Measured())
    recipe, run = quick_recipe(), Run(tmp_path / "run")
    run.folder.mkdir()
    result = trial.train_and_evaluate(recipe, run, lambda: "scores", Progress(), backbone=object())  # type: ignore[arg-type]
    assert result == "scores"
    assert trained == [(recipe, run.folder, trained[0][2], "auto", trained[0][4], None)]
    assert read_json(run.folder / trial.MEMORY_FILE) == {"peak_memory_bytes": 123}
    (run.folder / trial.MEMORY_FILE).unlink()
    monkeypatch.setattr(Run, "finished", property(lambda _: True))
    trial.train_and_evaluate(recipe, run, lambda: "scores", Progress(), backbone=object())  # type: ignore[arg-type]
    assert not (run.folder / trial.MEMORY_FILE).exists()  # a finished run is not trained, so nothing was measured


class _Measured:
    peak_bytes = 123

    def __enter__(self) -> _Measured:
        return self

    def __exit__(self, *_: object) -> None: ...


def test_interrupted_trial_is_resumed_by_the_command_around_it(
    quick_recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> None:
        raise Interrupted.saved("step 3 of 9", "talim train --out RUN")

    monkeypatch.setattr("talim.training.train.train", stop)
    with pytest.raises(Interrupted) as caught:
        trial.train_and_evaluate(quick_recipe(), Run(tmp_path / "run"), lambda: None, Progress())
    assert str(caught.value) == f"step 3 of 9; a checkpoint is saved. {RESUME_PREFIX}run the same command again"


def test_delete_artifacts_leaves_what_a_report_needs(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    for folder in (run.adapter, run.samples, run.metrics_cache):
        folder.mkdir(parents=True)
        (folder / "large.bin").write_bytes(b"x")
    for file in (run.scores, run.cost, run.facts_file):
        file.write_text("{}", encoding="utf-8")
    delete_artifacts(run)
    delete_artifacts(run)  # again: nothing is there
    assert {path.name for path in run.folder.iterdir()} == {run.scores.name, run.cost.name, run.facts_file.name}


@pytest.mark.parametrize(
    ("error", "told"), [("out of\n  memory \t", "out of memory"), ("", "no error message"), (" \n", "no error message")]
)
def test_failed_trial_record_is_one_line_that_names_the_trial(jobs: list[TrialJob], error: str, told: str) -> None:
    spec = jobs[0].spec
    record = failed_trial_record(spec, error)
    assert (record["id"], record["design"], record["status"]) == (spec.id, "linear@post:300", "failed")
    assert record["error"] == told


@pytest.mark.parametrize("design", ["linear@post:300", "lora@all:r2", "full@post"])
def test_curve_starts_at_the_loss_of_the_base(
    tmp_path: Path, tiny_base: Path, corpus_folder: Path, design: str
) -> None:
    """On the validation clips: the untrained adapter changes nothing."""
    overrides = {**QUICK, "training.eval_every": 1, "training.eval_clips": 1000}
    grids = {"a": {"bases": [str(tiny_base)], "designs": [design]}}
    file = write_study(tmp_path / "study.yaml", corpus_folder, tiny_base, grids=grids, overrides=overrides)
    ((spec, _, base),) = list_trials(file, tmp_path)
    cache = TrialWorkerCache()
    result = TrialResult.model_validate(trial.run_trial(TrialJob(spec, tmp_path, corpus_folder, base), cache))
    assert [step for step, _ in result.curve] == [0, 1, 2, 3]
    backbone, corpus = cache.base(spec.recipe, "auto"), Corpus.load(corpus_folder)
    clips = encode_clips(corpus, corpus.validation, backbone, Progress())
    losses = frame_losses(backbone, clips, 2, Progress(), "")
    assert result.curve[0][1] == pytest.approx(np.mean([rows.mean() for rows in losses]), rel=1e-5)


def test_run_trial_resumes_and_its_line_holds_what_the_run_says(jobs: list[TrialJob]) -> None:
    cache = TrialWorkerCache()
    line = trial.run_trial(jobs[0], cache)
    cost = read_json(jobs[0].run.cost)
    assert (line["status"], line["run"], line["parameters"]) == (
        "done",
        f"runs/{jobs[0].spec.id}",
        cost["trainable_parameters"],
    )
    assert line["cost"]["steps"] == 3
    assert line["cost"]["processor"] == processor()
    assert line["precision"] == cost["precision"].partition(":")[0].partition(",")[0]
    assert line["cost"]["adapter_bytes"] == (jobs[0].run.adapter / "adapter_model.safetensors").stat().st_size
    assert line["measures"]["loss_reduction"].keys() == line["measures"]["base_loss"].keys()
    assert line["directions"]["adapted_loss"] == "lower_is_better"
    for name in ("uniform_loss", "unigram_loss", "last_token_loss"):
        assert line["measures"][name].keys() == line["measures"]["base_loss"].keys()
        assert line["directions"][name] == "lower_is_better"
    assert list(line["measures"]["uniform_loss"].values()) == pytest.approx([np.log(64)] * len(line["measures"][name]))
    assert [step for step, _ in line["curve"]] == [0, 3]
    again = trial.run_trial(jobs[0], cache)  # the run is finished: measured, not trained
    assert {**again, "cost": None} == {**line, "cost": None}


def asks_for(job: TrialJob, precision: Any) -> TrialJob:
    recipe = job.spec.recipe
    training = recipe.training.model_copy(update={"precision": precision})
    return replace(job, spec=replace(job.spec, recipe=recipe.model_copy(update={"training": training})))


@pytest.mark.parametrize(("asked", "of_job", "used"), [("auto", "bf16", "bf16"), ("fp32", "bf16", "fp32")])
def test_run_trial_trains_in_the_precision_of_its_job_where_the_recipe_leaves_it_open(
    jobs: list[TrialJob], asked: Any, of_job: str, used: str
) -> None:
    line = trial.run_trial(replace(asks_for(jobs[0], asked), precision=of_job), TrialWorkerCache())
    assert (line["precision"], jobs[0].run.recipe.training.precision) == (used, asked)


def test_run_trial_resumes_though_its_study_has_a_precision_by_now(
    jobs: list[TrialJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = asks_for(jobs[0], "auto")

    def interrupt(*_: Any) -> None:
        raise Interrupted("stopped")

    with monkeypatch.context() as patch:  # trained, and stopped before it is measured
        patch.setattr(trial, "_measure", interrupt)
        with pytest.raises(Interrupted):
            trial.run_trial(job, TrialWorkerCache())
    assert job.run.finished
    used, trained = TrialWorkerCache().base(job.spec.recipe.model_copy(update={"base": job.base}), "auto"), job.run.cost
    precision, before = trial.PRECISIONS[used.dtype], trained.stat().st_mtime_ns
    assert trial.run_trial(replace(job, precision=precision), TrialWorkerCache())["status"] == "done"
    assert trained.stat().st_mtime_ns == before


def test_run_trial_trains_anew_what_was_trained_in_another_precision(jobs: list[TrialJob]) -> None:
    job = asks_for(jobs[0], "auto")
    for precision in ("fp32", "bf16", "fp32"):
        line = trial.run_trial(replace(job, precision=precision), TrialWorkerCache())
        assert line["precision"] == precision
        assert read_json(job.run.facts_file)["base"]["precision"].startswith(precision)


@pytest.fixture
def played_jobs(tmp_path: Path, tiny_base: Path, corpus_folder: Path, recordings: Path) -> list[TrialJob]:
    """Trials that generate audio: two designs, each on two corpora in turn, with rates of their own."""
    prepare(recordings, tmp_path / "other", clip_seconds=2.0, sample_rate=16000, held_out_fraction=0.34, seed=2)
    folders = {"one": corpus_folder, "two": tmp_path / "other"}
    found = []
    for design, rate in (("linear@all:5%", 0.01), ("full@post", 0.001)):
        study = {
            "corpora": {name: {"corpus": str(folder)} for name, folder in folders.items()},
            "grids": {"a": {"bases": [str(tiny_base)], "designs": [design]}},
            "overrides": {**QUICK, "training.learning_rate": rate},
            "generation": {"clips": 2, "seconds": 1.0},
        }
        file = write_study(tmp_path / "study.yaml", corpus_folder, tiny_base, **study)
        found += [TrialJob(spec, tmp_path, folders[spec.corpus], base) for spec, _, base in list_trials(file, tmp_path)]
    return found


@pytest.mark.slow
def test_trials_share_measures_by_study_and_what_the_base_makes_by_corpus(
    played_jobs: list[TrialJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[dict[str, Any]] = []

    def evaluate(folder: Path, progress: Progress, **options: Any) -> None:
        given.append(options)
        write_json(folder / "scores.json", {"prompts": [], "scores": [], "protocol": {"hash": "p"}})

    monkeypatch.setattr("talim.evaluation.evaluate.evaluate", evaluate)
    cache = TrialWorkerCache()
    for job in played_jobs:
        trial.run_trial(job, cache)
    assert {options["metrics_cache"] for options in given} == {played_jobs[0].folder / trial.METRICS_CACHE}
    kept = [options["base_results"] for options in given]  # on two corpora in turn
    assert kept[0] is kept[2]
    assert kept[1] is kept[3]
    assert kept[0] is not kept[1]


@pytest.mark.slow
def test_trials_that_share_what_the_base_makes_score_as_each_alone(
    played_jobs: list[TrialJob], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, in one process with corpora in turn; the base's clips are made once a corpus."""
    made: list[str] = []
    make = MusicGen.generate_each
    monkeypatch.setattr(MusicGen, "generate_each", lambda *a, **n: (made.append(""), make(*a, **n))[1])
    cache = TrialWorkerCache()
    together = [trial.run_trial(job, cache) for job in played_jobs]
    assert len(made) == 4 + 2  # with each adapter, and without on each corpus
    assert not any(job.run.metrics_cache.exists() for job in played_jobs)
    for job, line in zip(played_jobs, together, strict=True):
        alone = replace(job, folder=tmp_path / f"alone-{job.spec.id}")
        fresh = trial.run_trial(alone, TrialWorkerCache())
        assert {**fresh, "cost": 0, "measures": measures_but_costs(fresh)} == {
            **line,
            "cost": 0,
            "measures": measures_but_costs(line),
        }
        assert any(name.startswith("score.") for name in line["measures"])
        told, wanted = (read_json(each.run.scores) for each in (job, alone))
        # of a run alone: its folder and the time
        for name in wanted.keys() - {"provenance", "command", "copies"}:
            assert told[name] == wanted[name], name
        samples = [sorted(each.run.samples.glob("*.flac")) for each in (job, alone)]
        assert len(samples[0]) == 6
        for one, other in zip(*samples, strict=True):
            assert np.array_equal(audio.read(one).samples, audio.read(other).samples), one.name


def measures_but_costs(line: dict[str, Any]) -> dict[str, Any]:
    """Measures that do not depend on how long something took."""
    return {name: values for name, values in line["measures"].items() if not name.startswith("log_")}
