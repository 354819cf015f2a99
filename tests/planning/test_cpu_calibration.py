"""Tests of talim.planning.cpu_calibration: the cache, the best of two measurements, and real memory."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fixtures.log_lines import Lines

from research.validation import cost_model
from talim.design.expression import Design
from talim.errors import TalimError
from talim.planning import cpu_calibration, hardware, tracer, training_step
from talim.planning.training_step import StepConfig
from talim.progress import Progress

RATES = {"flops/float32": 1e9, "flops/bfloat16": 2e9, "bytes/float32": 1e9, "bytes/bfloat16": 1e9}
OPERATION = tracer.OperationCost("mm", "float32", (), 1, 1)


def test_cpu_profile_is_calibrated_once_and_again_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    overheads = {"musicgen/fp32": 5, "mustango/bf16": 7}

    def measure(what: str, threads: int, progress: Any) -> Any:
        calls.append(what)
        return {"rates": RATES, "launch_seconds": 1e-6} if what == "speed" else overheads[what]

    monkeypatch.setattr(cpu_calibration, "measure_in_subprocess", measure)
    first, second = (cpu_calibration.cpu_profile(tmp_path, watts=65.0) for _ in range(2))
    assert (first.rates, first.launch_seconds, first.watts, first.gpu) == (RATES, 1e-6, 65.0, False)
    assert len(calls) == 1
    assert [profile.overhead_bytes("musicgen", "fp32") for profile in (first, second, first)] == [5, 5, 5]
    assert cpu_calibration.cpu_profile(tmp_path).overhead_bytes("mustango", "bf16") == 7
    assert calls[1:] == ["musicgen/fp32", "mustango/bf16"]  # each is measured when it is first asked for
    (file,) = tmp_path.glob("cpu-*.json")
    file.write_text(json.dumps({"speed": {"rates": RATES}}), encoding="utf-8")  # incomplete
    cpu_calibration.cpu_profile(tmp_path)
    cpu_calibration.hardware_profile(None, None, tmp_path, recalibrate=True)
    assert len(calls) == 5


def test_cpu_profile_without_rates_times_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan of memory alone must not wait until this CPU is timed, and what it measured is kept."""
    asked: list[Any] = []
    speed = {"rates": RATES, "launch_seconds": 1e-6}

    def measure(what: str, threads: int, progress: Any) -> Any:
        asked.append((what, threads))
        return speed if what == "speed" else 5

    monkeypatch.setattr(cpu_calibration, "measure_in_subprocess", measure)
    for _ in range(2):
        profile = cpu_calibration.device_profile("cpu", tmp_path, rates=False)
        assert profile.overhead_bytes("musicgen", "fp32") == 5
    assert asked == [("musicgen/fp32", 1)]  # once, with one thread
    assert cpu_calibration.stored_overhead(tmp_path, "musicgen", "fp32") == 5
    assert cpu_calibration.stored_overhead(tmp_path, "mustango", "fp32") is None
    assert cpu_calibration.cpu_profile(tmp_path).rates == RATES
    assert [what for what, _ in asked] == ["musicgen/fp32", "speed"]


def test_cpu_profile_keeps_what_another_process_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speed = {"rates": RATES, "launch_seconds": 1e-6}
    measure = lambda what, *_: speed if what == "speed" else len(what)  # noqa: E731
    monkeypatch.setattr(cpu_calibration, "measure_in_subprocess", measure)
    first, second = cpu_calibration.cpu_profile(tmp_path), cpu_calibration.cpu_profile(tmp_path)
    first.overhead_bytes("musicgen", "fp32")
    second.overhead_bytes("mustango", "fp32")
    (file,) = tmp_path.glob("cpu-*.json")
    assert set(json.loads(file.read_text())) == {"speed", "musicgen/fp32", "mustango/fp32"}


def test_hardware_profile_of_gpu_takes_the_given_power(tmp_path: Path) -> None:
    assert cpu_calibration.hardware_profile("l4", 50.0, tmp_path).watts == 50.0
    assert cpu_calibration.hardware_profile("l4", None, tmp_path).watts == 72


class Clock:
    """A clock on the wall that a test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(cpu_calibration.time, "monotonic", lambda: self.now)

    def wait(self, seconds: float) -> None:
        self.now += seconds


def test_measure_speed_uses_the_faster_of_one_and_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    made = {2: {"mm": 5.0, "add": 2.0}, 1: {"mm": 10.0, "add": 1.0}}
    monkeypatch.setattr(cpu_calibration.torch, "set_num_threads", threads.append)
    monkeypatch.setattr(training_step, "trace_step", lambda _: tracer.Trace(1, [(OPERATION, 10)]))
    monkeypatch.setattr(cpu_calibration, "measure_rates", lambda *_: {"rates": {**made[threads[-1]], **RATES}})
    slow = training_step.StepMeasurement(0, 1.0)
    monkeypatch.setattr(training_step, "measure_step", lambda *_: replace(slow, step_seconds=float(threads[-1])))
    speed = cpu_calibration.measure_speed(2)
    assert threads == [2, 1]
    assert (speed["rates"]["mm"], speed["rates"]["add"]) == (10.0, 2.0)
    assert speed["launch_seconds"] == pytest.approx(0.1, rel=1e-3)  # that of one thread: a second of ten calls
    assert not speed["hurried"]


def test_a_kernel_is_repeated_until_its_share_of_the_time_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    wall, calls = Clock(monkeypatch), []

    def kernel() -> None:
        calls.append(wall.now)
        wall.wait(60.0)  # another program has the processor

    for called, most in (
        (0, 2),
        (1, 2),
        (2, 2),
    ):  # once without the clock, if it was not called before, and once with it
        calls.clear()
        assert cpu_calibration._seconds(kernel, lambda: 0.0, wall.now + 5.0, called) > 0
        assert len(calls) == most
    calls.clear()
    assert cpu_calibration._seconds(kernel, lambda: 0.0, wall.now - 5.0, called=1) > 0
    assert len(calls) == 1
    calls.clear()
    cpu_calibration._seconds(kernel, lambda: len(calls) * 1.0)
    assert len(calls) == 3 + 1 + cpu_calibration.ROUNDS  # without a limit


def test_measure_rates_times_every_kernel_and_counts_what_took_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    wall, built, done = Clock(monkeypatch), [], []
    kernels = {name: lambda dtype, name=name: built.append((name, dtype)) or wall.wait for name in ("mm", "mul")}
    monkeypatch.setattr(cpu_calibration, "_BUILDERS", kernels)
    monkeypatch.setattr(cpu_calibration, "_traced_operations", lambda *_: [(OPERATION, 1)])
    monkeypatch.setattr(cpu_calibration, "_seconds", lambda *_, **__: wall.wait(4.0) or 2.0)
    watch = cpu_calibration.Stopwatch(10.0, 4)
    rates = cpu_calibration.measure_rates(lambda: 0.0, watch, done.append)["rates"]
    assert done == [1, 2, 3, 4]
    assert len(built) == 4
    assert {*rates} == {
        f"{name}/{dtype}" for name in ("mm", "mul", "flops", "bytes") for dtype in ("float32", "bfloat16")
    }
    assert watch.overrun == 4


def test_time_that_a_kernel_leaves_is_that_of_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    wall = Clock(monkeypatch)
    watch = cpu_calibration.Stopwatch(10.0, 4)
    assert watch.next_deadline() == wall.now + 2.5
    wall.wait(1.0)
    assert watch.next_deadline() == wall.now + 3.0
    wall.wait(20.0)
    assert watch.next_deadline() == wall.now


def test_measure_step_ends_after_the_second_step_where_the_time_is_used() -> None:
    taken: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_step.SyntheticTrainingStep, "__init__", lambda *_: None)
        patch.setattr(training_step.SyntheticTrainingStep, "fill", lambda *_: None)
        patch.setattr(training_step.SyntheticTrainingStep, "take_step", lambda _: taken.append(1))
        training_step.measure_step(training_step.MINIATURE, 6, max_seconds=-1.0)
        assert len(taken) == 2
        training_step.measure_step(training_step.MINIATURE, 6)
        assert len(taken) == 8


CHILD = """
import json, sys, time
for number in range(3): print(json.dumps(["timing this CPU", number, 3]), flush=True)
if sys.argv[1] == "endless": time.sleep(600)
if sys.argv[1] == "broken": sys.exit("no kernels here")
print(json.dumps({"told": sys.argv[1:]}))
"""


def test_measure_in_subprocess_shows_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[Any] = []

    class Steps(Progress):
        def step(self, title: str, done: int, total: int, facts: str = "") -> None:
            steps.append((title, done, total))

    (tmp_path / "stand_in.py").write_text(CHILD, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(cpu_calibration, "__name__", "stand_in")
    assert cpu_calibration.measure_in_subprocess("speed", 2, Steps()) == {"told": ["speed", "2"]}
    assert steps == [("timing this CPU", number, 3) for number in range(3)]
    with pytest.raises(TalimError, match="no kernels here"):
        cpu_calibration.measure_in_subprocess("broken", 1)

    class Interrupted(Progress):
        def step(self, title: str, done: int, total: int, facts: str = "") -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # and nothing is waited for
        cpu_calibration.measure_in_subprocess("endless", 1, Interrupted())


@pytest.mark.parametrize("hurried", [False, True])
def test_cpu_profile_says_what_the_timing_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hurried: bool) -> None:
    wall, said = Clock(monkeypatch), Lines()

    def measure(*_: Any) -> Any:
        wall.wait(95.0)
        return {"rates": RATES, "launch_seconds": 1e-6, "hurried": hurried}

    monkeypatch.setattr(cpu_calibration, "measure_in_subprocess", measure)
    cpu_calibration.cpu_profile(tmp_path, progress=said)
    assert said.lines[0].startswith("timing this CPU once, for about 20 s, longer while it has other work; ")
    rough = "; it was busy, so roughly: talim plan --recalibrate measures again"
    assert said.lines[1] == f"measured in 1 min 35 s{rough * hurried}"
    assert cpu_calibration.cpu_profile(tmp_path, progress=said).hurried == hurried
    assert len(said.lines) == 2


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_needed_bytes_are_close_to_the_peak_of_a_whole_training() -> None:
    config = StepConfig("nano-musicgen", Design.parse("linear@all:2.5%"), 10.0, 8, "fp32")
    overhead = cpu_calibration.measure_in_subprocess("musicgen/fp32", 1)
    planned = overhead + hardware.heap_bytes(training_step.trace_step(config))
    assert planned == pytest.approx(cost_model.train_in_subprocess(config), rel=0.15)
