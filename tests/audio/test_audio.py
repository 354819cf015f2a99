"""Audio: shapes, channels, cutting, resampling without aliasing, hashes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from talim.audio import Audio, AudioError, content_hash


def sine(hz: float, rate_hz: int, seconds: float = 1.0, channels: int = 1) -> Audio:
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    return Audio(np.tile(0.5 * np.sin(2 * np.pi * hz * time), (channels, 1)), rate_hz)


def rms_db(audio: Audio) -> float:
    """Level of the middle of the sound: edges of a sine ring in any band-limited resampler."""
    middle = audio.cut(0.1, audio.seconds - 0.2).samples
    return float(10 * np.log10(np.mean(np.square(middle, dtype=np.float64)) + 1e-20))


def test_audio_of_one_dimension_has_one_channel() -> None:
    audio = Audio(np.zeros(480), 48000)
    assert audio.samples.shape == (1, 480)
    assert audio.samples.dtype == np.float32
    assert (audio.channels, audio.frames, audio.seconds) == (1, 480, 0.01)


@pytest.mark.parametrize(("samples", "rate_hz"), [(np.zeros((1, 2, 3)), 8000), (np.zeros((1, 4)), 0)])
def test_audio_of_invalid_shape_or_rate_raises(samples: np.ndarray, rate_hz: int) -> None:
    with pytest.raises(AudioError):
        Audio(samples, rate_hz)


def test_to_channels_mixes_down_by_the_mean_and_repeats_one_channel() -> None:
    stereo = Audio(np.array([[1.0, 0.0], [0.0, 0.5]]), 8000)
    assert stereo.mono().samples.tolist() == [[0.5, 0.25]]
    assert stereo.to_channels(2) is stereo
    assert stereo.mono().to_channels(3).samples.tolist() == [[0.5, 0.25]] * 3
    with pytest.raises(AudioError, match="at least one"):
        stereo.to_channels(0)


def test_resample_removes_a_tone_above_the_new_nyquist() -> None:
    # 15 kHz would fold to 1 kHz at 16 kHz if it were only decimated.
    assert rms_db(sine(15000, 48000)) == pytest.approx(-9.03, abs=0.05)
    assert rms_db(sine(15000, 48000).resample(16000)) < -100


@given(st.sampled_from([8000, 11025, 22050, 32000, 44100, 48000]), st.sampled_from([16000, 24000, 32000]))
def test_resample_keeps_a_tone_below_both_nyquists(old_hz: int, new_hz: int) -> None:
    resampled = sine(1000, old_hz).resample(new_hz)
    assert abs(resampled.frames - new_hz) <= 1
    assert rms_db(resampled) == pytest.approx(-9.03, abs=0.05)


def test_resample_to_the_same_rate_returns_itself() -> None:
    audio = sine(440, 16000)
    assert audio.resample(16000) is audio
    with pytest.raises(AudioError, match="positive"):
        audio.resample(-1)


@given(st.floats(0, 3), st.floats(0, 3))
def test_cut_is_limited_to_the_audio(start_seconds: float, seconds: float) -> None:
    audio = sine(100, 1000, 2.0)
    part = audio.cut(start_seconds, seconds)
    start = min(round(1000 * start_seconds), 2000)
    assert part.frames == min(round(1000 * seconds), 2000 - start)
    assert np.array_equal(part.samples, audio.samples[:, start : start + part.frames])


@pytest.mark.parametrize(("start_seconds", "seconds"), [(-1, 1), (0, -0.5)])
def test_cut_of_negative_times_raises(start_seconds: float, seconds: float) -> None:
    with pytest.raises(AudioError, match="0 or more"):
        sine(100, 1000).cut(start_seconds, seconds)


def test_content_hash_depends_on_samples_rate_and_shape() -> None:
    samples = np.arange(8, dtype=np.float32).reshape(2, 4) / 8
    audio = Audio(samples, 8000)
    assert content_hash(audio) == content_hash(Audio(np.asfortranarray(samples), 8000))
    others = [Audio(samples, 16000), Audio(samples.reshape(1, 8), 8000), Audio(samples * 0.5, 8000)]
    assert len({content_hash(other) for other in [audio, *others]}) == 4
    # A golden value: caches on disk depend on it.
    assert content_hash(audio) == "7c8061ce5f345b90db0a223739eccf8890b0626e1fd6e7376038ff41c7edef63"
