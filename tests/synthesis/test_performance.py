"""Performances in a tradition: captions, rendering, strokes of the cycle, the example of the documentation."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from talim.synthesis.arrangement import PerformanceRequest
from talim.synthesis.ground_truth import FormSection, GroundTruth
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


@pytest.mark.parametrize(("name", "ensemble"), [("hindustani", 1), ("hindustani", 3), ("makam", 2)])
def test_a_piece_without_ornaments_has_the_same_notes_and_the_same_pitch_where_none_is_played(
    name: str, ensemble: int
) -> None:
    tradition = load(name)
    ornamented, plain = (
        perform_tradition(5, tradition, 20.0, PerformanceRequest(ensemble=ensemble, ornaments=played), render=False)
        for played in (True, False)
    )
    assert (plain.notes, plain.facts, plain.caption) == (ornamented.notes, ornamented.facts, ornamented.caption)
    assert ornamented.truth is not None
    assert plain.truth is not None
    assert any(voice.ornaments for voice in ornamented.truth.voices)
    times = plain.truth.times()
    for one, other in zip(ornamented.truth.voices, plain.truth.voices, strict=True):
        assert other.ornaments == ()
        assert other.notes == one.notes
        np.testing.assert_array_equal(np.isfinite(other.cents), np.isfinite(one.cents))
        outside = np.isfinite(one.cents)
        for ornament in one.ornaments:  # transitions into a note begin before it
            end_seconds = ornament.onset_seconds + ornament.seconds
            outside &= (times < ornament.onset_seconds - 0.2) | (times > end_seconds + 0.2)
        np.testing.assert_allclose(other.cents[outside], one.cents[outside], atol=1e-3)
        if one.ornaments:
            assert np.nanmax(np.abs(one.cents - other.cents)) > 30


@pytest.mark.parametrize(("name", "seed"), [("hindustani", 7000), ("hindustani", 5), ("makam", 3), ("makam", 8)])
def test_a_piece_without_returns_has_the_same_form_and_new_notes_where_something_would_return(
    name: str, seed: int
) -> None:
    request = PerformanceRequest(form="composition", ensemble=1)
    piece = perform_tradition(seed, load(name), 30.0, request, render=False)
    other = perform_tradition(seed, load(name), 30.0, replace(request, returns=False), render=False)
    assert other.facts == piece.facts
    assert piece.truth is not None
    assert other.truth is not None
    sections, others = piece.truth.sections, other.truth.sections
    assert [(s.name, s.kind, s.onset_seconds, s.seconds) for s in others] == [
        (s.name, s.kind, s.onset_seconds, s.seconds) for s in sections
    ]
    assert {s.occurrence for s in others} == {1}
    assert max(s.occurrence for s in sections) > 1

    def cents(truth: GroundTruth, section: FormSection) -> list[float]:
        first, last = section.onset_seconds - 0.1, section.end_seconds - 0.1  # performers are not exact
        return [note.cents for note in truth.voices[0].notes if first <= note.onset_seconds < last]

    for section, before in zip(sections[1:], sections, strict=False):
        same = cents(piece.truth, section) == cents(other.truth, section)
        if section.occurrence == 1 and before.occurrence == 1:  # nothing else begins early or ends late in it
            assert same, section
    returns = [section for section in sections if section.occurrence > 1]
    changed = sum(cents(piece.truth, section) != cents(other.truth, section) for section in returns)
    assert changed > 0.8 * len(returns)  # motifs of one note can be equal by chance


def test_what_is_improvised_is_no_return() -> None:
    truth = perform_tradition(7000, load("hindustani"), 60.0, PerformanceRequest(form="composition"), False).truth
    assert truth is not None
    episodes = [section for section in truth.sections if section.kind == "episode"]
    assert len(episodes) > 1
    assert {section.occurrence for section in episodes} == {1}


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
