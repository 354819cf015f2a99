"""From a source to a corpus with its page; what gives nothing is told line by line."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.importer_sources import SCORE_HEAD, own_folder, symbtr_scores

from talim.corpus.prepare_source import prepare
from talim.errors import TalimError


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


def test_a_source_that_gives_nothing_says_each_reason(folder: Path, tmp_path: Path) -> None:
    for n in range(3):
        (folder / f"hicaz--sarki--aksak--empty_{n}--nobody.txt").write_text(SCORE_HEAD, encoding="utf-8")
    said: list[str] = []
    with pytest.raises(TalimError, match=r"none of its recordings can be used \(3\)"):
        prepare(folder, tmp_path / "corpus", say=said.append)
    assert len(said) == 3
    assert all("holds no note" in line for line in said)
    assert not (tmp_path / "corpus").exists()
