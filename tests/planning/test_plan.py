"""Tests of talim.planning.plan: predictions for designs and studies, suggestions for what does not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from talim.cli import main
from talim.corpus.manifest import Corpus
from talim.design.expression import Design
from talim.errors import TalimError, UsageError
from talim.planning import tables
from talim.planning.hardware import HardwareProfile
from talim.planning.plan import EnergyPrices, check_options, music_to_train_on, plan_designs, plan_total
from talim.planning.training_job import TrainingJob, TrainingMusic

RATES = {"flops/float32": 1e9, "flops/bfloat16": 2e9, "bytes/float32": 1e9, "bytes/bfloat16": 1e9}
HARDWARE = HardwareProfile("test", 8e9, RATES, 1e-6, watts=100.0, bf16=False)
DESIGN = "conv@all:10%"


@pytest.fixture(scope="module")
def trace_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("traces")


@pytest.fixture(scope="module")
def planned(tiny_base: Path, trace_folder: Path) -> Callable[..., dict[str, Any]]:
    def make(*designs: str, **options: Any) -> dict[str, Any]:
        arguments = {"crop_seconds": 4.0, "batch_size": 1, "cache": trace_folder, "hardware": HARDWARE} | options
        return plan_designs(str(tiny_base), designs or (DESIGN,), **arguments)

    return make


def test_plan_designs_compares_every_design_with_the_whole_model(planned: Any) -> None:
    result = planned(DESIGN, "lora@post:r4", steps=1350, prices=EnergyPrices(2.0, 0.5))
    whole, adapter, lora = result["designs"]
    assert [row["design"] for row in result["designs"]] == ["full@all", "conv@all:10%", "lora@post:r4"]
    assert (result["steps"], result["batch_size"]) == (1350, 1)
    assert set(whole["ratios"].values()) == {1.0}
    assert adapter["ratios"]["storage"] == adapter["file_bytes"] / whole["file_bytes"] < 0.5
    assert lora["memory_bytes"] < adapter["memory_bytes"] < whole["memory_bytes"]
    assert adapter["hours"] == pytest.approx(adapter["step_seconds"] * 1350 / 3600)
    assert adapter["energy_joules"] == pytest.approx(adapter["hours"] * 3600 * 100)
    money = adapter["hours"] * 2.0 + adapter["energy_joules"] / 3.6e6 * 0.5
    assert adapter["money"] == pytest.approx(money)


def test_plan_designs_with_music_counts_passes_and_a_full_training(planned: Any) -> None:
    result = planned(steps=90, batch_size=1, crop_seconds=4.0, music=TrainingMusic(120.0))
    assert result["music"] == {"hours": 120 / 3600, "passes": 3.0, "full_passes": 30, "full_steps": 900}
    assert all(row["full_hours"] == pytest.approx(10 * row["hours"]) for row in result["designs"])
    assert planned(steps=90)["music"] is None


def test_music_to_train_on_is_of_hours_or_of_a_corpus(tiny_base: Path, corpus_folder: Path, tmp_path: Path) -> None:
    base, corpus = str(tiny_base), Corpus.load(corpus_folder)
    assert music_to_train_on(base, None, None, None) == (None, None)
    assert music_to_train_on(base, 2.0, None, 5.0) == (TrainingMusic(7200.0), 5.0)
    music, crop_seconds = music_to_train_on(base, None, corpus_folder, None)
    assert music
    assert music.clips == len(corpus.train)
    assert crop_seconds == float(corpus.summary["clip_seconds"])
    assert music_to_train_on(base, None, corpus_folder, 1.5)[1] == 1.5
    with pytest.raises(UsageError, match="--hours-of-music and --corpus both say"):
        music_to_train_on(base, 2.0, corpus_folder, None)
    with pytest.raises(TalimError, match="not a corpus"):
        music_to_train_on(base, None, tmp_path, None)


def test_plan_designs_without_prices_or_power_predicts_no_money_or_energy(planned: Any) -> None:
    result = planned(hardware=replace(HARDWARE, watts=None))
    assert result["designs"][1]["money"] is None
    assert result["designs"][1]["energy_joules"] is None
    with pytest.raises(UsageError, match="give --watts"):
        planned(hardware=replace(HARDWARE, watts=None), prices=EnergyPrices(per_kwh=0.3))


@pytest.mark.parametrize("options", [{"batch_size": 4}, {"crop_seconds": 12.0}])
def test_plan_designs_with_more_audio_per_step_costs_more(planned: Any, options: dict[str, Any]) -> None:
    less, more = planned()["designs"][1], planned(**options)["designs"][1]
    for key in ("memory_bytes", "step_seconds", "flops_per_step"):
        assert more[key] > less[key]


def test_plan_designs_with_gradient_checkpointing_trades_memory_for_flops(planned: Any) -> None:
    plain, again = (
        planned(crop_seconds=20.0, batch_size=4, gradient_checkpointing=on)["designs"][1] for on in (False, True)
    )
    assert again["memory_bytes"] < plain["memory_bytes"]
    assert again["flops_per_step"] > plain["flops_per_step"]


def test_find_fitting_config_suggests_the_first_change_that_fits(planned: Any) -> None:
    roomy = planned(crop_seconds=20.0, batch_size=4)["designs"][1]
    tight = planned(crop_seconds=20.0, batch_size=4, memory_limit_bytes=roomy["memory_bytes"] - 1)["designs"][1]
    assert roomy["fits"]
    assert not tight["fits"]
    assert tight["suggestion"]["options"] == "--gradient-checkpointing"
    assert tight["suggestion"]["memory_bytes"] < roomy["memory_bytes"]
    tighter = planned(crop_seconds=20.0, batch_size=4, memory_limit_bytes=tight["suggestion"]["memory_bytes"] - 1)[
        "designs"
    ][1]
    assert tighter["suggestion"]["options"].startswith("--gradient-checkpointing --batch-size")
    assert planned(memory_limit_bytes=1000)["designs"][1]["suggestion"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop_seconds": 31.0}, "up to 30 s"),
        ({"crop_seconds": 0.0}, "one frame"),
        ({"batch_size": 0}, "--batch-size is 0"),
        ({"steps": 0}, "--steps is 0"),
        ({"steps": 10**9}, "1 to 10,000,000 steps"),
        ({"designs": ("linear@layers[7]:10%",)}, "layers"),
        ({"designs": ("linear@al:10%",)}, "al"),
    ],
)
def test_plan_designs_with_wrong_arguments_raises_usage_error(
    tiny_base: Path, options: dict[str, Any], message: str
) -> None:
    settings = {"designs": (DESIGN,), "crop_seconds": 4.0} | options
    with pytest.raises(UsageError, match=message):
        plan_designs(str(tiny_base), hardware=HARDWARE, **settings)


def test_plan_command_prints_json(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TALIM_CACHE", str(tmp_path))
    arguments = ["plan", "--base", str(tiny_base), "--design", DESIGN, "--clip-seconds", "4", "--gpu", "l4"]
    with pytest.raises(SystemExit, match="0"):
        main([*arguments, "--price-per-hour", "0.5", "--json"])
    result = json.loads(capsys.readouterr().out)
    assert result["hardware"] == "l4"
    assert result["designs"][1]["money"] == pytest.approx(0.5 * result["designs"][1]["hours"])
    with pytest.raises(SystemExit, match="2"):
        main([*arguments[:-1], "l5"])
    assert "did you mean l4" in capsys.readouterr().err


def test_plan_total_is_the_sum_of_its_runs(tiny_base: Path, trace_folder: Path) -> None:
    requests = [TrainingJob(str(tiny_base), Design.parse(DESIGN), 4.0, 1, steps) for steps in (100, 300)]
    result = plan_total(requests, HARDWARE, EnergyPrices(per_hour=3.0), cache=trace_folder)
    assert result["num_runs"] == 2
    assert result["hours"] == pytest.approx(4 * result["runs"][0]["hours"])
    assert result["money"] == pytest.approx(3.0 * result["hours"])
    assert result["file_bytes"] == 2 * result["runs"][0]["file_bytes"]


def test_render_plan_shows_every_design_and_suggestion(planned: Any) -> None:
    roomy = planned(crop_seconds=20.0, batch_size=4)["designs"][1]
    text = tables.render_plan(
        planned(crop_seconds=20.0, batch_size=4, memory_limit_bytes=roomy["memory_bytes"] - 1, prices=EnergyPrices(1.0))
    )
    assert "full@all" in text
    assert "conv@all:10% does not fit. It would with --gradient-checkpointing" in text
    lines = text.splitlines()
    assert lines[-1].startswith("next: talim train --base ")  # a command stays in one line, so that it can be copied
    assert max(len(line) for line in lines[:-1]) <= tables.PLAN_TABLE_COLUMNS


def test_check_options_with_wrong_values_raise_usage_error() -> None:
    with pytest.raises(UsageError, match="fp16"):
        check_options("fp16")
    with pytest.raises(UsageError, match="--memory-gb is -1"):
        check_options(None, memory_gb=-1.0)
