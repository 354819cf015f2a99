"""Beats and chords of recordings: from metadata, from files beside the audio, cut with the clips."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from talim.beats_chords import BeatGrid, BeatsAndChords, ChordTrack
from talim.corpus.beat_chord_files import BeatChordAnnotation, read_beats_chords
from talim.corpus.manifest import Corpus
from talim.corpus.prepare import prepare
from talim.corpus.recordings import FileAudio, SourceFile
from talim.errors import TalimError


def source_file(folder: Path, **texts: str) -> SourceFile:
    for suffix, text in texts.items():
        (folder / f"take.{suffix}").write_text(text, encoding="utf-8")
    path = folder / "take.wav"
    return SourceFile(path, path.name, FileAudio(path))


def test_read_beats_chords_prefers_metadata_to_files(tmp_path: Path) -> None:
    file = source_file(tmp_path, beats="0.5 1\n1.0\t2\n", chords="0 2.0 G:min7/b3\n2.0 N\n")
    assert read_beats_chords(file, {}) == BeatChordAnnotation("1@0.5 2@1.0", "Gm7/b3@0 N@2.0")
    assert read_beats_chords(file, {"beats": "90 bpm"}) == BeatChordAnnotation("90 bpm", "Gm7/b3@0 N@2.0")
    assert read_beats_chords(source_file(tmp_path / "elsewhere"), {}) == BeatChordAnnotation()


@pytest.mark.parametrize(
    ("annotated", "plain"),
    [("C:maj", "C"), ("A:min", "Am"), ("Bb:hdim7", "Bbm7b5"), ("F#:7", "F#7"), ("Eb:sus4", "Ebsus4"), ("Gm", "Gm")],
)
def test_read_beats_chords_converts_chord_annotations(tmp_path: Path, annotated: str, plain: str) -> None:
    assert read_beats_chords(source_file(tmp_path, chords=f"0.0 1.0 {annotated}\n"), {}).chords == f"{plain}@0.0"


def test_read_beats_chords_of_pipes_and_links_that_lead_out_raises(tmp_path: Path) -> None:
    (tmp_path / "takes").mkdir()
    file = source_file(tmp_path / "takes")
    (tmp_path / "secret").write_text("0.5 1\n")
    (tmp_path / "takes" / "take.beats").symlink_to(tmp_path / "secret")
    with pytest.raises(TalimError, match="leads out of"):
        read_beats_chords(file, {})
    (tmp_path / "takes" / "take.beats").unlink()
    os.mkfifo(tmp_path / "takes" / "take.beats")
    with pytest.raises(TalimError, match="a pipe"):
        read_beats_chords(file, {})


@pytest.mark.parametrize("beats", ["120 bpm 4/4 from 0.25", " ".join(f"{1 + i % 4}@{i / 2:g}" for i in range(30_000))])
def test_cut_takes_time_by_the_excerpt(beats: str) -> None:
    timing = BeatChordAnnotation(beats, "C@0 F@9")
    timing.cut(0.0, 10.0)  # read once
    counted = []
    real = BeatGrid.__post_init__

    def count(grid: BeatGrid) -> None:
        counted.append(len(grid.times_seconds))
        real(grid)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BeatGrid, "__post_init__", count)
        cuts = [timing.cut(start, 10.0) for start in range(0, 14_000, 10)]
    assert sum(counted) < 50 * len(cuts)  # beats of 10 s, not all that lie before them
    assert [len(cut.beats.times_seconds) for cut in cuts[1:]] == [20] * (len(cuts) - 1)


def test_cut_of_a_steady_tempo_keeps_time_and_bar_positions() -> None:
    timing = BeatChordAnnotation("60 bpm 3/4 from 0.5")
    assert timing.cut(0.0, 2.0) == BeatsAndChords(BeatGrid((0.5, 1.5), (1, 2)))
    assert timing.cut(9.0, 2.0) == BeatsAndChords(BeatGrid((0.5, 1.5), (1, 2)))
    assert timing.cut(10.0, 2.0) == BeatsAndChords(BeatGrid((0.5, 1.5), (2, 3)))
    assert BeatChordAnnotation("", "C@0 F@9").cut(5.0, 2.0) == BeatsAndChords(chords=ChordTrack((0.0,), ("C",)))


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"beats": "0.5\n"}, "line 1 is '0.5'; expected SECONDS POSITION"),
        ({"beats": "# beats\n0.5 1\n0.4 2\n"}, "order of time"),
        ({"beats": "0.5 first\n"}, "expected SECONDS POSITION"),
        ({"beats": "-0.5 1\n"}, "expected SECONDS POSITION"),
        ({"beats": "0.5 0\n"}, "position 0 in the bar is not between 1 and 128"),
        ({"chords": "C\n"}, r"expected SECONDS \[END\] CHORD"),
        ({"chords": "0 one C\n"}, r"expected SECONDS \[END\] CHORD"),
        ({"chords": "2 C\n1 F\n"}, "order of time"),
    ],
)
def test_read_beats_chords_of_invalid_file_names_the_line(tmp_path: Path, texts: dict[str, str], message: str) -> None:
    with pytest.raises(TalimError, match=message):
        read_beats_chords(source_file(tmp_path, **texts), {})


def test_prepare_with_invalid_beats_skips_the_recording(tmp_path: Path, make_recordings: Any) -> None:
    takes = make_recordings(tmp_path / "takes", count=3, seconds=2.0)
    (takes / "take-1.beats").write_text("what\n")
    corpus = prepare(takes, tmp_path / "corpus", clip_seconds=1.0, sample_rate=16000, held_out_fraction=0.5)
    (skipped,) = corpus.summary["skipped"]
    assert skipped["file"] == "take-1.wav"
    assert "its metadata: take-1.beats: line 1 is 'what'" in skipped["reason"]


def test_prepare_after_adding_beats_changes_hash_without_decoding(tmp_path: Path, make_recordings: Any) -> None:
    takes = make_recordings(tmp_path / "takes", count=2, seconds=2.0)
    options: dict[str, Any] = {"clip_seconds": 1.0, "sample_rate": 16000, "held_out_fraction": 0.5}
    plain = prepare(takes, tmp_path / "corpus", **options)
    assert "clips_with_beats_or_chords" not in plain.summary
    (takes / "take-0.beats").write_text("0.25 1\n1.25 2\n")
    timed = prepare(takes, tmp_path / "corpus", **options)
    assert timed.hash != plain.hash
    assert timed.prepare_stats["decoded"] == 0  # only the metadata has changed
    assert timed.summary["clips_with_beats_or_chords"] == {"beats": 2, "chords": 0}
    assert Corpus.load(tmp_path / "corpus").hash == timed.hash
    assert any(clip.beats or clip.chords for clip in timed.clips)
    assert not any(clip.beats or clip.chords for clip in plain.clips)
