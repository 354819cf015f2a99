"""Memory and time of a trace on a GPU with published rates, or on a CPU with measured ones.

The time of an operation follows the roofline model (Williams, Waterman and Patterson 2009): the larger of FLOPs / FLOP
rate and bytes / memory bandwidth, plus a launch overhead.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from talim.errors import UsageError
from talim.planning.tracer import OperationCost, Trace

MATMUL_EFFICIENCY = 0.5  # of the published FLOP/s that eager torch reaches in training; assumed, not measured here
BANDWIDTH_EFFICIENCY = 0.7  # of the published bandwidth, likewise
KERNEL_LAUNCH_SECONDS = 10e-6  # of an operation in eager torch, with Python's part; assumed
CONTEXT_BYTES = 800_000_000  # memory of CUDA and its libraries before the first tensor
USABLE_MEMORY_FRACTION = 0.95  # the allocator leaves gaps
GB = 1e9


@dataclass(frozen=True)
class HardwareProfile:
    """Memory, power and rates of a GPU or CPU.

    `rates` has FLOP/s or bytes/s by "operation/dtype", and by "flops/dtype" and "bytes/dtype" for other operations.
    """

    name: str
    memory_bytes: float
    rates: Mapping[str, float]
    launch_seconds: float  # per operation
    watts: float | None = None
    bf16: bool = True
    gpu: bool = True
    runtime_bytes: Mapping[str, float] = field(default_factory=dict)  # besides tensors, by the base's precision
    note: str = ""  # source of the rates

    @property
    def precision(self) -> str:
        """The default precision of a base."""
        return "bf16" if self.bf16 else "fp32"

    @property
    def usable_bytes(self) -> float:
        """Memory for tensors and the runtime together."""
        return self.memory_bytes * USABLE_MEMORY_FRACTION

    def needed_bytes(self, trace: Trace, precision: str) -> int:
        """Peak memory of a trace: tensors and the runtime."""
        return round(trace.peak_bytes + self.runtime_bytes.get(precision, 0.0))

    def seconds(self, trace: Trace) -> float:
        """Predicted time of a trace, one operation after the other."""
        return sum(calls * self._seconds(operation) for operation, calls in trace.operations)

    def _seconds(self, operation: OperationCost) -> float:
        names = (operation.name.removesuffix("_"), "flops" if operation.flops else "bytes")
        rate = next(r for name in names if (r := self.rates.get(f"{name}/{_dtype(operation)}")))
        if operation.flops:
            transfer_seconds = operation.bytes / self.rates[f"bytes/{_dtype(operation)}"]
            return max(operation.flops / rate, transfer_seconds) + self.launch_seconds
        return operation.bytes / rate + self.launch_seconds


def _dtype(operation: OperationCost) -> str:
    return "bfloat16" if operation.dtype == "bfloat16" else "float32"


@dataclass(frozen=True)
class GpuSpec:
    """A GPU's published numbers (`gpus.yaml`); `bf16_tflops` is 0 where it has no bf16."""

    name: str
    memory_gb: float
    bf16_tflops: float
    fp32_tflops: float
    gb_per_second: float
    watts: float


GPUS = {
    name: GpuSpec(name, *numbers)
    for name, numbers in yaml.safe_load((Path(__file__).parent / "gpus.yaml").read_text(encoding="utf-8")).items()
}


def gpu_profile(name: str) -> HardwareProfile:
    """The profile of a GPU of the table; UsageError, with similar names, for one that is not in it."""
    spec = GPUS.get(name.strip().lower().replace(" ", "-").removeprefix("nvidia-"))
    if spec is None:
        near = difflib.get_close_matches(name.lower(), GPUS, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise UsageError(f"--gpu {name!r} is not in the table: {hint}known: {', '.join(GPUS)}")
    bandwidth = spec.gb_per_second * GB * BANDWIDTH_EFFICIENCY
    tensor = (spec.bf16_tflops or spec.fp32_tflops) * 1e12 * MATMUL_EFFICIENCY
    rates = {
        "flops/bfloat16": tensor,
        "flops/float32": spec.fp32_tflops * 1e12 * MATMUL_EFFICIENCY,
        "bytes/bfloat16": bandwidth,
        "bytes/float32": bandwidth,
    }
    return HardwareProfile(
        spec.name,
        spec.memory_gb * GB,
        rates,
        KERNEL_LAUNCH_SECONDS,
        watts=spec.watts,
        bf16=spec.bf16_tflops > 0,
        runtime_bytes=dict.fromkeys(("bf16", "fp32"), CONTEXT_BYTES),
        note=f"published rates, of which {MATMUL_EFFICIENCY:.0%} (matrix products) and "
        f"{BANDWIDTH_EFFICIENCY:.0%} (memory) are assumed; power is the board's limit",
    )
