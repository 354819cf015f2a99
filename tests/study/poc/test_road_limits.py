"""The road within what it may take: memory and hours."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.road import by_kind, pretend, short, untraced

from talim.errors import UsageError
from talim.run import read_json
from talim.stages.pace import Pace
from talim.study import words
from talim.study.poc.road import poc
from talim.study.poc.wishes import Wishes


def test_what_does_not_fit_the_memory_stops_the_road_before_training(
    tmp_path: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = pretend(monkeypatch, by_kind)
    untraced(monkeypatch, memory_bytes=1e15)
    told = poc(recordings, tmp_path / "out", short())
    assert made.trained == []
    assert told["stopped"].startswith("Stopped here because no design fits into")
    assert told["run"] is None
    page = Path(told["page"]).read_text(encoding="utf-8")
    assert "A proof of concept that ended early" in page
    assert told["stopped"] in page.replace("&#39;", "'")
    pretend(monkeypatch, by_kind)  # a larger machine: the same command goes on
    assert poc(recordings, tmp_path / "out", short())["stopped"] == ""


def test_hours_are_shared_out_so_that_all_designs_get_equal_steps(
    tmp_path: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, by_kind)
    paces = {"linear": Pace(0.1, 3, 2), "conv": Pace(0.2, 3, 2), "transformer": Pace(0.4, 3, 2)}
    monkeypatch.setattr(
        "talim.stages.pace.measure", lambda recipe, *_: paces[recipe.design.partition("@")[0]]
    )
    out = tmp_path / "out"
    told = poc(recordings, out, short(hours=1))
    steps = {
        name: read_json(out / f"{name}-all-2.7" / "cost.json")["steps"]
        for name in ("linear", "conv", "transformer")
    }
    assert len(set(steps.values())) == 1
    assert 0.6 * 3600 < 0.7 * steps["linear"] < 0.85 * 3600  # less what preparing took
    monkeypatch.setattr("talim.stages.pace.measure", lambda *_: 1 / 0)
    assert poc(recordings, out, short(hours=1))["designs"] == told["designs"]  # the plan is kept
    pages = Path(told["page"]).read_text(encoding="utf-8")
    assert f"{words.count(steps['linear'])} steps for each of the 3 designs within 1 h." in pages
    assert " of the 1 h that were given." in pages
    little = tmp_path / "little"
    monkeypatch.setattr("talim.stages.pace.measure", lambda *_: Pace(60.0, 3, 2))
    stopped = poc(recordings, little, short(hours=1))["stopped"]
    assert "steps of each design would fit" in stopped
    assert "give --hours" in stopped


@pytest.mark.parametrize("hours", [0, -1, float("nan"), 1e9])
def test_hours_must_be_hours(hours: float) -> None:
    with pytest.raises(UsageError, match="--hours"):
        Wishes(hours=hours)
