"""Kinds against traditions: every design meets every tradition with every seed, and reruns train nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.quick import QUICK

from talim.run import read_json
from talim.stages import train as training
from talim.study import kinds


def test_every_design_meets_every_tradition(
    tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def go() -> dict:
        return kinds.kinds(
            tmp_path,
            base=str(tiny_base),
            traditions=("makam",),
            designs=("linear@all:2.5%", "conv@post:500"),
            seeds=(0, 1),
            pieces=6,
            seconds=2.0,
            clip_seconds=2.0,
            settings=QUICK,
        )

    found = go()
    assert set(found["falls"]) == {"makam"}
    assert set(found["falls"]["makam"]) == {"linear@all:2.5%", "conv@post:500"}
    fall = found["falls"]["makam"]["conv@post:500"]
    assert fall["mean"] == pytest.approx(sum(fall["per_seed"].values()) / 2)
    assert set(fall["per_seed"]) == {"0", "1"}
    monkeypatch.setattr(training, "train", lambda *_: pytest.fail("a finished run was trained again"))
    assert go() == found == read_json(tmp_path / "kinds.json")
    assert "| makam | `conv@post:500` |" in kinds.table(found)


def test_seeds_are_averaged_before_pieces() -> None:
    told = kinds.told({"0": {"a": 1.0, "b": 0.0}, "1": {"a": 3.0, "b": 0.0}})
    assert told["per_piece"] == {"a": 2.0, "b": 0.0}
    assert told["mean"] == 1.0
    assert told["per_seed"] == {"0": 0.5, "1": 1.5}
    assert told["interval"] == [0.0, 2.0]
