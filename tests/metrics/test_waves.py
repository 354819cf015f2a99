"""Waves: a drawn sine has its rate and extent wherever it lies, noise and steps are none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talim.metrics import waves

HOP = 0.01


def sine(extent, rate, seconds, slope=0.0, before=0.5):
    at = np.arange(round((seconds + 2 * before) / HOP)) * HOP - before
    inside = (at >= 0) & (at < seconds)
    return 500 + slope * at + np.where(inside, extent / 2 * np.sin(2 * np.pi * rate * at), 0)


@settings(max_examples=30, deadline=None)
@given(st.floats(4.3, 7.5), st.floats(34, 72), st.floats(-30, 30))
def test_vibrato_is_measured_on_a_slope_too(rate, extent, slope):
    found = waves.waves(sine(extent, rate, 1.0, slope), HOP, waves.VIBRATO)
    assert len(found) == 1
    assert found[0].rate_hz == pytest.approx(rate, rel=0.06)
    assert found[0].extent_cents == pytest.approx(extent, rel=0.12)
    assert found[0].start * HOP == pytest.approx(0.5, abs=0.15)
    assert found[0].stop * HOP == pytest.approx(1.5, abs=0.15)


def test_the_fit_is_that_of_least_squares():
    piece = np.random.default_rng(0).standard_normal(80).cumsum() * 10
    extent, told, rise = waves._fit(piece, HOP, 5.0, 40)
    at = (np.arange(40) - 19.5) * HOP
    columns = np.stack([np.ones(40), at, np.cos(10 * np.pi * at), np.sin(10 * np.pi * at)], axis=1)
    for n in (0, 17, 40):
        window = piece[n : n + 40]
        (_, slope, a, b), left, *_ = np.linalg.lstsq(columns, window, rcond=None)
        _, before, *_ = np.linalg.lstsq(columns[:, :2], window, rcond=None)
        assert extent[n] == pytest.approx(2 * np.hypot(a, b))
        assert told[n] == pytest.approx(1 - left[0] / before[0])
        assert rise[n] == pytest.approx(abs(slope) * 0.4)


def test_a_slow_swing_is_none_of_vibrato_and_a_step_is_none_of_either():
    swing = sine(80, 1.5, 2.0)
    assert [round(w.rate_hz, 1) for w in waves.waves(swing, HOP, waves.SWING)] == [
        pytest.approx(1.5, abs=0.2)
    ]
    assert waves.waves(swing, HOP, waves.VIBRATO) == []
    step = np.repeat([0.0, 60.0], 60)
    assert waves.waves(step, HOP, waves.VIBRATO) == waves.waves(step, HOP, waves.SWING) == []


def test_pieces_too_short_hold_none():
    assert waves.waves(np.zeros(5), HOP, waves.VIBRATO) == []
