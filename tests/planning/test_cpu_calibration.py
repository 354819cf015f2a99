"""Tests of talim.planning.cpu_calibration: the cache, the best of two measurements, and real memory."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from research.validation import cost_model
from talim.design.expression import Design
from talim.planning import cpu_calibration, training_step
from talim.planning.training_step import StepConfig

RATES = {"flops/float32": 1e9, "flops/bfloat16": 2e9, "bytes/float32": 1e9, "bytes/bfloat16": 1e9}


def test_cpu_profile_is_calibrated_once_and_again_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def calibrate(threads: int) -> dict[str, Any]:
        calls.append(threads)
        return {"rates": RATES, "launch_seconds": 1e-6, "runtime_bytes": {"fp32": 5.0, "bf16": 7.0}}

    monkeypatch.setattr(cpu_calibration, "calibrate_in_subprocess", calibrate)
    first, second = (cpu_calibration.cpu_profile(tmp_path, watts=65.0) for _ in range(2))
    assert first == second
    assert (first.rates, first.launch_seconds, first.watts, first.gpu) == (RATES, 1e-6, 65.0, False)
    assert len(calls) == 1
    (file,) = tmp_path.glob("cpu-*.json")
    file.write_text(json.dumps({"rates": RATES}), encoding="utf-8")  # incomplete
    cpu_calibration.cpu_profile(tmp_path)
    cpu_calibration.hardware_profile(None, None, tmp_path, recalibrate=True)
    assert len(calls) == 3


def test_hardware_profile_of_gpu_takes_the_given_power(tmp_path: Path) -> None:
    assert cpu_calibration.hardware_profile("l4", 50.0, tmp_path).watts == 50.0
    assert cpu_calibration.hardware_profile("l4", None, tmp_path).watts == 72


def test_calibrate_in_subprocess_uses_the_faster_of_one_and_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(what: str, threads: int) -> Any:
        if what != "speed":
            return 1000
        return {"rates": {"mm": 10.0 / threads, "add": 1.0 * threads}, "launch_seconds": 1e-6 * threads}

    monkeypatch.setattr(cpu_calibration, "measure_in_subprocess", measure)
    assert cpu_calibration.calibrate_in_subprocess(2) == {
        "runtime_bytes": {"bf16": 1000, "fp32": 1000},
        "rates": {"mm": 10.0, "add": 2.0},
        "launch_seconds": 1e-6,
    }


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_needed_bytes_are_close_to_measured_memory() -> None:
    config = StepConfig("nano-musicgen", Design.parse("linear@all:2.5%"), 20.0, 8, "fp32")
    cpu = {
        "rates": RATES,
        "launch_seconds": 0.0,
        "runtime_bytes": {"fp32": cpu_calibration.measure_in_subprocess("fp32", 1)},
    }
    planned = cpu_calibration.to_hardware_profile(cpu, 1).needed_bytes(training_step.trace_step(config), "fp32")
    measured = cost_model.measure_in_subprocess(config)["measured"]["resident_bytes"]
    assert planned == pytest.approx(measured, rel=0.10)
