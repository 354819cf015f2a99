"""Studies with `tune` and `plateau`: what runs in which order, what is stored where, kills and failures."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.fake_trials import QUICK, fake_executor, fake_trial, write_study
from fixtures.killed_studies import run_undisturbed_and_killed

from talim.atomic_io import read_jsonl
from talim.experiments.local_executor import ProcessExecutor
from talim.experiments.preliminary_rules import RATE
from talim.experiments.preliminary_trials import read_plateau
from talim.experiments.results import read_study
from talim.experiments.results_log import ResultsLog
from talim.experiments.runner import list_trials, run_study
from talim.experiments.trial import TrialJob, trial_record
from talim.experiments.tuning import read_tuning
from talim.progress import Progress

TUNE = {"learning_rate": [0.0003, 0.001, 0.003], "seeds": [100]}
GRIDS = {"a": {"designs": ["linear@all:5%", "conv@post:500", "conv@post:900"], "seeds": [0, 1]}}
WITHOUT_STEPS = {key: value for key, value in QUICK.items() if key not in ("training.steps", "training.eval_every")}


def tuned_study(folder: Path, corpus: Path, base: Path, **changes: Any) -> Path:
    grids = {"a": {**GRIDS["a"], "bases": [str(base)]}}
    return write_study(folder / "s.yaml", corpus, base, **{"grids": grids, "tune": TUNE, **changes})


def content(out: Path) -> dict[str, Any]:
    files = ("results.jsonl", "tuning.jsonl")
    lines = {name: {row["id"]: row for row in read_jsonl(out / name)} for name in files}
    return lines | {"tuning.json": (out / "tuning.json").read_bytes()}


def test_run_study_tunes_first_and_its_trials_take_what_was_chosen(
    tmp_path: Path, tiny_base: Path, corpus_folder: Path
) -> None:
    file = tuned_study(tmp_path, corpus_folder, tiny_base)
    order: list[tuple[str, float]] = []

    def execute(jobs: Sequence[TrialJob], progress: Progress) -> Iterator[dict[str, Any]]:
        order.extend((job.spec.stage, job.spec.recipe.training.learning_rate) for job in jobs)
        yield from fake_executor(jobs, progress)

    summary = run_study(file, tmp_path / "out", execute=execute)
    assert (summary["trials"], summary["done"], summary["failed"]) == (6, 6, [])
    assert [stage for stage, _ in order] == ["tuning"] * 8 + ["trial"] * 6
    linear, conv = read_tuning(tmp_path / "out")
    assert (linear.family, linear.rates, linear.chosen, linear.inside) == (
        "linear", [0.0003, 0.001, 0.003, 0.009, 0.027], {RATE: 0.009}, True,
    )  # fmt: skip
    assert (conv.designs, conv.chosen, conv.representative) == (
        ("conv@post:500", "conv@post:900"), {RATE: 0.001}, "conv@post:900",
    )  # fmt: skip
    results = read_study(tmp_path / "out")
    assert (len(results.tables), results.excluded) == (1, [])  # one table, although rates differ
    assert {trial.tuned[RATE] for trial in results.trials if trial.design.startswith("linear")} == {0.009}
    assert len(read_jsonl(tmp_path / "out" / "results.jsonl")) == 6
    assert f"tuned: linear in {tiny_base} on takes: {RATE} 0.009" in summary["notes"]
    again = run_study(file, tmp_path / "out", execute=lambda jobs, _: pytest.fail("run again") if jobs else iter(()))
    assert again == summary


def test_run_study_plateau_sets_the_steps(tmp_path: Path, tiny_base: Path, corpus_folder: Path) -> None:
    file = tuned_study(tmp_path, corpus_folder, tiny_base, plateau={"max_steps": 400}, overrides=WITHOUT_STEPS)
    summary = run_study(file, tmp_path / "out", execute=fake_executor)
    plateau = read_plateau(tmp_path / "out")
    assert plateau is not None
    assert (plateau.steps, plateau.flat) == (176, True)
    assert {trial.recipe.training.steps for trial, _, _ in list_trials(file, tmp_path / "out")} == {176}
    assert summary["notes"][0] == "steps of all trials: 176"
    assert summary["done"] == 6


def test_list_trials_begins_with_the_preliminary_ones_that_are_missing(
    tmp_path: Path, tiny_base: Path, corpus_folder: Path
) -> None:
    file = tuned_study(tmp_path, corpus_folder, tiny_base)
    stages = [(trial.stage, status) for trial, status, _ in list_trials(file, tmp_path / "out")]
    assert stages == [("tuning", "missing")] * 6 + [("trial", "missing")] * 6
    run_study(file, tmp_path / "out", execute=fake_executor)
    assert [(t.stage, status) for t, status, _ in list_trials(file, tmp_path / "out")] == [("trial", "done")] * 6


def test_run_study_after_a_change_of_the_rule_runs_only_trials_whose_settings_changed(
    tmp_path: Path, tiny_base: Path, corpus_folder: Path
) -> None:
    file, out, ran = tuned_study(tmp_path, corpus_folder, tiny_base), tmp_path / "out", []

    def execute(jobs: Sequence[TrialJob], progress: Progress) -> Iterator[dict[str, Any]]:
        ran.extend((job.spec.stage, str(job.spec.design)) for job in jobs)
        yield from fake_executor(jobs, progress)

    run_study(file, out, execute=execute)
    before = {row["id"]: row for row in read_jsonl(out / "results.jsonl")}
    ran.clear()
    # the best rate of linear is 0.01, of conv 0.001
    tuned_study(tmp_path, corpus_folder, tiny_base, tune={**TUNE, "learning_rate": [0.0005, 0.001, 0.005]})
    run_study(file, out, execute=execute)
    assert [design for stage, design in ran if stage == "trial"] == ["linear@all:5%"] * 2
    after = {row["id"]: row for row in read_jsonl(out / "results.jsonl")}
    kept = {id_ for id_, row in before.items() if row["design"] != "linear@all:5%"}
    assert len(kept) == 4
    for id_ in kept:
        assert after[id_]["settings_hash"] != before[id_]["settings_hash"]
        assert after[id_]["measures"] == before[id_]["measures"]
    study = read_study(out)
    assert [len(table.trials) for table in study.tables] == [6]
    assert {str(trial.design) for trial in study.excluded} == {"linear@all:5%"}  # those of the former rule


def test_list_trials_predicts_in_the_precision_of_the_trials_that_there_are(
    tmp_path: Path, tiny_base: Path, corpus_folder: Path
) -> None:
    overrides = {name: value for name, value in QUICK.items() if name != "training.precision"}
    file = write_study(tmp_path / "s.yaml", corpus_folder, tiny_base, overrides=overrides)
    listed = [list_trials(file, tmp_path / "out")]
    trial = listed[0][0][0]
    line = {**trial_record(trial), "status": "done", "precision": "bf16", "measures": {}}
    ResultsLog(tmp_path / "out").add(line)
    listed.append(list_trials(file, tmp_path / "out"))
    assert [{spec.recipe.training.precision for spec, _, _ in rows} for rows in listed] == [{"auto"}, {"bf16"}]
    assert [spec.id for spec, _, _ in listed[0]] == [spec.id for spec, _, _ in listed[1]]


def test_run_study_failed_tuning_is_in_the_summary_and_its_trials_are_left_out(
    tmp_path: Path, tiny_base: Path, corpus_folder: Path
) -> None:
    grids = {"a": {"bases": [str(tiny_base)], "designs": ["linear@all:5%", "lora@all:r2"]}}
    file = tuned_study(tmp_path, corpus_folder, tiny_base, grids=grids)
    summary = run_study(file, tmp_path / "out", execute=fake_executor)
    assert (summary["trials"], summary["done"]) == (2, 1)
    assert {row["error"] for row in summary["failed"]} == {"lora fails in this test"}
    assert len(summary["failed"]) == 3
    assert summary["notes"][-1].startswith("left out: 1 trial, as the preliminary trials")
    asked: list[str] = []

    def mended(jobs: Sequence[TrialJob], progress: Progress) -> Iterator[dict[str, Any]]:
        for job in jobs:
            asked.append(f"{job.spec.stage} {job.spec.design}")
            reduction = {"loss_reduction": {"r": 0.1}, "adapted_loss": {"r": job.spec.recipe.training.learning_rate}}
            yield {"id": job.spec.id, "status": "done", "measures": reduction, "design": str(job.spec.design),
                   "corpus": "takes", "seed": 0, "cost": {"seconds": 1.0}}  # fmt: skip

    run_study(file, tmp_path / "out", execute=mended)
    assert asked == []
    summary = run_study(file, tmp_path / "out", execute=mended, retry_failed=True)
    assert (summary["done"], summary["failed"]) == (2, [])
    assert set(asked) == {"tuning lora@all:r2", "trial lora@all:r2"}
    assert "not inside the grid" in summary["notes"][-1]  # the loss grows with the rate


def test_run_study_tuning_killed_at_random_times_has_the_same_choices(
    tmp_path: Path, tiny_base: Path, corpus_folder: Path
) -> None:
    file = tuned_study(tmp_path, corpus_folder, tiny_base)
    run_study(file, tmp_path / "undisturbed", execute=fake_executor)
    rng, fork = np.random.default_rng(0), multiprocessing.get_context("fork")
    for _ in range(4):
        process = fork.Process(target=run_study, args=(file, tmp_path / "killed"), kwargs={"execute": fake_executor})
        process.start()
        time.sleep(float(rng.uniform(0.02, 0.15)))
        process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
    run_study(file, tmp_path / "killed", execute=fake_executor)
    assert content(tmp_path / "killed") == content(tmp_path / "undisturbed")


def test_run_study_tuning_runs_in_worker_processes(
    tmp_path: Path, tiny_base: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = ProcessExecutor(2, fake_trial)
    monkeypatch.setattr(executor, "_context", multiprocessing.get_context("fork"))
    file = tuned_study(tmp_path, corpus_folder, tiny_base)
    assert run_study(file, tmp_path / "out", execute=executor)["done"] == 6
    run_study(file, tmp_path / "alone", execute=fake_executor)
    assert content(tmp_path / "out") == content(tmp_path / "alone")


@pytest.mark.slow
def test_study_with_tuning_killed_ten_times_has_the_same_results(tmp_path: Path) -> None:
    """Real training of nano-musicgen: pilot, tuning that grows, trials; the test side decides nothing."""
    synthetic = {"tradition": "makam", "ensemble_size": 1, "count": 9, "seconds": 6}
    corpora = {"sung": {"synthesize": synthetic, "rate_hz": 16000, "clip_seconds": 6}}
    grids = {"a": {"designs": ["linear@post:2000", "conv@post:2000"], "seeds": [0]}}
    overrides = {"training.batch_size": 2, "training.warmup_steps": 2, "training.crop_seconds": 2.0}
    changes = {"corpora": corpora, "grids": grids, "tune": {"learning_rate": [0.0001, 0.0003]}}
    file = write_study(
        tmp_path / "s.yaml", tmp_path, tmp_path, overrides=overrides, plateau={"max_steps": 20}, **changes
    )
    run_undisturbed_and_killed(file, tmp_path, (0.2, 0.5), 900)
    found, wanted = content(tmp_path / "killed"), content(tmp_path / "undisturbed")
    assert found["tuning.json"] == wanted["tuning.json"]
    assert (tmp_path / "killed/plateau.json").read_bytes() == (tmp_path / "undisturbed/plateau.json").read_bytes()
    for name in ("results.jsonl", "tuning.jsonl"):
        measured = [
            {id_: (row["curve"], row["measures"]["adapted_loss"]) for id_, row in each[name].items()}
            for each in (found, wanted)
        ]
        assert measured[0] == measured[1]
    (linear, conv) = read_tuning(tmp_path / "killed")
    assert len(linear.rates) > 2
    assert len(conv.rates) > 2
    assert not list((tmp_path / "killed").glob("tuning/*/adapter"))
    assert len(list((tmp_path / "killed").glob("runs/*/adapter"))) == 2
