"""docs/metrics.md is what the docstrings say, and the docstrings say what a reader needs."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from talim.metrics import adherence, intonation, ornaments, phrases, rhythm, structure, variety
from talim.stages import metrics_page

DOCS = Path(__file__).parents[2] / "docs"
SCORES = [
    intonation.intonation_error, intonation.off_degrees_cents, intonation.histogram_distance,
    intonation.note_stability_cents, ornaments.ornament_score, phrases.phrase_likeness, phrases.redundancy,
    rhythm.cycle_strength, rhythm.beat_accuracy, rhythm.tempo_drift, structure.returning_share,
    structure.recurrence_at, structure.novelty, variety.effective_pieces, adherence.preference,
]  # fmt: skip


def test_the_page_is_up_to_date() -> None:
    written = (DOCS / "metrics.md").read_text("utf-8")
    assert written == metrics_page.page(), (
        "write it anew: python -m talim.stages.metrics_page --out docs/metrics.md"
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
