"""Tests of talim.backbones.devices: names of devices, and devices that are not there."""

from __future__ import annotations

import pytest
import torch

from talim.backbones.devices import check_device_name, pick_device
from talim.errors import TalimError, UsageError


@pytest.mark.parametrize(
    "name", ["tpu", "gpu", "CPU", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "", "xla", "meta", "x" * 300]
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
