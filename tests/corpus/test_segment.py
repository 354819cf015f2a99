"""Segmentation of one source: where clips lie, stored results, damage, unforeseen faults, files that may be deleted.

A resampled sound equals the whole-file operations, whatever the size of its blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from talim.audio import Audio
from talim.audio.levels import frame_levels_dbfs, measure_levels
from talim.corpus import segment
from talim.corpus.recordings import FileAudio, SourceFile, file_hash
from talim.corpus.segment import (
    ResampledSound,
    SegmentationConfig,
    SegmentedRecording,
    clip_boundaries,
    generated_files,
    load_landmarks,
    load_segmentation,
    segment_file,
    segmentation_file,
)
from talim.corpus.segment import active_regions as regions_of_levels

SegmentedSource = tuple[Path, str, SegmentedRecording]
CONFIG = SegmentationConfig(10.0, 8000, 1)
SOUND_HZ = 8000


@pytest.fixture
def segmented_source(record, tmp_path: Path) -> tuple[Path, str, SegmentedRecording]:
    path = record("a.wav", 25)
    source_hash = file_hash(path)
    return (
        tmp_path / "corpus",
        source_hash,
        segment_file(tmp_path / "corpus", SourceFile(path, "a.wav", FileAudio(path)), source_hash, CONFIG),
    )


def test_load_segmentation_with_same_source_and_config_returns_it(segmented_source: SegmentedSource) -> None:
    corpus, source_hash, segmented = segmented_source
    assert load_segmentation(corpus, source_hash, CONFIG) == segmented
    assert len(segmented.clips) == 3
    assert load_segmentation(corpus, "0" * 64, CONFIG) is None
    for other in (
        SegmentationConfig(9.0, 8000, 1),
        SegmentationConfig(10.0, 16000, 1),
        SegmentationConfig(10.0, 8000, 2),
    ):
        assert load_segmentation(corpus, source_hash, other) is None


@pytest.mark.parametrize("damage", ["clip gone", "clip cut", "record torn", "record of another", "landmarks gone"])
def test_load_segmentation_of_damaged_files_returns_none(segmented_source: SegmentedSource, damage: str) -> None:
    corpus, source_hash, segmented = segmented_source
    clip, record = corpus / segmented.clips[1].file, segmentation_file(corpus, source_hash, CONFIG)
    if damage == "clip gone":
        clip.unlink()
    elif damage == "clip cut":
        clip.write_bytes(clip.read_bytes()[:100])
    elif damage == "record torn":
        record.write_bytes(record.read_bytes()[:50])
    elif damage == "landmarks gone":
        record.with_suffix(".npy").unlink()
    else:
        record.write_text(segmented.model_copy(update={"source_hash": "1" * 64}).model_dump_json())
    assert load_segmentation(corpus, source_hash, CONFIG) is None


def test_segment_file_stores_landmarks_and_levels(segmented_source: SegmentedSource) -> None:
    corpus, source_hash, segmented = segmented_source
    landmarks = load_landmarks(corpus, source_hash, CONFIG)
    assert len(landmarks) > 20
    assert landmarks[-1, 1] < 25 / 0.032
    assert segmented.levels is not None
    assert segmented.levels.seconds == 25
    segmentation_file(corpus, source_hash, CONFIG).with_suffix(".npy").write_bytes(b"torn")
    assert load_landmarks(corpus, source_hash, CONFIG).shape == (0, 2)


def test_segment_file_of_unusable_file_stores_no_record(folder: Path, tmp_path: Path) -> None:
    (folder / "a.wav").write_text("no music")
    segmented = segment_file(
        tmp_path / "corpus", SourceFile(folder / "a.wav", "a.wav", FileAudio(folder / "a.wav")), "ab" * 32, CONFIG
    )
    assert segmented.problem is not None
    assert segmented.problem.startswith("not audio")
    assert load_segmentation(tmp_path / "corpus", "ab" * 32, CONFIG) is None


def test_generated_files_with_foreign_files_lists_only_talims_own(segmented_source: SegmentedSource) -> None:
    corpus, _, segmented = segmented_source
    clips_folder = (corpus / segmented.clips[0].file).parent
    partial = [clips_folder / ".a.flac.x.part", corpus / "sources" / ".a.json.x.part", corpus / ".corpus.jsonl.x.part"]
    foreign = [clips_folder / "take.flac", corpus / "sources" / "notes.json", corpus / "my.part"]
    for path in partial + foreign:
        path.write_text("x")
    assert len(generated_files(corpus)) == 3 + 2 + 3
    assert set(partial) < set(generated_files(corpus))
    assert not set(foreign) & set(generated_files(corpus))


def test_segmentation_config_key_is_stable() -> None:
    assert CONFIG.key == SegmentationConfig(10, 8000, 1).key
    assert CONFIG.key == "6baf2cc3"  # golden: another value would cut all corpora again


class BrokenAudio:
    """A source that fails as no source should."""

    def hash(self) -> str:
        return "ab" * 32

    def blocks(self, remarks: list[str]) -> Iterator[Audio]:
        yield Audio(np.zeros(8000), 8000)
        raise ZeroDivisionError("by zero\nin a library")

    def tags(self) -> dict[str, str]:
        return {}


def test_segment_file_names_the_type_of_an_unforeseen_fault(tmp_path: Path) -> None:
    segmented = segment_file(tmp_path, SourceFile(tmp_path / "a", "a", BrokenAudio()), "ab" * 32, CONFIG)
    assert segmented.problem == "cannot be decoded (ZeroDivisionError: by zero in a library)"


def test_segment_file_of_a_constant_voltage_is_no_sound(folder: Path, tmp_path: Path) -> None:
    path = folder / "dc.wav"
    soundfile.write(path, np.full(8000 * 5, 0.5), 8000)
    segmented = segment_file(tmp_path, SourceFile(path, "dc.wav", FileAudio(path)), "ab" * 32, CONFIG)
    assert segmented.problem is not None
    assert segmented.problem.startswith("a constant voltage, no sound")


def test_segment_file_of_a_recording_that_breaks_off_uses_what_is_there(record, tmp_path: Path) -> None:
    path = record("a.wav", 25)
    path.write_bytes(path.read_bytes()[:-100_001])
    segmented = segment_file(tmp_path, SourceFile(path, "a.wav", FileAudio(path)), "ab" * 32, CONFIG)
    assert segmented.problem is None
    assert sum(clip.seconds for clip in segmented.clips) == pytest.approx(25 - 100_001 / 16000, abs=0.01)
    assert "incomplete: after 18.7 seconds its header promises" in segmented.notes[0]


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


def channels_of_noise(channels: int, seconds: float = 5.0, gain: float = 0.3) -> Audio:
    return Audio(gain * np.random.default_rng(0).uniform(-1, 1, (channels, round(seconds * SOUND_HZ))), SOUND_HZ)


def whole(sound: ResampledSound) -> np.ndarray:
    return np.concatenate([block.samples for block in sound.blocks()], axis=1)


@pytest.mark.parametrize("held", [1000, 10**7])
@pytest.mark.parametrize("size", [997, 10_000, 10**6])
def test_resampled_sound_equals_the_whole_operations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: int, size: int
) -> None:
    monkeypatch.setattr(segment, "_HELD_SAMPLES", held)
    monkeypatch.setattr(segment, "_SPOOL_BYTES", held)
    monkeypatch.setattr(segment, "_BLOCK_FRAMES", 3001)
    audio = channels_of_noise(2)
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
    audio = Audio(np.array([0.0, 4.0, -2.0, 1.0]), SOUND_HZ)
    with ResampledSound(Blocks(audio), SOUND_HZ, 1, tmp_path) as sound:
        assert whole(sound)[0].tolist() == [0.0, 1.0, -0.5, 0.25]
        assert sound.notes[1:] == ["peaks 12.0 dB above full scale; attenuated as a whole"]


def test_resampled_sound_of_cancelling_channels_keeps_one(tmp_path: Path) -> None:
    left = channels_of_noise(1).samples[0]
    with ResampledSound(Blocks(Audio(np.stack([left, -left]), SOUND_HZ)), SOUND_HZ, 1, tmp_path) as sound:
        assert np.allclose(np.abs(whole(sound)[0]), np.abs(left), atol=1e-6)
        assert "cancel each other" in sound.notes[1]


def test_resampled_sound_has_the_requested_rate_and_channels(tmp_path: Path) -> None:
    with ResampledSound(Blocks(channels_of_noise(6, gain=1.0)), 16000, 2, tmp_path) as sound:
        assert whole(sound).shape == (2, sound.frames)
        assert sound.seconds == pytest.approx(5.0, abs=0.001)
        assert np.abs(whole(sound)).max() <= 1.0


def test_resampled_sound_tells_its_progress(tmp_path: Path) -> None:
    told: list[tuple[float, int]] = []
    with ResampledSound(
        Blocks(channels_of_noise(1)), SOUND_HZ, 1, tmp_path, lambda seconds, number: told.append((seconds, number))
    ):
        assert told == [(1.25, 1), (2.5, 1), (3.75, 1), (5.0, 1), (1.25, 2), (2.5, 2), (3.75, 2), (5.0, 2)]
