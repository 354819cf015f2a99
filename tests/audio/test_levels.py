"""Peak, clipping and silence on constructed signals, where they are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.pretraining.western_style import perform as perform_western
from talim.audio import Audio
from talim.audio.levels import (
    clipped_fraction,
    longest_silence_seconds,
    measure_levels,
    peak_dbfs,
    silent_fraction,
    silent_frames,
)
from talim.synthesis.performer import perform

RATE_HZ = 48000
SINE = np.sin(2 * np.pi * 997 * np.arange(4 * RATE_HZ) / RATE_HZ).astype(np.float32)


def sine(hz: float, seconds: float = 2.0, rate_hz: int = RATE_HZ) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(int(seconds * rate_hz)) / rate_hz)


def sixteen_bit(samples: np.ndarray) -> np.ndarray:
    return np.clip(np.round(samples * 32768), -32768, 32767) / 32768


def test_measure_levels_of_full_scale_sine() -> None:
    levels = measure_levels(Audio(SINE, RATE_HZ))
    assert levels.lufs == pytest.approx(-3.0, abs=0.05)  # BS.1770: -3.01
    assert levels.peak_dbfs == pytest.approx(0, abs=0.05)
    assert (levels.clipped_fraction, levels.silent_fraction, levels.seconds) == (0, 0, 4)


def test_measure_levels_of_digital_silence_has_no_loudness_and_no_peak() -> None:
    levels = measure_levels(Audio(np.zeros(RATE_HZ, np.float32), RATE_HZ))
    assert (levels.lufs, levels.peak_dbfs, levels.clipped_fraction, levels.silent_fraction) == (None, None, 0, 1)


def test_peak_dbfs_is_the_largest_sample_of_any_channel() -> None:
    assert peak_dbfs(Audio(np.array([[0.1, 0.0], [0.0, -0.5]]), RATE_HZ)) == pytest.approx(-6.02, abs=0.01)
    assert peak_dbfs(Audio(np.zeros(4), RATE_HZ)) == -np.inf


@pytest.mark.parametrize("peak_db", [0, -20, -40, -60])
@pytest.mark.parametrize("hz", [31.0, 50.0, 997.0, 5000.0])
def test_clipped_fraction_of_unclipped_tone_is_zero(hz: float, peak_db: float) -> None:
    tone = 0.9999 * 10 ** (peak_db / 20) * sine(hz)
    assert clipped_fraction(Audio(tone, RATE_HZ)) == 0
    assert clipped_fraction(Audio(sixteen_bit(tone), RATE_HZ)) == 0


@pytest.mark.parametrize("gain_db", [0, -6, -30])
@pytest.mark.parametrize("hz", [220.0, 997.0])
def test_clipped_fraction_is_the_fraction_that_was_cut_off(hz: float, gain_db: float) -> None:
    """A sine cut at half its height spends 2/3 of its time there (arcsin 1/2 = 30 degrees)."""
    clipped = 2 * 10 ** (gain_db / 20) * np.clip(sine(hz), -0.5, 0.5)
    assert clipped_fraction(Audio(clipped, RATE_HZ)) == pytest.approx(2 / 3, abs=0.03)
    assert clipped_fraction(Audio(sixteen_bit(clipped), RATE_HZ)) == pytest.approx(2 / 3, abs=0.03)


def test_clipped_fraction_of_one_clipped_side_counts_that_side() -> None:
    one_side = np.minimum(sine(220), 0.5)
    assert clipped_fraction(Audio(one_side, RATE_HZ)) == pytest.approx(1 / 3, abs=0.03)
    stereo = np.stack([one_side, sine(220)])
    assert clipped_fraction(Audio(stereo, RATE_HZ)) == pytest.approx(1 / 6, abs=0.03)


def test_clipped_fraction_of_soft_saturation_is_zero() -> None:
    saturated = np.tanh(3 * sine(220))
    assert clipped_fraction(Audio(sixteen_bit(saturated / saturated.max()), RATE_HZ)) == 0


def test_clipped_fraction_separates_performances_from_overdriven_ones() -> None:
    samples = perform_western(3, "western", 5.0).samples
    assert clipped_fraction(Audio(samples, 16000)) < 1e-4
    limit = np.quantile(np.abs(samples), 0.97)
    assert clipped_fraction(Audio(np.clip(samples, -limit, limit), 16000)) > 0.01


def test_silence_is_measured_to_the_frame() -> None:
    samples = np.concatenate([sine(300), np.zeros(RATE_HZ), sine(300, 1.0)])
    assert silent_fraction(Audio(samples, RATE_HZ)) == pytest.approx(0.25, abs=0.01)
    assert longest_silence_seconds(Audio(samples, RATE_HZ)) == pytest.approx(1.0, abs=0.051)


def test_silent_frames_of_stereo_need_both_channels_silent() -> None:
    half = np.concatenate([SINE[: 2 * RATE_HZ], np.zeros(2 * RATE_HZ, np.float32)])
    assert silent_fraction(Audio(half, RATE_HZ)) == pytest.approx(0.5, abs=0.02)
    assert silent_fraction(Audio(np.stack([half, half[::-1]]), RATE_HZ)) == 0


@pytest.mark.parametrize(("below_db", "silent"), [(40, False), (50, True)])
def test_silent_fraction_counts_pauses_more_than_45_db_below_the_music(below_db: float, silent: bool) -> None:
    pause = 10 ** (-below_db / 20) * sine(300, 1.0)
    fraction = silent_fraction(Audio(np.concatenate([sine(300, 3.0), pause]), RATE_HZ))
    assert fraction == pytest.approx(0.25 if silent else 0.0, abs=0.01)


def test_silent_fraction_of_short_passage_in_long_silence_finds_the_passage() -> None:
    samples = np.concatenate([np.zeros(30 * 8000), sine(300, 0.5, 8000), np.zeros(30 * 8000)])
    assert silent_frames(Audio(samples, 8000)).tolist().count(False) == 10


@pytest.mark.parametrize("samples", [np.zeros(RATE_HZ), np.full(3, 0.0), 10 ** (-75 / 20) * SINE])
def test_silence_of_audio_below_the_absolute_gate_is_all_of_it(samples: np.ndarray) -> None:
    audio = Audio(samples, RATE_HZ)
    assert silent_fraction(audio) == 1
    assert longest_silence_seconds(audio) == pytest.approx(audio.seconds)


@settings(max_examples=15)
@given(st.floats(0.05, 1.0), st.integers(0, 20))
def test_gain_leaves_clipping_and_silence_unchanged(gain: float, seed: int) -> None:
    samples = np.clip(perform(seed, "demo", 2.0).samples, -0.2, 0.2)
    original, scaled = (Audio(factor * samples, 16000) for factor in (1.0, gain))
    assert clipped_fraction(scaled) == pytest.approx(clipped_fraction(original), abs=1e-3)
    assert silent_fraction(scaled) == silent_fraction(original)


@pytest.mark.parametrize("measure", [clipped_fraction, silent_fraction, longest_silence_seconds, measure_levels])
def test_levels_of_empty_audio_raise(measure) -> None:
    with pytest.raises(ValueError, match="0 samples"):
        measure(Audio(np.zeros((1, 0)), RATE_HZ))
