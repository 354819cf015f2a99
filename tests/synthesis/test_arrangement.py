"""Arrangements: wishes are met or refused in one line, tempi stay what a cycle's facts allow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talim.errors import UsageError
from talim.synthesis.arrangement import PerformanceRequest, arrange
from talim.synthesis.styles import style_of
from talim.traditions.tradition import load

TRADITIONS = {name: load(name) for name in ("hindustani", "makam")}


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from(list(TRADITIONS)),
    st.floats(15, 90),
    st.sampled_from([None, "free", "composition", "full"]),
    st.sampled_from([None, 1, 2]),
)
def test_arrange_request_is_met(seed: int, name: str, seconds: float, form: str | None, ensemble: int | None) -> None:
    tradition = TRADITIONS[name]
    plan = arrange(tradition, PerformanceRequest(form=form, ensemble=ensemble), seconds, np.random.default_rng(seed))
    assert plan.form == (form or plan.form)
    assert plan.ensemble == (ensemble or plan.ensemble)
    assert len(plan.instruments) + plan.drummed <= plan.ensemble
    low, high = plan.instruments[0].tonic_hz
    assert low <= plan.tonic_hz <= high
    assert len({instrument.name for instrument in plan.instruments}) == len(plan.instruments)
    assert (plan.grid is None) == (plan.form == "free")
    if plan.grid is not None:
        slowest, fastest = style_of(name).tempo_range_bpm(plan.grid.cycle)
        assert slowest - 1e-6 <= 60 / plan.grid.beat_seconds <= fastest + 1e-6
        assert plan.free_seconds < plan.grid.end_seconds < seconds
        assert plan.grid.count >= 2


def test_arrange_requested_mode_and_cycle_are_used() -> None:
    options = PerformanceRequest(mode="bhupali", cycle="tintal", form="composition")
    plan = arrange(TRADITIONS["hindustani"], options, 20.0, np.random.default_rng(0))
    assert (plan.mode.name, plan.grid.cycle.name if plan.grid else None) == ("Bhoopali", "Teentaal")


def test_arrange_drum_follows_cycle() -> None:
    for cycle, drum in (("Chautaal", "pakhawaj"), ("Teentaal", "tabla")):
        plan = arrange(TRADITIONS["hindustani"], PerformanceRequest(cycle=cycle), 40.0, np.random.default_rng(1))
        assert plan.drum == drum


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "rondo"}, "free, composition, full"),
        ({"ensemble": 4}, "1, 2 or 3"),
        ({"window_seconds": 0.0}, "positive"),
        ({"window_seconds": 20.0, "form": "full"}, "leave form"),
        ({"form": "free", "cycle": "Teentaal"}, "leave cycle"),
        ({"form": "free", "ensemble": 3}, "no drum"),
        ({"ornament": "meend", "ornaments": False}, "leave one of the two out"),
        ({"window_seconds": 20.0, "returns": False}, "leave returns"),
    ],
)
def test_performance_request_contradiction_raises_usage_error(options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PerformanceRequest(**options)


def test_arrange_tradition_without_strokes_has_free_form_only() -> None:
    bare = replace(TRADITIONS["makam"], cycles=tuple(c for c in TRADITIONS["makam"].cycles if not c.strokes))
    assert arrange(bare, PerformanceRequest(), 20.0, np.random.default_rng(0)).form == "free"
    with pytest.raises(UsageError, match="no cycle with strokes"):
        arrange(bare, PerformanceRequest(form="composition"), 20.0, np.random.default_rng(0))
