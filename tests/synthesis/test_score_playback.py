"""Rendered scores: pitch in cents, onsets, silence, level."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures.importer_sources import SCORE_HEAD, score_rows

from talim.corpus.importers.symbtr import read_score
from talim.metrics.pitch import track_pitch as pitch_of
from talim.synthesis.score_playback import INSTRUMENT_FAMILIES, render_score
from talim.synthesis.symbolic_score import ScoreNote, SymbolicScore


def score(*cents: float, seconds: float = 0.5) -> SymbolicScore:
    notes = tuple(ScoreNote(n * seconds, seconds, 0.95, c, 0.75) for n, c in enumerate(cents))
    return SymbolicScore(notes, (), (), 220.0, seconds * len(cents), 120.0)


@pytest.mark.parametrize("instrument", INSTRUMENT_FAMILIES)
def test_score_notes_sound_at_their_pitches(instrument: str) -> None:
    audio = render_score(score(0.0, 158.5, 701.9), instrument, 3)
    measured = pitch_of(audio.samples[0], audio.rate_hz)
    cents = 1200 * np.log2(np.asarray(measured.hz) / 220.0)
    for number, expected in enumerate((0.0, 158.5, 701.9)):
        middle = slice(*(round(at / measured.hop_seconds) for at in (0.5 * number + 0.2, 0.5 * number + 0.4)))
        assert float(np.nanmedian(cents[middle])) == pytest.approx(expected, abs=8)


def test_score_theory_and_practice_tunings_differ(tmp_path: Path) -> None:
    path = tmp_path / "hicaz--x--y--z--w.txt"
    path.write_text(SCORE_HEAD + score_rows(0).removeprefix(SCORE_HEAD), encoding="utf-8")
    practice, theory = (render_score(read_score(path, name), "plucked lute", 0) for name in ("practice", "theory"))
    assert practice.frames == theory.frames
    assert not np.array_equal(practice.samples, theory.samples)
    assert np.array_equal(practice.samples, render_score(read_score(path), "plucked lute", 0).samples)


def test_score_has_level_and_length() -> None:
    audio = render_score(score(0, 200, 400), "bowed fiddle", 0)
    assert audio.seconds == pytest.approx(2.0)
    assert float(np.sqrt(np.mean(audio.samples**2))) == pytest.approx(0.1, rel=0.05)
    assert audio.peak <= 0.98
    alone = replace(score(0), notes=(ScoreNote(0, 0.001, 0.05, 0, 0.0),))
    assert np.isfinite(render_score(alone, "plucked lute", 0).samples).all()
