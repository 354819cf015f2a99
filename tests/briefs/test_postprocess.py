"""Cutting, looping, levelling: length to the sample, a seam that holds, loudness as asked."""

from __future__ import annotations

import numpy as np
import pytest
from fixtures.brief_folder import RATE_HZ, brief_of, tone

from talim import audio
from talim.audio import Audio
from talim.briefs import automatic_checks
from talim.briefs.postprocess import postprocess, untrimmed_seconds


@pytest.mark.parametrize("loop", [False, True])
def test_postprocess_piece_has_length_and_loudness_of_brief(loop: bool) -> None:
    brief = brief_of(loop=loop, loudness_lufs=-20.0)
    created = postprocess(tone(1, untrimmed_seconds(brief)), brief)
    assert created.frames == 2 * RATE_HZ
    assert audio.loudness_lufs(created) == pytest.approx(-20.0, abs=0.05)


def test_normalize_loudness_of_music_with_high_peaks_reaches_the_target() -> None:
    """Plucked tones, 12 dB between peak and loudness: louder by gain alone they would pass -1 dBFS."""
    time = np.arange(4 * RATE_HZ) / RATE_HZ
    plucked = (np.sin(2 * np.pi * 220 * time) * np.exp(-12 * (time % 0.5))).astype(np.float32)[None]
    for loop in (False, True):
        created = postprocess(Audio(plucked, RATE_HZ), brief_of(loudness_lufs=-11.0, loop=loop))
        assert automatic_checks.check_loudness(created, brief_of(loudness_lufs=-11.0)).passed
        assert created.peak <= 10 ** (-1 / 20) + 1e-6
        assert automatic_checks.check_clipping(created).passed


def test_normalize_loudness_limits_peaks_by_12_db_at_most() -> None:
    clicks = np.zeros((1, 2 * RATE_HZ), np.float32)
    clicks[0, :: RATE_HZ // 4] = 0.5
    created = postprocess(Audio(clicks, RATE_HZ), brief_of(loudness_lufs=-8.0))
    assert created.peak == pytest.approx(10 ** (-1 / 20), abs=1e-3)
    assert audio.loudness_lufs(created) < -12


def test_postprocess_silent_or_short_clip_is_unchanged() -> None:
    silent = postprocess(Audio(np.zeros((1, RATE_HZ), np.float32), RATE_HZ), brief_of())
    assert (silent.peak, silent.frames) == (0, RATE_HZ)


def test_make_loop_begins_with_sample_after_its_end() -> None:
    brief = brief_of(loop=True)
    played = tone(3, untrimmed_seconds(brief))
    created = postprocess(played, brief)
    gain = created.samples[0, RATE_HZ] / played.samples[0, RATE_HZ]
    assert created.samples[0, 0] == pytest.approx(gain * played.samples[0, 2 * RATE_HZ], abs=1e-5)


def wave(hz: float, seconds: float) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE_HZ)) / RATE_HZ).astype(np.float32)


def test_click_ratio_of_good_loop_is_low_and_of_jump_high() -> None:
    assert automatic_checks.click_ratio(wave(200.0, 2.0)) < 1.1  # whole periods: the wave goes on
    assert automatic_checks.click_ratio(wave(200.125, 2.0)) > 3  # cut a quarter of a period off


def test_change_rank_between_different_sounds_is_high() -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(4 * RATE_HZ).astype(np.float32)
    assert automatic_checks.change_rank(noise, RATE_HZ) < 0.99
    fading = noise * np.linspace(0.01, 1, noise.size, dtype=np.float32)
    assert automatic_checks.change_rank(fading, RATE_HZ) > 0.99
    assert np.isnan(automatic_checks.change_rank(noise[:100], RATE_HZ))
