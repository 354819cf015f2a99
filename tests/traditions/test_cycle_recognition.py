"""Recognition of a cycle from onsets: its own strokes are found, and what keeps no cycle is not given one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from talim.traditions.cycle_recognition import FRAMES_PER_SECOND, fit_features, recognize_cycle
from talim.traditions.schema import Cycle
from talim.traditions.tradition import load

BPM, SECONDS = 132.0, 40.0


def struck(cycle: Cycle, seed: int, first_beat: float = 0.0, bpm: float = BPM, seconds: float = SECONDS) -> np.ndarray:
    """Onset strength of a cycle's strokes with human timing, over noise; float [n]."""
    rng = np.random.default_rng(seed)
    strength = rng.gamma(1.0, 0.04, round(seconds * FRAMES_PER_SECOND))
    rounds = int(seconds * bpm / 60 / cycle.beats) + 1
    for number in range(rounds):
        for stroke in cycle.strokes:
            beat = number * cycle.beats + stroke.onset_beats + first_beat
            at = round((beat * 60 / bpm + rng.normal(0, 0.006)) * FRAMES_PER_SECOND)
            if 0 <= at < strength.size:
                strength[at : at + 2] += stroke.weight
    return strength


@pytest.mark.parametrize("name", ["rupak", "ektaal", "dhamar"])
@pytest.mark.parametrize("tempo_ratio", [1.0, 0.5, 2.0])
def test_cycle_of_the_strokes_is_first_at_any_octave_of_the_tempo(name: str, tempo_ratio: float) -> None:
    tradition = load("hindustani")
    own = tradition.cycle(name)
    ranked = recognize_cycle(struck(own, 1, first_beat=2.5), BPM * tempo_ratio, tradition.cycles)
    assert any(own in each.cycles for each in ranked[:3])
    assert sum(each.probability for each in ranked) < 1


def test_usul_of_half_beats_is_recognised() -> None:
    tradition = load("makam")
    own = next(cycle for cycle in tradition.cycles if cycle.strokes and cycle.name.startswith("Aksak"))
    assert any(own in each.cycles for each in recognize_cycle(struck(own, 2), BPM, tradition.cycles)[:3])


@pytest.mark.parametrize("kind", ["noise", "pulse", "sparse"])
def test_what_keeps_no_cycle_is_given_none(kind: str) -> None:
    """Random onsets are improbable; an even pulse fits cycles of even strokes, and its rounds do not stand out."""
    rng, frames = np.random.default_rng(4), round(SECONDS * FRAMES_PER_SECOND)
    strength = rng.gamma(1.0, 0.04, frames)
    if kind == "pulse":
        strength[:: round(60 / BPM * FRAMES_PER_SECOND)] += 1.0
    elif kind == "sparse":
        strength[rng.integers(0, frames, 60)] += 1.0
    best = recognize_cycle(strength, BPM, load("hindustani").cycles)[0]
    assert best.probability < 0.25 or best.contrast < 0.05


def test_cycles_of_the_same_strokes_come_together() -> None:
    tradition = load("makam")
    groups = [each.cycles for each in recognize_cycle(struck(tradition.cycle("düyek"), 1), BPM, tradition.cycles)]
    together = next(group for group in groups if tradition.cycle("düyek") in group)
    assert tradition.cycle("ağır düyek") in together
    assert len({(cycle.beats, cycle.strokes) for group in groups for cycle in group}) == len(groups)


@pytest.mark.parametrize(
    ("strength", "bpm"),
    [(np.zeros(4000), BPM), (np.ones(100), BPM), (np.zeros(0), BPM), (np.ones(4000), float("nan"))],
    ids=["silent", "short", "empty", "no tempo"],
)
def test_nothing_to_fold_gives_no_candidate(strength: np.ndarray, bpm: float) -> None:
    assert recognize_cycle(strength, bpm, load("hindustani").cycles) == []


def test_features_do_not_depend_on_gain_and_skip_what_does_not_fit_twice() -> None:
    own = load("hindustani").cycle("teentaal")
    strength = struck(own, 3)
    settings: dict[str, Any] = {"rtol": 1e-6, "atol": 1e-9}
    np.testing.assert_allclose(fit_features(7 * strength, BPM, own), fit_features(strength, BPM, own), **settings)
    short = fit_features(strength[:1000], BPM, own)  # ten seconds: one round of sixteen beats at 132 bpm is 7.3 s
    assert len(short) < len(fit_features(strength, BPM, own))
    assert (2.0 ** short[:, 3] >= 1.9).all()
