"""Tests of talim.planning.sample_training: a corpus that can be trained on, and the memory of doing it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from talim.corpus.manifest import Corpus
from talim.design.expression import Design
from talim.planning import sample_training
from talim.planning.training_step import StepConfig


def test_make_corpus_writes_clips_that_load_again(tmp_path: Path) -> None:
    made = sample_training.make_corpus(tmp_path / "corpus", 1.0)
    loaded = Corpus.load(tmp_path / "corpus")
    assert loaded.clips == made.clips
    assert [len(side) for side in (loaded.train, loaded.validation, loaded.held_out)] == [9, 2, 1]
    assert all(loaded.read_clip(clip).frames == sample_training.RATE_HZ for clip in loaded.clips)
    assert len({clip.caption for clip in loaded.clips}) == sample_training.CLIPS


@pytest.mark.skipif(sys.platform == "win32", reason="peak memory is read from the system")
def test_peak_bytes_trains_and_leaves_nothing(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    config = StepConfig(str(tiny_base), Design.parse("linear@all:10%"), 1.0, 2, "fp32")
    assert sample_training.peak_bytes(config, 1.0) > 1e8
    assert list(tmp_path.iterdir()) == []
