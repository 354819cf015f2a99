"""Structure scores of degraded music with annotated sections and first beats."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from research.validation import structure_scores
from research.validation.degradations import HOP_SECONDS
from talim.atomic_io import read_json

CYCLE_SECONDS = 6.0
COLUMNS = "id,file,recording_id,section_no,t0_s"


def song(seed: int) -> np.ndarray:
    """A minute with the same two seconds before each first beat, and new notes every half second elsewhere."""
    rng = np.random.default_rng(seed)
    cents = np.repeat(rng.uniform(0, 1200, 120), 50)
    refrain = np.repeat([0.0, 400.0, 200.0, 700.0], 50)
    for beat in np.arange(CYCLE_SECONDS, 60, CYCLE_SECONDS):
        at = round(beat / HOP_SECONDS)
        cents[at - 200 : at] = refrain
    return cents


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pitch").mkdir()
    (tmp_path / "annotations").mkdir()
    rows = [COLUMNS]
    for name, sections in (("songsong1", 2), ("alapalap1", 1)):
        for number in range(1, sections + 1):
            file = f"pitch/{name}_{number}.npz"
            np.savez(tmp_path / file, cents=song(number), hop_s=HOP_SECONDS, tonic_hz=200.0)
            rows.append(f"{name}_{number},{file},{name},{number},{100.0 * number}")
        beats = [200.0 + beat for beat in np.arange(0, 66, CYCLE_SECONDS)]
        (tmp_path / "annotations" / f"{name}.json").write_text(json.dumps({"sama_s": beats}))
    (tmp_path / "metadata.csv").write_text("\n".join(rows))
    return tmp_path


def test_recordings_needs_two_sections_and_gives_the_beats_of_the_last(folder: Path) -> None:
    (track,) = structure_scores.recordings(folder)
    assert track.name == "songsong"
    assert np.allclose(track.first_beats_seconds, np.arange(0, 60, CYCLE_SECONDS))
    assert np.allclose(track.last, song(2), atol=0.01)
    assert np.allclose(track.first, song(1), atol=0.01)


def test_degraded_measures_without_refrain_lowers_the_repetition_rate(folder: Path) -> None:
    (track,) = structure_scores.recordings(folder)
    scores = structure_scores.degraded_measures(track)
    clean, without = scores["clean"]["repetition_rate"], scores["refrain deleted"]["repetition_rate"]
    assert clean is not None
    assert without is not None
    assert clean > 0.2
    assert without < 0.6 * clean
    assert scores["an octave higher"]["repetition_rate"] == pytest.approx(clean)
    cut = structure_scores.without_refrain(track.last, track.first_beats_seconds)
    assert cut.size == track.last.size - 9 * 200


def test_alternate_segments_takes_every_second_stretch_from_the_other() -> None:
    cents, other = np.zeros(6000), np.ones(6000)
    mixed = structure_scores.alternate_segments(cents, other)
    assert [mixed[n * 1000 + 500] for n in range(6)] == [0, 1, 0, 1, 0, 1]
    assert not cents.any()


def test_measure_twice_measures_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = tmp_path / "work"
    structure_scores.measure(work, folder)
    assert set(read_json(work / "sections-songsong.json")) >= {"clean", "refrain deleted", "sections mixed"}
    monkeypatch.setattr(structure_scores, "degraded_measures", lambda track: pytest.fail("measured twice"))
    structure_scores.measure(work, folder)
