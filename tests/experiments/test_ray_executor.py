"""Trials on a Ray cluster: what each asks for, what no node can hold, workers that fail; a real one where Ray is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fixtures.fake_trials import fake_trial, write_study

from talim.errors import TalimError
from talim.experiments import ray_executor, runner
from talim.experiments.ray_executor import RayExecutor
from talim.experiments.runner import list_trials, run_study
from talim.experiments.trial import TrialJob
from talim.progress import Progress

GB = 10**9
DESIGNS = ["linear@all:5%", "conv@post:500", "lora@all:r4"]


class RayStandIn:
    """What the executor uses of Ray, in this process: calls run at once, the last one submitted is ready first."""

    def __init__(self, node_bytes: tuple[int, ...] = (8 * GB, 4 * GB), gpus: int = 0) -> None:
        self.resources = {"GPU": gpus} if gpus else {}
        alive = [{"Alive": True, "Resources": {"CPU": 2.0, "memory": float(size)}} for size in node_bytes]
        self.node_list = [*alive, {"Alive": False, "Resources": {"memory": 1e15}}, {"Alive": True, "Resources": {}}]
        self.exceptions = SimpleNamespace(RayError=ZeroDivisionError)
        self.started: dict[str, Any] = {}
        self.asked: list[dict[str, Any]] = []
        self.refuses: Exception | None = None
        self.dies: set[str] = set()
        self.stopped = False

    def init(self, **options: Any) -> None:
        self.started = options
        if self.refuses is not None:
            raise self.refuses

    def shutdown(self) -> None:
        self.stopped = True

    def cluster_resources(self) -> dict[str, Any]:
        return self.resources

    def nodes(self) -> list[dict[str, Any]]:
        return self.node_list

    def remote(self, function: Callable[..., Any]) -> Any:
        def options(**wanted: Any) -> Any:
            def submit(job: TrialJob, run: Any) -> Callable[[], Any]:
                self.asked.append({"design": str(job.spec.design), **wanted})
                if str(job.spec.design) in self.dies:
                    return lambda: 1 / 0
                return lambda: function(job, run)

            return SimpleNamespace(remote=submit)

        return SimpleNamespace(options=options)

    def wait(self, running: list[Any], num_returns: int) -> tuple[list[Any], list[Any]]:
        assert num_returns == 1
        return running[-1:], running[:-1]

    def get(self, call: Callable[[], Any]) -> Any:
        return call()


@pytest.fixture
def jobs(tmp_path: Path, tiny_base: Path, corpus_folder: Path) -> list[TrialJob]:
    grids = {"a": {"bases": [str(tiny_base)], "designs": DESIGNS}}
    file = write_study(tmp_path / "study.yaml", corpus_folder, tiny_base, grids=grids)
    return [TrialJob(trial, tmp_path, corpus_folder, base) for trial, _, base in list_trials(file, tmp_path)]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> RayStandIn:
    stand_in = RayStandIn()
    monkeypatch.setitem(sys.modules, "ray", stand_in)  # type: ignore[arg-type]
    monkeypatch.setattr(ray_executor, "_WORKER_CACHES", [])
    return stand_in


def run_all(jobs: list[TrialJob], predicted: dict[str, int], cpus: int | None = None) -> dict[str, dict[str, Any]]:
    executor = RayExecutor("local", fake_trial, lambda job: predicted.get(str(job.spec.design)), cpus)
    return {line["design"]: line for line in executor(jobs, Progress())}


def test_trials_ask_for_the_memory_that_was_predicted_for_the_whole_process(
    jobs: list[TrialJob], cluster: RayStandIn
) -> None:
    lines = run_all(jobs, {DESIGNS[0]: 8 * GB, DESIGNS[1]: 1_234_567_890})
    asked = {row["design"]: row for row in cluster.asked}
    # the prediction is that of a whole process: nothing is added, so what fits a node exactly is run there
    assert asked[DESIGNS[0]]["memory"] == 8 * GB
    assert asked[DESIGNS[1]]["memory"] == 1_234_567_890
    assert "memory" not in asked[DESIGNS[2]]  # nothing is known
    assert all((row["num_cpus"], row["num_gpus"], row["max_retries"]) == (1, 0, 0) for row in asked.values())
    assert [*lines] == DESIGNS[::-1]  # in the order in which they finish
    assert lines[DESIGNS[2]]["error"] == "lora fails in this test"
    assert [lines[design]["status"] for design in DESIGNS] == ["done", "done", "failed"]
    assert len(ray_executor._WORKER_CACHES) == 1  # one process keeps its base for all its trials
    assert cluster.stopped


def test_trial_that_fits_no_node_fails_alone_and_says_why(jobs: list[TrialJob], cluster: RayStandIn) -> None:
    lines = run_all(jobs, {DESIGNS[0]: 8 * GB + 1})
    assert lines[DESIGNS[0]]["error"] == (
        "no node has enough memory: 8.0 GB predicted, 8.0 GB on the largest node"  # a node that is down does not count
    )
    assert [row["design"] for row in cluster.asked] == DESIGNS[1:]


def test_trials_on_gpus_take_one_each_and_the_main_memory_of_a_process(
    jobs: list[TrialJob], cluster: RayStandIn
) -> None:
    cluster.resources = {"GPU": 2}
    lines = run_all(jobs, {DESIGNS[0]: 80 * GB})  # of a CPU: says nothing of the host beside a GPU
    assert lines[DESIGNS[0]]["status"] == "done"
    assert {(row["num_gpus"], row["memory"]) for row in cluster.asked} == {(1.0, ray_executor.HOST_BYTES)}


def test_worker_that_dies_fails_its_trial_alone(jobs: list[TrialJob], cluster: RayStandIn) -> None:
    cluster.dies = {DESIGNS[1]}
    lines = run_all(jobs, {})
    assert lines[DESIGNS[1]]["error"] == "its worker failed: division by zero"
    assert lines[DESIGNS[0]]["status"] == "done"


def test_cluster_is_left_when_the_study_is_given_up(jobs: list[TrialJob], cluster: RayStandIn) -> None:
    lines = RayExecutor("local", fake_trial, lambda _: None)(jobs, Progress())
    next(lines)
    assert not cluster.stopped
    lines.close()  # type: ignore[attr-defined]
    assert cluster.stopped


@pytest.mark.parametrize(
    ("address", "expected"), [("local", {"address": "local", "num_cpus": 3}), ("auto", {"address": "auto"})]
)
def test_a_local_cluster_is_started_with_the_cores_that_are_given(
    cluster: RayStandIn, address: str, expected: dict[str, Any]
) -> None:
    assert [*RayExecutor(address, fake_trial, lambda _: None, cpus=3)([], Progress())] == []
    quiet = {"include_dashboard": False, "log_to_driver": False}
    assert cluster.started == expected | quiet


@pytest.mark.parametrize("refusal", [ConnectionError("no one\nis there"), ValueError("bad address"), RuntimeError("x")])
def test_no_cluster_at_the_address_is_told(cluster: RayStandIn, refusal: Exception) -> None:
    cluster.refuses = refusal
    reason = " ".join(str(refusal).split())
    with pytest.raises(TalimError, match=rf"--ray 10\.0\.0\.1: no cluster answers \({reason}\); try --ray local"):
        list(RayExecutor("10.0.0.1", fake_trial, lambda _: None)([], Progress()))


def test_without_ray_it_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(TalimError, match=r"pip install '\.\[ray\]'"):
        list(RayExecutor("local", fake_trial, lambda _: None)([], Progress()))


def test_executor_on_a_local_cluster_runs_a_study(
    tmp_path: Path, tiny_base: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (talim[ray])")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # else workers wait for whatever else runs on a test machine
    changes = {"overrides": {"training.steps": 2, "training.batch_size": 2, "training.warmup_steps": 1}}
    grids = {"a": {"bases": [str(tiny_base)], "designs": ["linear@post:300", "conv@post:300", "conv@layers[7]:9"]}}
    file = write_study(tmp_path / "s.yaml", corpus_folder, tiny_base, grids=grids, **changes)
    needs = {"linear@post:300": 10**15}  # no node is so large
    on_ray = RayExecutor("local", runner.run_trial_safely, lambda job: needs.get(str(job.spec.design)), cpus=2)
    summary = run_study(file, tmp_path / "out", execute=on_ray)
    errors = {line["design"]: line["error"] for line in summary["failed"]}
    assert summary["done"] == 1, errors
    assert "no node has enough memory" in errors["linear@post:300"]
    assert "layers" in errors["conv@layers[7]:9"]
