"""Performances in a tradition: captions, rendering, strokes of the cycle, the example of the documentation."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from talim.synthesis.arrangement import PerformanceRequest
from talim.synthesis.performance import perform_tradition
from talim.traditions.cycle_fit import cycle_score
from talim.traditions.tradition import load


def test_caption_of_a_composition_names_mode_cycle_tempo_and_all_instruments() -> None:
    tradition = load("makam")
    for seed in range(12):
        request = PerformanceRequest(form="composition")
        piece = perform_tradition(seed, tradition, 20.0, request, render=False)
        truth = piece.truth
        assert truth is not None
        assert truth.cycle is not None
        assert truth.tempo_bpm is not None
        assert f"makam {tradition.mode(truth.mode).name}" in piece.caption
        cycle = tradition.cycle(truth.cycle).name
        assert f"usul {cycle}, {round(truth.tempo_bpm)} bpm" in piece.caption
        for voice in truth.voices:
            assert voice.instrument in piece.caption
        assert ("kudüm" in piece.caption) == bool(truth.strokes)


def test_perform_tradition_rendered_and_not_have_the_same_ground_truth() -> None:
    tradition, request = load("hindustani"), PerformanceRequest()
    piece = perform_tradition(3, tradition, 4.0, request)
    silent = perform_tradition(3, tradition, 4.0, request, render=False)
    assert silent.samples.size == 0
    assert (silent.notes, silent.facts, silent.caption) == (piece.notes, piece.facts, piece.caption)
    assert piece.truth is not None
    assert piece.facts["mode"] == piece.truth.mode
    assert piece.facts["tonic_hz"] == piece.truth.tonic_hz


def test_strokes_identify_the_cycle_by_cycle_fit() -> None:
    """The cycle fit, which does not use the synthesiser, ranks the performed cycle among the first two."""
    tradition = load("hindustani")
    cycles = [c for c in tradition.cycles if c.strokes]
    for name in ("Teentaal", "Jhaptaal", "Rupak"):
        request = PerformanceRequest(cycle=name, form="composition", ensemble=3)
        truth = perform_tradition(1, tradition, 60.0, request, render=False).truth
        assert truth is not None
        assert truth.tempo_bpm is not None
        onsets = np.array([s.onset_seconds for s in truth.strokes])
        weights = np.array([s.weight for s in truth.strokes])
        beat_seconds = 60 / truth.tempo_bpm
        fits = {c.name: cycle_score(onsets, weights, c, beat_seconds).fit for c in cycles}
        assert name in sorted(fits, key=lambda cycle: -np.nan_to_num(fits[cycle], nan=-1.0))[:2]


def test_example_of_the_documentation_runs() -> None:
    page = Path(__file__).parents[2] / "docs" / "guides" / "synthesis.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)
    truth = names["truth"]
    assert getattr(truth, "mode", None) == "yaman"
