"""Tests of `talim demo`: where it writes, with which base, and what it says at the end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from talim import cli


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as done:
        cli.main([*map(str, arguments)])
    out, err = capsys.readouterr()
    return int(done.value.code or 0), out, err


def test_result_has_the_designs_and_the_listening_test(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    result = {
        "sentences": ["Cost: little."],
        "sentences_translated": {"ja": ["費用：わずか。"]},
        "page": "report/index.html",
        "designs": {"linear@all:2.7%": {"mean": 0.1234}, "conv@all:2.7%": {"mean": 0.2}},
        "listen": "talim listen out --invites 12",
        "stages": [{"title": "Cost", "passed": True, "stopped": ""}],
    }
    calls: list[Any] = []
    monkeypatch.setattr("talim.poc.demo.demo", lambda *arguments: calls.append(arguments) or result)
    status, out, _ = run(capsys, "demo", "--out", tmp_path / "out", "--base", "nano-mustango")
    assert status == 0
    assert "linear@all:2.7% 0.123, conv@all:2.7% 0.200; one seed cannot show which kind is best." in out
    assert "talim listen out --invites 12" in out
    ((target, _, options),) = calls
    assert (target, options.base) == (tmp_path / "out", "nano-mustango")
    assert ("sampling_steps", 25) in options.generation_options
    status, out, _ = run(capsys, "demo", "--out", tmp_path / "out", "--json")
    assert json.loads(out)["designs"] == result["designs"]
    result["stages"] = [{"title": "Cost", "passed": False, "stopped": "Stopped here because it is too large."}]
    status, out, _ = run(capsys, "demo", "--out", tmp_path / "out")
    assert status == 0  # it was shown what a gate does
    assert "Cost: not met" in out


def test_unknown_base_is_told_before_anything_is_made(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, _, err = run(capsys, "demo", "--out", tmp_path / "out", "--base", "nano-musicgan")
    assert status in (1, 2)
    assert "nano-musicgen" in err
    assert not (tmp_path / "out").exists()
