"""Clip boundaries: silence is skipped, clips do not overlap."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from talim.audio import Audio
from talim.audio.levels import frame_levels_dbfs
from talim.corpus.clip_boundaries import active_regions as regions_of_levels
from talim.corpus.clip_boundaries import clip_boundaries

RATE_HZ = 1000


def noise(seconds: float, db: float = -10.0) -> np.ndarray:
    return 10 ** (db / 20) * np.random.default_rng(0).uniform(-1, 1, round(seconds * RATE_HZ))


def joined(*parts: np.ndarray) -> Audio:
    return Audio(np.concatenate(parts), RATE_HZ)


def seconds_of(regions: list[tuple[int, int]]) -> list[tuple[float, float]]:
    return [(start / RATE_HZ, stop / RATE_HZ) for start, stop in regions]


def active_regions(audio: Audio) -> list[tuple[int, int]]:
    levels = frame_levels_dbfs(audio) if audio.frames else np.zeros(0)
    return regions_of_levels(levels, audio.frames, audio.rate_hz)


def test_active_regions_are_divided_by_long_silences_only() -> None:
    audio = joined(noise(3), np.zeros(1000), noise(3), np.zeros(5000), noise(4), np.zeros(3000))
    assert seconds_of(active_regions(audio)) == [(0.0, pytest.approx(7.1)), (pytest.approx(11.9), pytest.approx(16.1))]


def test_active_regions_exclude_tape_hiss() -> None:
    audio = joined(noise(4, -65), noise(4, -12), noise(4, -65))
    assert seconds_of(active_regions(audio)) == [(pytest.approx(3.9), pytest.approx(8.1))]


def test_active_regions_of_a_quiet_recording_cover_it() -> None:
    assert seconds_of(active_regions(Audio(noise(3, -55), RATE_HZ))) == [(0.0, 3.0)]


@pytest.mark.parametrize("samples", [np.zeros(5000), noise(5, -75), np.zeros(0), np.full(5000, 0.5)])
def test_active_regions_of_silence_are_none(samples: np.ndarray) -> None:
    assert active_regions(Audio(samples, RATE_HZ)) == []


def test_active_regions_find_a_short_sound_in_long_silence() -> None:
    audio = joined(np.zeros(60000), noise(1.5), np.zeros(60000))
    assert seconds_of(active_regions(audio)) == [(pytest.approx(59.9, abs=0.06), pytest.approx(61.6, abs=0.06))]


def test_active_regions_with_one_silent_channel_cover_the_other() -> None:
    audio = Audio(np.stack([np.zeros(3000), noise(3)]), RATE_HZ)
    assert seconds_of(active_regions(audio)) == [(0.0, 3.0)]


regions = st.lists(st.integers(1, 5000), min_size=0, max_size=8).map(
    lambda steps: [(int(a), int(b)) for a, b in zip(np.cumsum(steps)[::2], np.cumsum(steps)[1::2], strict=False)]
)


@given(regions, st.floats(1, 4))
def test_clip_boundaries_lie_inside_regions_without_overlap(
    regions: list[tuple[int, int]], clip_seconds: float
) -> None:
    points = clip_boundaries(regions, RATE_HZ, clip_seconds)
    for start, stop in points:
        assert RATE_HZ <= stop - start <= round(clip_seconds * RATE_HZ)
        assert any(first <= start and stop <= last for first, last in regions)
    assert all(before[1] <= after[0] for before, after in pairwise(points))
    lost = sum(b - a for a, b in regions) - sum(b - a for a, b in points)
    assert lost < RATE_HZ * max(1, len(regions))  # less than a second of each stretch


def test_clip_boundaries_keep_remainders_of_a_second() -> None:
    assert clip_boundaries([(0, 5000)], RATE_HZ, 2.0) == [(0, 2000), (2000, 4000), (4000, 5000)]
    assert clip_boundaries([(0, 4999)], RATE_HZ, 2.0) == [(0, 2000), (2000, 4000)]
