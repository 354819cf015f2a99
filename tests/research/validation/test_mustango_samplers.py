"""Comparison of samplers: what it tells apart, what it does not, and the committed page."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from research.validation import mustango_samplers
from research.validation.mustango_samplers import CANDIDATE, DIFFERENT, FEWER, OTHER_DRAW, REFERENCE, Measured
from talim.metrics import embeddings

REPORTS = Path(__file__).parents[3] / "docs" / "reports"


def measured(shift: float, seed: int, pieces: int = 40, common: int = 0) -> Measured:
    """Pieces that share most with the others of their number, as equal prompts and seeds do."""
    own, shared = np.random.default_rng(seed), np.random.default_rng(common)
    values = {f"score {n}": shared.normal(size=pieces) + 0.5 * own.normal(size=pieces) + shift for n in range(10)}
    spread = embeddings.typical_spread("timbre")
    rows = shared.normal(size=(pieces, len(spread))) + 0.5 * own.normal(size=(pieces, len(spread))) + shift
    return Measured(values, {"timbre": rows * spread})


@pytest.mark.parametrize(("shift", "told"), [(0.0, False), (1.0, True)])
def test_differences_tell_a_shift_and_nothing_else(shift: float, told: bool) -> None:
    rows = mustango_samplers.differences(measured(shift, 1), measured(0.0, 2), measured(0.0, 3, common=9))
    found = mustango_samplers.verdict(rows)
    assert found["scores"] == 12
    assert bool(found["told_apart_by"]) == told
    assert ("same_timbre" in found["told_apart_by"]) == told
    first = rows[0]
    assert first["interval"][0] < first["difference"] < first["interval"][1]


def test_paired_kernel_test_is_exact_where_nothing_differs() -> None:
    p_values = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        shared = rng.normal(size=(12, 3))
        ours, theirs = (shared + 0.3 * rng.normal(size=(12, 3)) for _ in range(2))
        p_values.append(mustango_samplers.paired_kernel_test(ours, theirs, rng, 200)[1])
    assert 0.01 <= np.mean(np.array(p_values) < 0.05) <= 0.10
    assert 0.4 < np.mean(p_values) < 0.6


def test_paired_kernel_test_finds_another_spread_of_equal_means() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(size=(40, 3)), 3 * rng.normal(size=(40, 3))
    value, p = mustango_samplers.paired_kernel_test(ours, theirs, rng, 500)
    assert value > 0
    assert p == pytest.approx(1 / 501)


def test_holm_equals_a_worked_example() -> None:
    assert mustango_samplers.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert mustango_samplers.holm([0.9, 0.8]).tolist() == [1.0, 1.0]


def test_chord_preference_is_for_the_own_chords() -> None:
    def piece(progression: list[int]) -> Any:
        facts = {"tempo_bpm": 120.0, "beats_per_bar": 4, "progression": progression, "scale": "major", "tonic_class": 0}
        return SimpleNamespace(facts=facts)

    pieces = [piece([0]), piece([4])]  # C major (C E G) and G major (G B D)
    tracks = [np.array([300.0, 700.0, 1500.0, np.nan]), np.array([200.0, 1000.0, 200.0])]  # C E C; B G B
    assert mustango_samplers.chord_preference(tracks, pieces).tolist() == [1.0, 1.0]
    assert mustango_samplers.chord_preference(tracks[::-1], pieces).tolist() == [0.0, 0.0]
    assert np.isnan(mustango_samplers.pitch_classes(np.array([np.nan]))).all()
    assert mustango_samplers.pitch_classes(np.array([0.0]))[9] == 1.0  # A


def comparison(told: dict[str, list[str]]) -> list[dict[str, Any]]:
    pairs = ((DIFFERENT, REFERENCE), (CANDIDATE, REFERENCE), (OTHER_DRAW, CANDIDATE), (FEWER, REFERENCE))
    return [
        {"setting": setting.name, "against": other.name, "told_apart_by": told.get(setting.name, [])}
        for setting, other in pairs
    ]


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({}, "no conclusion"),
        ({DIFFERENT.name: ["x"], OTHER_DRAW.name: ["x"]}, "no conclusion"),
        ({DIFFERENT.name: ["x"], CANDIDATE.name: ["x"]}, "stays the default. `ddpm 25` is not told apart"),
        ({DIFFERENT.name: ["x"], FEWER.name: ["x"]}, "takes four times as long. The released"),
    ],
)
def test_conclusion_needs_both_controls(told: dict[str, list[str]], words: str) -> None:
    assert words in mustango_samplers._conclusion(comparison(told))


def test_page_of_the_committed_numbers_is_the_committed_page() -> None:
    results = json.loads((REPORTS / "mustango-samplers.json").read_text())
    assert mustango_samplers.page(results) == (REPORTS / "mustango-samplers.md").read_text()
