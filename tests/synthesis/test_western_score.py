"""Melodies: in their scale, in their bars, with parts that return."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talim.synthesis import western_score


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["western", "demo"]), st.floats(1.0, 30.0))
def test_every_note_is_a_degree_of_the_scale_and_notes_follow_without_gap(
    seed: int, style: str, seconds: float
) -> None:
    rng = np.random.default_rng(seed)
    plan = western_score.draw_plan(rng, style)
    notes = western_score.melody(plan, seconds, rng)
    degrees = {c % 1200 for c in western_score.SCALES_CENTS[plan.scale]}
    now = 0.0
    for note in notes:
        assert (note.cents - plan.tonic_cents) % 1200 in degrees
        assert note.onset_seconds == pytest.approx(now, abs=1e-6)
        now += note.seconds
    assert now <= seconds + 1e-6


def test_part_a_returns_note_for_note_but_for_its_ending() -> None:
    rng = np.random.default_rng(3)
    plan = western_score.draw_plan(rng, "western")
    notes = western_score.melody(plan, 60.0, rng)
    bars = [round(n.onset_seconds / plan.bar_seconds, 3) for n in notes]
    parts = {
        k: [n.cents for n, b in zip(notes, bars, strict=True) if 2 * k <= b < 2 * k + 2] for k in range(8)
    }
    assert parts[1] == parts[3]
    assert parts[0][:-2] == parts[1][:-1]
    assert parts[2] == parts[6]
    assert parts[1][-1] % 1200 == plan.tonic_cents % 1200


def test_every_rhythm_fills_its_bar() -> None:
    for beats, rows in western_score.BARS.items():
        assert all(sum(row) == beats for row in rows)


def test_western_scales_lie_on_the_tempered_grid_and_the_demo_does_not() -> None:
    for name in ("major", "minor"):
        assert all(c % 100 == 0 for c in western_score.SCALES_CENTS[name])
    assert any(c % 100 == 50 for c in western_score.SCALES_CENTS["demo"])


def test_caption_names_what_is_played() -> None:
    rng = np.random.default_rng(5)
    plan = western_score.draw_plan(rng, "western")
    words, facts = western_score.caption(plan, "western", rng), western_score.facts(plan, "western")
    assert f"{facts['tempo_bpm']} bpm" in words
    assert f"{facts['tonic']} {facts['scale']}" in words
    assert str(facts["instrument"]) in words
