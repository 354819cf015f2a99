"""The melody of a score, as it is fitted."""

from __future__ import annotations

import numpy as np
import pytest

from talim.synthesis.symbolic_score import ScoreNote, SymbolicScore
from talim.traditions.fitted_modes import fit_modes
from talim.traditions.note_transcription import STEP_CENTS


def score(*notes: ScoreNote) -> SymbolicScore:
    return SymbolicScore(notes, (), (), 220.0, 10.0, 120.0)


def test_melody_has_the_written_notes_and_rests_without_grace_notes() -> None:
    melody = score(
        ScoreNote(0.0, 0.5, 0.9, 700.0, 0.7),
        ScoreNote(0.5, 0.07, 0.9, 800.0, 0.7, grace=True),
        ScoreNote(0.57, 0.43, 0.9, 500.0, 0.7),
        ScoreNote(3.0, 1.0, 0.9, 0.0, 0.7),
    ).melody()
    assert melody.cents.tolist() == [700.0, 500.0, 0.0]
    assert melody.seconds.tolist() == [0.5, 0.43, 1.0]
    np.testing.assert_allclose(melody.gap_seconds, [np.inf, 0.07, 2.0])


def test_a_score_is_fitted_as_a_pitch_track_is() -> None:
    """A fourth up is counted where it was written; none is counted over a rest of two seconds."""
    melody = score(
        ScoreNote(0.0, 0.5, 0.9, 0.0, 0.7), ScoreNote(0.5, 0.5, 0.9, 500.0, 0.7), ScoreNote(3.0, 0.5, 0.9, 0.0, 0.7)
    ).melody()
    counts = fit_modes("makam", [("rast", melody)]).modes["rast"]
    assert counts.intervals[0, round((500 + 600) / STEP_CENTS)] == pytest.approx(1.0)
    assert counts.intervals.sum() == pytest.approx(1.0)
    assert counts.degrees.argmax(1).tolist() == [0, 50, 0]


def test_a_score_without_notes_has_an_empty_melody() -> None:
    assert score().melody().cents.size == 0
