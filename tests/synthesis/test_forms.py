"""Forms: free parts come home, refrains are the same each time, sections follow without a gap."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from talim.synthesis.cycle_timing import CycleGrid
from talim.synthesis.forms import MelodyComposer, ScoreBuilder, pickup_beat, themes, truncate
from talim.synthesis.melodic_motion import MelodicMotion
from talim.synthesis.styles import style_of
from talim.traditions.tradition import load

YAMAN = MelodicMotion(load("hindustani").mode("Yaman"), -500, 1700)
RAST = MelodicMotion(load("makam").mode("Rast"), -500, 1500)


@given(st.integers(0, 10_000), st.floats(0.3, 60))
@example(2096, 11.0)
def test_unmetered_fills_time_with_pauses_and_ends_on_final(seed: int, seconds: float) -> None:
    contour_points = style_of("hindustani").register_contour(YAMAN.mode)
    composer = MelodyComposer(YAMAN, style_of("hindustani").expression, np.random.default_rng(seed))
    events = composer.unmetered(contour_points, 2.0, 2.0 + seconds, "alap")
    assert events[0].onset_seconds == 2.0
    for first, two in itertools.pairwise(events):
        assert 0 < first.seconds <= two.onset_seconds - first.onset_seconds + 1e-9
    assert events[-1].end_seconds <= 2.0 + seconds + 1e-6
    if seconds > 10:
        assert any(b.onset_seconds - a.end_seconds > 0.3 for a, b in itertools.pairwise(events))
    assert all(event.part == "alap" for event in events)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 9), st.sampled_from(["Teentaal", "Rupak", "Jhaptaal", "Dadra"]))
def test_mukhra_form_leads_into_every_sam(seed: int, count: int, tala: str) -> None:
    score, grid = ScoreBuilder(), CycleGrid(load("hindustani").cycle(tala), 0.0, 0.3, count)
    composer = MelodyComposer(YAMAN, style_of("hindustani").expression, np.random.default_rng(seed))
    composer.mukhra_form(score, grid, grid.end_seconds + 1.5)
    onsets = {round(event.onset_seconds, 6): event for event in score.events}
    landings = {onsets[round(float(sam), 6)].cents for sam in grid.first_beats_seconds()}
    assert len(landings) == 1
    assert [s.name for s in score.sections if s.kind == "refrain"] == ["mukhra"] * count
    for first, two in itertools.pairwise(score.events):
        assert first.end_seconds <= two.onset_seconds + 1e-6


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.sampled_from([(1, 1), (2, 1), (3, 1), (2, 2)]))
def test_round_form_repeats_refrain_and_rests_on_strong_note(seed: int, rounds: int, cycles: tuple[int, int]) -> None:
    score, grid = ScoreBuilder(), CycleGrid(load("makam").cycle("Aksak"), 1.0, 0.35, rounds * sum(cycles))
    contour_points = style_of("makam").register_contour(RAST.mode)
    composer = MelodyComposer(RAST, style_of("makam").expression, np.random.default_rng(seed))
    composer.round_form(score, grid, contour_points, ("hane", "teslim"), cycles, grid.end_seconds + 1)
    names = [s.name for s in score.sections]
    assert names == [n for k in range(rounds) for n in (f"hane {k + 1}", "teslim")] + ["close"]
    strong = RAST.mode.strong_cents[0]
    for k in range(rounds):
        hane = [t for t in score.events if t.part == f"hane {k + 1}"]
        assert (hane[-1].cents - strong) % 1200 == pytest.approx(0, abs=0.01)
    assert score.events[-1].cents % 1200 == pytest.approx(RAST.mode.final_cents)
    for first, two in itertools.pairwise(score.sections):
        assert first.end_seconds == pytest.approx(two.onset_seconds)


def test_truncate_shortens_end_and_keeps_last_note() -> None:
    figure = [(0.0, 1.0, 0.0, True), (1.0, 1.0, 200.0, True), (2.0, 1.0, 400.0, False)]
    stored = truncate(figure, 0.5, 1.0)
    assert stored[-1] == (2.0, 0.5, 400.0, False)
    deep = truncate(figure, 5.0, 1.0)
    assert deep[-1][0] + deep[-1][1] == pytest.approx(3 - 0.35 * 3)
    assert deep[-1][2] == 400.0


def test_pickup_beat_is_a_section_of_the_cycle() -> None:
    grid = CycleGrid(load("hindustani").cycle("Teentaal"), 0.0, 0.4, 2)
    assert {pickup_beat(grid, np.random.default_rng(seed)) for seed in range(20)} == {8.0, 12.0}


def test_themes_open_and_return() -> None:
    assert themes(1) == ["sthayi"]
    assert themes(2) == ["sthayi", "improvisation"]
    assert themes(9)[0] == themes(9)[8] == "sthayi"
    assert "antara" in themes(9)
