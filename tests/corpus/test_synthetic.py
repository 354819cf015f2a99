"""Corpora of synthesized performances: exact beats, metadata with seeds, complete or absent."""

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


def test_performance_beats_equal_the_ground_truth() -> None:
    truth = performance_ground_truth(7, "hindustani", 20.0)
    performance = SimpleNamespace(truth=truth, facts={})
    beats = BeatGrid.parse(synthetic.performance_beats(performance))
    assert np.allclose(beats.times_seconds, truth.beats_seconds, atol=1e-4)
    downbeats = [t for t, position in zip(beats.times_seconds, beats.positions, strict=True) if position == 1]
    assert np.allclose(downbeats, truth.first_beats_seconds, atol=1e-4)
    assert max(beats.positions) == truth.cycle_beats == 16
    assert beats.positions[:3] == (1, 2, 3)
    assert (
        synthetic.performance_beats(SimpleNamespace(truth=performance_ground_truth(3, "makam", 20.0), facts={})) == ""
    )  # a taksim
    plain = SimpleNamespace(truth=None, facts={"tempo_bpm": 96, "beats_per_bar": 7})
    assert BeatGrid.parse(synthetic.performance_beats(plain)).positions[:8] == (1, 2, 3, 4, 5, 6, 7, 1)


def fake_perform(seed: int, style: str, seconds: float) -> Any:
    rng = np.random.default_rng(seed)
    samples = (0.1 * rng.standard_normal(int(8000 * seconds))).astype(np.float32)
    return SimpleNamespace(samples=samples, rate_hz=8000, caption=f"{style} {seed}", truth=None, facts={})


def test_perform_corpus_writes_audio_and_metadata_with_seeds(tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    synthetic.perform_corpus(folder, fake_perform, Progress(), count=3, seconds=2.0)
    with open(folder / "metadata.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["file_name"] for row in rows] == ["piece-01.flac", "piece-02.flac", "piece-03.flac"]
    assert len({row["performer"] for row in rows}) == 3
    assert {row["licence"] for row in rows} == {"CC0-1.0"}
    assert [int(row["seed"]) for row in rows] == [synthetic.FIRST_SEED + n for n in range(3)]
    assert rows[0]["text"] == f"demo {synthetic.FIRST_SEED}"
    assert audio.read(folder / "piece-02.flac").seconds == 2.0


def test_perform_corpus_interrupted_leaves_no_folder(tmp_path: Path) -> None:
    def failing(seed: int, style: str, seconds: float) -> Any:
        return fake_perform(seed, style, seconds) if seed == synthetic.FIRST_SEED else 1 / 0

    with pytest.raises(ZeroDivisionError):
        synthetic.perform_corpus(tmp_path / "recordings", failing, Progress(), count=2, seconds=1.0)
    assert list(tmp_path.iterdir()) == []
