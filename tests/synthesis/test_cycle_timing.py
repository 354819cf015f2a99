"""Cycles: strokes sum to the cycle, tempi that fit do fit, rhythms fill their beats."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talim.synthesis.cycle_timing import CycleGrid, draw_rhythm, fitting_cycle_counts
from talim.traditions.tradition import load

CYCLES = [c for name in ("hindustani", "makam") for c in load(name).cycles if c.strokes]


def test_cycle_grid_of_teentaal_at_120_bpm_has_exact_times() -> None:
    """Sixteen beats of half a second: sam every 8 s, the theka's sixteen bols once a cycle, and a last one."""
    grid = CycleGrid(load("hindustani").cycle("Teentaal"), 2.0, 0.5, 2)
    assert grid.first_beats_seconds().tolist() == [2.0, 10.0, 18.0]
    assert grid.beats_seconds().size == 33
    strokes = grid.strokes()
    assert len(strokes) == 33
    assert [s.syllable for s in strokes[:4]] == ["dha", "dhin", "dhin", "dha"]
    assert (strokes[9].syllable, strokes[9].onset_seconds, strokes[9].beat) == ("tin", 6.5, 9.0)
    assert strokes[-1].onset_seconds == grid.end_seconds == 18.0


@pytest.mark.parametrize("cycle", CYCLES, ids=lambda c: c.slug)
def test_strokes_lie_within_cycles(cycle) -> None:
    assert max(s.onset_beats + s.beats for s in cycle.strokes) <= cycle.beats + 1e-9
    grid = CycleGrid(cycle, 0.0, 0.25, 3)
    played = grid.strokes()
    assert len(played) == 3 * len(cycle.strokes) + (cycle.strokes[0].onset_beats == 0)
    onsets = np.array([s.onset_seconds for s in played])
    assert (np.diff(onsets) > 0).all()
    for stroke in played:
        since = (stroke.onset_seconds / 0.25) % cycle.beats
        assert min(abs(since - stroke.beat), cycle.beats - abs(since - stroke.beat)) < 1e-6


@settings(max_examples=80, deadline=None)
@given(st.integers(0, len(CYCLES) - 1), st.floats(1, 120), st.integers(1, 4), st.floats(1, 40), st.floats(20, 100))
def test_fitting_cycle_counts_keep_tempo_and_length(
    which: int, seconds: float, multiple: int, longest: float, slowest: float
) -> None:
    cycle, tempi = CYCLES[which], (slowest, 3 * slowest)
    for count in fitting_cycle_counts(cycle, seconds, tempi, multiple, longest):
        assert count % multiple == 0
        assert seconds / count <= longest + 1e-6
        tempo = 60 * cycle.beats * count / seconds
        assert tempi[0] - 1e-6 <= tempo <= tempi[1] + 1e-6


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.5, 40), st.floats(0.1, 4.0), st.floats(0.1, 1.0))
def test_draw_rhythm_fills_beats(seed: int, beats: float, beat_seconds: float, note_seconds: float) -> None:
    slots = draw_rhythm(beats, beat_seconds, note_seconds, np.random.default_rng(seed))
    assert slots[0][0] == 0
    for (at, length), (following, _) in zip(slots, [*slots[1:], (beats, 0)], strict=True):
        assert length > 0
        assert at + length == pytest.approx(following, abs=1e-6)
