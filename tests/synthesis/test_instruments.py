"""Sounds: in tune, level, silent where nothing is played, and no partial where there is no room for it."""

from __future__ import annotations

import numpy as np
import pytest

from talim.synthesis.instruments import (
    FRAME,
    INSTRUMENTS,
    SynthesisControls,
    harmonics,
    running_mean,
    synthesize_curve,
    true_runs,
)
from talim.synthesis.western_instruments import RATE_HZ


def steady(cents: float, frames: int = 300) -> SynthesisControls:
    since = np.arange(frames) * 0.005
    return SynthesisControls(np.full(frames, cents), np.ones(frames), since, ((0, 1.0),))


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_synthesize_curve_fundamental_is_at_curve(name: str) -> None:
    samples = synthesize_curve(steady(100.0), 220.0, INSTRUMENTS[name], np.random.default_rng(0))
    assert samples.dtype == np.float32
    assert samples.size == 300 * FRAME
    assert np.isfinite(samples).all()
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(samples.size), 1 << 18))
    hz = np.fft.rfftfreq(1 << 18, 1 / RATE_HZ)
    near = (hz > 218) & (hz < 248)
    result = hz[near][np.argmax(spectrum[near])]
    assert abs(1200 * np.log2(result / (220 * 2 ** (100 / 1200)))) < 3


def test_harmonics_equal_sum_of_sines() -> None:
    """Against a plain sum of sines over the same interpolated pitch and gains."""
    hz = 200 * 2 ** (0.1 * np.sin(np.arange(400) / 30))
    gains = np.abs(np.sin(np.arange(400)[:, None] / 50 + np.arange(1, 6)))
    gains[-1] = 0
    at = np.arange(400 * FRAME) / FRAME
    speed = np.interp(at, np.arange(400), hz)
    phase = 2 * np.pi * np.cumsum(speed) / RATE_HZ
    expected = sum(np.interp(at, np.arange(400), gains[:, k]) * np.sin((k + 1) * phase) for k in range(5))
    np.testing.assert_allclose(harmonics(hz, gains)[:-FRAME], expected[:-FRAME], atol=1e-6)


def test_synthesize_curve_silence_is_silent_and_band_limited() -> None:
    curve = steady(0.0, 400)
    curve.cents[100:200] = np.nan
    curve.level[100:200] = 0.0
    samples = synthesize_curve(curve, 900.0, INSTRUMENTS["violin"], np.random.default_rng(0))
    assert np.abs(samples[101 * FRAME : 199 * FRAME]).max() < 0.05  # bow noise follows the level
    spectrum = np.abs(np.fft.rfft(samples[200 * FRAME :] * np.hanning(200 * FRAME)))
    hz = np.fft.rfftfreq(200 * FRAME, 1 / RATE_HZ)
    assert spectrum[hz > 7700].max() < 0.01 * spectrum.max()


def test_synthesize_curve_plucked_decays_and_bowed_does_not() -> None:
    def late(name: str) -> float:
        samples = synthesize_curve(steady(0.0, 400), 200.0, INSTRUMENTS[name], np.random.default_rng(0))
        return float(np.std(samples[-4000:]) / np.std(samples[1000:5000]))

    assert late("ud") < 0.2 < 0.8 < late("kemençe")


def test_running_mean_keeps_constant_and_true_runs_finds_runs() -> None:
    np.testing.assert_allclose(running_mean(np.full((30, 2), 3.0), 12), 3.0)
    assert running_mean(np.ones((5, 1)), 12).shape == (5, 1)
    assert true_runs(np.array([True, True, False, True])) == [(0, 2), (3, 4)]
    assert true_runs(np.zeros(3, bool)) == []
