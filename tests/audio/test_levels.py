"""Levels of a recording: golden values of constructed sounds."""

from __future__ import annotations

import numpy as np
import pytest

from talim.audio import Audio
from talim.audio.levels import clipped_fraction, measure_levels, silent_fraction

RATE_HZ = 48000
SINE = np.sin(2 * np.pi * 997 * np.arange(4 * RATE_HZ) / RATE_HZ).astype(np.float32)


def test_a_full_scale_sine() -> None:
    levels = measure_levels(Audio(SINE, RATE_HZ))
    assert levels.lufs == pytest.approx(-3.0, abs=0.05)  # BS.1770: -3.01
    assert levels.peak_db == pytest.approx(0, abs=0.05)
    assert (levels.clipped_fraction, levels.silent_fraction, levels.seconds) == (0, 0, 4)


def test_a_clipped_sine() -> None:
    hard = np.clip(2 * SINE, -1, 1)
    expected = 2 / 3  # |sin| is above one half two thirds of the time
    assert clipped_fraction(Audio(hard, RATE_HZ)) == pytest.approx(expected, abs=0.03)
    sixteen_bit = np.round(np.clip(2 * SINE, -1, 32767 / 32768) * 32768) / 32768
    assert clipped_fraction(Audio(sixteen_bit.astype(np.float32), RATE_HZ)) == pytest.approx(expected, abs=0.03)
    assert clipped_fraction(Audio(0.5 * hard, RATE_HZ)) == 0  # a square-ish wave at half scale is no clipping


def test_silence() -> None:
    half = np.concatenate([SINE[: 2 * RATE_HZ], np.zeros(2 * RATE_HZ, np.float32)])
    assert silent_fraction(Audio(half, RATE_HZ)) == pytest.approx(0.5, abs=0.02)
    assert silent_fraction(Audio(np.stack([half, half[::-1]]), RATE_HZ)) == 0  # one channel sounds at any time
    levels = measure_levels(Audio(np.zeros(RATE_HZ, np.float32), RATE_HZ))
    assert (levels.lufs, levels.peak_db, levels.silent_fraction) == (None, None, 1)
    assert silent_fraction(Audio(np.zeros(3, np.float32), RATE_HZ)) == 0
