"""From a source to a corpus with its page; what gives nothing is told line by line."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.sources import own_folder, pitch_track_files, symbtr_scores, table

from talim.errors import TalimError, UsageError
from talim.stages.prepare import prepare


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "source"
    place.mkdir()
    return place


def test_a_page_ends_it(folder: Path, tmp_path: Path) -> None:
    corpus = prepare(own_folder(folder), tmp_path / "corpus", rate_hz=8000)
    assert (corpus.folder / "report" / "index.html").read_text("utf-8").startswith("<!DOCTYPE html>")


def test_scores_become_recordings(folder: Path, tmp_path: Path) -> None:
    corpus = prepare(symbtr_scores(folder), tmp_path / "corpus", rate_hz=8000, clip_seconds=5)
    assert corpus.summary["kind"] == "symbtr"
    assert {clip.mode for clip in corpus.clips} == {"Hicaz"}
    assert corpus.summary["split"]["step"] == "release"  # nobody performs, but works are told apart
    other = prepare(folder, tmp_path / "theory", kind="symbtr:theory", rate_hz=8000, clip_seconds=5)
    assert {clip.audio_hash for clip in other.clips}.isdisjoint({clip.audio_hash for clip in corpus.clips})


def test_pitch_tracks_only_when_asked(folder: Path, tmp_path: Path) -> None:
    pitch_track_files(folder)
    with pytest.raises(UsageError, match="--from pitch-tracks"):
        prepare(folder, tmp_path / "corpus")
    assert prepare(folder, tmp_path / "corpus", kind="pitch-tracks", rate_hz=8000).summary["recordings"] == 3


def test_a_source_that_gives_nothing_says_each_reason(folder: Path, tmp_path: Path) -> None:
    rows = [{"title": f"T{n}", "mbid": f"m{n}", "raga": "X", "audio_path": ""} for n in range(3)]
    table(folder / "h.csv", rows)
    told: list[str] = []
    with pytest.raises(TalimError, match=r"none of its recordings can be used \(3\)"):
        prepare(folder / "h.csv", tmp_path / "corpus", say=told.append)
    assert told == [f"left out T{n} (m{n}): its audio_path is empty" for n in range(3)]
    assert not (tmp_path / "corpus").exists()
