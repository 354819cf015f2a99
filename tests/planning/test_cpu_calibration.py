"""Tests of talim.planning.cpu_calibration: the cache, the best of two measurements, and real memory."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from research.validation import cost_model
from talim.design.expression import Design
from talim.planning import cpu_calibration, hardware, training_step
from talim.planning.training_step import StepConfig

RATES = {"flops/float32": 1e9, "flops/bfloat16": 2e9, "bytes/float32": 1e9, "bytes/bfloat16": 1e9}


def test_cpu_profile_is_calibrated_once_and_again_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    overheads = {"musicgen/fp32": 5, "mustango/bf16": 7}

    def calibrate(threads: int, progress: Any) -> dict[str, Any]:
        calls.append(threads)
        return {"rates": RATES, "launch_seconds": 1e-6}

    def measure(what: str, threads: int) -> Any:
        calls.append(what)
        return overheads[what]

    monkeypatch.setattr(cpu_calibration, "calibrate_in_subprocess", calibrate)
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
    monkeypatch.setattr(cpu_calibration, "calibrate_in_subprocess", lambda *_: 1 / 0)
    monkeypatch.setattr(cpu_calibration, "measure_in_subprocess", lambda *call: asked.append(call) or 5)
    for _ in range(2):
        profile = cpu_calibration.device_profile("cpu", tmp_path, rates=False)
        assert profile.overhead_bytes("musicgen", "fp32") == 5
    assert asked == [("musicgen/fp32", 1)]  # once, with one thread
    assert cpu_calibration.stored_overhead(tmp_path, "musicgen", "fp32") == 5
    assert cpu_calibration.stored_overhead(tmp_path, "mustango", "fp32") is None
    speed = {"rates": RATES, "launch_seconds": 1e-6}
    monkeypatch.setattr(cpu_calibration, "calibrate_in_subprocess", lambda *_: speed)
    assert cpu_calibration.cpu_profile(tmp_path).rates == RATES
    assert asked == [("musicgen/fp32", 1)]


def test_cpu_profile_keeps_what_another_process_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speed = {"rates": RATES, "launch_seconds": 1e-6}
    monkeypatch.setattr(cpu_calibration, "calibrate_in_subprocess", lambda *_: speed)
    monkeypatch.setattr(cpu_calibration, "measure_in_subprocess", lambda what, _: len(what))
    first, second = cpu_calibration.cpu_profile(tmp_path), cpu_calibration.cpu_profile(tmp_path)
    first.overhead_bytes("musicgen", "fp32")
    second.overhead_bytes("mustango", "fp32")
    (file,) = tmp_path.glob("cpu-*.json")
    assert set(json.loads(file.read_text())) == {"speed", "musicgen/fp32", "mustango/fp32"}


def test_hardware_profile_of_gpu_takes_the_given_power(tmp_path: Path) -> None:
    assert cpu_calibration.hardware_profile("l4", 50.0, tmp_path).watts == 50.0
    assert cpu_calibration.hardware_profile("l4", None, tmp_path).watts == 72


def test_calibrate_in_subprocess_uses_the_faster_of_one_and_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(what: str, threads: int) -> Any:
        return {"rates": {"mm": 10.0 / threads, "add": 1.0 * threads}, "launch_seconds": 1e-6 * threads}

    monkeypatch.setattr(cpu_calibration, "measure_in_subprocess", measure)
    assert cpu_calibration.calibrate_in_subprocess(2) == {"rates": {"mm": 10.0, "add": 2.0}, "launch_seconds": 1e-6}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_needed_bytes_are_close_to_the_peak_of_a_whole_training() -> None:
    config = StepConfig("nano-musicgen", Design.parse("linear@all:2.5%"), 10.0, 8, "fp32")
    overhead = cpu_calibration.measure_in_subprocess("musicgen/fp32", 1)
    planned = overhead + hardware.heap_bytes(training_step.trace_step(config))
    assert planned == pytest.approx(cost_model.train_in_subprocess(config), rel=0.15)
