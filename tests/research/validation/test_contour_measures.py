"""Contour statistics of constructed tracks with known notes, glides, vibratos and pauses."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.validation.contour_measures import (
    METRIC_DESCRIPTIONS,
    contour_measures,
    oscillations,
    phrase_seconds,
    pitch_class_concentration,
)

HOP = 0.01


def line(*parts: tuple[float, float], way_seconds: float = 0.1) -> np.ndarray:
    """Held pitches (cents, seconds) joined by straight ways."""
    out = [np.full(round(parts[0][1] / HOP), parts[0][0])]
    for (before, _), (cents, seconds) in itertools.pairwise(parts):
        out += [np.linspace(before, cents, round(way_seconds / HOP) + 2)[1:-1], np.full(round(seconds / HOP), cents)]
    return np.concatenate(out)


def test_contour_measures_of_steps_count_time_and_speed() -> None:
    found = contour_measures(line((0, 0.5), (200, 0.5), (400, 0.5), (900, 0.5)))
    assert set(found) == set(METRIC_DESCRIPTIONS)
    assert found["voiced_share"] == 1
    assert found["note_seconds"] == pytest.approx(0.5, abs=0.06)
    assert found["step_share"] == pytest.approx(2 / 3)
    assert found["glides_per_second"] * 2.3 == pytest.approx(3, abs=0.1)
    assert found["glide_seconds"] == pytest.approx(0.09, abs=0.02)
    assert found["glide_speed"] == pytest.approx(2000, rel=0.25)
    assert found["oscillating_share"] == 0
    assert found["touches_per_second"] == 0


@pytest.mark.parametrize(("rate", "extent"), [(4.5, 60), (5.5, 120), (6.5, 300)])
def test_contour_measures_of_vibrato_give_rate_and_extent(rate: float, extent: float) -> None:
    at = np.arange(300) * HOP
    found = contour_measures(500 + extent / 2 * np.sin(2 * np.pi * rate * at))
    assert found["oscillation_hz"] == pytest.approx(rate, rel=0.06)
    assert found["oscillation_cents"] == pytest.approx(extent, rel=0.2)
    assert found["oscillating_share"] > 0.8
    assert (found["wide_oscillating_share"] > 0.5) == (extent >= 150)


def test_contour_measures_of_slow_swing_or_noise_find_no_oscillation() -> None:
    at = np.arange(400) * HOP
    assert contour_measures(40 * np.sin(2 * np.pi * 1.5 * at))["oscillating_share"] == 0
    noise = np.random.default_rng(0).normal(0, 6, 400)
    assert contour_measures(500 + noise)["oscillating_share"] < 0.1
    assert oscillations(np.zeros(100), HOP) == []


def test_contour_measures_of_touched_neighbour_count_one_touch() -> None:
    track = line((0, 0.6), (200, 0.05), (0, 0.6), (-100, 0.6), way_seconds=0.03)
    assert contour_measures(track)["touches_per_second"] * track.size * HOP == pytest.approx(1, abs=0.2)


def test_contour_measures_with_octave_slips_and_gaps_change_little() -> None:
    at = np.arange(1500) * HOP
    track = 200 * np.floor(at / 0.8 % 5) + 40 * np.sin(2 * np.pi * 5.5 * at) * (np.floor(at / 0.8) % 2)
    rough = np.round(track / 10) * 10
    rough[300:312] += 1200
    rough[700:708] -= 1200
    rough[500:503] = np.nan
    one, other = contour_measures(track), contour_measures(rough)
    for name in ("note_seconds", "oscillation_hz", "glides_per_second", "oscillating_share", "range_cents"):
        assert other[name] == pytest.approx(one[name], rel=0.12), name


def test_phrase_seconds_splits_at_pauses_only() -> None:
    track = np.full(600, 0.0)
    track[100:110] = np.nan
    track[300:340] = np.nan
    assert phrase_seconds(track, HOP).tolist() == pytest.approx([3.0, 2.6])


def test_pitch_class_concentration_of_one_note_and_of_no_scale() -> None:
    assert pitch_class_concentration(np.full(100, 70.0)) == 1
    assert pitch_class_concentration(np.arange(1200.0)) == pytest.approx(0.2, abs=0.03)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 0.6))
def test_contour_measures_of_any_track_are_within_bounds(seed: int, missing: float) -> None:
    rng = np.random.default_rng(seed)
    track = np.cumsum(rng.normal(0, 30, 800))
    track[rng.random(800) < missing / 4] = np.nan
    found = contour_measures(track)
    for name in ("voiced_share", "steady_share", "oscillating_share", "wide_oscillating_share", "sharpness"):
        assert 0 <= found[name] <= 1.05, name


@pytest.mark.parametrize("track", [np.full(500, np.nan), np.zeros(20), np.zeros((200, 2))])
def test_contour_measures_of_unusable_track_raise(track: np.ndarray) -> None:
    with pytest.raises(ValueError, match="pitch track"):
        contour_measures(track)
