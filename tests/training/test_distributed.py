"""Tests of talim.training.distributed: several processes train what one would, also when they are killed."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.forked_process import ForkedProcess
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from talim import recipe as recipes
from talim.atomic_io import read_json, read_jsonl
from talim.backbones.protocol import Loss
from talim.cli import main
from talim.errors import TalimError, UsageError
from talim.recipe import Recipe
from talim.run import Run
from talim.training import distributed
from talim.training.distributed import SINGLE_PROCESS, DistributedContext
from talim.training.train import train

PATIENCE_SECONDS = 600  # for a process that hangs; a crowded machine takes what it takes
LAUNCHERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


def new_interpreter(code: str, variables: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def forked(code: str, variables: dict[str, str], out: Path, number: int) -> ForkedProcess:
    folder = Path(tempfile.mkdtemp(prefix=f"{out.name} {number} ", dir=out.parent))
    return ForkedProcess(code, folder, variables)


class Launched:
    """`talim train` in `count` processes on this machine, as a launcher starts them, without dropout.

    After step `waits_after` each of them waits until there is a file "go" beside the run. `anew`: each is a new
    interpreter, which loads torch itself.
    """

    def __init__(self, recipe: Recipe, out: Path, count: int, waits_after: int = 10**9, *, anew: bool = False) -> None:
        self.go = out.parent / "go"
        self.go.unlink(missing_ok=True)
        file = out.parent / f"{out.name}.yaml"
        file.write_text(recipes.dump(recipe))
        code = (
            "import time; from pathlib import Path\n"
            "from talim.cli import main; from talim.training.trainer import Trainer\n"
            "import torch; torch.nn.functional.dropout = lambda x, *_, **__: x\n"
            f"step, go = Trainer._take_step, Path({str(self.go)!r})\n"
            "def waiting_step(self):\n"
            f"    while self.state.step >= {waits_after} and not go.exists():\n"
            "        time.sleep(0.02)\n"
            "    step(self)\n"
            "Trainer._take_step = waiting_step\n"
            f"main(['train', '--config', {str(file)!r}, '--out', {str(out)!r}, '--device', 'cpu'])\n"
        )
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
        self.all: list[ForkedProcess | subprocess.Popen[str]] = []
        for n in range(count):
            ranks = dict(zip(LAUNCHERS, map(str, (n, count, n, count)), strict=True)) | place
            self.all.append(new_interpreter(code, ranks) if anew else forked(code, ranks, out, n))

    def results(self) -> list[tuple[int | None, str, str]]:
        """Exit status, stdout and stderr of each."""
        texts = [process.communicate(timeout=PATIENCE_SECONDS) for process in self.all]
        return [(process.returncode, *text) for process, text in zip(self.all, texts, strict=True)]

    def send(self, number: signal.Signals) -> None:
        for process in self.all:
            process.send_signal(number)


def wait_for_step(run: Run, step: int, launched: Launched) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (run.log.is_file() and any(row["step"] >= step for row in read_jsonl(run.log))):
        assert time.monotonic() < deadline, f"step {step} was never reached"
        assert all(process.poll() is None for process in launched.all), launched.results()
        time.sleep(0.02)


def assert_same(one: Run, other: Run) -> None:
    """Equal up to the order of summation."""
    rows, others = read_jsonl(one.log), read_jsonl(other.log)
    assert [(r["step"], r["split"]) for r in rows] == [(r["step"], r["split"]) for r in others]
    for a, b in zip(rows, others, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
        assert a["parts"] == pytest.approx(b["parts"], rel=1e-5)
    ours, theirs = (load_file(run.adapter / "adapter_model.safetensors") for run in (one, other))
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        torch.testing.assert_close(weight, theirs[name], rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def odd_batch(quick_recipe: Any) -> Recipe:
    """Three clips per step, so that two processes get shards of unequal length."""
    return quick_recipe(training__batch_size=3)


@pytest.fixture(scope="module")
def by_one(odd_batch: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Run:
    with without_dropout():
        return train(odd_batch, tmp_path_factory.mktemp("one") / "run", device="cpu")


@contextlib.contextmanager
def without_dropout() -> Iterator[None]:
    """Each process draws its own dropout masks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "dropout", lambda x, *_, **__: x)
        yield


@pytest.mark.parametrize("anew", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_train_in_two_processes_equals_one_process(odd_batch: Recipe, by_one: Run, tmp_path: Path, anew: bool) -> None:
    first, second = Launched(odd_batch, tmp_path / "run", 2, anew=anew).results()
    assert (first[0], second[0]) == (0, 0), first[2] + second[2]
    run = Run(tmp_path / "run")
    assert_same(run, by_one)
    assert str(run.folder) in first[1]
    assert second[1:] == ("", "")  # only rank 0 prints
    cost, alone = read_json(run.cost), read_json(by_one.cost)
    assert cost["processes"] == 2
    assert alone["processes"] == 1
    assert cost["device"].startswith("2 x CPU")
    assert alone["flops"] / 2 < cost["flops"] <= alone["flops"]  # smaller batches have less padding
    assert cost["device_seconds"] > cost["wall_seconds"] / 2
    assert cost["best_step"] == alone["best_step"]


@pytest.mark.slow
def test_train_after_sigkill_of_all_ranks_resumes_with_any_number_of_processes(
    odd_batch: Recipe, by_one: Run, tmp_path: Path
) -> None:
    run = Run(tmp_path / "run")
    both = Launched(odd_batch, run.folder, 2, waits_after=4)
    try:
        wait_for_step(run, 4, both)
    finally:
        both.send(signal.SIGKILL)
        both.results()
    assert run.checkpoint.is_file()
    assert not run.finished
    again = Launched(odd_batch, run.folder, 2, waits_after=6)
    wait_for_step(run, 6, again)
    again.send(signal.SIGTERM)
    again.go.touch()
    (status, said, errors), (other, *_) = again.results()
    assert (status, other, said) == (130, 130, "")
    assert f"To resume: talim train --out {run.folder}" in errors
    with without_dropout():
        assert_same(train(odd_batch, run.folder, device="cpu"), by_one)


def test_train_after_sigkill_of_one_rank_ends_with_one_line(odd_batch: Recipe, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    both = Launched(odd_batch, run.folder, 2, waits_after=2)
    wait_for_step(run, 2, both)
    both.all[0].kill()
    both.go.touch()
    _, (status, _, errors) = both.results()
    assert status == 1
    (line,) = errors.strip().splitlines()
    assert line.startswith("talim: process 1 of 2 lost the others")


def test_train_with_more_processes_than_clips_is_refused_by_rank_0(quick_recipe: Any, tmp_path: Path) -> None:
    three = Launched(quick_recipe(training__batch_size=2), tmp_path / "run", 3)
    try:
        said, errors = three.all[0].communicate(timeout=PATIENCE_SECONDS)
        assert (three.all[0].returncode, said) == (2, "")
        assert errors.splitlines()[-1].startswith("talim: 3 processes share a batch of training.batch_size=2")
        assert "Traceback" not in errors
    finally:
        three.send(signal.SIGKILL)
    assert all(not errors.startswith("talim: 3 processes") for _, _, errors in three.results()[1:])
    assert not (tmp_path / "run").exists()


@given(st.lists(st.integers(), max_size=40), st.integers(1, 9))
def test_shard_divides_evenly_and_completely(items: list[int], count: int) -> None:
    shards = [DistributedContext(n, count).shard(items) for n in range(count)]
    assert [item for shard in shards for item in shard] == items
    sizes = [len(shard) for shard in shards]
    assert max(sizes) - min(sizes) <= 1


class FakeReduction(DistributedContext):
    """Rank 0 of two, where the other rank's tensor is known."""

    def __init__(self, other: torch.Tensor) -> None:
        super().__init__(0, 2)
        self.other = other

    def all_reduce(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor + self.other


def loss_of(mean: float, parts: Sequence[float], count: int) -> Loss:
    nothing = torch.zeros(1)
    return Loss(torch.tensor(mean), torch.tensor(parts), ("a", "b"), nothing, nothing, torch.tensor(count))


def test_reduce_gradients_weights_each_rank_by_its_count() -> None:
    weights = {"a": nn.Parameter(torch.ones(2)), "b": nn.Parameter(torch.ones(1, dtype=torch.bfloat16))}
    weights["a"].grad = torch.tensor([1.0, 2.0])  # b has no gradient here
    other = 30 * torch.tensor([5.0, 6.0, 8.0, 0.5, 0.25, 0.75, 1.0])  # gradients of a (2) and b (1), mean, parts, 1
    reduced = FakeReduction(other).reduce_gradients(weights, loss_of(0.1, [0.0, 0.2], 10))
    assert weights["a"].grad.tolist() == pytest.approx([4.0, 5.0])
    assert weights["b"].grad is not None
    assert weights["b"].grad.dtype == torch.bfloat16
    assert weights["b"].grad.item() == 6.0
    assert reduced.mean.item() == pytest.approx(0.4)
    assert reduced.parts.tolist() == pytest.approx([0.1875, 0.6125])
    assert reduced.count.item() == 40


def test_reduce_gradients_with_nan_in_one_rank_is_nan_in_all() -> None:
    weights = {"a": nn.Parameter(torch.ones(1))}
    weights["a"].grad = torch.ones(1)
    nan = torch.tensor([float("nan"), float("nan"), 0.0, 0.0, 1.0])
    assert FakeReduction(nan).reduce_gradients(weights, loss_of(0.1, [0.0, 0.2], 10)).mean.isnan()


def test_init_process_group_without_launcher_is_a_single_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LAUNCHERS:
        monkeypatch.delenv(name, raising=False)
    loss = loss_of(1.0, [1.0, 1.0], 3)
    with distributed.init_process_group() as processes:
        assert processes is SINGLE_PROCESS
        assert processes.reduce_gradients({}, loss) is loss
        assert processes.all_gather("x") == ["x"]
        assert processes.any_true(True)
    assert distributed.is_main_process()


@pytest.mark.parametrize(
    ("variables", "device", "message"),
    [
        ({"ACCELERATE_USE_FSDP": "true"}, "auto", "configured with FSDP"),
        ({"ACCELERATE_USE_DEEPSPEED": "True"}, "auto", "configured with DeepSpeed"),
        ({}, "cuda:1", "one device for all processes"),
    ],
)
def test_init_process_group_with_sharding_or_one_device_raises_usage_error(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], device: str, message: str
) -> None:
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", **variables}.items():
        monkeypatch.setenv(name, value)
    assert not distributed.is_main_process()
    with pytest.raises(UsageError, match=message), distributed.init_process_group(device):
        pass


def test_init_process_group_with_more_processes_than_gpus_raises_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UsageError, match="2 processes were started for 1 GPUs"), distributed.init_process_group():
        pass


def test_check_agreement_with_different_values_raises_talim_error() -> None:
    class Different(DistributedContext):
        def all_gather(self, value: Any) -> list[Any]:
            return [value, "other"]

    with pytest.raises(TalimError, match="have different bases \\(local, other\\)"):
        Different(0, 2).check_agreement(base="local")


def test_require_single_process_refuses_commands_that_are_not_distributed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"WORLD_SIZE": "2", "RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        main(["designs", "--base", "musicgen-small"])
    assert ended.value.code == 2
    assert "2 processes were started of talim designs" in capsys.readouterr().err
