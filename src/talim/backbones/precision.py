"""Chooses the dtype of a base model for the hardware, with a reason to show."""

from __future__ import annotations

from pathlib import Path

import torch

from talim.errors import UsageError

PRECISION_CHOICES = ("auto", "bf16", "fp32")
FP16_REASON = "MusicGen's activations overflow in fp16"


def choose_precision(requested: str, device: torch.device | str) -> tuple[torch.dtype, str]:
    """The dtype of the frozen decoder and the reason; UsageError for fp16 and unknown names."""
    if requested == "fp16":
        raise UsageError(f"precision fp16 is not supported: {FP16_REASON}; use bf16, fp32 or auto")
    if requested not in PRECISION_CHOICES:
        raise UsageError(f"precision {requested!r} is unknown; use one of {', '.join(PRECISION_CHOICES)}")
    fast, hardware = has_bf16(torch.device(device))
    if requested == "fp32":
        return torch.float32, "fp32, as requested"
    if requested == "bf16":
        return (torch.bfloat16, "bf16, as requested" if fast else f"bf16, as requested ({hardware}: slower than fp32)")
    return (torch.bfloat16, f"bf16: {hardware}") if fast else (torch.float32, f"fp32: {hardware}")


def has_bf16(device: torch.device) -> tuple[bool, str]:
    """Whether a device computes in bf16 natively, and a sentence about it."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        # by default emulated bf16 counts as supported
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return True, f"{name} has bf16 instructions"
        return False, f"{name} has no bf16 instructions"
    if device.type == "cpu":
        flags = cpu_flags()
        bf16_flags = sorted(flags & {"avx512_bf16", "amx_bf16", "bf16"})
        if bf16_flags:
            return True, f"this CPU has bf16 instructions ({', '.join(bf16_flags)})"
        return False, "this CPU has no bf16 instructions"
    return False, f"bf16 is not used on {device.type}"


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> set[str]:
    """Instruction sets that the CPU reports ("avx512_bf16" on x86, "bf16" on ARM); empty if it reports none."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip().lower() in {"flags", "features"}:
            return set(value.split())
    return set()
