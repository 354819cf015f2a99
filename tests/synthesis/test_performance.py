"""What is told of a piece: the caption names who and what is heard, the strokes are the cycle's own."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from talim.synthesis import performance
from talim.synthesis.arrangement import PerformanceRequest
from talim.traditions.cycle_fit import cycle_score
from talim.traditions.tradition import load


def test_the_caption_names_mode_cycle_tempo_and_everybody_who_plays() -> None:
    tradition = load("makam")
    for seed in range(12):
        piece = performance.plan_piece(seed, tradition, 20.0, PerformanceRequest(form="composition"))
        assert piece.plan.grid is not None
        assert f"makam {piece.plan.mode.name}" in piece.caption
        assert (
            f"usul {piece.plan.grid.cycle.name}, {round(60 / piece.plan.grid.beat_seconds)} bpm"
            in piece.caption
        )
        for instrument in piece.plan.instruments:
            assert instrument.name in piece.caption
        assert ("kudüm" in piece.caption) == piece.plan.drummed


def test_rendering_moves_no_note() -> None:
    tradition = load("hindustani")
    piece = performance.plan_piece(3, tradition, 4.0, PerformanceRequest())
    samples, known = performance.render_piece(3, piece)
    again, _ = performance.render_piece(3, performance.plan_piece(3, tradition, 4.0, PerformanceRequest()))
    np.testing.assert_array_equal(samples, again)
    assert known["mode"] == piece.truth.mode
    assert known["tonic_hz"] == piece.truth.tonic_hz


def test_the_strokes_on_record_tell_which_cycle_it_is() -> None:
    """The theory's own score, blind to how strokes were made, finds the cycle that was played."""
    tradition = load("hindustani")
    cycles = [c for c in tradition.cycles if c.strokes]
    for name in ("Teentaal", "Jhaptaal", "Rupak"):
        truth = performance.plan_piece(
            1, tradition, 60.0, PerformanceRequest(cycle=name, form="composition", ensemble=3)
        ).truth
        assert truth.tempo_bpm is not None
        onsets = np.array([s.onset_seconds for s in truth.strokes])
        weights = np.array([s.weight for s in truth.strokes])
        beat_seconds = 60 / truth.tempo_bpm
        fits = {cycle.name: cycle_score(onsets, weights, cycle, beat_seconds).fit for cycle in cycles}
        assert name in sorted(fits, key=lambda name: -np.nan_to_num(fits[name], nan=-np.inf))[:2]


def test_the_example_in_the_documents_runs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "performing.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)
    truth = names["truth"]
    assert getattr(truth, "mode", None) == "yaman"
