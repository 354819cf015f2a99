"""The benchmark of decoding: its rows, and the loss with int8."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import decoding
from talim.backbones.musicgen.backbone import MusicGen
from talim.backbones.musicgen.decoding import Decoder

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_benchmark_prints_rows_with_ratios() -> None:
    command = [sys.executable, "-m", "benchmarks.decoding", "--shapes", "nano", "--batches", "1,2", "--rounds", "1"]
    designs = ("none", "control", "conv@post:2.5%")
    command += ["--precisions", "fp32,int8", "--designs", ",".join(designs), "--json"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    rows = json.loads(printed)["rows"]
    assert [(row["batch"], row["precision"], row["design"]) for row in rows] == [
        (batch, name, design) for design in designs for name in ("fp32", "int8") for batch in (1, 2)
    ]
    for row in rows:
        assert row["low"] <= row["ratio"] <= row["high"]
        assert ("overhead" in row) == (row["design"] == designs[2])
        assert ("generate_ms" in row) == (row["design"] != "control")
    calls = {tuple(row[key] for key in ("design", "precision", "batch")): row["calls_per_step"] for row in rows}
    for name, batch in (("fp32", 1), ("int8", 2)):
        assert calls["none", name, batch] == calls["control", name, batch] < calls[designs[2], name, batch]


def test_control_is_the_same_decoder_and_its_range_holds_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that runs ever slower: whoever is measured first in a round is faster, each as often as the other."""
    measured: list[object] = []

    def by_talim(base: MusicGen, steps: int, batch: int, start: int) -> float:
        measured.append(base)
        return 1.0 + 0.1 * len(measured)

    monkeypatch.setattr(decoding, "by_talim", by_talim)
    monkeypatch.setattr(decoding, "bandwidth", lambda: 1e9)
    (row,) = decoding.measure("nano", ["control"], [1], ["fp32"], rounds=4)
    assert len(set(map(id, measured))) == 1
    assert row["low"] < 1 < row["high"]
    assert row["ratio"] == pytest.approx(1.0, abs=0.02)
    assert "| nano | 1 | fp32 | control | 1.0 (" in decoding.table([row])


def test_pieces_go_on_from_frames_that_were_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """In both ways of decoding: the decoder's caches hold them."""
    base = decoding.base_of("nano", "fp32")
    past: list[int] = []
    begin = Decoder.begin

    def kept(decoder: Decoder, beginnings: Any) -> None:
        past.extend(beginning.tokens.shape[1] for beginning in beginnings)
        begin(decoder, beginnings)

    monkeypatch.setattr(Decoder, "begin", kept)
    assert decoding.by_talim(base, 8, 2, 30) > 0
    assert past == [30, 30]
    given: list[int] = []
    generate = base.model.generate

    def seen(**options: Any) -> Any:
        given.append(options["decoder_input_ids"].shape[1])
        return generate(**options)

    monkeypatch.setattr(base.model, "generate", seen)
    assert decoding.by_transformers(base, 8, 30) > 0
    assert given == [30]


@pytest.mark.slow
def test_int8_raises_the_loss_by_less_than_a_hundredth_of_a_nat() -> None:
    """And by more than nothing: it is quantised."""
    result = decoding.int8_loss(6, 5.0)
    assert 0 < result["difference_nats"] < 0.01
