"""Cutting: silence is skipped, nothing overlaps, levels and channels are made to fit."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from talim.audio import Audio
from talim.corpus.clip_boundaries import active_regions, clip_boundaries, conform_audio

RATE_HZ = 1000


def noise(seconds: float, db: float = -10.0) -> np.ndarray:
    return 10 ** (db / 20) * np.random.default_rng(0).uniform(-1, 1, round(seconds * RATE_HZ))


def joined(*parts: np.ndarray) -> Audio:
    return Audio(np.concatenate(parts), RATE_HZ)


def seconds_of(stretches: list[tuple[int, int]]) -> list[tuple[float, float]]:
    return [(start / RATE_HZ, stop / RATE_HZ) for start, stop in stretches]


def test_long_silence_divides_and_short_pauses_do_not() -> None:
    audio = joined(noise(3), np.zeros(1000), noise(3), np.zeros(5000), noise(4), np.zeros(3000))
    assert seconds_of(active_regions(audio)) == [
        (0.0, pytest.approx(7.1)),
        (pytest.approx(11.9), pytest.approx(16.1)),
    ]


def test_tape_hiss_far_below_the_music_is_silence() -> None:
    audio = joined(noise(4, -65), noise(4, -12), noise(4, -65))
    assert seconds_of(active_regions(audio)) == [(pytest.approx(3.9), pytest.approx(8.1))]


def test_a_quiet_recording_is_not_silence() -> None:
    assert seconds_of(active_regions(Audio(noise(3, -55), RATE_HZ))) == [(0.0, 3.0)]


@pytest.mark.parametrize("samples", [np.zeros(5000), noise(5, -75), np.zeros(0)])
def test_silence_has_no_stretches(samples: np.ndarray) -> None:
    assert active_regions(Audio(samples, RATE_HZ)) == []


def test_a_short_sound_in_a_long_silence_is_found() -> None:
    audio = joined(np.zeros(60000), noise(1.5), np.zeros(60000))
    assert seconds_of(active_regions(audio)) == [
        (pytest.approx(59.9, abs=0.06), pytest.approx(61.6, abs=0.06))
    ]


def test_a_sound_on_one_side_of_a_stereo_file_counts() -> None:
    audio = Audio(np.stack([np.zeros(3000), noise(3)]), RATE_HZ)
    assert seconds_of(active_regions(audio)) == [(0.0, 3.0)]


stretches = st.lists(st.integers(1, 5000), min_size=0, max_size=8).map(
    lambda steps: [
        (int(a), int(b)) for a, b in zip(np.cumsum(steps)[::2], np.cumsum(steps)[1::2], strict=False)
    ]
)


@given(stretches, st.floats(1, 4))
def test_clips_lie_inside_their_stretches_without_overlap(
    pieces: list[tuple[int, int]], clip_seconds: float
) -> None:
    points = clip_boundaries(pieces, RATE_HZ, clip_seconds)
    for start, stop in points:
        assert RATE_HZ <= stop - start <= round(clip_seconds * RATE_HZ)
        assert any(first <= start and stop <= last for first, last in pieces)
    assert all(before[1] <= after[0] for before, after in pairwise(points))
    lost = sum(b - a for a, b in pieces) - sum(b - a for a, b in points)
    assert lost < RATE_HZ * max(1, len(pieces))  # less than a second of each stretch


def test_a_rest_of_a_second_is_kept_and_a_shorter_one_is_not() -> None:
    assert clip_boundaries([(0, 5000)], RATE_HZ, 2.0) == [(0, 2000), (2000, 4000), (4000, 5000)]
    assert clip_boundaries([(0, 4999)], RATE_HZ, 2.0) == [(0, 2000), (2000, 4000)]


def test_loud_files_are_turned_down_and_noted() -> None:
    audio = Audio(np.array([0.0, 4.0, -2.0, 1.0]), RATE_HZ)
    fitted, notes = conform_audio(audio, RATE_HZ, 1)
    assert fitted.samples[0].tolist() == [0.0, 1.0, -0.5, 0.25]
    assert notes == ["peaks 12.0 dB above full scale; turned down as a whole"]
    assert conform_audio(Audio(noise(1), RATE_HZ), RATE_HZ, 1)[1] == []


def test_channels_that_cancel_are_not_mixed_to_silence() -> None:
    left = noise(1)
    fitted, notes = conform_audio(Audio(np.stack([left, -left]), RATE_HZ), RATE_HZ, 1)
    assert np.allclose(np.abs(fitted.samples[0]), np.abs(left), atol=1e-6)
    assert "cancel each other" in notes[0]


def test_fitting_gives_the_asked_rate_and_channels() -> None:
    fitted, notes = conform_audio(Audio(np.stack([noise(1)] * 6), RATE_HZ), 16000, 2)
    assert (fitted.rate_hz, fitted.channels, notes) == (16000, 2, [])
    assert np.abs(fitted.samples).max() <= 1.0
