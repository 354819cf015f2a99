"""Running studies: missing trials run, failures are recorded, kills and worker processes change no result."""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.fake_trials import QUICK, fake_executor, fake_trial, write_study

from talim.atomic_io import read_json, read_jsonl
from talim.corpus.manifest import Corpus
from talim.errors import TalimError, UsageError
from talim.experiments.local_executor import ProcessExecutor
from talim.experiments.results import read_study
from talim.experiments.runner import executor_for, list_trials, run_study
from talim.experiments.trial import METRICS_CACHE, TrialJob, TrialWorkerCache
from talim.progress import Progress
from talim.reporting import run_results
from talim.run import Run

MANY = {"a": {"kinds": ["linear", "conv"], "sites": ["all", "post"], "size_percent": [1, 2, 3], "seeds": [0, 1, 2]}}


def lines_of(out: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in read_jsonl(out / "results.jsonl")}


@pytest.fixture(scope="module")
def finished_study(
    tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, corpus_folder: Path
) -> tuple[Path, Path, dict]:
    """A study that ran undisturbed: its file, its folder, what `run_study` returned."""
    folder = tmp_path_factory.mktemp("study")
    grids = {"a": {"bases": [str(tiny_base)], "designs": ["linear@all:5%", "conv@layers[7]:500", "conv@post:500"]}}
    file = write_study(folder / "study.yaml", corpus_folder, tiny_base, grids=grids)
    return file, folder / "out", run_study(file, folder / "out")


def test_run_study_writes_a_line_for_every_trial(finished_study: tuple[Path, Path, dict], corpus_folder: Path) -> None:
    _, out, summary = finished_study
    assert (summary["trials"], summary["done"], len(summary["failed"])) == (3, 2, 1)
    lines = lines_of(out)
    done = [line for line in lines.values() if line["status"] == "done"]
    assert {line["design"] for line in done} == {"linear@all:5%", "conv@post:500"}
    for line in done:
        reductions, base, adapted = (line["measures"][name] for name in ("loss_reduction", "base_loss", "adapted_loss"))
        assert len(reductions) == 2
        for name, reduction in reductions.items():
            assert reduction == pytest.approx(base[name] - adapted[name], abs=1e-5)
        assert line["directions"]["loss_reduction"] == "higher_is_better"
        assert line["measures"]["log_seconds"]["run"] == pytest.approx(np.log(line["cost"]["cpu_seconds"]))
        assert line["cost"]["steps"] == 3
        assert line["cost"]["adapter_bytes"] > 4 * line["parameters"]
        assert line["factors"]["genre"] == "takes"
    assert len({line["settings_hash"] for line in done}) == 1
    assert done[0]["measures"]["base_loss"] == done[1]["measures"]["base_loss"]


def test_run_study_failed_trial_is_recorded_and_the_rest_run(finished_study: tuple[Path, Path, dict]) -> None:
    _, out, summary = finished_study
    (broken,) = summary["failed"]
    assert broken["design"] == "conv@layers[7]:500"
    assert "layers" in broken["error"]
    assert "\n" not in broken["error"]
    assert list(lines_of(out)).index(broken["id"]) == 1  # the third one ran after it


def test_run_study_trial_folder_is_a_run(finished_study: tuple[Path, Path, dict]) -> None:
    _, out, _ = finished_study
    line = next(line for line in lines_of(out).values() if line["status"] == "done")
    run = Run(out / line["run"])
    assert run.finished
    assert run_results.read_result(run.folder).recipe["design"] == line["design"]
    assert set(run_results.find_runs(out)) >= {run.folder}


def test_run_study_again_runs_failed_trials_on_request_only(finished_study: tuple[Path, Path, dict]) -> None:
    file, out, summary = finished_study
    requested: list[str] = []

    def record(jobs: Any, progress: Progress) -> Any:
        requested.extend(str(job.spec.design) for job in jobs)
        return iter(())

    assert run_study(file, out, execute=record) == summary
    assert requested == []
    run_study(file, out, retry_failed=True, execute=record)
    assert requested == ["conv@layers[7]:500"]
    assert [status for _, status, _ in list_trials(file, out)] == ["done", "failed", "done"]


def test_run_study_goes_on_in_the_precision_of_its_trials(
    tmp_path: Path, tiny_base: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grids = {"a": {"bases": [str(tiny_base)], "designs": ["linear@all:5%", "conv@post:500"], "seeds": [0, 1]}}
    overrides = {name: value for name, value in QUICK.items() if name != "training.precision"}
    file = write_study(tmp_path / "study.yaml", corpus_folder, tiny_base, grids=grids, overrides=overrides)
    jobs: list[TrialJob] = []
    told: list[str] = []

    def first(given: Sequence[TrialJob], progress: Progress) -> Iterator[dict[str, Any]]:
        jobs.extend(given)
        yield {**fake_trial(given[0], TrialWorkerCache(), progress), "precision": "bf16"}

    progress = Progress()
    monkeypatch.setattr(progress, "log", told.append)
    run_study(file, tmp_path / "out", progress, execute=first)
    assert [job.precision for job in jobs] == ["auto"] * 4
    assert not [line for line in told if line.startswith("training in")]
    run_study(file, tmp_path / "out", progress, execute=first)
    assert [job.precision for job in jobs[4:]] == ["bf16"] * 3
    assert [line for line in told if line.startswith("training in")] == [
        f"training in bf16, as in the trials that {tmp_path / 'out'} has"
    ]


def test_run_study_runs_trials_again_that_are_in_another_precision_than_most(
    tmp_path: Path, tiny_base: Path, corpus_folder: Path
) -> None:
    grids = {"a": {"bases": [str(tiny_base)], "designs": ["linear@all:5%"], "seeds": [0, 1, 2, 3]}}
    overrides = {name: value for name, value in QUICK.items() if name != "training.precision"}
    file = write_study(tmp_path / "study.yaml", corpus_folder, tiny_base, grids=grids, overrides=overrides)
    formats = iter(["fp32", "bf16", "fp32", None, "fp32"])
    ran: list[TrialJob] = []

    def execute(given: Sequence[TrialJob], progress: Progress) -> Iterator[dict[str, Any]]:
        for job in given:
            ran.append(job)
            known = {"precision": each} if (each := next(formats)) else {}
            yield fake_trial(job, TrialWorkerCache(), progress) | known

    run_study(file, tmp_path / "out", execute=execute)
    run_study(file, tmp_path / "out", execute=execute)
    assert [job.spec.recipe.seed for job in ran] == [0, 1, 2, 3, 1]  # what does not say its precision counts
    assert ran[-1].precision == "fp32"
    run_study(file, tmp_path / "out", execute=execute)
    assert len(ran) == 5


def test_run_study_has_the_precision_of_its_tuning_before_any_trial_is_finished(
    tmp_path: Path, tiny_base: Path, corpus_folder: Path
) -> None:
    overrides = {name: value for name, value in QUICK.items() if name != "training.precision"}
    more: dict[str, Any] = {"overrides": overrides, "tune": {"learning_rate": [0.001, 0.01, 0.1], "seeds": [9]}}
    file = write_study(tmp_path / "study.yaml", corpus_folder, tiny_base, **more)
    of_trials: list[str] = []

    def execute(given: Sequence[TrialJob], progress: Progress) -> Iterator[dict[str, Any]]:
        for job in given:
            if job.spec.stage == "tuning":
                yield fake_trial(job, TrialWorkerCache(), progress) | {"precision": "bf16"}
            else:
                of_trials.append(job.precision)

    run_study(file, tmp_path / "out", execute=execute)
    assert {*of_trials} == {"auto"}  # this machine tuned, too
    of_trials.clear()
    run_study(file, tmp_path / "out", execute=execute)
    assert {*of_trials} == {"bf16"}


@pytest.mark.slow
def test_run_study_later_trial_of_a_process_equals_a_fresh_one(
    tmp_path: Path, tiny_base: Path, corpus_folder: Path
) -> None:
    """Bit for bit, whatever was in the base before."""

    def run(name: str, designs: list[str]) -> Path:
        grids = {"a": {"bases": [str(tiny_base)], "designs": designs}}
        file = write_study(tmp_path / f"{name}.yaml", corpus_folder, tiny_base, grids=grids)
        summary = run_study(file, tmp_path / name)
        assert summary["failed"] == []
        return tmp_path / name

    last = "conv@all:800"
    alone = run("alone", [last])
    after = run("after", ["full@post", "lora@all:r2", "linear@conditioner:300", last])
    (wanted,) = lines_of(alone).values()
    found = lines_of(after)[wanted["id"]]
    for name in ("base_loss", "adapted_loss", "loss_reduction"):
        assert found["measures"][name] == wanted["measures"][name]
    file = "adapter/adapter_model.safetensors"
    assert (after / found["run"] / file).read_bytes() == (alone / wanted["run"] / file).read_bytes()


@pytest.mark.parametrize(("num_workers", "expected"), [(0, ["0", "1"]), (2, ["0", "1"]), (3, ["0", "1", "0"])])
def test_executor_for_a_machine_with_two_gpus_has_as_many_workers_as_asked_for(
    monkeypatch: pytest.MonkeyPatch, num_workers: int, expected: list[str]
) -> None:
    monkeypatch.setattr("talim.experiments.local_executor.visible_gpus", lambda: ["0", "1"])
    executor = executor_for(num_workers, None, "auto", Path(), Progress())
    assert isinstance(executor, ProcessExecutor)
    assert executor.gpus == expected


def test_run_study_retain_results_deletes_adapters(tmp_path: Path, tiny_base: Path, corpus_folder: Path) -> None:
    grids = {"a": {"bases": [str(tiny_base)], "designs": ["linear@post:300"]}}
    file = write_study(tmp_path / "s.yaml", corpus_folder, tiny_base, grids=grids, retain="results")
    summary = run_study(file, tmp_path / "out")
    (line,) = lines_of(tmp_path / "out").values()
    run = Run(tmp_path / "out" / line["run"])
    assert summary["done"] == 1
    assert not run.adapter.exists()
    assert read_json(run.cost)["steps"] == 3
    assert run_study(file, tmp_path / "out", execute=lambda jobs, _: pytest.fail("run again") if jobs else iter(()))


def test_run_study_retain_results_deletes_shared_measures_when_all_trials_are_done(
    tmp_path: Path, tiny_base: Path, corpus_folder: Path
) -> None:
    shared, seen = tmp_path / "out" / METRICS_CACHE, []

    def execute(jobs: Sequence[TrialJob], progress: Progress) -> Iterator[dict[str, Any]]:
        for line in fake_executor(jobs, progress):
            seen.append(shared.exists())  # after the artifacts of the trial before
            shared.mkdir(parents=True, exist_ok=True)
            (shared / "a.npy").write_bytes(b"x")
            yield line

    file = write_study(tmp_path / "s.yaml", corpus_folder, tiny_base, retain="results")
    assert run_study(file, tmp_path / "out", execute=execute)["done"] == len(seen) == 4
    assert seen == [False, True, True, True]
    assert not shared.exists()
    run_study(write_study(file, corpus_folder, tiny_base), tmp_path / "kept", execute=fake_executor)
    (tmp_path / "kept" / METRICS_CACHE).mkdir()
    run_study(file, tmp_path / "kept", execute=fake_executor)
    assert (tmp_path / "kept" / METRICS_CACHE).exists()


def endless_executor(jobs: Sequence[TrialJob], progress: Progress) -> Iterator[dict[str, Any]]:
    """`fake_executor` that never returns, so that a kill never comes too late."""
    yield from fake_executor(jobs, progress)
    threading.Event().wait()


def run_endlessly(file: Path, out: Path) -> None:
    run_study(file, out, execute=endless_executor)


def test_run_study_killed_at_random_times_has_the_same_results(
    tmp_path: Path, tiny_base: Path, corpus_folder: Path
) -> None:
    grids = {"a": {"bases": [str(tiny_base)], **MANY["a"]}}
    file = write_study(tmp_path / "s.yaml", corpus_folder, tiny_base, grids=grids)
    run_study(file, tmp_path / "undisturbed", execute=fake_executor)
    rng, fork = np.random.default_rng(0), multiprocessing.get_context("fork")
    for _ in range(10):
        process = fork.Process(target=run_endlessly, args=(file, tmp_path / "killed"))
        process.start()
        time.sleep(float(rng.uniform(0.01, 0.2)))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    run_study(file, tmp_path / "killed", execute=fake_executor)
    assert lines_of(tmp_path / "killed") == lines_of(tmp_path / "undisturbed")


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_process_executor_dead_worker_fails_its_trial_alone(
    tmp_path: Path, tiny_base: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch, start: str
) -> None:
    """With workers that are started as they are by a study, and with some that need not load torch first."""
    designs = ["linear@all:1%", "ia3@all", "lora@all:r2", "conv@all:1%", "conv@all:2%", "conv@all:3%"]
    grids = {"a": {"bases": [str(tiny_base)], "designs": designs}}
    file = write_study(tmp_path / "s.yaml", corpus_folder, tiny_base, grids=grids)
    executor = ProcessExecutor(2, fake_trial)
    monkeypatch.setattr(executor, "_context", multiprocessing.get_context(start))
    summary = run_study(file, tmp_path / "out", execute=executor)
    assert summary["done"] == 4
    errors = {line["design"]: line["error"] for line in summary["failed"]}
    assert errors["lora@all:r2"] == "lora fails in this test"
    assert "killed by signal 9" in errors["ia3@all"]


def test_run_study_locked_folder_raises(tmp_path: Path, tiny_base: Path, corpus_folder: Path) -> None:
    file = write_study(tmp_path / "s.yaml", corpus_folder, tiny_base)
    with Run(tmp_path / "out").lock(), pytest.raises(TalimError, match="another talim process"):
        run_study(file, tmp_path / "out", execute=fake_executor)


def test_run_study_changed_recordings_raise(tmp_path: Path, tiny_base: Path, make_recordings: Any) -> None:
    make_recordings(tmp_path / "takes", 6, 3.0)
    source = {"takes": {"recordings": "takes", "clip_seconds": 2.0, "rate_hz": 16000}}
    file = write_study(tmp_path / "s.yaml", tmp_path, tiny_base, corpora=source)
    assert run_study(file, tmp_path / "out", execute=fake_executor)["done"] == 4
    make_recordings(tmp_path / "takes", 8, 3.0)
    more = {"a": {"bases": [str(tiny_base)], "designs": ["linear@all:9%"]}}
    write_study(file, tmp_path, tiny_base, corpora=source, grids=more)
    with pytest.raises(TalimError, match="have changed since this study began"):
        run_study(file, tmp_path / "out", execute=fake_executor)


def test_run_study_synthetic_corpus_has_losses_by_event(tmp_path: Path, tiny_base: Path) -> None:
    synthetic = {"synthesize": {"tradition": "makam", "ensemble_size": 1, "count": 4, "seconds": 6}, "rate_hz": 16000}
    grids = {"a": {"bases": [str(tiny_base)], "designs": ["linear@post:300"]}}
    file = write_study(tmp_path / "s.yaml", tmp_path, tiny_base, corpora={"sung": synthetic}, grids=grids)
    summary = run_study(file, tmp_path / "out")
    assert summary["failed"] == []
    (line,) = lines_of(tmp_path / "out").values()
    assert {"loss_reduction_ornaments", "loss_reduction_plain"} <= set(line["measures"])
    assert set(line["measures"]["loss_reduction_plain"]) <= set(line["measures"]["loss_reduction"])
    assert (line["factors"]["genre"], line["factors"]["texture"]) == ("makam", "solo")


def test_run_study_invalid_file_raises(tmp_path: Path) -> None:
    with pytest.raises(TalimError, match="no such file"):
        run_study(tmp_path / "none.yaml", tmp_path / "out")
    (tmp_path / "list.yaml").write_text("- a\n", encoding="utf-8")
    with pytest.raises(UsageError, match="expected `key: value` lines"):
        run_study(tmp_path / "list.yaml", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def planted_study(tmp_path: Path, tiny_base: Path) -> Path:
    """A study file: a trial, the same on half of its steps, and trained on pieces performed without ornaments."""
    synthesized = {"tradition": "makam", "ensemble_size": 1, "count": 4, "seconds": 4.0}
    corpora = {
        "sung": {"synthesize": synthesized, "clip_seconds": 2.0, "rate_hz": 16000},
        "plain": {"synthesize": {**synthesized, "ornaments": False}, "clip_seconds": 2.0, "rate_hz": 16000},
    }
    own = {"bases": [str(tiny_base)], "designs": ["linear@all:5%"]}
    grids = {
        "plain": {**own, "control": "planted"},
        "main": own,
        "half": {**own, "control": "planted", "steps_fraction": 0.5},
    }
    return write_study(tmp_path / "study.yaml", tmp_path, tiny_base, grids=grids, corpora=corpora)


@pytest.mark.slow
def test_run_study_measures_planted_trials_on_the_clips_of_their_likes(tmp_path: Path, tiny_base: Path) -> None:
    run_study(planted_study(tmp_path, tiny_base), tmp_path / "out")
    by_grid = {line["grid"]: line for line in lines_of(tmp_path / "out").values()}
    assert {line["status"] for line in by_grid.values()} == {"done"}
    main = by_grid["main"]["measures"]
    for name in ("plain", "half"):
        assert by_grid[name]["measures"]["base_loss"] == main["base_loss"]
        assert by_grid[name]["measures"]["unigram_loss"] == main["unigram_loss"]
        assert by_grid[name]["measures"]["adapted_loss"] != main["adapted_loss"]
    assert by_grid["half"]["cost"]["steps"] == 2
    study = read_study(tmp_path / "out")
    assert ([len(table.trials) for table in study.tables], len(study.controls)) == ([1], 2)


def test_run_study_trains_planted_trials_on_another_corpus_with_the_same_recordings_held_out(
    tmp_path: Path, tiny_base: Path
) -> None:
    file = planted_study(tmp_path, tiny_base)
    jobs: list[TrialJob] = []

    def execute(found: Sequence[TrialJob], progress: Progress) -> Iterator[dict[str, Any]]:
        jobs.extend(found)
        yield from fake_executor(found, progress)

    run_study(file, tmp_path / "out", execute=execute)
    main, half, plain = jobs
    assert [job.spec.control for job in jobs] == ["", "planted", "planted"]
    assert plain.corpus == main.corpus == half.corpus
    assert plain.training_corpus is not None
    assert (plain.training_corpus.parent.name, half.training_corpus) == ("plain", None)
    measured, trained = Corpus.load(plain.corpus), Corpus.load(plain.training_corpus)
    assert {clip.recording for clip in measured.held_out} == {clip.recording for clip in trained.held_out}
    assert {clip.extra["seed"] for clip in measured.held_out} == {clip.extra["seed"] for clip in trained.held_out}
    line = lines_of(tmp_path / "out")[plain.spec.id]
    assert (line["control"], line["inserted"]) == ("planted", "trained without ornaments")
    assert (line["corpus"], line["trained_on"]) == ("sung", "plain")
    assert len({line["settings_hash"] for line in lines_of(tmp_path / "out").values()}) == 1
    run_study(file, tmp_path / "out", execute=execute)
    assert len(jobs) == 3
