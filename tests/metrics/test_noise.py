"""Levels on signals of known clipping, silence and noise; loudness has its own tests beside the code."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talim.audio import Audio
from talim.metrics import noise as metrics_noise
from talim.synthesis.performer import perform

RATE_HZ = 16000


def sine(hz: float, seconds: float = 2.0) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(int(seconds * RATE_HZ)) / RATE_HZ)


def test_loudness_of_the_standards_tone() -> None:
    """ITU-R BS.1770: 997 Hz at full scale in one channel is -3.01 LUFS; here at -20 dB."""
    found = metrics_noise.levels(Audio(0.1 * sine(997), RATE_HZ))
    assert found.loudness_lufs == pytest.approx(-23.01, abs=0.05)
    assert (found.clipped_fraction, found.silent_fraction, found.longest_silence_seconds) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("hz", [31.0, 50.0, 997.0, 5000.0])
def test_a_tone_that_is_not_clipped(hz: float) -> None:
    assert metrics_noise.clipped_fraction(Audio(sine(hz), RATE_HZ)) == 0.0
    quantised = np.round(sine(hz) * 32767) / 32768
    assert metrics_noise.clipped_fraction(Audio(quantised, RATE_HZ)) == 0.0


def test_clipped_share_is_the_share_that_was_cut_off() -> None:
    """A sine cut at half its height spends 2/3 of its time there (arcsin 1/2 = 30 degrees)."""
    clipped = np.clip(sine(220), -0.5, 0.5)
    assert metrics_noise.clipped_fraction(Audio(clipped, RATE_HZ)) == pytest.approx(2 / 3, abs=0.03)
    assert metrics_noise.clipped_fraction(Audio(0.1 * clipped, RATE_HZ)) == pytest.approx(2 / 3, abs=0.03)


def test_performances_are_clean_and_overdriven_ones_are_not() -> None:
    samples = perform(3, "western", 5.0).samples
    assert metrics_noise.clipped_fraction(Audio(samples, RATE_HZ)) < 1e-4
    driven = np.clip(samples, -np.quantile(np.abs(samples), 0.97), np.quantile(np.abs(samples), 0.97))
    assert metrics_noise.clipped_fraction(Audio(driven, RATE_HZ)) > 0.01


def test_silence_is_measured_to_the_frame() -> None:
    samples = np.concatenate([sine(300), np.zeros(RATE_HZ), sine(300, 1.0)])
    found = metrics_noise.levels(Audio(samples, RATE_HZ))
    assert found.silent_fraction == pytest.approx(0.25, abs=0.01)
    assert found.longest_silence_seconds == pytest.approx(1.0, abs=0.051)


def test_nothing_but_silence() -> None:
    found = metrics_noise.levels(Audio(np.zeros(RATE_HZ), RATE_HZ))
    assert (found.silent_fraction, found.clipped_fraction) == (1.0, 0.0)
    assert found.longest_silence_seconds == pytest.approx(1.0)
    assert np.isnan(found.noise_db)
    assert found.loudness_lufs == -np.inf


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 20.0, 30.0])
def test_noise_is_as_loud_as_what_was_added(snr_db: float) -> None:
    tone = sum(sine(220 * k, 4.0) / k for k in range(1, 6))
    noise = np.random.default_rng(0).standard_normal(tone.size)
    noise *= np.sqrt((tone**2).mean() / (noise**2).mean()) * 10 ** (-snr_db / 20)
    expected = -10 * np.log10(1 + 10 ** (snr_db / 10))
    assert metrics_noise.noise_db(Audio(tone + noise, RATE_HZ)) == pytest.approx(expected, abs=1.5)


def test_noise_alone_is_zero_db_and_music_is_far_below() -> None:
    noise = np.random.default_rng(1).standard_normal(3 * RATE_HZ)
    assert metrics_noise.noise_db(Audio(noise, RATE_HZ)) == pytest.approx(0.0, abs=0.5)
    pieces = [perform(seed, "western", 5.0).samples for seed in range(4)]
    clean = [metrics_noise.noise_db(Audio(p, RATE_HZ)) for p in pieces]
    rough = [metrics_noise.noise_db(Audio(p + 0.03 * np.resize(noise, p.size), RATE_HZ)) for p in pieces]
    assert np.median(clean) < -20
    assert all(
        -13 < b < -6 and b > a + 2 for a, b in zip(clean, rough, strict=True)
    )  # noise 10 dB under the music


@settings(max_examples=15)
@given(st.floats(0.01, 1.0), st.integers(0, 20))
def test_gain_changes_only_the_loudness(gain: float, seed: int) -> None:
    samples = np.clip(perform(seed, "demo", 2.0).samples, -0.2, 0.2)
    one, other = (metrics_noise.levels(Audio(g * samples, RATE_HZ)) for g in (1.0, gain))
    assert other.clipped_fraction == pytest.approx(one.clipped_fraction, abs=1e-3)
    assert other.silent_fraction == one.silent_fraction
    assert other.noise_db == pytest.approx(one.noise_db, abs=0.1)
    assert other.loudness_lufs == pytest.approx(one.loudness_lufs + 20 * np.log10(gain), abs=0.3)


def test_no_sound_is_refused() -> None:
    for measure in (metrics_noise.clipped_fraction, metrics_noise.silent_fraction, metrics_noise.noise_db):
        with pytest.raises(ValueError, match="0 samples"):
            measure(Audio(np.zeros((1, 0)), RATE_HZ))
