"""Performances: repeatable, of the asked length, truly at the pitches on record; and the old styles as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fixtures.invented_tradition import write_marsh
from hypothesis import given, settings
from hypothesis import strategies as st

from talim.errors import TalimError, UsageError
from talim.metrics import pitch
from talim.synthesis import demo_style
from talim.synthesis.arrangement import PerformanceRequest
from talim.synthesis.ground_truth import HOP_SECONDS
from talim.synthesis.performer import perform, performance_ground_truth
from talim.traditions.tradition import load

SHIPPED = ("hindustani", "makam")


@pytest.mark.parametrize("style", ["demo", *SHIPPED])
def test_perform_same_seed_gives_same_samples_other_seed_others(style: str) -> None:
    first, same, second = (perform(seed, style, 2.0) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first.samples, same.samples)
    assert first.caption == same.caption
    assert not np.array_equal(first.samples, second.samples)
    assert first.samples.dtype == np.float32
    assert first.samples.size == 2 * first.rate_hz
    assert 0.005 < np.sqrt(np.mean(first.samples**2)) < 0.3
    assert np.abs(first.samples).max() <= 0.98


@pytest.mark.parametrize("seed", [3, 5])
def test_perform_ground_truth_pitch_matches_tracked_pitch(seed: int) -> None:
    """A solo tracked from its samples alone: to 3 cents where the pitch holds, to 12 where it moves."""
    piece = perform(seed, "makam", 2.5, PerformanceRequest(ensemble=1, form="free"))
    assert piece.truth is not None
    expected = piece.truth.voices[0].cents.astype(float)
    track = pitch.track_pitch(piece.samples, piece.rate_hz, hop_seconds=HOP_SECONDS)
    measured = 1200 * np.log2(track.hz[: expected.size] / piece.truth.tonic_hz)
    errors = measured - expected
    reach = np.full(expected.size, np.inf)
    reach[5:-5] = np.abs(expected[10:] - expected[:-10])
    holds = reach < 15
    assert np.isfinite(errors).sum() > 0.5 * expected.size
    assert np.nanmedian(np.abs(errors[holds])) < 3
    assert abs(np.nanmedian(errors[holds])) < 1
    assert np.nanmedian(np.abs(errors[~holds])) < 12
    assert np.nanmean(np.abs(errors) > 60) < 0.05


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(SHIPPED), st.floats(1.0, 30.0))
def test_perform_any_seed_gives_valid_audio_and_ground_truth(seed: int, style: str, seconds: float) -> None:
    """Finite, not clipped, level; notes on the mode's own degrees; truth of the right length and order."""
    piece = perform(seed, style, seconds)
    truth, tradition = piece.truth, load(style)
    assert truth is not None
    assert np.isfinite(piece.samples).all()
    assert np.abs(piece.samples).max() < 0.98
    assert 0.05 < np.sqrt(np.mean(piece.samples.astype(float) ** 2)) < 0.11
    mode = tradition.mode(truth.mode)
    degrees = np.array([*mode.degrees_cents, *mode.touched_cents])
    for voice in truth.voices:
        assert abs(voice.cents.size - seconds / HOP_SECONDS) <= 1
        for note in voice.notes:
            away = np.abs((degrees - note.cents + 600) % 1200 - 600)
            assert away.min() < 0.01
            assert 0 <= note.onset_seconds < note.onset_seconds + note.seconds <= seconds + 1e-6
        for ornament in voice.ornaments:
            assert tradition.ornament(ornament.kind).shape == ornament.shape
            assert 0 <= ornament.onset_seconds <= seconds
            assert ornament.seconds > 0
            assert ornament.extent_cents >= 0
    now = 0.0
    for section in truth.sections:
        assert section.onset_seconds == pytest.approx(now, abs=1e-6)
        now = section.end_seconds
    assert now == pytest.approx(seconds, abs=1e-6)
    above_c4 = 1200 * np.log2(truth.tonic_hz / demo_style.cents_to_hz(0.0))
    assert [n.cents for n in piece.notes] == pytest.approx([n.cents + above_c4 for n in truth.voices[0].notes])


@pytest.mark.parametrize("style", SHIPPED)
@pytest.mark.parametrize("ensemble", [1, 2, 3])
def test_ground_truth_ensemble_has_requested_size(style: str, ensemble: int) -> None:
    for seed in range(6):
        truth = performance_ground_truth(seed, style, 12.0, PerformanceRequest(ensemble=ensemble, form="composition"))
        drums = bool(truth.strokes)
        assert len(truth.voices) + drums == ensemble
        if ensemble == 3:
            assert drums


def test_ground_truth_doubled_lines_differ_in_timing_and_ornaments_only() -> None:
    first, two = performance_ground_truth(2, "makam", 20.0, PerformanceRequest(ensemble=3, form="composition")).voices
    assert {round(n.cents % 1200, 2) for n in first.notes} == {round(n.cents % 1200, 2) for n in two.notes}
    assert [o.onset_seconds for o in first.ornaments] != [o.onset_seconds for o in two.ornaments]
    gaps = np.abs([a.onset_seconds - b.onset_seconds for a, b in zip(first.notes, two.notes, strict=False)])
    assert np.median(gaps) > 0.001
    assert gaps[:10].max() < 0.2


def test_perform_tradition_folder_uses_its_data(tmp_path: Path) -> None:
    folder = write_marsh(tmp_path / "marsh")
    piece = perform(3, folder, 20.0, PerformanceRequest(mode="Heron", cycle="Five", ensemble=3))
    truth = piece.truth
    assert truth is not None
    assert (truth.mode, truth.cycle, truth.cycle_beats) == ("heron", "five", 5)
    assert {round(n.cents % 1200) for n in truth.voices[0].notes} <= {0, 150, 350, 700}
    assert {s.syllable for s in truth.strokes} == {"toc", "tic"}
    assert {o.kind for o in truth.voices[0].ornaments} <= {"ripple", "drop"}
    assert sum(s.kind == "refrain" for s in truth.sections) >= 2
    assert "reed Heron" in piece.caption
    assert "wade Five" in piece.caption


def test_perform_free_form_has_no_cycle_or_tempo() -> None:
    piece = perform(0, "hindustani", 10.0, PerformanceRequest(form="free"))
    assert piece.truth is not None
    assert piece.truth.cycle is None
    assert piece.truth.strokes == ()
    assert piece.truth.beats_seconds.size == 0
    assert "tala" not in piece.caption
    assert "bpm" not in piece.caption


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, "western"), "demo, "),
        ((0, "demo", 0.0), "positive"),
        ((0, "hindustani", -1.0), "positive"),
        ((0, "makam", float("nan")), "positive"),
        ((0, "makam", 0.5), "1 s or more"),
        ((0, "demo", 5.0, PerformanceRequest(ensemble=2)), "no options"),
        ((0, "hindustani", 2.0, PerformanceRequest(form="full")), "too short"),
        ((0, "hindustani", 20.0, PerformanceRequest(cycle="Teentaal", window_seconds=3.0)), "cycle too long"),
    ],
)
def test_perform_invalid_arguments_raise_usage_error(arguments: tuple, message: str) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        perform(*arguments)
    assert "\n" not in str(refused.value)


def test_performance_ground_truth_of_the_demo_style_raises_usage_error() -> None:
    with pytest.raises(UsageError, match="no ground truth"):
        performance_ground_truth(0, "demo")


def test_perform_unknown_names_suggest_nearest() -> None:
    with pytest.raises(TalimError, match="Teentaal"):
        perform(0, "hindustani", 10.0, PerformanceRequest(cycle="Teentl"))
    with pytest.raises(TalimError, match="raga"):
        perform(0, "hindustani", 10.0, PerformanceRequest(mode="Qwertz"))
