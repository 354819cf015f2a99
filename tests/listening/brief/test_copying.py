"""Copies in candidates: a passage of the training recordings is named, new music passes, what cannot be told is not."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from talim import audio
from talim.audio import Audio
from talim.corpus.prepare import prepare
from talim.listening.brief import copying
from talim.run import Run
from talim.traditions.performer import perform


def performed(folder: Path, seeds: range, seconds: float) -> Path:
    folder.mkdir()
    for seed in seeds:
        piece = perform(seed, "western", seconds)
        audio.write(folder / f"piece-{seed}.flac", Audio(piece.samples[None], piece.rate_hz))
    return folder


def run_on(folder: Path, corpus: Path) -> Run:
    folder.mkdir()
    run = Run(folder)
    run.recipe_file.write_text(yaml.safe_dump({"corpus": str(corpus)}), encoding="utf-8")
    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    """A run, and the folder of its recordings; twelve training clips are enough strangers for a gate."""
    place = tmp_path_factory.mktemp("copying")
    recordings = performed(place / "recordings", range(40, 45), 20.0)
    prepare(recordings, place / "corpus", clip_seconds=6.0, rate_hz=16000, held_out=("piece-44",))
    return run_on(place / "run", place / "corpus"), recordings


def test_a_passage_of_a_training_recording_is_named(trained: tuple[Run, Path], tmp_path: Path) -> None:
    run, recordings = trained
    copied = audio.read(recordings / "piece-41.flac").cut(6.5, 5.0)
    audio.write(tmp_path / "copy.flac", Audio(0.5 * copied.samples, copied.rate_hz))
    found = copying.search_of(run)(tmp_path / "copy.flac")
    assert found.passed is False
    assert "nearest: piece-41 at " in found.found
    assert float(found.found.partition(" at ")[2].partition(" s")[0]) == pytest.approx(6.5, abs=0.8)


def test_new_music_passes(trained: tuple[Run, Path], tmp_path: Path) -> None:
    run, _ = trained
    piece = perform(77, "western", 5.0)
    audio.write(tmp_path / "new.flac", Audio(piece.samples[None], piece.rate_hz))
    found = copying.search_of(run)(tmp_path / "new.flac")
    assert found.passed is True
    assert "p = " in found.found


def test_what_cannot_be_told_is_not_checked(trained: tuple[Run, Path], tmp_path: Path) -> None:
    run, recordings = trained
    audio.write(tmp_path / "short.flac", audio.read(recordings / "piece-40.flac").cut(0.0, 1.0))
    gone = copying.search_of(run_on(tmp_path / "alone", tmp_path / "nowhere"))(tmp_path / "short.flac")
    assert (gone.passed, gone.found) == (None, "not checked: the corpus of this run is not there")
    short = copying.search_of(run)(tmp_path / "short.flac")
    assert (short.passed, short.found) == (None, "not checked: too short to hold a passage")
    one = performed(tmp_path / "one", range(50, 52), 8.0)
    prepare(one, tmp_path / "corpus", clip_seconds=4.0, rate_hz=16000, held_out=("piece-51",))
    lonely = copying.search_of(run_on(tmp_path / "run", tmp_path / "corpus"))(tmp_path / "short.flac")
    assert (lonely.passed, "one recording" in lonely.found) == (None, True)
