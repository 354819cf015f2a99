"""Tests of talim.backbones.devices: names of devices, and devices that are not there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from talim import progress
from talim.backbones import devices
from talim.backbones.devices import busy_cores, check_device_name, full_float32, pick_device
from talim.errors import TalimError, UsageError


@pytest.mark.parametrize(
    "name", ["tpu", "gpus", "CPU", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "", "xla", "meta", "x" * 300]
)
def test_unknown_device_names_are_refused_with_the_known_ones(name: str) -> None:
    for check in (check_device_name, pick_device):
        with pytest.raises(UsageError, match="it must be auto, cpu, cuda"):
            check(name)


def test_auto_is_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for count, device in ((0, "cpu"), (2, "cuda")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda count=count: bool(count))
        monkeypatch.setattr(torch.cuda, "device_count", lambda count=count: count)
        assert pick_device("auto") == device


@pytest.mark.parametrize(("name", "gpus"), [("cuda", 0), ("cuda:0", 0), ("cuda:2", 2), ("cuda:9", 1)])
def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, gpus: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(gpus))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(TalimError, match=r"finds no GPU|there are \d GPUs"):
        pick_device(name)


def test_names_of_devices_that_are_there_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [pick_device(name) for name in ("cpu", "cuda", "cuda:1")] == ["cpu", "cuda", "cuda:1"]


@pytest.mark.parametrize(
    ("threads", "held", "told"), [(2, 2.0, 1), (2, 1.7, 1), (4, 1.0, 3), (2, 0.4, None), (1, 4.0, None), (2, 1.0, None)]
)
def test_more_threads_than_other_programs_leave_cores_are_told_with_what_helps(
    threads: int, held: float, told: int | None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cores = 3 if (threads, held) == (2, 1.0) else max(2, threads)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(devices.psutil, "cpu_count", lambda: cores)
    monkeypatch.setattr(devices, "busy_cores", lambda: held)
    devices._tell_held_cores.cache_clear()
    pick_device("cpu")
    pick_device("cpu")
    said = capsys.readouterr().err
    assert said.count(f"OMP_NUM_THREADS={told}") == (told is not None)
    assert (f"other programs hold {held:.1f} of {cores} cores" in said) == (told is not None)


def test_busy_cores_leaves_out_what_waits_and_what_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    linux = SimpleNamespace(user=50.0, nice=10.0, system=5.0, idle=30.0, iowait=5.0)
    windows = SimpleNamespace(user=90.0, system=10.0, idle=0.0)
    monkeypatch.setattr(devices.psutil, "cpu_times_percent", lambda seconds, percpu: [linux, windows])
    assert busy_cores() == pytest.approx(1.55)


@pytest.fixture
def stand_in_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose torch says that it has an Apple GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    progress.log_once.cache_clear()


@pytest.mark.usefixtures("stand_in_mac")
@pytest.mark.parametrize("name", ["auto", "gpu", "mps"])
def test_a_mac_computes_on_its_gpu_and_is_told_what_that_cannot_do(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTORCH_ENABLE_MPS_FALLBACK", raising=False)
    assert pick_device(name) == "mps"
    said = capsys.readouterr().err
    assert ("device gpu: mps is used" in said) == (name == "gpu")
    for limit in ("float32", "bf16 is not used", "energy is not measured", "--device cpu"):
        assert limit in said
    pick_device(name)
    assert capsys.readouterr().err == ""  # once a process


@pytest.mark.usefixtures("stand_in_mac")
@pytest.mark.parametrize(("set_to", "told"), [("1", "it lacks run on the CPU"), (None, "it lacks fail"), ("0", "fail")])
def test_operations_that_an_apple_gpu_lacks_are_said_to_run_on_the_cpu_only_where_they_do(
    set_to: str | None, told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTORCH_ENABLE_MPS_FALLBACK", raising=False)
    if set_to is not None:
        monkeypatch.setenv("PYTORCH_ENABLE_MPS_FALLBACK", set_to)
    pick_device("mps")
    assert told in capsys.readouterr().err


@pytest.mark.usefixtures("stand_in_mac")
def test_a_mac_without_an_apple_gpu_uses_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert pick_device("auto") == "cpu"
    for name in ("gpu", "mps", "cuda"):
        with pytest.raises(TalimError, match="was requested, but torch finds"):
            pick_device(name)


def test_gpu_is_cuda_where_there_is_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    progress.log_once.cache_clear()
    assert pick_device("gpu") == "cuda"
    assert "device gpu: cuda is used" in capsys.readouterr().err


def test_cudnns_attention_is_off_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    before = torch.backends.cuda.cudnn_sdp_enabled()
    try:
        torch.backends.cuda.enable_cudnn_sdp(True)
        pick_device("cuda")
        assert not torch.backends.cuda.cudnn_sdp_enabled()
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)


def test_full_float32_is_without_tf32_and_is_left_again() -> None:
    cudnn: Any = torch.backends.cudnn
    conv, matmul = cudnn.conv, torch.backends.cuda.matmul
    before = (conv.fp32_precision, cudnn.rnn.fp32_precision, matmul.fp32_precision)
    conv.fp32_precision = "tf32"
    try:
        with full_float32():
            assert (conv.fp32_precision, matmul.fp32_precision) == ("ieee", "ieee")
        assert (conv.fp32_precision, matmul.fp32_precision) == ("tf32", before[2])
    finally:
        conv.fp32_precision = before[0]
