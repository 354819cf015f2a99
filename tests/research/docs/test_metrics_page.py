"""docs/metrics.md is what the docstrings say, and the docstrings say what a reader needs."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from research.docs import metrics_page
from talim.metrics import (
    diversity,
    intonation,
    melodic_ngrams,
    ornaments,
    prompt_adherence,
    rhythm,
    structure,
)

DOCS = Path(__file__).parents[3] / "docs"
SCORES = [
    intonation.intonation_z_rms, intonation.intonation_deviation_cents, intonation.histogram_distance,
    intonation.note_stability_cents, ornaments.ornament_score, melodic_ngrams.ngram_similarity, melodic_ngrams.ngram_repetition,
    rhythm.cycle_strength, rhythm.beat_phase_coherence, rhythm.tempo_drift, structure.repetition_rate,
    structure.recurrence_at_lag, structure.novelty, diversity.effective_sample_count, prompt_adherence.prompt_preference,
]  # fmt: skip


def test_the_page_is_up_to_date() -> None:
    written = (DOCS / "metrics.md").read_text("utf-8")
    assert written == metrics_page.page(), (
        "write it anew: python -m research.docs.metrics_page --out docs/metrics.md"
    )


@pytest.mark.parametrize("score", SCORES, ids=lambda score: score.__name__)
def test_a_score_says_its_range_its_direction_and_its_source(score: object) -> None:
    told = " ".join((inspect.getdoc(score) or "").split())
    assert "Range" in told
    assert "Source:" in told
    assert any(
        word in told
        for word in ("lower is", "higher is", "higher follows", "neither direction", "compare with")
    )


def test_private_functions_and_imports_stay_out() -> None:
    page = metrics_page.page()
    assert "`intonation_error(cents, practice)`" in page
    assert "`_say" not in page
    assert "`movement" not in page
