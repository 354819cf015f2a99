"""docs/reference/metrics.md equals the docstrings, and the docstrings state range, direction and source."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from research.docs import metrics_page
from talim.metrics import diversity, intonation, melodic_ngrams, ornaments, prompt_adherence, rhythm, structure

ROOT = Path(__file__).parents[3]
SCORES = [
    intonation.intonation_z_rms,
    intonation.intonation_deviation_cents,
    intonation.histogram_distance,
    intonation.note_stability_cents,
    ornaments.ornament_score,
    melodic_ngrams.ngram_similarity,
    melodic_ngrams.ngram_repetition,
    rhythm.cycle_strength,
    rhythm.beat_phase_coherence,
    rhythm.tempo_drift,
    structure.repetition_rate,
    structure.recurrence_at_lag,
    structure.novelty,
    diversity.effective_sample_count,
    prompt_adherence.prompt_preference,
]


def test_page_of_the_docstrings_is_the_committed_page() -> None:
    committed = (ROOT / metrics_page.PAGE).read_text("utf-8")
    assert committed == metrics_page.page(), "run: python -m research.docs.metrics_page"


@pytest.mark.parametrize("score", SCORES, ids=lambda score: score.__name__)
def test_docstring_of_a_score_states_range_direction_and_source(score: object) -> None:
    text = " ".join((inspect.getdoc(score) or "").split())
    assert "Range" in text
    assert "Source:" in text
    assert any(
        phrase in text for phrase in ("lower is", "higher is", "higher follows", "neither direction", "compare with")
    )


def test_page_has_public_functions_only() -> None:
    page = metrics_page.page()
    assert "`intonation_z_rms(cents, " in page
    assert "`_say" not in page
    assert "`movement" not in page
