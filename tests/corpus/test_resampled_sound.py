"""A resampled sound equals the whole-file operations, whatever the size of its blocks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from talim.audio import Audio
from talim.audio.levels import frame_levels_dbfs, measure_levels
from talim.corpus import resampled_sound
from talim.corpus.resampled_sound import ResampledSound

RATE_HZ = 8000


class Blocks:
    """A source of fixed samples in blocks of one size; counts how often it is decoded."""

    def __init__(self, audio: Audio, size: int = 10_000) -> None:
        self.audio, self.size, self.decoded = audio, size, 0

    def hash(self) -> str:
        return "ab" * 32

    def blocks(self, remarks: list[str]) -> Iterator[Audio]:
        self.decoded += 1
        remarks.append("a remark")
        for start in range(0, self.audio.frames, self.size):
            yield Audio(self.audio.samples[:, start : start + self.size], self.audio.rate_hz)

    def tags(self) -> dict[str, str]:
        return {}


def noise(channels: int, seconds: float = 5.0, gain: float = 0.3) -> Audio:
    return Audio(gain * np.random.default_rng(0).uniform(-1, 1, (channels, round(seconds * RATE_HZ))), RATE_HZ)


def whole(sound: ResampledSound) -> np.ndarray:
    return np.concatenate([block.samples for block in sound.blocks()], axis=1)


@pytest.mark.parametrize("held", [1000, 10**7])
@pytest.mark.parametrize("size", [997, 10_000, 10**6])
def test_resampled_sound_equals_the_whole_operations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: int, size: int
) -> None:
    monkeypatch.setattr(resampled_sound, "_HELD_SAMPLES", held)
    monkeypatch.setattr(resampled_sound, "_SPOOL_BYTES", held)
    monkeypatch.setattr(resampled_sound, "_BLOCK_FRAMES", 3001)
    audio = noise(2)
    source = Blocks(audio, size)
    expected = audio.to_channels(1).resample(11025)
    with ResampledSound(source, 11025, 1, tmp_path / "spool") as sound:
        assert source.decoded == (2 if held == 1000 else 1)
        assert sound.notes == ["a remark"]
        assert np.array_equal(whole(sound), expected.samples)
        assert np.allclose(sound.frame_levels_dbfs, frame_levels_dbfs(expected), atol=1e-6)
        assert sound.levels == measure_levels(audio)
        assert sound.source_seconds == 5.0
        assert np.array_equal(sound.cut(100, 300).samples, expected.samples[:, 100:300])
    assert list((tmp_path / "spool").iterdir()) == []


def test_resampled_sound_above_full_scale_is_attenuated_with_a_note(tmp_path: Path) -> None:
    audio = Audio(np.array([0.0, 4.0, -2.0, 1.0]), RATE_HZ)
    with ResampledSound(Blocks(audio), RATE_HZ, 1, tmp_path) as sound:
        assert whole(sound)[0].tolist() == [0.0, 1.0, -0.5, 0.25]
        assert sound.notes[1:] == ["peaks 12.0 dB above full scale; attenuated as a whole"]


def test_resampled_sound_of_cancelling_channels_keeps_one(tmp_path: Path) -> None:
    left = noise(1).samples[0]
    with ResampledSound(Blocks(Audio(np.stack([left, -left]), RATE_HZ)), RATE_HZ, 1, tmp_path) as sound:
        assert np.allclose(np.abs(whole(sound)[0]), np.abs(left), atol=1e-6)
        assert "cancel each other" in sound.notes[1]


def test_resampled_sound_has_the_requested_rate_and_channels(tmp_path: Path) -> None:
    with ResampledSound(Blocks(noise(6, gain=1.0)), 16000, 2, tmp_path) as sound:
        assert whole(sound).shape == (2, sound.frames)
        assert sound.seconds == pytest.approx(5.0, abs=0.001)
        assert np.abs(whole(sound)).max() <= 1.0


def test_resampled_sound_tells_its_progress(tmp_path: Path) -> None:
    told: list[tuple[float, int]] = []
    with ResampledSound(Blocks(noise(1)), RATE_HZ, 1, tmp_path, lambda seconds, number: told.append((seconds, number))):
        assert told == [(1.25, 1), (2.5, 1), (3.75, 1), (5.0, 1), (1.25, 2), (2.5, 2), (3.75, 2), (5.0, 2)]
