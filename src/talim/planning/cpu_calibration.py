"""How fast this CPU is at what training does: some kernels timed at sizes that training has, once, and kept.

`python -m talim.planning.cpu_calibration speed 1` prints the rates with one thread, `... bf16 1` the bytes of the runtime;
each is asked of a fresh process, where what torch's kernels take by being used can be told from tensors.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from talim.atomic_io import write_text
from talim.backbones.precision import has_bf16
from talim.errors import TalimError
from talim.planning import hardware, tracer, training_step
from talim.planning.hardware import HardwareProfile, total_memory_bytes
from talim.progress import Progress

ROUNDS, ROUND_SECONDS = 3, 0.01  # of repeating one kernel
FRAMES, WIDTH, HEADS, CHANNELS = 256, 1024, 16, 320
WEIGHTS = 1024 * 1024
DTYPES = (torch.float32, torch.bfloat16)
CPU_CLOCK: Callable[[], float] = (
    time.process_time
)  # of all threads together; wall time where there are several


def hardware_profile(
    gpu: str | None, watts: float | None, cache: Path, fresh: bool = False, progress: Progress | None = None
) -> HardwareProfile:
    """A GPU of the table, or this CPU where none is named; `watts` takes the place of what is published."""
    if gpu is not None:
        named = hardware.gpu_profile(gpu)
        return named if watts is None else replace(named, watts=watts)
    return cpu_profile(cache, watts, fresh, progress)


def cpu_profile(
    cache: Path, watts: float | None = None, fresh: bool = False, progress: Progress | None = None
) -> HardwareProfile:
    """This machine's CPU, with as many threads as torch uses now; the calibration is kept in `cache`."""
    threads = torch.get_num_threads()
    about = [cpu_name(), threads, torch.__version__, Path(__file__).read_text(encoding="utf-8")]
    file = cache / f"cpu-{hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]}.json"
    try:
        if not fresh:
            return to_hardware_profile(json.loads(file.read_text(encoding="utf-8")), threads, watts)
    except (OSError, ValueError, KeyError):
        pass
    (progress or Progress()).log("timing this CPU once (a minute)")
    found = calibrate_in_subprocess(threads)
    write_text(file, json.dumps(found))
    return to_hardware_profile(found, threads, watts)


def to_hardware_profile(
    found: Mapping[str, Any], threads: int, watts: float | None = None
) -> HardwareProfile:
    """What `in_own_process` told, as a machine; KeyError where something is missing."""
    bf16, why = has_bf16(torch.device("cpu"))
    said = f"{cpu_name()}, {threads} thread{'s' * (threads > 1)}, measured here; {why}"
    return HardwareProfile(
        "this CPU",
        total_memory_bytes(),
        found["rates"],
        found["start_seconds"],
        watts,
        bf16,
        gpu=False,
        runtime_bytes=found["runtime_bytes"],
        said=said,
    )


def cpu_name() -> str:
    """The CPU's name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return " ".join(dict.fromkeys(named)) or platform.machine()


def calibrate_in_subprocess(threads: int) -> dict[str, Any]:
    """All that is measured, each part by a fresh process; TalimError where one fails.

    Where something else holds a core, threads wait for each other at every call, and several are slower than one;
    so one is timed too (by its own CPU time), and of each operation the faster is believed.
    """
    runtime = {precision: measure_in_subprocess(precision, threads) for precision in training_step.DTYPES}
    found = measure_in_subprocess("speed", threads)
    if threads > 1:
        found = _best_rates(found, measure_in_subprocess("speed", 1))
    return {"runtime_bytes": runtime, **found}


def _best_rates(some: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    rates = {name: max(rate, others["rates"][name]) for name, rate in some["rates"].items()}
    return {"rates": rates, "start_seconds": min(some["start_seconds"], others["start_seconds"])}


def measure_in_subprocess(what: str, threads: int) -> Any:
    """`speed`, or the runtime's bytes in a precision, told by a fresh process; TalimError where it fails."""
    done = subprocess.run(
        [sys.executable, "-m", __name__, what, str(threads)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "1048576"},
    )
    if done.returncode:
        raise TalimError(f"this CPU could not be timed: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout)


def measure_speed() -> dict[str, Any]:
    """What `rates` finds, with what a call takes by itself in a real step: one so short that little else counts."""
    found = measure_rates()
    setting = replace(training_step.MINIATURE, seconds=0.2, precision="fp32")
    trace = training_step.trace_step(setting)
    bare = to_hardware_profile({**found, "start_seconds": 0.0, "runtime_bytes": {}}, 1).seconds(trace)
    taken = training_step.measure_step(setting, steps=6, now=CPU_CLOCK).step_seconds
    return {**found, "start_seconds": max(taken - bare, 0.0) / trace.calls}


def measure_rates() -> dict[str, Any]:
    """Rates by "operation/dtype" in FLOP/s or bytes/s; under "flops" and "bytes" those of all others."""
    found: dict[str, float] = {}
    one = torch.ones(1)
    start = _seconds(lambda: one + 1)  # of a call from Python that does nothing
    for dtype in DTYPES:
        word = str(dtype).removeprefix("torch.")
        for name, build in _BUILDERS.items():
            work = build(dtype)
            operations = _traced_operations(name, work)
            taken = max(_seconds(work) - start, 1e-9)
            flops = sum(operation.flops * times for operation, times in operations)
            moved = sum(operation.bytes * times for operation, times in operations)
            found[f"{name}/{word}"] = (flops or moved) / taken
        found[f"flops/{word}"], found[f"bytes/{word}"] = found[f"mm/{word}"], found[f"mul/{word}"]
    return {"rates": found}


def runtime_bytes(precision: str) -> int:
    """What a training step takes besides tensors: the code and the tables of the kernels that it runs.

    Told on the miniature that ships with talim: the resident memory of a few real steps less what the trace foretells.
    """
    setting = replace(training_step.MINIATURE, precision=precision)
    resident = training_step.measure_step(setting).resident_bytes
    return max(0, resident - training_step.trace_step(setting).peak_bytes)


def _traced_operations(name: str, work: Callable[[], Any]) -> list[tuple[tracer.OperationCost, int]]:
    follower = tracer.TensorTracer()
    with follower:
        work()
    return [(op, times) for op, times in follower.found().operations if op.name.removesuffix("_") == name]


def _seconds(work: Callable[[], Any]) -> float:
    """The time of a call when nothing else is in the way: the best of some rounds."""
    for _ in range(3):
        work()
    began = CPU_CLOCK()
    work()
    calls = max(1, int(ROUND_SECONDS / max(CPU_CLOCK() - began, 1e-6)))
    best = float("inf")
    for _ in range(ROUNDS):
        began = CPU_CLOCK()
        for _ in range(calls):
            work()
        best = min(best, (CPU_CLOCK() - began) / calls)
    return best


def _random(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(*shape).to(dtype)


def _mm(dtype: torch.dtype) -> Callable[[], Any]:
    """Forward through a weight and back through it, once each to a wider and to a narrower layer."""
    hidden, wide = _random(FRAMES, WIDTH, dtype=dtype), _random(FRAMES, 4 * WIDTH, dtype=dtype)
    square, up = _random(WIDTH, WIDTH, dtype=dtype), _random(4 * WIDTH, WIDTH, dtype=dtype)
    return lambda: (hidden @ square.t(), hidden @ square, hidden @ up.t(), wide @ up)


def _attention(dtype: torch.dtype, back: bool) -> Callable[[], Any]:
    q, k, v = (_random(1, HEADS, FRAMES, WIDTH // HEADS, dtype=dtype) for _ in range(3))
    forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    if not back:
        return lambda: forward(q, k, v, 0.0, True)
    out, sums = forward(q, k, v, 0.0, True)
    return lambda: backward(torch.ones_like(out), q, k, v, out, sums, 0.0, True)


def _convolution(dtype: torch.dtype, back: bool) -> Callable[[], Any]:
    image, weight = _random(1, CHANNELS, 64, 16, dtype=dtype), _random(CHANNELS, CHANNELS, 3, 3, dtype=dtype)
    if not back:
        return lambda: F.conv2d(image, weight, padding=1)
    out = F.conv2d(image, weight, padding=1)
    settings: Any = ([0], [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [True, False, False])
    return lambda: torch.ops.aten.convolution_backward(out, image, weight, *settings)


def _on_hidden(work: Callable[..., Any], count: int = 1) -> Callable[[torch.dtype], Callable[[], Any]]:
    def build(dtype: torch.dtype) -> Callable[[], Any]:
        tensors = [_random(FRAMES, 2 * WIDTH, dtype=dtype) for _ in range(count)]
        return lambda: work(*tensors)

    return build


def _on_weights(work: Callable[..., Any], count: int = 1) -> Callable[[torch.dtype], Callable[[], Any]]:
    def build(dtype: torch.dtype) -> Callable[[], Any]:
        tensors = [_random(WEIGHTS, dtype=dtype).abs() for _ in range(count)]
        return lambda: work(*tensors)

    return build


def _norm(dtype: torch.dtype, back: bool) -> Callable[[], Any]:
    hidden = _random(1, FRAMES, WIDTH, dtype=dtype)
    scale, shift = torch.ones(WIDTH, dtype=dtype), torch.zeros(WIDTH, dtype=dtype)
    out = torch.ops.aten.native_layer_norm(hidden, [WIDTH], scale, shift, 1e-5)
    if not back:
        return lambda: torch.ops.aten.native_layer_norm(hidden, [WIDTH], scale, shift, 1e-5)
    mask = [True, False, False]
    return lambda: torch.ops.aten.native_layer_norm_backward(
        hidden, hidden, [WIDTH], out[1], out[2], scale, shift, mask
    )


ATEN = torch.ops.aten
_BUILDERS: dict[str, Callable[[torch.dtype], Callable[[], Any]]] = {
    "mm": _mm,
    "_scaled_dot_product_flash_attention_for_cpu": lambda dtype: _attention(dtype, False),
    "_scaled_dot_product_flash_attention_for_cpu_backward": lambda dtype: _attention(dtype, True),
    "convolution": lambda dtype: _convolution(dtype, False),
    "convolution_backward": lambda dtype: _convolution(dtype, True),
    "native_layer_norm": lambda dtype: _norm(dtype, False),
    "native_layer_norm_backward": lambda dtype: _norm(dtype, True),
    "gelu": _on_hidden(F.gelu),
    "gelu_backward": _on_hidden(ATEN.gelu_backward, 2),
    "silu": _on_hidden(F.silu),
    "_softmax": _on_hidden(lambda x: torch.softmax(x, -1)),
    "_log_softmax": _on_hidden(lambda x: torch.log_softmax(x, -1)),
    "_log_softmax_backward_data": _on_hidden(
        lambda x, y: ATEN._log_softmax_backward_data(x, y, -1, x.dtype), 2
    ),
    "bernoulli": _on_hidden(lambda x: x.bernoulli_(0.9)),
    "cumsum": _on_hidden(lambda x: x.cumsum(0)),
    "sum": _on_hidden(lambda x: x.sum(0)),
    "cat": _on_hidden(lambda x, y: torch.cat([x, y], 1), 2),
    "_to_copy": _on_hidden(lambda x: x.to(torch.float32 if x.dtype != torch.float32 else torch.bfloat16)),
    "mul": _on_hidden(lambda x, y: x * y, 2),
    "add": _on_hidden(lambda x, y: x + y, 2),
    "sqrt": _on_weights(torch.sqrt),
    "div": _on_weights(lambda x: x / 3.0),
    "lerp": _on_weights(lambda x, y: x.lerp_(y, 0.1), 2),
    "addcmul": _on_weights(lambda x, y: x.addcmul_(y, y, value=0.1), 2),
    "addcdiv": _on_weights(lambda x, y, z: x.addcdiv_(y, z, value=-1e-9), 3),
    "linalg_vector_norm": _on_weights(torch.linalg.vector_norm),
}  # fmt: skip


if __name__ == "__main__":
    what, threads = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(threads)
    if threads > 1:
        CPU_CLOCK = time.perf_counter
    print(json.dumps(measure_speed() if what == "speed" else runtime_bytes(what)))
