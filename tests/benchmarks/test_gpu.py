"""The GPU benchmark's self-test mode on the CPU, and its tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from talim.planning import hardware

NANO = ["--device", "cpu", "--shape", "nano", "--repeats", "1", "--design", "linear@all:2.5%", "--frames", "4"]
NANO += ["--batch", "1", "--clips", "1", "--seconds", "1"]


def test_main_on_cpu_measures_every_section_and_adds_the_predictions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(gpu, "TF32_CLIPS", 1)
    out = tmp_path / "gpu.json"
    gpu.main([*NANO, "--sections", "train,decode,tf32", "--out", str(out)])
    gpu.main(["--sections", "plan", "--gpu", "h200", "--out", str(out)])
    results = json.loads(out.read_text("utf-8"))
    (row,) = results["train"]
    assert len(row["step_seconds"]) == 1
    assert row["planned_bytes"] > 0
    assert row["planned_seconds"] > 0
    assert [row["design"] for row in results["decode"]] == [gpu.NO_ADAPTER, "linear@all:2.5%"]
    assert all(row["seconds"][0] > 0 for row in results["decode"])
    assert {row["setting"]: row["different"] for row in results["tf32"]} == dict.fromkeys(
        ("default", "TF32 off", "TF32 on"), 0
    )
    printed = capsys.readouterr().out
    assert printed.count("| nano | `linear@all:2.5%` | 1 x 1 s |") == 2
    assert "| nano | `no adapter` | 1 |" in printed


def test_main_without_time_names_the_rows_that_it_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    gpu.main([*NANO, "--sections", "train,decode", "--minutes", "0"])
    assert capsys.readouterr().out.count("| no time left |") == 3


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_main_without_cuda_says_so(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no CUDA device"):
        gpu.main(["--sections", "decode"])
    with pytest.raises(SystemExit):  # nothing to predict
        gpu.main(["--sections", "plan", "--out", str(tmp_path / "none.json")])
    with pytest.raises(SystemExit):
        gpu.main(["--sections", "other", "--device", "cpu"])


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("NVIDIA H200", "h200"),
        ("NVIDIA H100 80GB HBM3", "h100-80gb"),
        ("NVIDIA A100-SXM4-40GB", "a100-40gb"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("CPU, 2 cores", None),
    ],
)
def test_table_name_of_a_device_is_its_row_of_the_plan(device: str, name: str | None) -> None:
    assert gpu.table_name(device) == name
    assert name is None or name in hardware.gpu_table()
