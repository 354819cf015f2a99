"""The styles on which the miniatures were trained: unchanged samples, melodies in key, captions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.pretraining import western_style
from talim.errors import UsageError
from talim.synthesis.demo_style import melody

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "performer.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("stored", GOLDEN, ids=lambda stored: f"{stored['style']}-{stored['seed']}")
def test_perform_styles_of_training_give_the_stored_samples(stored: dict) -> None:
    """Notes and every 499th sample as when the miniatures were trained, within one 16-bit step."""
    piece = western_style.perform(stored["seed"], stored["style"], 3.0)
    assert piece.caption == stored["caption"]
    assert [n.part for n in piece.notes] == [row[3] for row in stored["notes"]]
    notes = [[n.onset_seconds, n.seconds, n.cents] for n in piece.notes]
    np.testing.assert_allclose(notes, [row[:3] for row in stored["notes"]], atol=2e-6)
    steps = np.round(piece.samples[::499] * 32767).astype(int)
    assert np.abs(steps - np.array(stored["every_499th_sample"])).max() <= 1
    assert np.mean(piece.samples.astype(float) ** 2) == pytest.approx(stored["mean_square"], rel=1e-5)


@pytest.mark.parametrize("style", western_style.STYLES)
def test_perform_same_seed_gives_same_samples_other_seed_others(style: str) -> None:
    first, same, other = (western_style.perform(seed, style, 2.0) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first.samples, same.samples)
    assert not np.array_equal(first.samples, other.samples)
    assert first.samples.dtype == np.float32
    assert first.samples.size == 2 * first.rate_hz
    assert 0.005 < np.sqrt(np.mean(first.samples**2)) < 0.3
    assert np.abs(first.samples).max() <= 0.98


def test_perform_unknown_style_raises_usage_error() -> None:
    with pytest.raises(UsageError, match="western, study"):
        western_style.perform(0, "demo")


def test_western_notes_equal_those_of_perform() -> None:
    for seed in range(3):
        assert western_style.western_notes(seed, 4.0) == western_style.perform(seed, "western", 4.0).notes


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(1.0, 30.0))
def test_draw_plan_melody_has_contiguous_notes_of_the_key(seed: int, seconds: float) -> None:
    rng = np.random.default_rng(seed)
    plan = western_style.draw_plan(rng)
    now = 0.0
    for note in melody(plan, seconds, rng):
        assert (note.cents - plan.tonic_cents) % 1200 in set(western_style.SCALES_CENTS[plan.scale])
        assert note.onset_seconds == pytest.approx(now, abs=1e-6)
        now += note.seconds
    assert now <= seconds + 1e-6


def test_bars_every_rhythm_fills_its_bar() -> None:
    for beats, rows in western_style.BARS.items():
        assert all(sum(row) == beats for row in rows)


def test_scales_lie_on_the_tempered_grid() -> None:
    assert all(cents % 100 == 0 for scale in western_style.SCALES_CENTS.values() for cents in scale)


def test_caption_names_instrument_key_and_tempo() -> None:
    text, facts = western_style.western_caption(5)
    assert f"{facts['tempo_bpm']} bpm" in text
    assert f"{facts['tonic']} {facts['scale']}" in text
    assert str(facts["instrument"]) in text
