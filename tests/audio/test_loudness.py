"""Loudness against the reference values of ITU-R BS.1770 and EBU Tech 3341."""

from __future__ import annotations

import math

import numpy as np
import pytest

from talim.audio import Audio, loudness_lufs


def sine(hz: float, db: float, seconds: float, rate_hz: int = 48000, channels: int = 1) -> Audio:
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    return Audio(np.tile(10 ** (db / 20) * np.sin(2 * np.pi * hz * time), (channels, 1)), rate_hz)


def test_loudness_lufs_of_full_scale_997_hz_is_minus_3() -> None:
    assert loudness_lufs(sine(997, 0, 5)) == pytest.approx(-3.01, abs=0.01)


@pytest.mark.parametrize("rate_hz", [16000, 32000, 44100])
def test_loudness_lufs_is_the_same_at_other_rates(rate_hz: int) -> None:
    assert loudness_lufs(sine(997, 0, 5, rate_hz)) == pytest.approx(-3.01, abs=0.05)


@pytest.mark.parametrize("db", [-23.0, -33.0])
def test_loudness_lufs_matches_ebu_cases_1_and_2(db: float) -> None:
    assert loudness_lufs(sine(1000, db, 20, channels=2)) == pytest.approx(db, abs=0.1)


def test_loudness_lufs_matches_ebu_case_3_relative_gate() -> None:
    parts = [sine(1000, db, seconds, channels=2) for db, seconds in ((-36, 10), (-23, 60), (-36, 10))]
    audio = Audio(np.concatenate([part.samples for part in parts], axis=1), 48000)
    assert loudness_lufs(audio) == pytest.approx(-23.0, abs=0.1)


def test_loudness_lufs_matches_ebu_case_4_absolute_gate() -> None:
    levels = ((-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10))
    parts = [sine(1000, db, seconds, channels=2) for db, seconds in levels]
    audio = Audio(np.concatenate([part.samples for part in parts], axis=1), 48000)
    assert loudness_lufs(audio) == pytest.approx(-23.0, abs=0.1)


def test_loudness_lufs_of_silence_is_minus_infinity() -> None:
    assert loudness_lufs(Audio(np.zeros(48000), 48000)) == -math.inf
    assert loudness_lufs(Audio(np.zeros((1, 0)), 48000)) == -math.inf


def test_loudness_lufs_of_short_audio_uses_one_block() -> None:
    assert loudness_lufs(sine(997, -20, 0.2)) == pytest.approx(-23.01, abs=0.5)


def test_loudness_lufs_of_double_amplitude_is_six_db_more() -> None:
    noise = np.random.default_rng(1).normal(size=48000) * 0.05
    quiet, loud = (loudness_lufs(Audio(gain * noise, 48000)) for gain in (1, 2))
    assert loud - quiet == pytest.approx(6.02, abs=0.01)
