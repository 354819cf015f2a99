"""Corpora of a study: the ground truth of synthetic recordings."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from talim.experiments.study_corpora import ground_truth_of
from talim.experiments.study_file import CorpusSpec


def test_ground_truth_of_a_synthetic_corpus_uses_the_seed_in_its_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = CorpusSpec.model_validate({"synthesize": {"tradition": "makam", "count": 3, "seconds": 6.0}})
    clips = [SimpleNamespace(recording="renamed", source_file="other-name.flac", extra={"seed": "7123"})]
    corpus: Any = SimpleNamespace(held_out=clips)
    monkeypatch.setattr(
        "talim.synthesis.performer.performance_ground_truth",
        lambda seed, tradition, seconds, request: (seed, tradition, seconds),
    )
    assert ground_truth_of(spec, corpus) == {"renamed": (7123, "makam", 6.0)}


def test_ground_truth_of_recordings_is_empty() -> None:
    corpus: Any = SimpleNamespace(held_out=[])
    assert ground_truth_of(CorpusSpec(recordings="takes"), corpus) == {}
