"""The whole pipeline through the real command line: recordings in, a page with audio players out."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures.processor_time import seconds_of_children

from talim import audio, cli
from talim.planning import cpu_calibration

SMALL = [
    *("--set", "training.steps=4", "--set", "training.batch_size=2", "--set", "training.learning_rate=0.05"),
    *("--set", "training.eval_every=2", "--set", "training.eval_clips=4"),
]


def talim(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "talim", *(str(a) for a in arguments)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def within_this_process(capsys: pytest.CaptureFixture[str], *arguments: object) -> subprocess.CompletedProcess[str]:
    """The same without the seconds in which another process loads torch."""
    command = [str(a) for a in arguments]
    with pytest.raises(SystemExit) as done:
        cli.main(command)
    printed = capsys.readouterr()
    return subprocess.CompletedProcess(command, int(done.value.code or 0), printed.out, printed.err)


def keep_measured_overhead(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a memory besides tensors, as it is measured of both number formats, where the command looks for it."""
    monkeypatch.setattr(cpu_calibration, "measure_in_subprocess", lambda *_: 4e8)
    profile = cpu_calibration.cpu_profile(cache, rates=False)
    for precision in ("fp32", "bf16"):
        profile.overhead_bytes("musicgen", precision)


@pytest.mark.parametrize("measured", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_poc_from_recordings_writes_a_page_and_an_adapter_and_resumes(
    tmp_path: Path,
    make_recordings: Callable[..., Path],
    tiny_base: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    measured: bool,
) -> None:
    """On a machine whose memory was measured before; in the slow set in a process of its own, on a new machine."""
    recordings = make_recordings(tmp_path / "takes", seconds=3.0)
    monkeypatch.setenv("TALIM_CACHE", str(tmp_path / "cache"))
    if measured:
        keep_measured_overhead(tmp_path / "cache", monkeypatch)
    before = seconds_of_children()
    out = tmp_path / "poc"
    command = ["poc", recordings, "--out", out, "--base", tiny_base, "--design", "linear@all:10%"]
    command += ["--no-learning-curve", *SMALL]
    done = within_this_process(capsys, *command, "--json") if measured else talim(*command, "--json")
    assert done.returncode == 1, done.stderr  # two held-out recordings are too few to meet the gate of the loss
    result = json.loads(done.stdout)
    assert result["stopped"].startswith("Stopped here because the loss reduction (2 recordings: ")
    assert len(result["sentences"]) == 3
    assert "licence of the base: cc-by-nc-4.0 (non-commercial" in done.stderr
    assert ("measuring the memory" in done.stderr) != measured

    page = Path(result["page"]).read_text(encoding="utf-8")
    assert page.count("<audio") >= 3
    assert "data:audio/" in page
    assert re.findall(r'http-equiv="([^"]*)"', page) == ["Content-Security-Policy"]
    assert str(tmp_path) not in page.split("</style>")[-1].split("<pre")[0]  # a reader needs no path of this disk

    assert [row["name"] for row in result["stages"]][:2] == ["cost", "quality"]
    adapter = Path(result["run"]) / "adapter"
    assert adapter.parent.parent == out
    assert {path.name for path in adapter.iterdir()} >= {
        "adapter_config.json",
        "adapter_model.safetensors",
        "README.md",
    }
    piece = tmp_path / "piece.flac"
    generate = ["generate", "--base", tiny_base, "--adapter", adapter, "--prompt", "slow glide"]
    assert within_this_process(capsys, *generate, "--seconds", 1.5, "--out", piece).returncode == 0
    assert audio.read(piece).seconds == pytest.approx(1.5, abs=0.05)
    assert audio.read_tags(piece)["ai_generated"] == "AI-generated"

    assert json.loads((adapter.parent / "cost.json").read_text(encoding="utf-8"))["steps"] == 4
    trained = (adapter / "adapter_model.safetensors").stat().st_mtime_ns
    again = within_this_process(capsys, *command)
    assert again.returncode == 1
    assert (adapter / "adapter_model.safetensors").stat().st_mtime_ns == trained  # nothing is trained twice
    assert again.stdout.splitlines()[-1] == f"Page: {result['page']}"
    # Processor seconds, about 40 where this was measured: only a pipeline many times as long fails, not a slow machine
    assert seconds_of_children() - before < 600
