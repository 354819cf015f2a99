"""Tuning, grid, pitch classes, key and note rate on tracks made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from research.acceptance import tonality
from talim.metrics.pitch import PitchTrack


def track(cents_above_a4: list[float] | np.ndarray) -> PitchTrack:
    cents = np.asarray(cents_above_a4, float)
    return PitchTrack(440 * 2 ** (cents / 1200), np.isfinite(cents), 0.02)


@given(st.floats(-49, 49))
def test_tuning_cents_of_a_detuned_track_is_its_offset(offset: float) -> None:
    tuned = track(np.array([0, 200, 400, -700, 1200] * 5) + offset)
    assert tonality.tuning_cents(tuned) == pytest.approx(offset, abs=0.01)
    assert tonality.on_grid_fraction(tuned) == 1.0


def test_on_grid_fraction_of_uniform_pitches_is_half() -> None:
    assert tonality.on_grid_fraction(track(np.arange(0, 1200, 0.5))) == pytest.approx(0.5, abs=0.02)


def test_on_grid_fraction_excludes_quarter_tones() -> None:
    assert tonality.on_grid_fraction(track([0.0] * 60 + [50.0] * 40)) == pytest.approx(0.6)


@pytest.mark.parametrize(("cents", "expected"), [(0, 9), (300, 0), (-900, 0), (200, 11), (400, 1)])
def test_pitch_class_profile_counts_from_c(cents: float, expected: int) -> None:
    assert tonality.pitch_class_profile(track([cents] * 4))[expected] == 1.0


def test_entropy_bits_of_one_and_twelve_classes() -> None:
    assert tonality.entropy_bits(np.eye(12)[3]) == 0.0
    assert tonality.entropy_bits(np.full(12, 1 / 12)) == pytest.approx(np.log2(12))


@pytest.mark.parametrize("tonic", range(12))
@pytest.mark.parametrize("scale", ["major", "minor"])
def test_estimate_key_of_a_scale_with_weight_on_the_triad(tonic: int, scale: str) -> None:
    steps = tonality.MAJOR if scale == "major" else tonality.MINOR
    profile = np.zeros(12)
    for step, weight in zip(steps, (6, 2, 3, 2, 4, 2, 2), strict=True):
        profile[(tonic + step) % 12] = weight
    assert tonality.estimate_key(profile / profile.sum()) == (tonic, scale)


def test_notes_per_second_counts_changes_and_silences() -> None:
    melody = [0.0] * 10 + [200.0] * 10 + [np.nan] * 5 + [200.0] * 10 + [400.0] * 2
    assert tonality.notes_per_second(track(melody)) == pytest.approx(3 / (37 * 0.02))


def test_measures_without_pitch_are_nan_or_zero() -> None:
    silent = track([np.nan] * 5)
    assert np.isnan(tonality.on_grid_fraction(silent))
    assert tonality.pitch_class_profile(silent).sum() == 0
    assert tonality.notes_per_second(silent) == 0
