"""Ornaments: constructed contours of each kind, and contours that are none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.validation import degradations
from talim.metrics import ornaments


def sine(extent, rate, seconds, slope=0.0, before=0.5):
    at = np.arange(round((seconds + 2 * before) / HOP)) * HOP - before
    inside = (at >= 0) & (at < seconds)
    return 500 + slope * at + np.where(inside, extent / 2 * np.sin(2 * np.pi * rate * at), 0)


@settings(max_examples=30, deadline=None)
@given(st.floats(4.3, 7.5), st.floats(34, 72), st.floats(-30, 30))
def test_find_sinusoidal_oscillations_of_vibrato_on_a_slope(rate, extent, slope):
    found = ornaments.find_sinusoidal_oscillations(sine(extent, rate, 1.0, slope), HOP, ornaments.VIBRATO)
    assert len(found) == 1
    assert found[0].rate_hz == pytest.approx(rate, rel=0.06)
    assert found[0].extent_cents == pytest.approx(extent, rel=0.12)
    assert found[0].start * HOP == pytest.approx(0.5, abs=0.15)
    assert found[0].stop * HOP == pytest.approx(1.5, abs=0.15)


def test_fit_sinusoids_equals_least_squares():
    piece = np.random.default_rng(0).standard_normal(80).cumsum() * 10
    extent, told, rise = ornaments._fit_sinusoids(piece, HOP, 5.0, 40)
    at = (np.arange(40) - 19.5) * HOP
    columns = np.stack([np.ones(40), at, np.cos(10 * np.pi * at), np.sin(10 * np.pi * at)], axis=1)
    for n in (0, 17, 40):
        window = piece[n : n + 40]
        (_, slope, a, b), left, *_ = np.linalg.lstsq(columns, window, rcond=None)
        _, before, *_ = np.linalg.lstsq(columns[:, :2], window, rcond=None)
        assert extent[n] == pytest.approx(2 * np.hypot(a, b))
        assert told[n] == pytest.approx(1 - left[0] / before[0])
        assert rise[n] == pytest.approx(abs(slope) * 0.4)


def test_find_sinusoidal_oscillations_separates_swing_vibrato_and_step():
    swing = sine(80, 1.5, 2.0)
    assert [round(w.rate_hz, 1) for w in ornaments.find_sinusoidal_oscillations(swing, HOP, ornaments.SWING)] == [
        pytest.approx(1.5, abs=0.2)
    ]
    assert ornaments.find_sinusoidal_oscillations(swing, HOP, ornaments.VIBRATO) == []
    step = np.repeat([0.0, 60.0], 60)
    assert (
        ornaments.find_sinusoidal_oscillations(step, HOP, ornaments.VIBRATO)
        == ornaments.find_sinusoidal_oscillations(step, HOP, ornaments.SWING)
        == []
    )


def test_find_sinusoidal_oscillations_of_short_segment_is_empty():
    assert ornaments.find_sinusoidal_oscillations(np.zeros(5), HOP, ornaments.VIBRATO) == []


HOP = 0.01


def held(cents, seconds):
    return np.full(round(seconds / HOP), float(cents))


def swung(cents, extent, rate, seconds):
    at = np.arange(round(seconds / HOP)) * HOP
    return cents + extent / 2 * np.sin(2 * np.pi * rate * at)


def eased(one, two, seconds):
    return one + (two - one) * (0.5 - 0.5 * np.cos(np.linspace(0, np.pi, round(seconds / HOP))))


def kinds(*parts):
    return [one.kind for one in ornaments.find_ornaments(np.concatenate(parts), HOP)]


def test_find_ornaments_of_shake_gives_rate_and_extent():
    found = ornaments.find_ornaments(np.concatenate([held(0, 0.5), swung(0, 200, 6, 1.0), held(0, 0.5)]), HOP)
    assert [one.kind for one in found] == ["shake"]
    assert found[0].rate_hz == pytest.approx(6, rel=0.05)
    assert found[0].extent_cents == pytest.approx(200, rel=0.1)
    assert found[0].onset_seconds == pytest.approx(0.5, abs=0.06)
    assert found[0].seconds == pytest.approx(1.0, abs=0.1)


def test_find_ornaments_separates_vibrato_and_swing():
    assert kinds(held(0, 0.5), swung(0, 50, 5.5, 1.0), held(0, 0.5)) == ["vibrato"]
    assert kinds(held(0, 0.5), swung(0, 100, 1.5, 2.7), held(0, 0.5)) == ["swing"]


def test_find_ornaments_of_slow_move_is_a_glide_and_of_quick_move_or_run_none():
    glide = ornaments.find_ornaments(np.concatenate([held(0, 0.5), eased(0, 500, 0.5), held(500, 0.5)]), HOP)
    assert [one.kind for one in glide] == ["glide"]
    assert glide[0].extent_cents == pytest.approx(500, abs=10)
    assert kinds(held(0, 0.5), eased(0, 500, 0.08), held(500, 0.5)) == []
    run = [held(200, 0.11), held(400, 0.11)]
    assert "glide" not in kinds(held(0, 0.5), *run, held(600, 0.5))


@pytest.mark.parametrize(("rate", "extent"), [(4.5, 40), (5.5, 50), (7.0, 60)])
def test_find_ornaments_of_two_vibrato_periods_gives_rate_and_extent(rate, extent):
    found = ornaments.find_ornaments(
        np.concatenate([held(0, 0.5), swung(0, extent, rate, 2 / rate), held(0, 0.5)]), HOP
    )
    assert [one.kind for one in found] == ["vibrato"]
    assert found[0].rate_hz == pytest.approx(rate, rel=0.15)
    assert found[0].extent_cents == pytest.approx(extent, rel=0.25)


def test_find_ornaments_of_steps_between_two_notes_is_no_shake():
    # The same turning points as a shake's, but held: a turn of detours, not a swing.
    steps = [held(level, 0.09) for level in (200, 0, 200, 0)]
    assert "shake" not in kinds(held(0, 0.5), *steps, held(0, 0.5))
    assert kinds(held(0, 0.5), swung(0, 200, 1 / 0.18, 0.36), held(0, 0.5)) == ["shake"]


def test_find_ornaments_of_one_neighbour_is_a_touch_and_of_several_a_turn():
    turn = (held(0, 0.5), held(200, 0.07), held(0, 0.07), held(-200, 0.07), held(0, 0.5))
    touch = ornaments.find_ornaments(np.concatenate([held(-300, 0.5), held(200, 0.08), held(0, 0.5)]), HOP)
    assert [one.kind for one in touch] == ["touch"]
    assert touch[0].extent_cents == pytest.approx(200, abs=10)  # over the nearer of the notes beside it
    assert touch[0].seconds == pytest.approx(0.08, abs=0.021)
    assert kinds(*turn) == ["turn"]
    assert kinds(held(200, 0.08), held(0, 0.6)) == ["touch"]  # a breath that opens with it
    assert kinds(held(0, 0.5), held(200, 0.5), held(0, 0.5)) == []  # a note is no ornament


def test_find_ornaments_of_touches_on_two_notes_is_no_turn():
    line = (held(0, 0.5), held(300, 0.07), held(200, 0.25), held(500, 0.07), held(400, 0.5))
    assert kinds(*line) == ["touch", "touch"]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(2, 40), st.sampled_from([0.0, 3.0]))
def test_ornament_score_with_jitter_never_rises(seed, size, smooth):
    """Random pitch errors, new in each frame or smoothed over some 30 ms, on a track with ornaments of each kind."""
    bar = [held(0, 0.6), swung(0, 200, 6, 0.8), held(200, 0.5), held(400, 0.07), held(200, 0.5)]
    bar += [swung(200, 50, 5, 0.8), held(400, 0.07), held(200, 0.07), held(0, 0.07), held(200, 0.6)]
    track = np.concatenate(bar * 4)
    jittered = degradations.jitter_pitch(track, np.random.default_rng(seed), size, smooth)
    assert ornaments.ornament_score(jittered, HOP) <= ornaments.ornament_score(track, HOP) + 0.01


def test_ornament_score_falls_with_jitter_and_is_zero_when_flat():
    bar = [held(0, 0.6), swung(0, 200, 6, 0.8), held(200, 0.5), held(400, 0.07), held(200, 0.5)]
    track = np.concatenate(bar * 8)
    whole = ornaments.ornament_score(track, HOP)
    rng = np.random.default_rng(0)
    for size in (10, 30):
        assert ornaments.ornament_score(track + size * rng.standard_normal(track.size), HOP) < whole
    flat = np.concatenate([held(0, 1.4), held(200, 1.07)] * 8)
    assert ornaments.ornament_score(flat, HOP) == 0
    jittered = flat + 20 * rng.standard_normal(flat.size)
    assert ornaments.ornament_score(jittered, HOP) < 0.05 * whole


def test_ornaments_with_transposition_are_unchanged():
    track = np.concatenate([held(0, 0.5), swung(0, 200, 6, 1.0), held(0, 0.5), held(300, 0.08), held(0, 0.5)])
    one, other = ornaments.ornament_profile(track, HOP), ornaments.ornament_profile(track + 700, HOP)
    assert one["shake"] == pytest.approx(other["shake"], nan_ok=True)
    assert one["touch"]["per_second"] == pytest.approx(1 / (track.size * HOP))


def test_ornament_score_of_silence_is_nan():
    assert np.isnan(ornaments.ornament_score(np.full(500, np.nan), HOP))
