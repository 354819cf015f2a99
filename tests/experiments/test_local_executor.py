"""Worker processes: a line for every trial, a worker that dies fails its trial alone, names of visible GPUs."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
from fixtures.fake_trials import fake_trial, write_study

from talim.experiments import local_executor
from talim.experiments.local_executor import ProcessExecutor
from talim.experiments.runner import list_trials
from talim.experiments.trial import TrialJob
from talim.progress import Progress

DESIGNS = ["linear@all:5%", "ia3@all", "lora@all:r4", "conv@post:500"]


@pytest.fixture
def jobs(tmp_path: Path, tiny_base: Path, corpus_folder: Path) -> list[TrialJob]:
    grids = {"a": {"bases": [str(tiny_base)], "designs": DESIGNS}}
    file = write_study(tmp_path / "study.yaml", corpus_folder, tiny_base, grids=grids)
    return [TrialJob(trial, tmp_path, corpus_folder, base) for trial, _, base in list_trials(file, tmp_path)]


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_executor_yields_a_line_for_every_trial_also_of_a_killed_worker(
    jobs: list[TrialJob], monkeypatch: pytest.MonkeyPatch, start: str
) -> None:
    """With workers that are started as they are by a study, and with some that need not load torch first."""
    executor = ProcessExecutor(1, fake_trial)
    monkeypatch.setattr(executor, "_context", multiprocessing.get_context(start))
    lines = {line["design"]: line for line in executor(jobs, Progress())}
    assert set(lines) == set(DESIGNS)
    assert lines["ia3@all"]["error"] == "the process of this trial was killed by signal 9, perhaps out of memory"
    assert lines["lora@all:r4"]["error"] == "lora fails in this test"
    assert {design for design, line in lines.items() if line["status"] == "done"} == {DESIGNS[0], DESIGNS[3]}


def test_executor_runs_a_trial_in_a_new_process(jobs: list[TrialJob]) -> None:
    (line,) = ProcessExecutor(1, fake_trial)(jobs[:1], Progress())
    assert (line["design"], line["status"]) == (DESIGNS[0], "done")


def test_executor_has_as_many_processes_as_asked_for_which_share_the_gpus() -> None:
    assert ProcessExecutor(3, fake_trial).gpus == [None, None, None]
    assert ProcessExecutor(1, fake_trial, ["0", "2"]).gpus == ["0"]
    assert ProcessExecutor(3, fake_trial, ["0", "2"]).gpus == ["0", "2", "0"]


@pytest.mark.parametrize(
    ("visible", "count", "expected"),
    [(None, 2, ["0", "1"]), ("3,5", 2, ["3", "5"]), ("3,5", 1, ["3"]), ("GPU-ab", 1, ["GPU-ab"]), (None, 0, [])],
)
def test_visible_gpus_have_the_names_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, count: int, expected: list[str]
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    assert local_executor.visible_gpus() == expected
