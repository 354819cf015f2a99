"""What a trace takes on a machine: GPUs by their published numbers, this CPU by a short calibration.

Time is a roofline for each operation: its FLOPs at the rate of matrix products or its bytes at the rate of memory,
whichever takes longer, and the cost of starting it (Williams, Waterman and Patterson 2009).

The numbers of GPUS are the makers': memory, dense bf16 tensor TFLOP/s with fp32 accumulation, fp32 TFLOP/s outside of
the tensor cores, bandwidth, board power. Sources: NVIDIA's data sheets of T4, V100, L4, A10, A40, L40S, A100, H100 and
H200 and of the RTX A6000; for GeForce the appendices of NVIDIA's Ampere GA102 and Ada architecture whitepapers.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field

import psutil

from talim.errors import UsageError
from talim.planning.tracer import OperationCost, Trace

MATMUL_EFFICIENCY = (
    0.5  # of the published FLOP/s that eager torch reaches in training; assumed, not measured here
)
BANDWIDTH_EFFICIENCY = 0.7  # of the published bandwidth, likewise
KERNEL_LAUNCH_SECONDS = 10e-6  # from one operation to the next in eager torch, Python's part in it
CONTEXT_BYTES = 800_000_000  # what CUDA and its libraries take before the first tensor
USABLE_MEMORY_FRACTION = 0.95  # of a memory that can be filled: the allocator leaves holes
GB = 1e9


@dataclass(frozen=True)
class HardwareProfile:
    """Rates by "operation/dtype", by "flops/dtype" or "bytes/dtype" for all others of a dtype; seconds a call."""

    name: str
    memory_bytes: float
    rates: Mapping[str, float]
    start_seconds: float
    watts: float | None = None
    bf16: bool = True
    gpu: bool = True
    # taken besides tensors, by the base's precision
    runtime_bytes: Mapping[str, float] = field(default_factory=dict)
    said: str = ""  # where the rates are from

    @property
    def precision(self) -> str:
        """What a base is held in where nothing else is asked for."""
        return "bf16" if self.bf16 else "fp32"

    @property
    def usable_bytes(self) -> float:
        """What tensors and the runtime may take together."""
        return self.memory_bytes * USABLE_MEMORY_FRACTION

    def needed_bytes(self, trace: Trace, precision: str) -> int:
        """What a traced piece of work takes here: its tensors at their most, and the runtime."""
        return round(trace.peak_bytes + self.runtime_bytes.get(precision, 0.0))

    def seconds(self, trace: Trace) -> float:
        """The time of a traced piece of work, one operation after the other."""
        return sum(times * self._seconds(operation) for operation, times in trace.operations)

    def _seconds(self, operation: OperationCost) -> float:
        words = (operation.name.removesuffix("_"), "flops" if operation.flops else "bytes")
        rate = next(r for word in words if (r := self.rates.get(f"{word}/{_dtype(operation)}")))
        if operation.flops:
            moving = operation.bytes / self.rates[f"bytes/{_dtype(operation)}"]
            return max(operation.flops / rate, moving) + self.start_seconds
        return operation.bytes / rate + self.start_seconds


def _dtype(operation: OperationCost) -> str:
    return "bfloat16" if operation.dtype == "bfloat16" else "float32"


@dataclass(frozen=True)
class GpuSpec:
    """A GPU as its maker describes it; `bf16_tflops` is 0 where it has no bf16."""

    name: str
    memory_gb: float
    bf16_tflops: float
    fp32_tflops: float
    gb_per_second: float
    watts: float


GPUS = {
    gpu.name: gpu
    for gpu in (
        GpuSpec("rtx-3060", 12, 25.5, 12.7, 360, 170),
        GpuSpec("rtx-3090", 24, 71, 35.6, 936, 350),
        GpuSpec("rtx-4060-ti-16gb", 16, 44, 22.1, 288, 165),
        GpuSpec("rtx-4070", 12, 58.3, 29.1, 504, 200),
        GpuSpec("rtx-4080", 16, 97.5, 48.7, 717, 320),
        GpuSpec("rtx-4090", 24, 165.2, 82.6, 1008, 450),
        GpuSpec("rtx-a6000", 48, 154.8, 38.7, 768, 300),
        GpuSpec("t4", 16, 0, 8.1, 320, 70),
        GpuSpec("v100-32gb", 32, 0, 15.7, 900, 300),
        GpuSpec("l4", 24, 121, 30.3, 300, 72),
        GpuSpec("a10", 24, 125, 31.2, 600, 150),
        GpuSpec("a40", 48, 149.7, 37.4, 696, 300),
        GpuSpec("l40s", 48, 362, 91.6, 864, 350),
        GpuSpec("a100-40gb", 40, 312, 19.5, 1555, 400),
        GpuSpec("a100-80gb", 80, 312, 19.5, 2039, 400),
        GpuSpec("h100-80gb", 80, 989, 67, 3350, 700),
        GpuSpec("h200", 141, 989, 67, 4800, 700),
    )
}


def gpu_profile(name: str) -> HardwareProfile:
    """A GPU of the table as a machine; UsageError, with names that are near, for one that is not in it."""
    found = GPUS.get(name.strip().lower().replace(" ", "-").removeprefix("nvidia-"))
    if found is None:
        near = difflib.get_close_matches(name.lower(), GPUS, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise UsageError(f"--gpu {name!r} is not in the table: {hint}known: {', '.join(GPUS)}")
    bandwidth = found.gb_per_second * GB * BANDWIDTH_EFFICIENCY
    tensor = (found.bf16_tflops or found.fp32_tflops) * 1e12 * MATMUL_EFFICIENCY
    rates = {
        "flops/bfloat16": tensor,
        "flops/float32": found.fp32_tflops * 1e12 * MATMUL_EFFICIENCY,
        "bytes/bfloat16": bandwidth,
        "bytes/float32": bandwidth,
    }
    return HardwareProfile(
        found.name,
        found.memory_gb * GB,
        rates,
        KERNEL_LAUNCH_SECONDS,
        watts=found.watts,
        bf16=found.bf16_tflops > 0,
        runtime_bytes=dict.fromkeys(("bf16", "fp32"), CONTEXT_BYTES),
        said=f"published rates, of which {MATMUL_EFFICIENCY:.0%} (matrix products) and {BANDWIDTH_EFFICIENCY:.0%} (memory) are "
        "assumed; its power is the board's limit",
    )


def total_memory_bytes() -> float:
    """Bytes of this machine's memory."""
    return float(psutil.virtual_memory().total)
