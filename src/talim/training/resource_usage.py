"""What a run used: wall-clock and device time, peak memory, energy where the hardware measures it, FLOPs."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import platform
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import psutil
import torch
from torch.utils.flop_counter import FlopCounterMode

from talim.backbones.precision import processor
from talim.html.formatting import format_counted

if TYPE_CHECKING:
    from talim.backbones.protocol import Backbone

T = TypeVar("T")
MEMORY_NOTES = {"cuda": "peak GPU memory of tensors", "mps": "largest memory that Apple's GPU driver held after a step"}


class ResourceMeter:
    """Counts from its creation, on top of the `usage` of earlier sessions of the same run."""

    def __init__(self, device: torch.device, usage: dict[str, float] | None = None) -> None:
        self.device = device
        self._earlier = dict(usage or {})
        self._start = time.perf_counter()
        self._device_seconds = self._cpu_seconds = 0.0
        self._energy = EnergyCounter(device)
        self._peak_mps_bytes = 0  # Apple's GPU has no counter of the peak
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def timed(self, function: Callable[[], T]) -> T:
        """Call `function` and add its device and CPU time; waits for the accelerator to finish."""
        self._synchronise()
        start, cpu_start = time.perf_counter(), time.process_time()
        result = function()
        self._synchronise()
        if self.device.type == "mps":
            self._peak_mps_bytes = max(self._peak_mps_bytes, torch.mps.driver_allocated_memory())
        self._device_seconds += time.perf_counter() - start
        self._cpu_seconds += time.process_time() - cpu_start
        return result

    @property
    def wall_seconds(self) -> float:
        """Seconds of all sessions of the run."""
        return self._earlier.get("wall_seconds", 0.0) + time.perf_counter() - self._start

    @property
    def elapsed_this_session(self) -> float:
        """Device seconds since the meter was created."""
        return self._device_seconds

    def usage(self) -> dict[str, float]:
        """The totals of all sessions, for the checkpoint; without `energy_joules` where it was never measured."""
        usage = {
            "wall_seconds": self.wall_seconds,
            "device_seconds": self._earlier.get("device_seconds", 0.0) + self._device_seconds,
            "cpu_seconds": self._earlier.get("cpu_seconds", 0.0) + self._cpu_seconds,
            "peak_memory_bytes": max(
                self._earlier.get("peak_memory_bytes", 0), self._peak_mps_bytes or peak_memory_bytes(self.device)
            ),
        }
        joules = self._energy.joules()
        if joules is not None:
            usage["energy_joules"] = self._earlier.get("energy_joules", 0.0) + joules
        return usage

    def report(self, ranks: Sequence[dict[str, float]] = ()) -> dict[str, Any]:
        """The usage for cost.json (of all `ranks`, where there are several), with notes and the device's name."""
        usage = combine_usage(ranks or [self.usage()])
        name = device_name(self.device)
        return {
            "energy_joules": None,
            **usage,
            "processes": max(1, len(ranks)),
            "peak_memory_bytes": int(usage["peak_memory_bytes"]),
            "energy_note": self._energy.note,
            "memory_note": MEMORY_NOTES.get(self.device.type, "peak memory of the process"),
            "device": f"{len(ranks)} x {name}" if len(ranks) > 1 else name,
            **({"processor": processor()} if self.device.type == "cpu" else {}),
        }

    def _synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()


def combine_usage(ranks: Sequence[dict[str, float]]) -> dict[str, float]:
    """The sum over ranks, but the largest peak memory and the wall-clock time of the first."""
    total = dict(ranks[0])
    for usage in ranks[1:]:
        for name, value in usage.items():
            if name == "peak_memory_bytes":
                total[name] = max(total[name], value)
            elif name != "wall_seconds":
                total[name] = total.get(name, 0.0) + value
    return total


class EnergyCounter:
    """NVML's energy counter since creation; it counts the whole GPU, not this process alone."""

    def __init__(self, device: torch.device) -> None:
        self._handle = self._nvml = None
        self._first = 0
        if device.type != "cuda":
            self.note = (
                "not measured, as talim reads the energy counters of NVIDIA GPUs only; talim plan --watts predicts it"
            )
            return
        try:
            import pynvml  # pyright: ignore[reportMissingImports]

            pynvml.nvmlInit()
            uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
            self._first = pynvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)
            self._nvml = pynvml
            self.note = "NVML's counter of the whole GPU"
        except ImportError:
            self.note = (
                "not measured; for the GPU's counter type in the folder of talim's source: pip install '.[energy]'"
            )
        except Exception as error:
            self.note = f"not measured: the GPU's counter cannot be read ({' '.join(str(error).split())})"

    def joules(self) -> float | None:
        """Joules since creation; None where they cannot be measured."""
        if self._nvml is None:
            return None
        return (self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle) - self._first) / 1000.0


def count_flops(function: Callable[[], T]) -> tuple[T, int]:
    """Call `function` once and count the FLOPs of its matrix products, convolutions and attention."""
    counter = FlopCounterMode(display=False)
    with counter:
        result = function()
    return result, counter.get_total_flops()


def peak_memory_bytes(device: torch.device) -> int:
    """Peak memory until now: of tensors on a GPU (Apple's: as it is now), else the resident memory of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    if sys.platform == "linux":  # getrusage's peak would be that of the program which started this one, where larger
        return resident_bytes(peak=True)
    try:
        import resource
    except ImportError:  # Windows
        return int(getattr(psutil.Process().memory_info(), "peak_wset", psutil.Process().memory_info().rss))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def device_name(device: torch.device) -> str:
    """`NVIDIA H100 80GB HBM3`, `Apple GPU (arm)`, or `CPU, 2 cores`."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "mps":
        return f"Apple GPU ({platform.processor() or platform.machine()})"
    cores = len(psutil.Process().cpu_affinity()) if sys.platform == "linux" else psutil.cpu_count()
    return f"CPU, {format_counted(cores, 'core')}" if device.type == "cpu" else str(device)


class MemoryGrowth:
    """Context manager that measures the peak memory of a block, with the base's weights, whatever ran before.

    `peak_bytes` is set when the block ends: of tensors on a GPU; on a Linux CPU the growth of the process plus the
    base; elsewhere None.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.device = backbone.device
        self.peak_bytes: int | None = None
        weights = [*backbone.model.parameters(), *backbone.model.buffers()]
        self.base_bytes = sum(weight.numel() * weight.element_size() for weight in weights)

    def __enter__(self) -> MemoryGrowth:
        gc.collect()
        if self.device.type == "cpu":
            _trim_heap()
            self._measurable = reset_peak_memory()
            self._start_bytes = resident_bytes()
        return self

    def __exit__(self, *_: object) -> None:
        if self.device.type == "cuda":  # the ResourceMeter of the block reset the peak
            self.peak_bytes = torch.cuda.max_memory_allocated(self.device)
        elif self.device.type == "cpu" and self._measurable:
            self.peak_bytes = max(0, resident_bytes(peak=True) - self._start_bytes) + self.base_bytes


def memory_limit_bytes(device: torch.device) -> float:
    """The memory that this process can have: of the GPU, or of this machine without what others use, or its limit."""
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    if device.type == "mps":
        return float(torch.mps.recommended_max_memory())
    limit = psutil.virtual_memory().available + psutil.Process().memory_info().rss
    with contextlib.suppress(ImportError):
        import resource

        allowed = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
        limit = min([limit, *(each for each in allowed if each != resource.RLIM_INFINITY)])
    with contextlib.suppress(OSError, ValueError):  # of a container; "max" where there is none
        limit = min(limit, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    return float(limit)


def reset_peak_memory() -> bool:
    """Reset the peak of this process's resident memory; False where the system cannot (all but Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def resident_bytes(peak: bool = False) -> int:
    """Resident memory of this process, or its peak since `reset_peak_memory` (Linux only; elsewhere as it is now)."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return psutil.Process().memory_info().rss
    field = "VmHWM:" if peak else "VmRSS:"
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


def _trim_heap() -> None:
    """Return the C library's free memory to the system, so that it is not attributed to the measured block."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
