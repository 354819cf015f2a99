"""Memory and time of a trace on a GPU with published rates, or on a CPU with measured ones.

The time of an operation follows the roofline model (Williams, Waterman and Patterson 2009): the larger of FLOPs / FLOP
rate and bytes / memory bandwidth, plus a launch overhead.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from talim.errors import UsageError
from talim.html.formatting import GB

if TYPE_CHECKING:
    from talim.planning.tracer import OperationCost, Trace

MATMUL_EFFICIENCY = 0.5  # of the published FLOP/s that eager torch reaches in training; assumed, not measured here
BANDWIDTH_EFFICIENCY = 0.7  # of the published bandwidth, likewise
KERNEL_LAUNCH_SECONDS = 10e-6  # of an operation in eager torch, with Python's part; assumed
CONTEXT_BYTES = 800_000_000  # memory of CUDA and its libraries before the first tensor
USABLE_MEMORY_FRACTION = 0.95  # the allocator leaves gaps
# How much the C library's heap takes for a step's activations and gradients, which come and go in many sizes: measured
# over whole runs of `talim train` (docs/reports/cost-model.md). Weights and optimiser state stay where they are.
HEAP_GROWTH = 1.55
MAKERS = re.compile(r"^(nvidia-|amd-)?(geforce-|instinct-|radeon-)?")  # as systems report names


# Bytes besides tensors, by the base's family and precision: Python and its libraries, or the CUDA context.
OverheadBytes = Callable[[str, str], float]


def _no_overhead(family: str, precision: str) -> float:
    return 0.0


def heap_bytes(trace: Trace) -> float:
    """What a trace's tensors take in the memory of a process."""
    return trace.resident_bytes + HEAP_GROWTH * (trace.peak_bytes - trace.resident_bytes)


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
    overhead_bytes: OverheadBytes = _no_overhead  # besides tensors
    note: str = ""  # source of the rates
    hurried: bool = False  # other work took the machine while its rates were measured: times are rough

    @property
    def precision(self) -> str:
        """The default precision of a base."""
        return "bf16" if self.bf16 else "fp32"

    @property
    def usable_bytes(self) -> float:
        """Memory for tensors and the runtime together."""
        return self.memory_bytes * USABLE_MEMORY_FRACTION

    def needed_bytes(self, trace: Trace, family: str, precision: str) -> int:
        """Peak memory of a trace with everything around it: of the process on a CPU, of the device on a GPU."""
        tensors = trace.peak_bytes if self.gpu else heap_bytes(trace)
        return round(tensors + self.overhead_bytes(family, precision))

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


@lru_cache(maxsize=1)
def gpu_table() -> Mapping[str, GpuSpec]:
    """The GPUs of `gpus.yaml` by name."""
    rows = yaml.safe_load((Path(__file__).parent / "gpus.yaml").read_text(encoding="utf-8"))
    return {name: GpuSpec(name, *numbers) for name, numbers in rows.items()}


def _context_bytes(family: str, precision: str) -> float:
    return CONTEXT_BYTES


def unrated_gpu_profile(name: str, memory_bytes: float) -> HardwareProfile:
    """A GPU of which the memory is known and no rates: it predicts what a training needs, but no time."""
    return HardwareProfile(name, memory_bytes, {}, 0.0, overhead_bytes=_context_bytes)


def gpu_profile(name: str) -> HardwareProfile:
    """The profile of a GPU of the table; UsageError, with similar names, for one that is not in it."""
    gpus, plain = gpu_table(), MAKERS.sub("", name.strip().lower().replace(" ", "-"))
    spec = gpus.get(plain)
    if spec is None:
        near = difflib.get_close_matches(plain[:40], gpus, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise UsageError(
            f"--gpu {name[:40]!r} is not in the table: {hint}known: {', '.join(gpus)}. Rates of your own "
            "cannot be given: plan with the nearest one, and --memory-gb and --watts of yours"
        )
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
        overhead_bytes=_context_bytes,
        note=f"published rates, of which {MATMUL_EFFICIENCY:.0%} (matrix products) and "
        f"{BANDWIDTH_EFFICIENCY:.0%} (memory) are assumed; power is the board's limit",
    )
