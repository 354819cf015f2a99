"""Single notes: in tune, finite, and no louder or higher than they should be."""

from __future__ import annotations

import numpy as np
import pytest

from talim.synthesis import western_instruments

RATE_HZ = western_instruments.RATE_HZ


def strongest_hz(sound: np.ndarray, low_hz: float, high_hz: float) -> float:
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(sound.size), 1 << 18))
    frequencies = np.fft.rfftfreq(1 << 18, 1 / RATE_HZ)
    inside = (frequencies > low_hz) & (frequencies < high_hz)
    return float(frequencies[inside][np.argmax(spectrum[inside])])


@pytest.mark.parametrize("family", western_instruments.FAMILIES)
@pytest.mark.parametrize("variant", range(3))
def test_sound_fundamental_is_at_f0(family: str, variant: int) -> None:
    curve = np.full(RATE_HZ, 311.13)
    sound = western_instruments.SOUND[family](curve, variant, np.random.default_rng(0))
    assert sound.dtype == np.float32
    assert sound.size == curve.size
    assert np.isfinite(sound).all()
    assert abs(1200 * np.log2(strongest_hz(sound, 280, 345) / 311.13)) < 3


def test_partial_sum_equals_sum_of_sines() -> None:
    f0 = 200 * 2 ** (0.1 * np.sin(np.arange(4000) / 500))
    phase = 2 * np.pi * np.cumsum(f0) / RATE_HZ
    expected = sum(np.sin(k * phase) / k for k in range(1, 8))
    np.testing.assert_allclose(western_instruments.partial_sum(f0, lambda k, _: 1 / k, 7), expected, atol=1e-4)


def test_sound_has_no_partials_above_limit() -> None:
    sound = western_instruments.partial_sum(np.full(RATE_HZ, 1000.0), lambda k, _: 1.0, 100)
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(sound.size)))
    assert spectrum[7500:].max() < 1e-3 * spectrum.max()


@pytest.mark.parametrize("kind", ["kick", "snare", "hat"])
def test_drum_is_short_and_decays(kind: str) -> None:
    stroke = western_instruments.drum(kind, np.random.default_rng(0))
    assert stroke.size < RATE_HZ / 3
    assert np.abs(stroke[-80:]).max() < 0.2 * np.abs(stroke).max()
