"""Choosing the dtype by hardware, with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from talim.backbones import precision
from talim.errors import UsageError

X86 = "processor\t: 0\nflags\t\t: fpu avx512f {more} sse\nbugs\t: none\n"


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch):
    def give(*flags: str) -> None:
        monkeypatch.setattr(precision, "cpu_flags", lambda: {"fpu", *flags})

    return give


@pytest.mark.parametrize("flag", ["avx512_bf16", "amx_bf16", "bf16"])
def test_choose_precision_auto_on_bf16_cpu_gives_bf16(cpu, flag: str) -> None:
    cpu(flag)
    dtype, reason = precision.choose_precision("auto", "cpu")
    assert dtype is torch.bfloat16
    assert flag in reason
    assert precision.choose_precision("fp32", "cpu")[0] is torch.float32


def test_choose_precision_auto_on_other_cpu_gives_fp32(cpu) -> None:
    cpu("avx512f")
    dtype, reason = precision.choose_precision("auto", "cpu")
    assert dtype is torch.float32
    assert "no bf16" in reason
    dtype, reason = precision.choose_precision("bf16", "cpu")
    assert dtype is torch.bfloat16
    assert "slower" in reason


def test_has_bf16_on_gpu_asks_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Quick 9000")
    for has, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, has=has: has)
        dtype, reason = precision.choose_precision("auto", "cuda")
        assert dtype is expected
        assert "Quick 9000" in reason


def test_choose_precision_on_an_apple_gpu_is_fp32_unless_bf16_is_requested() -> None:
    assert precision.choose_precision("auto", "mps") == (torch.float32, "fp32: bf16 is not used on mps")
    assert precision.choose_precision("bf16", "mps")[0] is torch.bfloat16
    with pytest.raises(UsageError, match="decoding on a CPU, not on mps"):
        precision.choose_precision("int8", "mps")


def test_choose_precision_fp16_or_unknown_raises_usage_error() -> None:
    with pytest.raises(UsageError, match="overflow") as caught:
        precision.choose_precision("fp16", "cpu")
    assert "bf16, fp32 or auto" in str(caught.value)
    with pytest.raises(UsageError, match="'int4' is unknown; use one of auto, bf16, fp32, int8"):
        precision.choose_precision("int4", "cpu")


def test_choose_precision_int8_is_float32_outside_of_decoding_and_refused_on_a_gpu() -> None:
    dtype, reason = precision.choose_precision("int8", "cpu")
    assert dtype is torch.float32
    assert "int8 weights in decoding" in reason
    with pytest.raises(UsageError, match="decoding on a CPU, not on cuda"):
        precision.choose_precision("int8", "cuda")


def test_cpu_flags_are_read_from_cpuinfo(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(X86.format(more="avx512_bf16"), encoding="utf-8")
    assert {"avx512_bf16", "sse"} <= precision.cpu_flags(file)
    file.write_text("CPU implementer : 0x41\nFeatures\t: fp asimd bf16\n", encoding="utf-8")
    assert precision.cpu_flags(file) == {"fp", "asimd", "bf16"}
    assert precision.cpu_flags(tmp_path / "absent") == set()
