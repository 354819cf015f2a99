"""Steady noise on signals with a known amount of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.pretraining.western_style import perform as perform_western
from talim.audio import Audio
from talim.metrics.noise import noise_db
from talim.synthesis.performer import perform

RATE_HZ = 16000


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 20.0, 30.0])
def test_noise_db_of_tone_with_noise_is_the_level_that_was_added(snr_db: float) -> None:
    times = np.arange(4 * RATE_HZ) / RATE_HZ
    tone = sum(np.sin(2 * np.pi * 220 * k * times) / k for k in range(1, 6))
    noise = np.random.default_rng(0).standard_normal(tone.size)
    noise *= np.sqrt((tone**2).mean() / (noise**2).mean()) * 10 ** (-snr_db / 20)
    expected = -10 * np.log10(1 + 10 ** (snr_db / 10))
    assert noise_db(Audio(tone + noise, RATE_HZ)) == pytest.approx(expected, abs=1.5)


def test_noise_db_of_noise_alone_is_zero_and_of_music_far_below() -> None:
    noise = np.random.default_rng(1).standard_normal(3 * RATE_HZ)
    assert noise_db(Audio(noise, RATE_HZ)) == pytest.approx(0.0, abs=0.5)
    pieces = [perform_western(seed, "western", 5.0).samples for seed in range(4)]
    clean = [noise_db(Audio(piece, RATE_HZ)) for piece in pieces]
    noisy = [noise_db(Audio(piece + 0.03 * np.resize(noise, piece.size), RATE_HZ)) for piece in pieces]
    assert np.median(clean) < -20
    for before, after in zip(clean, noisy, strict=True):
        assert -13 < after < -6  # the noise lies 10 dB under the music
        assert after > before + 2


def test_noise_db_of_silence_is_nan() -> None:
    assert np.isnan(noise_db(Audio(np.zeros(RATE_HZ), RATE_HZ)))


@settings(max_examples=15)
@given(st.floats(0.01, 1.0), st.integers(0, 20))
def test_noise_db_with_gain_is_unchanged(gain: float, seed: int) -> None:
    samples = perform(seed, "demo", 2.0).samples
    assert noise_db(Audio(gain * samples, RATE_HZ)) == pytest.approx(noise_db(Audio(samples, RATE_HZ)), abs=0.1)


def test_noise_db_of_empty_audio_raises() -> None:
    with pytest.raises(ValueError, match="0 samples"):
        noise_db(Audio(np.zeros((1, 0)), RATE_HZ))
