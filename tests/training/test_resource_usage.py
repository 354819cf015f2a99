"""Tests of talim.training.resource_usage: totals over sessions and ranks, unmeasured energy, peak memory."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from talim.training import resource_usage

CPU = torch.device("cpu")


class Clock:
    """Replaces the module `time`; time passes by calls of `advance`."""

    def __init__(self) -> None:
        self.now = self.cpu = 0.0

    def advance(self, seconds: float, cpu: float = 0.0) -> None:
        self.now += seconds
        self.cpu += cpu

    def perf_counter(self) -> float:
        return self.now

    def process_time(self) -> float:
        return self.cpu


def test_count_flops_of_matrix_product_and_gradient() -> None:
    left, right = torch.randn(3, 5, requires_grad=True), torch.randn(5, 7, requires_grad=True)
    result, flops = resource_usage.count_flops(lambda: (left @ right).sum().backward())
    assert result is None
    assert flops == 3 * (2 * 3 * 5 * 7)  # forward, and one product for each gradient


def test_resource_meter_adds_earlier_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(resource_usage, "time", clock)
    earlier = {"wall_seconds": 100.0, "device_seconds": 50.0, "cpu_seconds": 40.0, "peak_memory_bytes": 2**60}
    meter = resource_usage.ResourceMeter(CPU, earlier)
    clock.advance(3.0)
    assert meter.timed(lambda: clock.advance(5.0, cpu=2.0)) is None
    assert meter.elapsed_this_session == 5.0
    assert meter.usage() == {
        "wall_seconds": 108.0,
        "device_seconds": 55.0,
        "cpu_seconds": 42.0,
        "peak_memory_bytes": 2**60,
    }


def test_combine_usage_adds_all_but_wall_time_and_peak_memory() -> None:
    one = {"wall_seconds": 10.0, "device_seconds": 8.0, "cpu_seconds": 7.0, "peak_memory_bytes": 100.0}
    other = {"wall_seconds": 9.0, "device_seconds": 6.0, "cpu_seconds": 5.0, "peak_memory_bytes": 300.0}
    both = resource_usage.combine_usage([one, other | {"energy_joules": 3.0}])
    assert both == {"wall_seconds": 10.0, "device_seconds": 14.0, "cpu_seconds": 12.0, "peak_memory_bytes": 300.0,
                    "energy_joules": 3.0}  # fmt: skip
    assert resource_usage.combine_usage([one]) == one
    report = resource_usage.ResourceMeter(CPU).report([one, other])
    assert (report["processes"], report["device_seconds"]) == (2, 14.0)
    assert report["device"].startswith("2 x CPU, ")


def test_report_on_cpu_has_no_energy_but_a_reason() -> None:
    report = resource_usage.ResourceMeter(CPU).report()
    assert report["energy_joules"] is None
    assert "NVIDIA GPUs only" in report["energy_note"]
    assert report["device"].startswith("CPU, ")


# In a process of its own: a test process may hold so much that an array above its peak would exhaust the machine.
PEAKS = """
import torch
from talim.training.resource_usage import peak_memory_bytes
device = torch.device("cpu")
before = peak_memory_bytes(device)
block = torch.ones(before // 4 + 25_000_000)  # as large as the old peak, plus 100 MB
del block
print(before, peak_memory_bytes(device))
"""


BALLAST_BYTES = 1_200_000_000


@pytest.fixture(scope="module")
def peaks_of_a_new_process() -> tuple[int, int]:
    """The peak of a process at its start, and after a large array came and went, in bytes.

    The process that started it held `BALLAST_BYTES` more than it needs.
    """
    ballast = np.ones(BALLAST_BYTES, np.int8)  # resident
    printed = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, check=True).stdout
    del ballast
    before, after = map(int, printed.split())
    return before, after


def test_peak_memory_bytes_includes_a_large_array(peaks_of_a_new_process: tuple[int, int]) -> None:
    before, after = peaks_of_a_new_process
    assert after >= before + 90_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system counts otherwise")
def test_peak_memory_bytes_is_not_that_of_the_program_that_started_this_one(
    peaks_of_a_new_process: tuple[int, int],
) -> None:
    assert 50e6 < peaks_of_a_new_process[0] < 1e9 < BALLAST_BYTES


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_report_on_gpu_has_memory_and_energy() -> None:
    meter = resource_usage.ResourceMeter(torch.device("cuda"))
    meter.timed(lambda: torch.randn(4096, 4096, device="cuda") @ torch.randn(4096, 4096, device="cuda"))
    report = meter.report()
    assert report["peak_memory_bytes"] >= 3 * 4096 * 4096 * 4
    assert report["energy_joules"] is None or report["energy_joules"] >= 0


def test_a_meter_on_an_apple_gpu_uses_its_own_counters(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no Mac here: torch.mps is a stand-in, whose driver holds more memory during the second step."""
    held, waits = iter([5_000, 9_000, 7_000]), []
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: next(held))
    monkeypatch.setattr(torch.mps, "synchronize", lambda: waits.append(1))
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 12_000)
    device = torch.device("mps")
    meter = resource_usage.ResourceMeter(device)
    for _ in range(3):
        meter.timed(lambda: None)
    report = meter.report()
    assert report["peak_memory_bytes"] == 9_000
    assert report["memory_note"] == "largest memory that Apple's GPU driver held after a step"
    assert report["energy_joules"] is None
    assert report["device"].startswith("Apple GPU")
    assert len(waits) == 6
    assert resource_usage.memory_limit_bytes(device) == 12_000
