"""Lines: breaths, and another player's timing."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from talim.synthesis.melody_line import NoteEvent, jitter_timing, split_phrases


def test_split_phrases_at_pause() -> None:
    events = [NoteEvent(0, 1, 0, "a"), NoteEvent(1, 1, 100, "a"), NoteEvent(2.5, 1, 0, "a")]
    assert [len(group) for group in split_phrases(events)] == [2, 1]
    assert split_phrases([]) == []


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1000), st.lists(st.floats(0.06, 2.0), min_size=1, max_size=30), st.floats(0, 0.05))
def test_jitter_timing_keeps_order_without_overlap(seed: int, lengths: list[float], spread: float) -> None:
    onsets = np.concatenate([[0.0], np.cumsum(lengths)[:-1]])
    events = [NoteEvent(float(a), b, 100.0 * k, "a") for k, (a, b) in enumerate(zip(onsets, lengths, strict=True))]
    moved = jitter_timing(events, spread, np.random.default_rng(seed))
    assert [t.cents for t in moved] == sorted(t.cents for t in moved)
    for first, two in itertools.pairwise(moved):
        assert first.end_seconds <= two.onset_seconds + 1e-9
        assert first.seconds > 0
    assert moved[-1].end_seconds <= events[-1].end_seconds + 1e-9
