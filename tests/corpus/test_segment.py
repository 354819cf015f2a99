"""Segmentation of one source: stored results, damage, faults nobody foresaw, and the files that talim may delete."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from talim.audio import Audio
from talim.corpus.recordings import FileAudio, SourceFile, file_hash
from talim.corpus.segment import (
    SegmentationConfig,
    SegmentedRecording,
    generated_files,
    load_landmarks,
    load_segmentation,
    segment_file,
    segmentation_file,
)

SegmentedSource = tuple[Path, str, SegmentedRecording]
CONFIG = SegmentationConfig(10.0, 8000, 1)


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
