"""Corpora of a study: the ground truth of synthetic recordings."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from talim.experiments.study_corpora import build_corpus, ground_truth_of, perform_otherwise
from talim.experiments.study_file import CorpusSpec
from talim.progress import Progress


def test_ground_truth_of_a_synthetic_corpus_uses_the_seed_in_its_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = CorpusSpec.model_validate({"synthesize": {"tradition": "makam", "count": 3, "seconds": 6.0}})
    clips = [SimpleNamespace(recording="renamed", source_file="other-name.flac", extra={"seed": "7123"})]
    corpus: Any = SimpleNamespace(held_out=clips)
    monkeypatch.setattr(
        "talim.synthesis.performer.performance_ground_truth",
        lambda seed, tradition, seconds, request: (seed, tradition, seconds),
    )
    assert ground_truth_of(spec, corpus) == {"renamed": (7123, "makam", 6.0)}


def test_a_clip_is_performed_again_as_it_is_or_otherwise(tmp_path: Path) -> None:
    """The same options give the stored samples; without ornaments it is as long, and other."""
    values = {"tradition": "makam", "ensemble_size": 1, "count": 3, "seconds": 6.0}
    spec = CorpusSpec.model_validate({"synthesize": values, "clip_seconds": 4.0, "rate_hz": 16000})
    corpus = build_corpus(spec, "makam", tmp_path, tmp_path, Progress())
    for clip in (corpus.clips[0], corpus.clips[-1]):
        stored, again = corpus.read_clip(clip), perform_otherwise(spec, clip)
        np.testing.assert_allclose(again.samples, stored.samples, atol=2 / 2**15)  # 16 bits
        plain = perform_otherwise(spec, clip, ornaments=False)
        assert plain.samples.shape == stored.samples.shape
        assert plain.rate_hz == stored.rate_hz
        assert np.abs(plain.samples - stored.samples).max() > 0.01
    assert {clip.start_seconds > 0 for clip in (corpus.clips[0], corpus.clips[-1])} == {True, False}


def test_ground_truth_of_recordings_is_empty() -> None:
    corpus: Any = SimpleNamespace(held_out=[])
    assert ground_truth_of(CorpusSpec(recordings="takes"), corpus) == {}
