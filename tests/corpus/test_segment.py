"""Cutting one source: what counts as already done, and what talim may delete."""

from __future__ import annotations

from pathlib import Path

import pytest

from talim.corpus.recordings import FileAudio, SourceFile, file_hash
from talim.corpus.segment import (
    SegmentationConfig,
    SegmentedRecording,
    generated_files,
    landmarks_file,
    load_landmarks,
    load_segmentation,
    segment_file,
    segmentation_file,
)

CUTTING = SegmentationConfig(10.0, 8000, 1)


@pytest.fixture
def cut(record, tmp_path: Path) -> tuple[Path, str, SegmentedRecording]:
    path = record("a.wav", 25)
    source_hash = file_hash(path)
    return (
        tmp_path / "corpus",
        source_hash,
        segment_file(tmp_path / "corpus", SourceFile(path, "a.wav", FileAudio(path)), source_hash, CUTTING),
    )


def test_what_was_cut_is_known_again(cut: tuple[Path, str, SegmentedRecording]) -> None:
    corpus, source_hash, made = cut
    assert load_segmentation(corpus, source_hash, CUTTING) == made
    assert len(made.clips) == 3
    assert load_segmentation(corpus, "0" * 64, CUTTING) is None
    for other in (
        SegmentationConfig(9.0, 8000, 1),
        SegmentationConfig(10.0, 16000, 1),
        SegmentationConfig(10.0, 8000, 2),
    ):
        assert load_segmentation(corpus, source_hash, other) is None


@pytest.mark.parametrize("harm", ["clip gone", "clip cut", "note torn", "note of another", "landmarks gone"])
def test_damage_makes_it_be_cut_again(cut: tuple[Path, str, SegmentedRecording], harm: str) -> None:
    corpus, source_hash, made = cut
    clip, note = corpus / made.clips[1].file, segmentation_file(corpus, source_hash, CUTTING)
    if harm == "clip gone":
        clip.unlink()
    elif harm == "clip cut":
        clip.write_bytes(clip.read_bytes()[:100])
    elif harm == "note torn":
        note.write_bytes(note.read_bytes()[:50])
    elif harm == "landmarks gone":
        landmarks_file(corpus, source_hash, CUTTING).unlink()
    else:
        note.write_text(made.model_copy(update={"source_hash": "1" * 64}).model_dump_json())
    assert load_segmentation(corpus, source_hash, CUTTING) is None


def test_landmarks_and_levels_are_kept(cut: tuple[Path, str, SegmentedRecording]) -> None:
    corpus, source_hash, made = cut
    marks = load_landmarks(corpus, source_hash, CUTTING)
    assert len(marks) > 20
    assert marks[-1, 1] < 25 / 0.032
    assert made.levels is not None
    assert made.levels.seconds == 25
    landmarks_file(corpus, source_hash, CUTTING).write_bytes(b"torn")
    assert load_landmarks(corpus, source_hash, CUTTING).shape == (0, 2)


def test_a_file_that_cannot_be_used_is_tried_again(folder: Path, tmp_path: Path) -> None:
    (folder / "a.wav").write_text("no music")
    cut = segment_file(
        tmp_path / "corpus",
        SourceFile(folder / "a.wav", "a.wav", FileAudio(folder / "a.wav")),
        "ab" * 32,
        CUTTING,
    )
    assert cut.problem is not None
    assert cut.problem.startswith("not audio")
    assert load_segmentation(tmp_path / "corpus", "ab" * 32, CUTTING) is None


def test_only_own_files_and_torn_ones_are_own(cut: tuple[Path, str, SegmentedRecording]) -> None:
    corpus, _, made = cut
    place = (corpus / made.clips[0].file).parent
    torn = [place / ".tmp-x1.flac", corpus / "sources" / ".a.json.x.part", corpus / ".corpus.jsonl.x.part"]
    foreign = [place / "take.flac", corpus / "sources" / "notes.json", corpus / "my.part"]
    for path in torn + foreign:
        path.write_text("x")
    assert len(generated_files(corpus)) == 3 + 2 + 3
    assert set(torn) < set(generated_files(corpus))
    assert not set(foreign) & set(generated_files(corpus))


def test_the_way_of_cutting_has_a_stable_name() -> None:
    assert CUTTING.key == SegmentationConfig(10, 8000, 1).key
    assert CUTTING.key == "e850380e"  # golden: another value would cut all corpora again
