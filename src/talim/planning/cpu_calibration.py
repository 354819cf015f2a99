"""Calibration of this CPU: kernels of training timed at typical sizes, once, and the result cached on disk.

`python -m talim.planning.cpu_calibration speed 2` prints the rates with two threads or one, `... mustango/bf16 1` the
memory of a small training besides its tensors, as the last of its lines; those before count what is done. Each is
measured in a separate process, and only when it is asked for.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.nn import functional as F

from talim.atomic_io import parse_json, write_text
from talim.backbones.precision import cpu_name, has_bf16
from talim.errors import TalimError, UsageError
from talim.planning import hardware, tracer, training_step
from talim.planning.hardware import HardwareProfile, OverheadBytes
from talim.progress import Progress, format_duration

ROUNDS, ROUND_SECONDS = 3, 0.01  # repetitions of one kernel
# By the clock on the wall, which on a busy machine runs on while others compute: of all kernels with one number of
# threads, of the steps after them, and of the training whose memory is measured.
KERNEL_SECONDS, STEP_SECONDS, TRAINING_SECONDS = 10.0, 5.0, 60.0
FRAMES, WIDTH, HEADS, CHANNELS = 256, 1024, 16, 320
WEIGHTS = 1024 * 1024
DTYPES = (torch.float32, torch.bfloat16)
ATEN = torch.ops.aten
UNTIMED: Mapping[str, Any] = {"rates": {}, "launch_seconds": 0.0}

Clock = Callable[[], float]


def hardware_profile(
    gpu: str | None, watts: float | None, cache: Path, recalibrate: bool = False, progress: Progress | None = None
) -> HardwareProfile:
    """A GPU of the table, or this CPU where `gpu` is None; `watts` replaces the published power."""
    if gpu is not None:
        profile = hardware.gpu_profile(gpu)
        return profile if watts is None else replace(profile, watts=watts)
    return cpu_profile(cache, watts, recalibrate, progress)


def device_profile(
    device: str, cache: Path, progress: Progress | None = None, *, rates: bool = True
) -> HardwareProfile:
    """The machine that trains on `device` ("cpu", "cuda", "cuda:1"); a GPU outside the table has no rates.

    Without `rates` it predicts memory alone, and a CPU is not timed.
    """
    target = torch.device(device)
    if target.type != "cuda":
        return cpu_profile(cache, progress=progress, rates=rates)
    found = torch.cuda.get_device_properties(target)
    try:
        return hardware.gpu_profile(found.name)
    except UsageError:
        return hardware.unrated_gpu_profile(found.name, float(found.total_memory))


def measured_profile(device: str, cache: Path) -> HardwareProfile | None:
    """The machine that trains on `device`, without measuring anything; None for a CPU that was not timed yet."""
    is_timed = torch.device(device).type == "cuda" or "speed" in _read_calibration(_calibration_file(cache))
    profile = device_profile(device, cache) if is_timed else None
    return profile if profile is not None and profile.rates else None


def cpu_profile(
    cache: Path,
    watts: float | None = None,
    recalibrate: bool = False,
    progress: Progress | None = None,
    *,
    rates: bool = True,
) -> HardwareProfile:
    """This CPU, with as many threads as torch uses now; its calibration is cached in the folder `cache`.

    Without `rates` it is not timed, and predicts memory alone.
    """
    threads, file = torch.get_num_threads(), _calibration_file(cache)
    if recalibrate:
        file.unlink(missing_ok=True)
    calibration = _read_calibration(file)
    progress = progress or Progress()
    if rates and "speed" not in calibration:
        progress.log(
            f"timing this CPU once, for about 20 s, longer while it has other work; the result is kept in {file}"
        )

    def measured(name: str, measure: Callable[[], Any]) -> Any:
        """The value of this name: from the file, or measured and stored now."""
        calibration.update({**_read_calibration(file), **calibration})  # another process may have added to it
        if name not in calibration:
            start = time.monotonic()
            calibration[name] = measure()
            write_text(file, json.dumps(calibration))
            hurried = name == "speed" and calibration[name].get("hurried")
            rough = "; it was busy, so roughly: talim plan --recalibrate measures again" if hurried else ""
            progress.log(f"measured in {format_duration(time.monotonic() - start)}{rough}")
        return calibration[name]

    def overhead_bytes(family: str, precision: str) -> float:
        name = f"{family}/{precision}"
        if name not in calibration:
            progress.log(
                f"measuring the memory of a short {family} training in {precision} once, for half a minute, longer "
                "while this CPU has other work"
            )
        # with one thread: the memory is nearly the same, and several wait for each other on a busy machine
        return measured(name, lambda: measure_in_subprocess(name, 1, progress))

    speed = measured("speed", lambda: measure_in_subprocess("speed", threads, progress)) if rates else UNTIMED
    return to_hardware_profile(speed, threads, watts, overhead_bytes)


def stored_overhead(cache: Path, family: str, precision: str) -> float | None:
    """What `cpu_profile` measured of the memory besides tensors; None if it was not measured here yet."""
    return _read_calibration(_calibration_file(cache)).get(f"{family}/{precision}")


def _calibration_file(cache: Path) -> Path:
    key = [cpu_name(), torch.get_num_threads(), torch.__version__, Path(__file__).read_text(encoding="utf-8")]
    return cache / f"cpu-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]}.json"


def _read_calibration(file: Path) -> dict[str, Any]:
    """What was measured before; empty where nothing was, or the file is damaged."""
    try:
        values = parse_json(file.read_text(encoding="utf-8"))
        return {key: value for key, value in values.items() if key != "speed" or UNTIMED.keys() <= value.keys()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def to_hardware_profile(
    speed: Mapping[str, Any],
    threads: int,
    watts: float | None = None,
    overhead_bytes: OverheadBytes = lambda family, precision: 0.0,
) -> HardwareProfile:
    """A profile from the result of `measure_speed`; KeyError where something is missing."""
    bf16, reason = has_bf16(torch.device("cpu"))
    note = f"{cpu_name()}, {threads} thread{'s' * (threads > 1)}, measured here; {reason}"
    rates, launch_seconds, hurried = speed["rates"], speed["launch_seconds"], bool(speed.get("hurried"))
    memory, of_cpu = float(psutil.virtual_memory().total), {"gpu": False, "note": note, "hurried": hurried}
    return HardwareProfile(
        "this CPU", memory, rates, launch_seconds, watts, bf16, overhead_bytes=overhead_bytes, **of_cpu
    )


def measure_in_subprocess(what: str, threads: int, progress: Progress | None = None) -> Any:
    """`measure_speed` ("speed") or `measure_overhead` ("musicgen/bf16") in another process; TalimError if it fails."""
    progress, value = progress or Progress(), None
    arguments = [sys.executable, "-m", __name__, what, str(threads)]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            for line in process.stdout or ():
                value = json.loads(line)
                if isinstance(value, list):
                    progress.step(*value)
        except BaseException:
            process.kill()
            raise
        finally:
            process.communicate()
        if process.returncode:
            errors.seek(0)
            raise TalimError(f"this CPU could not be calibrated: {errors.read().strip().splitlines()[-1:]}")
    return value


@dataclass
class Stopwatch:
    """What is left of a time on the wall for a number of measurements, evenly divided among those to come."""

    seconds: float
    parts: int
    overrun: int = 0  # measurements that took more than their part

    def __post_init__(self) -> None:
        self.end = time.monotonic() + self.seconds

    def next_deadline(self) -> float:
        """When the next measurement has to end, of the monotonic clock."""
        now = time.monotonic()
        deadline = now + max(0.0, self.end - now) / max(1, self.parts)
        self.parts -= 1
        return deadline


def measure_speed(threads: int = 1, report: Callable[[int, int], None] = lambda done, total: None) -> dict[str, Any]:
    """The rates, and the launch overhead from a training step so short that little else counts.

    On a busy machine several threads can be slower than one, because they wait for each other at every call. So one
    thread is timed too (by its CPU time), and of each operation the faster counts. "hurried": most kernels took more
    time than they have. `report` is told how much of how much is done.
    """
    config = replace(training_step.MINIATURE, crop_seconds=0.2, precision="fp32")
    trace = training_step.trace_step(config)
    counts = sorted({threads, 1}, reverse=True)
    kernels, rates, launches, overrun = len(DTYPES) * len(_BUILDERS), dict[str, float](), list[float](), 0
    for number, count in enumerate(counts):
        torch.set_num_threads(count)
        clock = time.perf_counter if count > 1 else time.process_time
        watch = Stopwatch(KERNEL_SECONDS, kernels)
        found = measure_rates(
            clock, watch, lambda done, first=number * kernels: report(first + done, len(counts) * kernels)
        )
        overrun += watch.overrun
        rates = {name: max(rate, rates.get(name, 0.0)) for name, rate in found["rates"].items()}
        predicted = to_hardware_profile({**found, "launch_seconds": 0.0}, 1).seconds(trace)
        measured = training_step.measure_step(config, 6, clock, STEP_SECONDS).step_seconds
        launches.append(max(measured - predicted, 0.0) / trace.calls)
    return {"rates": rates, "launch_seconds": min(launches), "hurried": overrun > len(counts) * kernels / 2}


def measure_rates(
    clock: Clock = time.process_time, watch: Stopwatch | None = None, report: Callable[[int], None] = lambda done: None
) -> dict[str, Any]:
    """FLOP/s or bytes/s by "operation/dtype"; "flops/dtype" and "bytes/dtype" are those of all other operations."""
    rates: dict[str, float] = {}
    watch = watch or Stopwatch(float("inf"), 1)
    tiny = torch.ones(1)
    call_seconds = _seconds(lambda: tiny + 1, clock)  # a call from Python with next to no computation
    for dtype in DTYPES:
        dtype_name = str(dtype).removeprefix("torch.")
        for name, build in _BUILDERS.items():
            kernel = build(dtype)
            deadline = watch.next_deadline()
            operations = _traced_operations(name, kernel)
            seconds = max(_seconds(kernel, clock, deadline, called=1) - call_seconds, 1e-9)
            watch.overrun += time.monotonic() > deadline
            flops = sum(operation.flops * calls for operation, calls in operations)
            moved_bytes = sum(operation.bytes * calls for operation, calls in operations)
            rates[f"{name}/{dtype_name}"] = (flops or moved_bytes) / seconds
            report(len(rates))
    for dtype in DTYPES:
        dtype_name = str(dtype).removeprefix("torch.")
        rates[f"flops/{dtype_name}"] = rates[f"mm/{dtype_name}"]
        rates[f"bytes/{dtype_name}"] = rates[f"mul/{dtype_name}"]
    return {"rates": rates}


def measure_overhead(family: str, precision: str, progress: Progress | None = None) -> int:
    """Memory of a training besides its tensors: Python, the libraries, code and tables of the kernels, encoded clips.

    Measured with a miniature base: the peak memory of this process over a short real training minus that of the trace.
    """
    from talim.planning import sample_training

    config = replace(training_step.MINIATURE, base=f"nano-{family}", precision=precision)
    process_bytes = sample_training.peak_bytes(config, max_seconds=TRAINING_SECONDS, progress=progress)
    return max(0, round(process_bytes - hardware.heap_bytes(training_step.trace_step(config))))


def _traced_operations(name: str, kernel: Callable[[], Any]) -> list[tuple[tracer.OperationCost, int]]:
    with tracer.TensorTracer() as tensor_tracer:
        kernel()
    operations = tensor_tracer.result().operations
    return [(cost, calls) for cost, calls in operations if cost.name.removesuffix("_") == name]


def _seconds(kernel: Callable[[], Any], clock: Clock, deadline: float = float("inf"), called: int = 0) -> float:
    """Seconds per call: the best of some rounds, or of as many as end in time; of one call at least, after another.

    `called` says how often it was called before.
    """
    for number in range(called, 3):
        if number and time.monotonic() > deadline:
            break
        kernel()
    start = clock()
    kernel()
    best = clock() - start
    calls = max(1, int(ROUND_SECONDS / max(best, 1e-6)))
    for _ in range(ROUNDS):
        if time.monotonic() > deadline:
            break
        start = clock()
        for _ in range(calls):
            kernel()
        best = min(best, (clock() - start) / calls)
    return max(best, 1e-9)


def _random(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(*shape).to(dtype)


def _shrinking(dtype: torch.dtype) -> int:
    """By how much products are smaller where the hardware has no bf16: a single one would take seconds."""
    return 1 if dtype == torch.float32 or has_bf16(torch.device("cpu"))[0] else 4


def _mm(dtype: torch.dtype) -> Callable[[], Any]:
    """Products as in forward and backward passes, with square, wide and narrow weights."""
    frames = FRAMES // _shrinking(dtype)
    hidden, wide = _random(frames, WIDTH, dtype=dtype), _random(frames, 4 * WIDTH, dtype=dtype)
    square, up = _random(WIDTH, WIDTH, dtype=dtype), _random(4 * WIDTH, WIDTH, dtype=dtype)
    return lambda: (hidden @ square.t(), hidden @ square, hidden @ up.t(), wide @ up)


def _attention(dtype: torch.dtype, backward: bool) -> Callable[[], Any]:
    q, k, v = (_random(1, HEADS, FRAMES, WIDTH // HEADS, dtype=dtype) for _ in range(3))
    kernel = ATEN._scaled_dot_product_flash_attention_for_cpu
    if not backward:
        return lambda: kernel(q, k, v, 0.0, True)
    out, sums = kernel(q, k, v, 0.0, True)
    gradient = torch.ones_like(out)
    return lambda: ATEN._scaled_dot_product_flash_attention_for_cpu_backward(gradient, q, k, v, out, sums, 0.0, True)


def _convolution(dtype: torch.dtype, backward: bool) -> Callable[[], Any]:
    height = 64 // _shrinking(dtype)
    image, weight = _random(1, CHANNELS, height, 16, dtype=dtype), _random(CHANNELS, CHANNELS, 3, 3, dtype=dtype)
    if not backward:
        return lambda: F.conv2d(image, weight, padding=1)
    out = F.conv2d(image, weight, padding=1)
    settings: Any = ([0], [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [True, False, False])
    return lambda: ATEN.convolution_backward(out, image, weight, *settings)


def _on_hidden(kernel: Callable[..., Any], count: int = 1) -> Callable[[torch.dtype], Callable[[], Any]]:
    def build(dtype: torch.dtype) -> Callable[[], Any]:
        return partial(kernel, *(_random(FRAMES, 2 * WIDTH, dtype=dtype) for _ in range(count)))

    return build


def _on_weights(kernel: Callable[..., Any], count: int = 1) -> Callable[[torch.dtype], Callable[[], Any]]:
    def build(dtype: torch.dtype) -> Callable[[], Any]:
        return partial(kernel, *(_random(WEIGHTS, dtype=dtype).abs() for _ in range(count)))

    return build


def _norm(dtype: torch.dtype, backward: bool) -> Callable[[], Any]:
    hidden = _random(1, FRAMES, WIDTH, dtype=dtype)
    scale, shift = torch.ones(WIDTH, dtype=dtype), torch.zeros(WIDTH, dtype=dtype)
    out = ATEN.native_layer_norm(hidden, [WIDTH], scale, shift, 1e-5)
    if not backward:
        return lambda: ATEN.native_layer_norm(hidden, [WIDTH], scale, shift, 1e-5)
    settings: Any = (*out[1:], scale, shift, [True, False, False])
    return lambda: ATEN.native_layer_norm_backward(hidden, hidden, [WIDTH], *settings)


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
    "_log_softmax_backward_data": _on_hidden(lambda x, y: ATEN._log_softmax_backward_data(x, y, -1, x.dtype), 2),
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


class _PrintedSteps(Progress):
    """For the process that waits for this one."""

    def step(self, title: str, done: int, total: int, facts: str = "") -> None:
        print(json.dumps([f"measuring the memory: {title}", done, total]), flush=True)


def _print_count(done: int, total: int) -> None:
    print(json.dumps(["timing this CPU", done, total]), flush=True)


if __name__ == "__main__":
    what, threads = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(threads)
    if what == "speed":
        print(json.dumps(measure_speed(threads, _print_count)))
    else:
        print(json.dumps(measure_overhead(*what.split("/"), progress=_PrintedSteps())))
