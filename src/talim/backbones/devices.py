"""Devices by name: which device of this machine a name means, how it is set up, and what it cannot do."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import psutil

from talim import progress
from talim.errors import TalimError, UsageError
from talim.html.formatting import format_counted

DEVICE = re.compile(r"auto|cpu|mps|gpu|cuda(:\d{1,3})?")
MPS_LIMITS = (
    "device mps (an Apple GPU): the base is computed in float32, as bf16 is not used there; energy is not measured; "
    "memory is counted after each step; operations that it lacks "
)
RUN_ON_CPU = "run on the CPU (--device cpu if results look wrong)"
FAIL = "fail (--device cpu, or PYTORCH_ENABLE_MPS_FALLBACK=1 set before Python starts, which runs them on the CPU)"

HELD_TOLERANCE = 0.5  # of a core, which what runs beside everything takes


def check_device_name(name: str) -> None:
    """UsageError unless the name is auto, cpu, gpu, mps, cuda or cuda:N; imports no torch."""
    if not DEVICE.fullmatch(name):
        raise UsageError(
            f"--device is {name[:60]!r}; it must be auto, cpu, cuda (a GPU; cuda:1 is the second), mps (Apple) or gpu "
            "(whichever of the two is there)"
        )


def pick_device(requested: str) -> str:
    """The device that a name means on this machine, set up for talim: "cpu", "mps", "cuda" or "cuda:N".

    "auto" is a GPU if there is one, "gpu" a GPU in any case. TalimError if the device is not there.
    """
    import torch

    check_device_name(requested)
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    device = requested
    if requested in ("auto", "gpu"):
        device = "cuda" if gpus else "mps" if torch.backends.mps.is_available() else "cpu"
    if device == "cpu" and requested == "gpu":
        raise TalimError("device 'gpu' was requested, but torch finds neither a CUDA GPU nor an Apple one; use cpu")
    if device.startswith("cuda") and not gpus:
        raise TalimError(f"device {requested!r} was requested, but torch finds no GPU; use cpu or auto")
    if ":" in device and int(device.partition(":")[2]) >= gpus:
        raise TalimError(f"device {requested!r} was requested, but there are {gpus} GPUs, cuda:0 to cuda:{gpus - 1}")
    if device == "mps" and not torch.backends.mps.is_available():
        raise TalimError("device 'mps' was requested, but torch finds no Apple GPU; use cpu or auto")
    if requested == "gpu":
        progress.log_once(f"device gpu: {device} is used")
    _set_up(device)
    return device


def _set_up(device: str) -> None:
    import torch

    if device == "mps":
        falls_back = os.environ.get("PYTORCH_ENABLE_MPS_FALLBACK") == "1"  # the command line sets it
        progress.log_once(MPS_LIMITS + (RUN_ON_CPU if falls_back else FAIL))
    if device == "cpu":
        _tell_held_cores()
    if device.startswith("cuda"):
        # with a mask, cuDNN's attention can give gradients that are NaN, and a dropped caption is a row that is masked
        # throughout; the other kernels are as fast at these lengths
        torch.backends.cuda.enable_cudnn_sdp(False)


@cache
def _tell_held_cores() -> None:
    """Say once where PyTorch has more threads than other programs leave cores: they wait for each other at every call.

    Fewer threads are not taken instead: sums would be in another order, and one seed would give other music.
    """
    import torch

    if (threads := torch.get_num_threads()) == 1:
        return
    cores = psutil.cpu_count() or 1
    held = busy_cores()
    if cores - held < threads - HELD_TOLERANCE:
        progress.log_once(
            f"other programs hold {held:.1f} of {format_counted(cores, 'core')}: with {threads} threads, which wait "
            "for each other, this can take many times as long as with fewer; if it is slow, stop it and type "
            f"OMP_NUM_THREADS={max(1, int(cores - held))} before the same command"
        )


def busy_cores(seconds: float = 0.2) -> float:
    """How many cores other programs hold now, without those that give way to others (nice); waits for `seconds`."""
    times = psutil.cpu_times_percent(seconds, percpu=True)  # meanwhile this process sleeps
    free = [core.idle + getattr(core, "iowait", 0.0) + getattr(core, "nice", 0.0) for core in times]
    return sum(max(0.0, 100 - percent) for percent in free) / 100


# of what codecs store: a part of their hash, so that tokens from when GPUs encoded in TF32 are not taken for these
CODEC_ARITHMETIC = "float32 in whole"


@contextmanager
def full_float32() -> Iterator[None]:
    """Context in which a GPU computes float32 in whole, not in TF32, which is cuDNN's default for convolutions.

    What is stored for later must not depend on the machine: codec tokens are the nearest of many words.
    """
    import torch

    cudnn: Any = torch.backends.cudnn
    operations: tuple[Any, ...] = (cudnn.conv, cudnn.rnn, torch.backends.cuda.matmul)
    before = [operation.fp32_precision for operation in operations]
    for operation in operations:
        operation.fp32_precision = "ieee"
    try:
        yield
    finally:
        for operation, precision in zip(operations, before, strict=True):
            operation.fp32_precision = precision
