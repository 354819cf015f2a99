"""The demo style: melodies in its scale and bars, with parts that return."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talim.metrics import pitch
from talim.synthesis import demo_style
from talim.synthesis.demo_style import ScorePlan
from talim.synthesis.performer import perform


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(1.0, 30.0))
def test_melody_any_seed_has_contiguous_notes_of_the_scale(seed: int, seconds: float) -> None:
    rng = np.random.default_rng(seed)
    plan = demo_style.draw_plan(rng)
    now = 0.0
    for note in demo_style.melody(plan, seconds, rng):
        assert (note.cents - plan.tonic_cents) % 1200 in set(demo_style.SCALE_CENTS)
        assert note.onset_seconds == pytest.approx(now, abs=1e-6)
        now += note.seconds
    assert now <= seconds + 1e-6


def test_melody_part_a_returns_equal_but_for_its_ending() -> None:
    rng = np.random.default_rng(3)
    plan = demo_style.draw_plan(rng)
    notes = demo_style.melody(plan, 120.0, rng)
    bars = [round(n.onset_seconds / plan.bar_seconds, 3) for n in notes]
    parts = {k: [n.cents for n, b in zip(notes, bars, strict=True) if 2 * k <= b < 2 * k + 2] for k in range(8)}
    assert parts[1] == parts[3]
    assert parts[0][:-2] == parts[1][:-1]
    assert parts[2] == parts[6]
    assert parts[1][-1] % 1200 == plan.tonic_cents % 1200


def test_rhythms_every_row_fills_the_cycle() -> None:
    assert all(sum(row) == 7 for row in demo_style.RHYTHMS)


def test_scale_has_neutral_intervals() -> None:
    assert any(cents % 100 == 50 for cents in demo_style.SCALE_CENTS)


def test_perform_demo_without_rendering_has_the_same_notes_and_no_samples() -> None:
    for seed in range(3):
        silent = perform(seed, "demo", 4.0, render=False)
        assert silent.samples.size == 0
        rendered = perform(seed, "demo", 4.0)
        assert (silent.notes, silent.caption) == (rendered.notes, rendered.caption)
        assert f"{rendered.facts['tempo_bpm']} bpm" in rendered.caption


def test_render_melody_sounds_at_the_pitches_of_its_notes() -> None:
    rng = np.random.default_rng(0)
    plan = ScorePlan(
        "blown", 0, 2, demo_style.SCALE_CENTS, 96, 7, demo_style.RHYTHMS, demo_style.STROKES,
        drums=False, has_reverb=False,
    )  # fmt: skip
    notes = demo_style.melody(plan, 6.0, rng)
    samples = demo_style.master(demo_style.render_melody(plan, notes, 6.0, 0.0, 1.0, rng), False, rng)
    track = pitch.track_pitch(samples, demo_style.RATE_HZ)
    errors = []
    for note in notes:
        middle = int((note.onset_seconds + note.seconds / 2) / track.hop_seconds)
        errors.append(track.cents[middle] + 900 - note.cents)
    assert np.nanmedian(np.abs(errors)) < 5
