"""Chooses the dtype of a base model for the hardware, with a reason to show."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING

from talim.errors import UsageError

if TYPE_CHECKING:
    import torch

PRECISION_CHOICES = ("auto", "bf16", "fp32", "int8")
INT8 = "int8"  # of the weights while MusicGen is decoded on a CPU
FP16_REASON = "MusicGen's activations overflow in fp16"


def check_precision_name(requested: str, device: str = "cpu") -> None:
    """UsageError for fp16, unknown names, and int8 but on a CPU; imports no torch."""
    if requested == "fp16":
        raise UsageError(f"precision fp16 is not supported: {FP16_REASON}; use bf16, fp32 or auto")
    if requested not in PRECISION_CHOICES:
        raise UsageError(f"precision {requested!r} is unknown; use one of {', '.join(PRECISION_CHOICES)}")
    if requested == INT8 and device.partition(":")[0] not in ("cpu", "auto"):
        raise UsageError(f"precision int8 is for decoding on a CPU, not on {device}; use bf16, fp32 or auto")


def choose_precision(requested: str, device: torch.device | str) -> tuple[torch.dtype, str]:
    """The dtype of the frozen decoder and the reason; UsageError for fp16, unknown names, and int8 but on a CPU.

    With int8 the model is float32; only what decodes it step by step quantises the weights, and keeps keys and
    values of attention in bf16.
    """
    import torch

    check_precision_name(requested, torch.device(device).type)
    if requested == INT8:
        return torch.float32, "int8 weights in decoding, as requested; fp32 elsewhere"
    fast, hardware = has_bf16(torch.device(device))
    if requested == "fp32":
        return torch.float32, "fp32, as requested"
    if requested == "bf16":
        return (torch.bfloat16, "bf16, as requested" if fast else f"bf16, as requested ({hardware}: slower than fp32)")
    return (torch.bfloat16, f"bf16: {hardware}") if fast else (torch.float32, f"fp32: {hardware}")


def has_bf16(device: torch.device) -> tuple[bool, str]:
    """Whether a device computes in bf16 natively, and a sentence about it."""
    import torch

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


def cpu_name() -> str:
    """The CPU's model name, where the system has it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return " ".join(dict.fromkeys(names)) or platform.machine()


def processor() -> str:
    """The CPU's name with its instruction sets that make training much faster: `AMD EPYC (avx2, avx512f)`."""
    fast = sorted(cpu_flags() & {"avx2", "avx512f", "avx512_bf16", "amx_bf16", "bf16"})
    return f"{cpu_name()} ({', '.join(fast)})" if fast else cpu_name()
