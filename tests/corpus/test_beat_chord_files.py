"""Beats and chords of recordings: in the metadata, in files beside the sound, cut with the clips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from talim.beats_chords import BeatGrid, BeatsAndChords, ChordTrack
from talim.corpus.beat_chord_files import BeatChordAnnotation, read_timing
from talim.corpus.manifest import Corpus, manifest_text
from talim.corpus.prepare import prepare_corpus
from talim.corpus.recordings import FileAudio, SourceFile
from talim.errors import TalimError


def beside(folder: Path, **texts: str) -> SourceFile:
    for suffix, text in texts.items():
        (folder / f"take.{suffix}").write_text(text, encoding="utf-8")
    path = folder / "take.wav"
    return SourceFile(path, path.name, FileAudio(path))


def test_the_metadata_counts_before_what_lies_beside(tmp_path: Path) -> None:
    file = beside(tmp_path, beats="0.5 1\n1.0\t2\n", chords="0 2.0 G:min7/b3\n2.0 N\n")
    assert read_timing(file, {}) == BeatChordAnnotation("1@0.5 2@1.0", "Gm7/b3@0 N@2.0")
    assert read_timing(file, {"beats": "90 bpm"}) == BeatChordAnnotation("90 bpm", "Gm7/b3@0 N@2.0")
    assert read_timing(beside(tmp_path / "elsewhere"), {}) == BeatChordAnnotation()


@pytest.mark.parametrize(
    ("annotated", "plain"),
    [
        ("C:maj", "C"),
        ("A:min", "Am"),
        ("Bb:hdim7", "Bbm7b5"),
        ("F#:7", "F#7"),
        ("Eb:sus4", "Ebsus4"),
        ("Gm", "Gm"),
    ],
)
def test_chord_annotations_are_read(tmp_path: Path, annotated: str, plain: str) -> None:
    assert read_timing(beside(tmp_path, chords=f"0.0 1.0 {annotated}\n"), {}).chords == f"{plain}@0.0"


def test_a_tempo_goes_on_through_all_clips() -> None:
    timing = BeatChordAnnotation("60 bpm 3/4 from 0.5")
    assert timing.at(0.0, 2.0) == BeatsAndChords(BeatGrid((0.5, 1.5), (1, 2)))
    assert timing.at(9.0, 2.0) == BeatsAndChords(BeatGrid((0.5, 1.5), (1, 2)))
    assert timing.at(10.0, 2.0) == BeatsAndChords(BeatGrid((0.5, 1.5), (2, 3)))
    assert BeatChordAnnotation("", "C@0 F@9").at(5.0, 2.0) == BeatsAndChords(
        chords=ChordTrack((0.0,), ("C",))
    )


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ({"beats": "0.5\n"}, "line 1 is '0.5'; expected SECONDS PLACE"),
        ({"beats": "# beats\n0.5 1\n0.4 2\n"}, "order of time"),
        ({"beats": "0.5 first\n"}, "expected SECONDS PLACE"),
        ({"beats": "-0.5 1\n"}, "expected SECONDS PLACE"),
        ({"beats": "0.5 0\n"}, "places are 1 to 128"),
        ({"chords": "C\n"}, r"expected SECONDS \[END\] CHORD"),
        ({"chords": "0 one C\n"}, r"expected SECONDS \[END\] CHORD"),
        ({"chords": "2 C\n1 F\n"}, "order of time"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_line(tmp_path: Path, texts: dict[str, str], says: str) -> None:
    with pytest.raises(TalimError, match=says):
        read_timing(beside(tmp_path, **texts), {})


def test_a_recording_with_broken_beats_is_left_out_and_named(tmp_path: Path, make_recordings: Any) -> None:
    takes = make_recordings(tmp_path / "takes", count=3, seconds=2.0)
    (takes / "take-1.beats").write_text("what\n")
    corpus = prepare_corpus(takes, tmp_path / "corpus", clip_seconds=1.0, rate_hz=16000, held_out_share=0.5)
    (skipped,) = corpus.summary["skipped"]
    assert skipped["file"] == "take-1.wav"
    assert "its words: take-1.beats: line 1 is 'what'" in skipped["reason"]


def test_a_corpus_without_beats_has_the_manifest_it_always_had(tmp_path: Path, make_recordings: Any) -> None:
    takes = make_recordings(tmp_path / "takes", count=2, seconds=2.0)
    options: dict[str, Any] = {"clip_seconds": 1.0, "rate_hz": 16000, "held_out_share": 0.5}
    plain = prepare_corpus(takes, tmp_path / "corpus", **options)
    assert "beats" not in manifest_text(plain.clips)
    assert "clips_with_music" not in plain.summary
    (takes / "take-0.beats").write_text("0.25 1\n1.25 2\n")
    timed = prepare_corpus(takes, tmp_path / "corpus", **options)
    assert timed.hash != plain.hash
    assert timed.work["decoded"] == 0  # only the words have changed
    assert timed.summary["clips_with_music"] == {"beats": 2, "chords": 0}
    assert Corpus.load(tmp_path / "corpus").hash == timed.hash
    assert timed.has_beats_chords
    assert not plain.has_beats_chords
