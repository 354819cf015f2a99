"""The benchmark of decoding: its rows, and the loss with int8."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import decoding

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_benchmark_prints_rows_with_ratios() -> None:
    command = [sys.executable, "-m", "benchmarks.decoding", "--shapes", "nano", "--batches", "1,2", "--rounds", "1"]
    command += ["--precisions", "fp32,int8", "--designs", "none,conv@post:2.5%", "--json"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    rows = json.loads(printed)["rows"]
    assert [(row["batch"], row["precision"], row["design"]) for row in rows] == [
        (batch, name, design) for design in ("none", "conv@post:2.5%") for name in ("fp32", "int8") for batch in (1, 2)
    ]
    for row in rows:
        assert row["low"] <= row["ratio"] <= row["high"]
        assert ("overhead" in row) == (row["design"] != "none")


@pytest.mark.slow
def test_int8_raises_the_loss_by_less_than_a_hundredth_of_a_nat() -> None:
    """And by more than nothing: it is quantised."""
    result = decoding.int8_loss(6, 5.0)
    assert 0 < result["difference_nats"] < 0.01
