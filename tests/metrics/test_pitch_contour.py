"""How a melody moves: known notes, glides, vibratos and pauses are measured as what they are."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talim.metrics.pitch_contour import (
    METRIC_DESCRIPTIONS,
    clean_f0,
    contour_measures,
    oscillations,
    phrase_seconds,
    pitch_class_concentration,
    steady_notes,
)

HOP = 0.01


def line(*parts: tuple[float, float], way_seconds: float = 0.1) -> np.ndarray:
    """Held pitches (cents, seconds) joined by straight ways."""
    out = [np.full(round(parts[0][1] / HOP), parts[0][0])]
    for (before, _), (cents, seconds) in itertools.pairwise(parts):
        out += [
            np.linspace(before, cents, round(way_seconds / HOP) + 2)[1:-1],
            np.full(round(seconds / HOP), cents),
        ]
    return np.concatenate(out)


def test_steps_are_counted_timed_and_their_speed_is_measured() -> None:
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
def test_a_vibrato_has_its_rate_and_extent(rate: float, extent: float) -> None:
    at = np.arange(300) * HOP
    found = contour_measures(500 + extent / 2 * np.sin(2 * np.pi * rate * at))
    assert found["oscillation_hz"] == pytest.approx(rate, rel=0.06)
    assert found["oscillation_cents"] == pytest.approx(extent, rel=0.2)
    assert found["oscillating_share"] > 0.8
    assert (found["wide_oscillating_share"] > 0.5) == (extent >= 150)


def test_a_slow_swing_is_no_vibrato_and_noise_is_none_either() -> None:
    at = np.arange(400) * HOP
    assert contour_measures(40 * np.sin(2 * np.pi * 1.5 * at))["oscillating_share"] == 0
    noise = np.random.default_rng(0).normal(0, 6, 400)
    assert contour_measures(500 + noise)["oscillating_share"] < 0.1


def test_a_touched_neighbour_is_a_touch() -> None:
    track = line((0, 0.6), (200, 0.05), (0, 0.6), (-100, 0.6), way_seconds=0.03)
    assert contour_measures(track)["touches_per_second"] * track.size * HOP == pytest.approx(1, abs=0.2)


def test_octave_slips_gaps_and_coarse_grids_change_little() -> None:
    at = np.arange(1500) * HOP
    track = 200 * np.floor(at / 0.8 % 5) + 40 * np.sin(2 * np.pi * 5.5 * at) * (np.floor(at / 0.8) % 2)
    rough = np.round(track / 10) * 10
    rough[300:312] += 1200
    rough[700:708] -= 1200
    rough[500:503] = np.nan
    one, other = contour_measures(track), contour_measures(rough)
    for name in ("note_seconds", "oscillation_hz", "glides_per_second", "oscillating_share", "range_cents"):
        assert other[name] == pytest.approx(one[name], rel=0.12), name


def test_cleaning_moves_short_octave_jumps_back_and_leaves_long_ones() -> None:
    track = np.full(200, 300.0)
    track[50:60] += 1200
    track[100:160] += 1200
    cleaned = clean_f0(track, HOP)
    assert cleaned[55] == pytest.approx(300)
    assert cleaned[130] == pytest.approx(1500)


def test_pauses_part_phrases_and_short_gaps_do_not() -> None:
    track = np.full(600, 0.0)
    track[100:110] = np.nan
    track[300:340] = np.nan
    assert phrase_seconds(track, HOP).tolist() == pytest.approx([3.0, 2.6])


def test_sharpness_lies_between_no_scale_and_one_note() -> None:
    assert pitch_class_concentration(np.full(100, 70.0)) == 1
    assert pitch_class_concentration(np.arange(1200.0)) == pytest.approx(0.2, abs=0.03)


def test_steady_notes_know_where_they_are() -> None:
    notes = steady_notes(clean_f0(line((0, 0.5), (300, 0.4)), HOP), HOP)
    assert [round(n.cents) for n in notes] == [0, 300]
    assert oscillations(np.zeros(100), HOP) == []


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 0.6))
def test_any_track_is_measured_within_bounds(seed: int, missing: float) -> None:
    rng = np.random.default_rng(seed)
    track = np.cumsum(rng.normal(0, 30, 800))
    track[rng.random(800) < missing / 4] = np.nan
    found = contour_measures(track)
    for name in ("voiced_share", "steady_share", "oscillating_share", "wide_oscillating_share", "sharpness"):
        assert 0 <= found[name] <= 1.05, name


@pytest.mark.parametrize("track", [np.full(500, np.nan), np.zeros(20), np.zeros((200, 2))])
def test_what_cannot_be_measured_is_refused(track: np.ndarray) -> None:
    with pytest.raises(ValueError, match="pitch track"):
        contour_measures(track)
