"""Plans hold what was traced; more to do is more to pay; what does not fit is told what would."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from research.validation import cost_model
from talim.cli import main
from talim.errors import TalimError, UsageError
from talim.planning import cpu_calibration, hardware, plan_table, training_step
from talim.planning.hardware import HardwareProfile
from talim.planning.plan import EnergyPrices, PlanRequest, check_options, plan_designs, plan_total
from talim.planning.trace_cache import TraceCache
from talim.planning.tracer import OperationCost, Trace
from talim.planning.training_step import StepConfig
from talim.progress import Progress

RATES = {"flops/float32": 1e9, "flops/bfloat16": 2e9, "bytes/float32": 1e9, "bytes/bfloat16": 1e9}
MACHINE = HardwareProfile("a machine", 8e9, RATES, 1e-6, watts=100.0, bf16=False)
DESIGN = "conv@all:10%"


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("traces")


@pytest.fixture(scope="module")
def planned(tiny_base: Path, shelf: Path) -> Callable[..., dict[str, Any]]:
    def make(*designs: str, **asked: Any) -> dict[str, Any]:
        settings = {"seconds": 4.0, "cache": shelf, "machine": MACHINE} | asked
        return plan_designs(str(tiny_base), designs or (DESIGN,), **settings)

    return make


def test_every_design_stands_beside_the_whole_model(planned: Any) -> None:
    found = planned(DESIGN, "lora@post:r4", music_hours=0.5, epochs=3, prices=EnergyPrices(2.0, 0.5))
    whole, adapter, lora = found["designs"]
    assert [each["expression"] for each in found["designs"]] == ["full@all", "conv@all:10%", "lora@post:r4"]
    assert (found["clips"], found["steps"]) == (450, 1350)
    assert set(whole["ratios"].values()) == {1.0}
    assert adapter["ratios"]["storage"] == adapter["file_bytes"] / whole["file_bytes"] < 0.5
    assert lora["memory_bytes"] < adapter["memory_bytes"] < whole["memory_bytes"]
    assert adapter["hours"] == pytest.approx(adapter["step_seconds"] * 1350 / 3600)
    assert adapter["energy_joules"] == pytest.approx(adapter["hours"] * 3600 * 100)
    money = adapter["hours"] * 2.0 + adapter["energy_joules"] / 3.6e6 * 0.5
    assert adapter["money"] == pytest.approx(money)


def test_no_price_is_invented_and_no_power(planned: Any) -> None:
    found = planned(machine=replace(MACHINE, watts=None))
    assert found["designs"][1]["money"] is None
    assert found["designs"][1]["energy_joules"] is None
    with pytest.raises(UsageError, match="give --watts"):
        planned(machine=replace(MACHINE, watts=None), prices=EnergyPrices(per_kwh=0.3))


@pytest.mark.parametrize("asked", [{"batch": 4}, {"seconds": 12.0}])
def test_more_music_in_a_step_takes_more(planned: Any, asked: dict[str, Any]) -> None:
    less, more = planned()["designs"][1], planned(**asked)["designs"][1]
    for key in ("memory_bytes", "step_seconds", "flops_per_step"):
        assert more[key] > less[key]


def test_checkpointing_takes_less_memory_and_more_work(planned: Any) -> None:
    plain, again = (planned(seconds=20.0, batch=4, checkpointing=on)["designs"][1] for on in (False, True))
    assert again["memory_bytes"] < plain["memory_bytes"]
    assert again["flops_per_step"] > plain["flops_per_step"]


def test_what_does_not_fit_is_told_what_would(planned: Any) -> None:
    roomy = planned(seconds=20.0, batch=4)["designs"][1]
    tight = planned(seconds=20.0, batch=4, limit_bytes=roomy["memory_bytes"] - 1)["designs"][1]
    assert roomy["fits"]
    assert not tight["fits"]
    assert tight["remedy"]["words"] == "--checkpointing"
    assert tight["remedy"]["memory_bytes"] < roomy["memory_bytes"]
    tighter = planned(seconds=20.0, batch=4, limit_bytes=tight["remedy"]["memory_bytes"] - 1)["designs"][1]
    assert tighter["remedy"]["words"].startswith("--checkpointing --batch")
    assert planned(limit_bytes=1000)["designs"][1]["remedy"] is None


def test_a_roofline_by_hand() -> None:
    matrix = OperationCost(
        "mm",
        "float32",
        ((10, 10), (10, 10)),
        2_000_000,
        1_000,
    )
    wide = OperationCost("mm", "float32", ((1, 1), (1, 1)), 2, 5_000_000)
    copying = OperationCost("add_", "bfloat16", (), 0, 3_000_000)
    seconds = MACHINE.seconds(Trace(0, [(matrix, 2), (wide, 1), (copying, 10)]))
    assert seconds == pytest.approx(2 * 2e-3 + 5e-3 + 10 * 3e-3 + 13 * 1e-6)
    timed = replace(MACHINE, rates=RATES | {"add/bfloat16": 3e9})
    assert timed.seconds(Trace(0, [(copying, 1)])) == pytest.approx(1e-3 + 1e-6)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"seconds": 31.0}, "up to 30 s"),
        ({"seconds": 0.0}, "one frame"),
        ({"batch": 0}, "--batch is 0"),
        ({"music_hours": 0.0}, "--music-hours"),
        ({"epochs": float("nan")}, "--epochs"),
        ({"designs": ("linear@layers[7]:10%",)}, "layers"),
        ({"designs": ("linear@al:10%",)}, "al"),
    ],
)
def test_what_cannot_be_is_refused(tiny_base: Path, asked: dict[str, Any], said: str) -> None:
    settings = {"designs": (DESIGN,), "seconds": 4.0} | asked
    with pytest.raises(UsageError, match=said):
        plan_designs(str(tiny_base), machine=MACHINE, **settings)


def test_an_unknown_gpu_is_refused_with_near_names() -> None:
    with pytest.raises(UsageError, match="rtx-3090"):
        hardware.gpu_profile("rtx3090ti")
    assert hardware.gpu_profile("NVIDIA L4").memory_bytes == 24e9
    assert not hardware.gpu_profile("t4").bf16
    with pytest.raises(UsageError, match="fp16"):
        check_options("fp16")
    with pytest.raises(UsageError, match="--memory-gb is -1"):
        check_options(None, memory_gb=-1.0)


@pytest.mark.parametrize("name", hardware.GPUS)
def test_every_gpu_of_the_table_is_a_machine(name: str) -> None:
    made = hardware.gpu_profile(name)
    assert made.gpu
    assert made.usable_bytes < made.memory_bytes
    assert made.needed_bytes(Trace(10, []), "bf16") > 1e8
    assert made.rates["flops/float32"] <= made.rates["flops/bfloat16"]
    assert made.precision == ("bf16" if hardware.GPUS[name].bf16_tflops else "fp32")


@pytest.mark.parametrize(
    "design",
    [
        "transformer@conditioner:10%",
        "conv@layers[0]:5%+linear@post:5%",
        "ia3@all",
        "full@post",
        "dora@all:r2",
    ],
)
def test_every_sort_of_design_is_traced(tiny_base: Path, design: str) -> None:
    setting = StepConfig(str(tiny_base), design, 4.0, 2, "fp32")
    assert training_step.trace_step(setting).flops > 0


def test_a_design_that_looks_at_values_is_refused(tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nosy(*_: Any) -> None:
        torch.nonzero(torch.zeros(3))

    monkeypatch.setattr(training_step.SyntheticTrainingStep, "take_step", nosy)
    with pytest.raises(TalimError, match="looks at values"):
        training_step.trace_step(StepConfig(str(tiny_base), DESIGN, 4.0, precision="fp32"))


def test_the_command_tells_it_as_json(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TALIM_CACHE", str(tmp_path))
    asked = ["plan", "--base", str(tiny_base), "--design", DESIGN, "--seconds", "4", "--gpu", "l4"]
    with pytest.raises(SystemExit, match="0"):
        main([*asked, "--price-per-hour", "0.5", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["machine"] == "l4"
    assert found["designs"][1]["money"] == pytest.approx(0.5 * found["designs"][1]["hours"])
    with pytest.raises(SystemExit, match="2"):
        main([*asked[:-1], "l5"])
    assert "did you mean l4" in capsys.readouterr().err


def test_a_study_is_the_sum_of_its_runs(tiny_base: Path, shelf: Path) -> None:
    jobs = [PlanRequest(str(tiny_base), DESIGN, 4.0, 1, steps) for steps in (100, 300)]
    found = plan_total(jobs, MACHINE, EnergyPrices(per_hour=3.0), cache=shelf)
    assert found["runs"] == 2
    assert found["hours"] == pytest.approx(4 * found["jobs"][0]["hours"])
    assert found["money"] == pytest.approx(3.0 * found["hours"])
    assert found["file_bytes"] == 2 * found["jobs"][0]["file_bytes"]


def test_a_trace_is_kept_by_what_it_is_of(
    tiny_base: Path, make_base: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = StepConfig(str(tiny_base), DESIGN, 4.0, precision="fp32")
    first = TraceCache(tmp_path / "kept", Progress()).trace(setting)
    with monkeypatch.context() as patched:
        patched.setattr(training_step, "trace_step", lambda _: pytest.fail("traced again"))
        assert TraceCache(tmp_path / "kept", Progress()).trace(setting) == first
    (file,) = (tmp_path / "kept" / "traces").glob("*.json")
    file.write_text("{", encoding="utf-8")
    assert TraceCache(tmp_path / "kept", Progress()).trace(setting) == first  # damaged: made anew
    larger = replace(setting, base=str(make_base(tmp_path / "larger", layers=3)))
    assert TraceCache(tmp_path / "kept", Progress()).trace(larger).peak_bytes > first.peak_bytes


def test_the_table_shows_every_design_and_remedy(planned: Any) -> None:
    roomy = planned(seconds=20.0, batch=4)["designs"][1]
    text = plan_table.render_plan(
        planned(seconds=20.0, batch=4, limit_bytes=roomy["memory_bytes"] - 1, prices=EnergyPrices(1.0))
    )
    assert "full@all" in text
    assert "conv@all:10% does not fit. It would with --checkpointing" in text
    assert max(len(line) for line in text.splitlines()) <= plan_table.PLAN_TABLE_COLUMNS


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_planned_memory_is_near_the_measured() -> None:
    setting = StepConfig("nano-musicgen", "linear@all:2.5%", 20.0, 8, "fp32")
    cpu = {
        "rates": RATES,
        "start_seconds": 0.0,
        "runtime_bytes": {"fp32": cpu_calibration.measure_in_subprocess("fp32", 1)},
    }
    planned = cpu_calibration.to_hardware_profile(cpu, 1).needed_bytes(
        training_step.trace_step(setting), "fp32"
    )
    measured = cost_model.measure_in_subprocess(setting)["measured"]["resident_bytes"]
    assert planned == pytest.approx(measured, rel=0.10)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("base", "seconds", "checkpointing", "most_bytes"),
    [("musicgen-medium", 30.0, True, 6e9), ("mustango", 10.24, False, 16e9)],
)
def test_large_bases_train_in_modest_memory(
    base: str, seconds: float, checkpointing: bool, most_bytes: float
) -> None:
    setting = StepConfig(base, "conv@all:40M", seconds, 1, "bf16", checkpointing, True)
    assert training_step.trace_step(setting).peak_bytes < most_bytes
