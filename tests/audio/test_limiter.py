"""Peak limiter: the ceiling holds between samples too, quiet passages stay, nothing moves in time, loops stay loops."""

from __future__ import annotations

import numpy as np
import pytest

from talim.audio import Audio
from talim.audio.limiter import OVERSAMPLING, limit_peaks

RATE_HZ = 16000
CEILING = 10 ** (-1 / 20)


def noise(channels: int, seconds: float = 2.0, level: float = 0.05) -> np.ndarray:
    generator = np.random.default_rng(3)
    return (level * generator.standard_normal((channels, round(seconds * RATE_HZ)))).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_limit_peaks_keeps_length_channels_and_ceiling(channels: int) -> None:
    samples = noise(channels, level=0.5)
    limited = limit_peaks(Audio(samples, RATE_HZ), -1.0)
    assert limited.samples.shape == samples.shape
    assert limited.rate_hz == RATE_HZ
    assert limited.peak <= CEILING + 1e-6
    assert limited.peak > 0.9 * CEILING


def test_limit_peaks_counts_peaks_between_samples() -> None:
    """A sine at a quarter of the sampling rate, sampled 45 degrees off: 3 dB more between the samples than on them."""
    phase = 2 * np.pi * np.arange(2 * RATE_HZ) / 4 + np.pi / 4
    sine = Audio(np.sin(phase, dtype=np.float32)[None], RATE_HZ)
    assert sine.peak == pytest.approx(0.707, abs=0.003)
    limited = limit_peaks(sine, -1.0)
    inner = limited.resample(RATE_HZ * OVERSAMPLING).samples[:, RATE_HZ:-RATE_HZ]
    assert np.abs(inner).max() == pytest.approx(CEILING, abs=0.01)


def test_limit_peaks_below_the_ceiling_returns_the_clip() -> None:
    clip = Audio(noise(2), RATE_HZ)
    assert limit_peaks(clip, -1.0) is clip
    silent = Audio(np.zeros((1, 0), np.float32), RATE_HZ)
    assert limit_peaks(silent, -1.0) is silent


def test_limit_peaks_changes_only_the_surroundings_of_a_peak() -> None:
    samples = noise(1)
    samples[0, RATE_HZ] = 3.0
    limited = limit_peaks(Audio(samples, RATE_HZ), -1.0).samples
    assert np.argmax(np.abs(limited[0])) == RATE_HZ
    away = np.r_[1000 : RATE_HZ - 1000, RATE_HZ + 4000 : 2 * RATE_HZ - 1000]
    scale = limited[0, away] / samples[0, away]
    assert scale == pytest.approx(scale[0], rel=1e-5)
    assert 0.94 < scale[0] <= 1.0  # oversampling takes a little off an impulse of the full band


def test_limit_peaks_of_a_loop_reduces_its_end_before_a_peak_at_its_beginning() -> None:
    time = np.arange(2 * RATE_HZ) / RATE_HZ
    samples = (0.5 * np.sin(2 * np.pi * 200 * time)).astype(np.float32)[None]
    samples[0, :200] *= 4.0
    once, loop = (limit_peaks(Audio(samples, RATE_HZ), -1.0, periodic=p).samples[0, -40:] for p in (False, True))
    assert np.abs(once).max() == pytest.approx(np.abs(samples[0, -40:]).max(), rel=0.01)
    assert np.abs(loop).max() < 0.9 * np.abs(once).max()
