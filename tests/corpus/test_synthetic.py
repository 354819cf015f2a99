"""TODO docstring."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from talim import audio
from talim.beats_chords import BeatGrid
from talim.corpus import synthetic
from talim.progress import Progress
from talim.synthesis.performer import performance_ground_truth


def test_beats_of_performances_are_their_truth() -> None:
    truth = performance_ground_truth(7, "hindustani", 20.0)
    piece = SimpleNamespace(truth=truth, facts={})
    beats = BeatGrid.parse(synthetic.performance_beats(piece))
    assert np.allclose(beats.times_seconds, truth.beats_seconds, atol=1e-4)
    downbeats = [t for t, place in zip(beats.times_seconds, beats.places, strict=True) if place == 1]
    assert np.allclose(downbeats, truth.first_beats_seconds, atol=1e-4)
    assert max(beats.places) == truth.cycle_beats == 16
    assert beats.places[:3] == (1, 2, 3)
    assert (
        synthetic.performance_beats(
            SimpleNamespace(truth=performance_ground_truth(3, "makam", 20.0), facts={})
        )
        == ""
    )  # a taksim
    plain = SimpleNamespace(truth=None, facts={"tempo_bpm": 96, "beats_per_bar": 7})
    assert BeatGrid.parse(synthetic.performance_beats(plain)).places[:8] == (1, 2, 3, 4, 5, 6, 7, 1)


def fake_perform(seed: int, style: str, seconds: float) -> Any:
    rng = np.random.default_rng(seed)
    samples = (0.1 * rng.standard_normal(int(8000 * seconds))).astype(np.float32)
    return SimpleNamespace(samples=samples, rate_hz=8000, caption=f"{style} {seed}", truth=None, facts={})


def test_the_built_in_corpus_is_a_folder_like_anybodys(tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    synthetic.perform_corpus(folder, fake_perform, Progress(), count=3, seconds=2.0)
    with open(folder / "metadata.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["file_name"] for row in rows] == ["piece-01.flac", "piece-02.flac", "piece-03.flac"]
    assert len({row["performer"] for row in rows}) == 3
    assert {row["licence"] for row in rows} == {"CC0-1.0"}
    assert rows[0]["text"] == f"demo {synthetic.FIRST_SEED}"
    assert audio.read(folder / "piece-02.flac").seconds == 2.0


def test_a_performer_that_fails_leaves_no_half_corpus(tmp_path: Path) -> None:
    def tired(seed: int, style: str, seconds: float) -> Any:
        return fake_perform(seed, style, seconds) if seed == synthetic.FIRST_SEED else 1 / 0

    with pytest.raises(ZeroDivisionError):
        synthetic.perform_corpus(tmp_path / "recordings", tired, Progress(), count=2, seconds=1.0)
    assert list(tmp_path.iterdir()) == []
