"""Devices by name: which names there are, and which device of this machine a name means."""

from __future__ import annotations

import re

from talim.errors import TalimError, UsageError

DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d{1,3})?")


def check_device_name(name: str) -> None:
    """UsageError unless the name is auto, cpu, mps, cuda or cuda:N; imports no torch."""
    if not DEVICE.fullmatch(name):
        raise UsageError(
            f"--device is {name[:60]!r}; it must be auto, cpu, cuda (a GPU; cuda:1 is the second) or mps (Apple)"
        )


def pick_device(requested: str) -> str:
    """The device that a name means on this machine; "auto" is a GPU if there is one. TalimError if it is not there."""
    import torch

    check_device_name(requested)
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if requested == "auto":
        return "cuda" if gpus else "cpu"
    if requested.startswith("cuda") and not gpus:
        raise TalimError(f"device {requested!r} was requested, but torch finds no GPU; use cpu or auto")
    if ":" in requested and int(requested.partition(":")[2]) >= gpus:
        raise TalimError(f"device {requested!r} was requested, but there are {gpus} GPUs, cuda:0 to cuda:{gpus - 1}")
    if requested == "mps" and not torch.backends.mps.is_available():
        raise TalimError("device 'mps' was requested, but torch finds no Apple GPU; use cpu or auto")
    return requested
