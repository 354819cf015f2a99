"""The benchmark of Mustango's sampling: its rows, and ratios within rounds."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks import mustango_sampling


def test_row_of_takes_ratios_within_rounds() -> None:
    times = {"slow": [(4.0, 2.0), (6.0, 3.0), (9.0, 3.0)], "fast": [(2.0, 1.0), (2.0, 1.0), (3.0, 2.0)]}
    row = mustango_sampling.row_of(times, "fast", "slow", per=2.0, pieces=2)
    assert (row["ratio"], row["low"], row["high"]) == (6.0, 4.0, 6.0)
    assert (row["processor_ratio"], row["milliseconds"], row["pieces"]) == (4.0, 2000.0, 2)


@pytest.mark.slow
def test_main_prints_a_row_for_every_setting(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mustango_sampling, "SAMPLED", ((1, 4, "ddpm"), (2, 4, "dpm++")))  # of 100 and 25 steps
    mustango_sampling.main(["--seconds", "0.2", "--rounds", "1", "--pieces", "1", "--json"])
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["what"] for row in rows] == ["step"] * 2 + ["piece"] * 2
    for row in rows:
        assert 0 < row["low"] <= row["ratio"] <= row["high"]
        assert row["shape"] == "nano"
        assert row["frames"] == 8


@pytest.mark.slow
def test_released_model_has_its_shape_and_little_memory() -> None:
    model = mustango_sampling.released_model(torch.bfloat16)
    assert model.own_parameters == 1_416_364_360
    kept = {weight.data_ptr(): weight.numel() for weight in model.unet.parameters()}
    assert sum(kept.values()) < 0.15 * model.own_parameters
