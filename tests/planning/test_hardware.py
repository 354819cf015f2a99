"""Tests of talim.planning.hardware: the roofline model and the table of GPUs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from talim.errors import UsageError
from talim.planning import hardware
from talim.planning.hardware import HardwareProfile
from talim.planning.tracer import OperationCost, Trace

RATES = {"flops/float32": 1e9, "flops/bfloat16": 2e9, "bytes/float32": 1e9, "bytes/bfloat16": 1e9}
HARDWARE = HardwareProfile("test", 8e9, RATES, 1e-6, watts=100.0, bf16=False)


def test_seconds_follow_the_roofline_model() -> None:
    matrix = OperationCost("mm", "float32", ((10, 10), (10, 10)), 2_000_000, 1_000)
    wide = OperationCost("mm", "float32", ((1, 1), (1, 1)), 2, 5_000_000)
    copying = OperationCost("add_", "bfloat16", (), 0, 3_000_000)
    seconds = HARDWARE.seconds(Trace(0, [(matrix, 2), (wide, 1), (copying, 10)]))
    assert seconds == pytest.approx(2 * 2e-3 + 5e-3 + 10 * 3e-3 + 13 * 1e-6)
    timed = replace(HARDWARE, rates=RATES | {"add/bfloat16": 3e9})
    assert timed.seconds(Trace(0, [(copying, 1)])) == pytest.approx(1e-3 + 1e-6)


def test_needed_bytes_of_a_process_grow_with_what_comes_and_goes() -> None:
    trace = Trace(peak_bytes=500, operations=[], resident_bytes=100)
    cpu = replace(HARDWARE, gpu=False, overhead_bytes=lambda family, precision: {"musicgen": 7, "mustango": 9}[family])
    growth = hardware.HEAP_GROWTH
    assert cpu.needed_bytes(trace, "musicgen", "bf16") == round(7 + 100 + 400 * growth)
    assert cpu.needed_bytes(trace, "mustango", "bf16") == round(9 + 100 + 400 * growth)
    assert HARDWARE.needed_bytes(trace, "musicgen", "fp32") == 500


def test_gpu_profile_of_unknown_gpu_suggests_similar_names() -> None:
    with pytest.raises(UsageError, match="rtx-3090"):
        hardware.gpu_profile("rtx3090ti")
    with pytest.raises(UsageError, match="Rates of your own cannot be given"):
        hardware.gpu_profile("x" * 300)
    assert hardware.gpu_profile("NVIDIA L4").memory_bytes == 24e9
    assert hardware.gpu_profile("NVIDIA GeForce RTX 5090").memory_bytes == 32e9
    assert hardware.gpu_profile("AMD Instinct MI300X").memory_bytes == 192e9
    assert not hardware.gpu_profile("t4").bf16


@pytest.mark.parametrize("name", hardware.gpu_table())
def test_gpu_profile_of_every_gpu_is_consistent(name: str) -> None:
    profile = hardware.gpu_profile(name)
    assert profile.gpu
    assert profile.usable_bytes < profile.memory_bytes
    assert profile.needed_bytes(Trace(10, []), "musicgen", "bf16") > 1e8
    assert profile.rates["flops/float32"] <= profile.rates["flops/bfloat16"]
    assert profile.precision == ("bf16" if hardware.gpu_table()[name].bf16_tflops else "fp32")
