"""Tests of `talim plan`: what is refused before this CPU is timed, and the exit status where nothing fits."""

from __future__ import annotations

from pathlib import Path

import pytest

from talim.cli import main

BASE = ["plan", "--base", "nano-musicgen", "--design", "linear@all:2%"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch-size", "0"], "--batch-size is 0; a step has 1 to 4,096 clips"),
        (["--batch-size", "100000"], "1 to 4,096 clips"),
        (["--batch-size", "9" * 30], "1 to 4,096 clips"),
        (["--steps", "0"], "--steps is 0; a training has 1 to 10,000,000 steps"),
        (["--steps", "9" * 30], "1 to 10,000,000 steps"),
        (["--clip-seconds", "inf"], "--clip-seconds is inf"),
        (["--memory-gb", "-1"], "--memory-gb is -1"),
        (["--price-per-hour", "1e308"], "--price-per-hour is 1e+308"),
        (["--design", "linear@layers[60]:2%"], "layers[60] is not in this model"),
        (["--hours-of-music", "0"], "--hours-of-music is 0; it must be more than 0"),
        (["--hours-of-music", "2", "--corpus", "c"], "both say how much music there is"),
        (["--precision", "fp8"], "none of bf16, fp32"),
    ],
)
def test_plan_refuses_before_this_cpu_is_timed(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TALIM_CACHE", str(tmp_path))
    monkeypatch.setattr("talim.planning.cpu_calibration.measure_in_subprocess", lambda *_: 1 / 0)
    with pytest.raises(SystemExit, match="2"):
        main([*BASE, *arguments])
    assert message in capsys.readouterr().err


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that the tests of this module share: what one has traced, the next need not."""
    return tmp_path_factory.mktemp("traces")


@pytest.mark.parametrize(("memory_gb", "status"), [("8", "0"), ("0.0001", "1")])
def test_plan_ends_with_1_where_nothing_fits(
    tiny_base: Path,
    memory_gb: str,
    status: str,
    traces: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TALIM_CACHE", str(traces))
    options = ["--base", str(tiny_base), "--design", "linear@all:10%", "--clip-seconds", "2", "--gpu", "l4"]
    with pytest.raises(SystemExit, match=status):
        main(["plan", *options, "--memory-gb", memory_gb])
    assert ("does not fit" in capsys.readouterr().out) == (status == "1")
