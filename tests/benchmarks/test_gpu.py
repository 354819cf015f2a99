"""The benchmark of a GPU: its rows, its page, what ends it, and all of it on tiny shapes without a GPU."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks import gpu, gpu_page
from talim.planning import hardware

ROOT = Path(__file__).parents[2]
CPU = gpu.Machine("cpu", float("inf"))


@pytest.mark.slow
def test_main_on_tiny_shapes_measures_every_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(gpu, "SECONDS", dict.fromkeys(gpu.SECONDS, 600))
    page = tmp_path / "self-test.md"
    monkeypatch.chdir(ROOT)
    assert gpu.main(["--device", "cpu", "--small", "--page", str(page)]) == 0
    results = json.loads(page.with_suffix(".json").read_text("utf-8"))
    assert [row["different"] for row in results["agree"]] == [0] * len(results["agree"])
    assert [(row["design"], row["batch"]) for row in results["decode"] if row["design"] == "none"][:2] == [
        ("none", batch) for batch in gpu.SMALL.batches
    ]
    for row in [*results["decode"], *results["mustango"][:2]]:
        assert min(row["ratio"] + row["control"] + row["ms"]) > 0
    assert {row["design"] for row in results["decode"]} == {"none", *gpu.SMALL.designs}
    assert [row["ratio"] for row in results["train"]][:1] == [1.0]  # LoRA to itself, and again at the end
    assert results["train"][0]["design"] == results["train"][-1]["design"] == "lora@all:1%"
    assert [row["what"] for row in results["codec"]] == ["as talim encodes", "with TF32"]
    assert all(row["planned_bytes"] > 0 for row in results["plan"])
    assert {row["base"] for row in results["plan"]} == {"nano-musicgen", "nano-mustango"}
    assert gpu_page.SELF_TEST in page.read_text("utf-8")


def test_a_decoding_row_compares_in_turn_and_a_fallback_is_no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    base = gpu.musicgen_of("nano", torch.float32, "cpu")
    row = gpu.decoding_row(base, "none", 2, gpu.SMALL, CPU)
    assert {len(row[name]) for name in ("ms", "generate_ms", "ratio", "control", "bytes_per_second")} == {1}
    assert row["ratio"] == [row["generate_ms"][0] / row["ms"][0]]
    assert row["times_real_time"] == pytest.approx(2 * 20 / row["ms"][0])
    assert row["share_of_limit"] == pytest.approx(row["limit_ms"] / row["ms"][0])
    with pytest.raises(RuntimeError, match="no CUDA graph was captured"):
        gpu.check_decoder(base, SimpleNamespace(on_gpu=True))  # type: ignore[arg-type]
    base._kept_decoder = None
    with pytest.raises(RuntimeError, match="was not used"):
        gpu.check_decoder(base, CPU)


class Clock:
    """Stands in for the clocks of `time`, so that a busy machine changes nothing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 100.0
        clock = SimpleNamespace(monotonic=lambda: self.seconds, perf_counter=lambda: self.seconds)
        monkeypatch.setattr(gpu, "time", clock)

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def test_step_seconds_leaves_the_first_steps_out(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)

    def call(report: Any) -> None:
        for step in range(gpu.WARM_UP_STEPS + 4):
            clock.sleep(2.0 if step < gpu.WARM_UP_STEPS else 0.5)
            report(step, 0)

    assert gpu.step_seconds(call, CPU) == 0.5


def test_measured_goes_on_after_a_failure_and_stops_when_a_row_would_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)

    def fail() -> gpu.Row:
        raise ValueError("wrong | shape\nmore")

    def take_two_seconds() -> gpu.Row:
        clock.sleep(2.0)
        return {"tokens": 1}

    machine = gpu.Machine("cpu", clock.seconds + 3.0)
    rows = [({"what": "a"}, fail), ({"what": "b"}, take_two_seconds), ({"what": "c"}, dict)]
    found = list(gpu.measured(rows, machine))
    assert found == [
        {"what": "a", "failed": "ValueError: wrong | shape"},
        {"what": "b", "tokens": 1},
        {"what": "c", "skipped": "no time left"},  # as long as the longest, it would end too late
    ]


def test_a_section_that_is_ended_keeps_the_rows_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rows(*_: Any) -> Any:
        yield {"what": "first", "design": "none", "tokens": 4, "different": 1}
        raise KeyboardInterrupt

    monkeypatch.setattr(gpu, "agreement", rows)
    page = tmp_path / "page.md"
    (tmp_path / "page.json").write_text('{"codec": [{"what": "kept", "tokens": 2, "different": 0}]}')
    with pytest.raises(KeyboardInterrupt):
        gpu.run_section("agree", gpu.SMALL, CPU, page)
    results = json.loads((tmp_path / "page.json").read_text("utf-8"))
    assert [row["what"] for row in (*results["agree"], *results["codec"])] == ["first", "kept"]
    written = page.read_text("utf-8")
    assert "| first | no adapter | 1 of 4 (25.00%) |" in written
    assert "| kept | 0 of 2 (0.00%) |" in written
    assert "## Decoding MusicGen\n\nNot measured." in written


def test_a_section_is_ended_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    began = time.monotonic()
    monkeypatch.setattr(gpu, "SECONDS", {"agree": 0.0})
    real = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda command, **o: real(["sleep", "60"], **o))
    assert gpu.run_all(["agree"], []) == 1
    assert "agree: ended after its time" in capfd.readouterr().err
    assert time.monotonic() - began < 10


def test_the_page_of_figures_is_of_a_gpu_or_says_that_none_was_measured() -> None:
    written = (ROOT / gpu.PAGE).read_text("utf-8")
    assert written.startswith("# On a GPU\n")
    assert gpu_page.SELF_TEST not in written
    figures = ROOT / gpu.PAGE.with_suffix(".json")
    assert ("has never run on a GPU" in written) != (figures.is_file() and json.loads(figures.read_text())["on_gpu"])


def test_all_sections_together_take_less_than_eight_minutes() -> None:
    assert sum(gpu.SECONDS.values()) < 480


def test_page_puts_the_plan_beside_training_and_reasons_into_rows_without_figures() -> None:
    step = {"base": "musicgen-small", "design": "conv@all:2.5%", "clip_seconds": 10.0, "clips": 8, "precision": "bf16"}
    taken = {"parameters": 1e6, "step_seconds": [0.1, 0.2, 0.4], "peak_bytes": 6e9, "ratio": 1.5, "joules": 33.0}
    other = step | {"design": "lora@all:2.5%", "failed": "OutOfMemoryError: a | b"}
    plan = [step | {"planned_bytes": 5e9, "planned_seconds": 0.15}]
    written = gpu_page.markdown({"on_gpu": True, "device": "X", "train": [step | taken, other], "plan": plan})
    assert (
        "| musicgen-small | `conv@all:2.5%` | 1e+06 | 8 x 10 s | 200 (100 to 400) | 150 | 1.5 | 6 | 5 | 33 |" in written
    )
    assert "| musicgen-small | `lora@all:2.5%` | - | - | - | - | - | - | - | OutOfMemoryError: a / b |" in written
    assert gpu_page.SELF_TEST not in written


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_main_without_cuda_says_so_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        gpu.main(["--page", str(tmp_path / "gpu.md")])
    assert ended.value.code == 2
    assert "finds no CUDA device, and nothing was written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "cpu", "--small"], "for figures of a GPU"),
        (["--device", "cpu", "--small", "--page", "docs/../docs/reports/gpu.md"], "for figures of a GPU"),
        (["--sections", "plan", "--page", "no-such/gpu.md"], "measure first"),
        (["--sections", "other", "--device", "cpu"], "expected some of"),
    ],
)
def test_main_refuses_what_would_mislead(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    before = gpu.PAGE.read_bytes()
    with pytest.raises(SystemExit) as ended:
        gpu.main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert gpu.PAGE.read_bytes() == before


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
