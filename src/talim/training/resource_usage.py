"""What a run cost: wall and device time, peak memory, energy where the hardware tells, FLOPs."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import psutil
import torch
from torch.utils.flop_counter import FlopCounterMode

if TYPE_CHECKING:
    from talim.backbones.protocol import Backbone

T = TypeVar("T")


class ResourceMeter:
    """Counts from its creation, on top of what earlier parts of the same run had spent."""

    def __init__(self, device: torch.device, spent: dict[str, float] | None = None) -> None:
        self.device = device
        self._spent = dict(spent or {})
        self._began = time.perf_counter()
        self._device_seconds = self._cpu_seconds = 0.0
        self._energy = EnergyCounter(device)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def timed(self, work: Callable[[], T]) -> T:
        """Run `work` and count its time as device time, and the processor's; waits for the accelerator to finish."""
        self._synchronise()
        began, worked = time.perf_counter(), time.process_time()
        result = work()
        self._synchronise()
        self._device_seconds += time.perf_counter() - began
        self._cpu_seconds += time.process_time() - worked
        return result

    @property
    def wall_seconds(self) -> float:
        """Seconds since the run first began, without the pauses between its parts."""
        return self._spent.get("wall_seconds", 0.0) + time.perf_counter() - self._began

    @property
    def elapsed_this_session(self) -> float:
        """Device time of this process since the meter was made."""
        return self._device_seconds

    def spent(self) -> dict[str, float]:
        """The counters so far, for the checkpoint. `energy_joules` is absent where no part could tell."""
        counted = {
            "wall_seconds": self.wall_seconds,
            "device_seconds": self._spent.get("device_seconds", 0.0) + self._device_seconds,
            "cpu_seconds": self._spent.get("cpu_seconds", 0.0) + self._cpu_seconds,
            "peak_memory_bytes": max(self._spent.get("peak_memory_bytes", 0), peak_memory_bytes(self.device)),
        }
        joules = self._energy.joules()
        if joules is not None:
            counted["energy_joules"] = self._spent.get("energy_joules", 0.0) + joules
        return counted

    def report(self, everyone: Sequence[dict[str, float]] = ()) -> dict[str, Any]:
        """`spent`, with a reason beside an unknown energy and the name of the device.

        Of many processes, what `everyone` spent, all of one kind of device.
        """
        counted: dict[str, Any] = combine_usage(everyone or [self.spent()])
        counted["processes"] = max(1, len(everyone))
        counted["peak_memory_bytes"] = int(counted["peak_memory_bytes"])
        counted.setdefault("energy_joules", None)
        counted["energy_note"] = self._energy.note
        counted["memory_note"] = (
            "most GPU memory held by tensors" if self.device.type == "cuda" else "most memory of the process"
        )
        name = device_name(self.device)
        counted["device"] = f"{len(everyone)} x {name}" if len(everyone) > 1 else name
        return counted

    def _synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def combine_usage(spent: Sequence[dict[str, float]]) -> dict[str, float]:
    """What processes that worked together spent: added up, but time on the clock once and memory as in the largest."""
    total = dict(spent[0])
    for other in spent[1:]:
        for name, value in other.items():
            if name == "peak_memory_bytes":
                total[name] = max(total[name], value)
            elif name != "wall_seconds":
                total[name] = total.get(name, 0.0) + value
    return total


class EnergyCounter:
    """NVML's energy counter, from creation on. It counts the whole GPU, not this process alone."""

    def __init__(self, device: torch.device) -> None:
        self._handle = self._nvml = None
        self._first = 0
        if device.type != "cuda":
            self.note = "not known: this hardware has no energy counter that talim can read"
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
            self.note = "not known: install talim[energy] to read the GPU's counter"
        except Exception as error:
            self.note = f"not known: the GPU does not tell ({' '.join(str(error).split())})"

    def joules(self) -> float | None:
        """Energy since creation, or None where the hardware does not tell."""
        if self._nvml is None:
            return None
        return (self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle) - self._first) / 1000.0


def count_flops(work: Callable[[], T]) -> tuple[T, int]:
    """Run `work` once and count the floating-point operations of its matrix products and attention."""
    counter = FlopCounterMode(display=False)
    with counter:
        result = work()
    return result, counter.get_total_flops()


def peak_memory_bytes(device: torch.device) -> int:
    """The most memory so far: of tensors on a GPU, else of this process as the system counts it."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows: psutil knows the peak there
        return int(getattr(psutil.Process().memory_info(), "peak_wset", psutil.Process().memory_info().rss))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def device_name(device: torch.device) -> str:
    """`NVIDIA H100 80GB HBM3`, or `CPU, 2 cores`."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cores = len(psutil.Process().cpu_affinity()) if sys.platform == "linux" else psutil.cpu_count()
    return f"CPU, {cores} cores" if device.type == "cpu" else str(device)


class MemoryGrowth:
    """How much memory a stretch of work takes at its peak, the base's own weights among it, whatever ran before.

    `peak_bytes` is set when the block ends: of tensors on a GPU; on a Linux CPU what the process grew by, and the base;
    None where the system does not tell.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.device = backbone.device
        self.peak_bytes: int | None = None
        weights = [*backbone.model.parameters(), *backbone.model.buffers()]
        self.base_bytes = sum(weight.numel() * weight.element_size() for weight in weights)

    def __enter__(self) -> MemoryGrowth:
        gc.collect()
        if self.device.type == "cpu":
            _trim()
            self._known = reset_peak_memory()
            self._began = resident_bytes()
        return self

    def __exit__(self, *_: object) -> None:
        if self.device.type == "cuda":  # the meter began to count anew
            self.peak_bytes = torch.cuda.max_memory_allocated(self.device)
        elif self.device.type == "cpu" and self._known:
            self.peak_bytes = max(0, resident_bytes(peak=True) - self._began) + self.base_bytes


def reset_peak_memory() -> bool:
    """Let Linux count this process's peak anew; whether it did."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def resident_bytes(peak: bool = False) -> int:
    """Memory of this process now, or the most since `forget_peak`; all but Linux tell only what it is now."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return psutil.Process().memory_info().rss
    word = "VmHWM:" if peak else "VmRSS:"
    return next(int(line.split()[1]) for line in lines if line.startswith(word)) * 1024


def _trim() -> None:
    """Give back to the system what the C library holds ready, so that it is not taken for the next work's."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
