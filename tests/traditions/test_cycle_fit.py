"""cycle_score: cycles as played, their phase, noise, invalid input, and real music."""

from __future__ import annotations

import csv
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from talim.errors import TalimError
from talim.traditions import cycle_fit
from talim.traditions.cycle_fit import CycleScore
from talim.traditions.schema import Cycle
from talim.traditions.tradition import load

HINDUSTANI, MAKAM = load("hindustani"), load("makam")
DATA = Path(__file__).parents[3] / "shared" / "data"


def ranked(
    onsets: np.ndarray, weights: np.ndarray | None, cycles: tuple[Cycle, ...], beat_seconds: float
) -> list[tuple[Cycle, CycleScore]]:
    """The cycles with strokes that have a score, best fit first."""
    scored = [(cycle, cycle_fit.cycle_score(onsets, weights, cycle, beat_seconds)) for cycle in cycles if cycle.strokes]
    return sorted((pair for pair in scored if np.isfinite(pair[1].fit)), key=lambda pair: -pair[1].fit)


def played(cycle: Cycle, times: int, beat_seconds: float, first_beat: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Onsets (seconds) and weights of a cycle struck `times` times, beginning `first_beat` beats after 0."""
    onset_beats = [
        stroke.onset_beats + first_beat + cycle.beats * time for time in range(times) for stroke in cycle.strokes
    ]
    return np.array(onset_beats) * beat_seconds, np.array([stroke.weight for stroke in cycle.strokes] * times)


CYCLES_WITH_STROKES = [cycle for tradition in (HINDUSTANI, MAKAM) for cycle in tradition.cycles if cycle.strokes]


@pytest.mark.parametrize("cycle", CYCLES_WITH_STROKES, ids=lambda cycle: cycle.slug)
def test_cycle_score_of_a_played_cycle_is_one_at_phase_zero(cycle: Cycle) -> None:
    onsets, weights = played(cycle, 6, 0.5)
    score = cycle_fit.cycle_score(onsets, weights, cycle, 0.5)
    assert score.correlation == pytest.approx(1, abs=1e-3)
    assert score.first_beat == 0
    tradition = HINDUSTANI if cycle in HINDUSTANI.cycles else MAKAM
    best, top = ranked(onsets, weights, tradition.cycles, 0.5)[0]
    assert top.fit >= score.fit
    if best is not cycle:  # the same strokes at another tempo, or one that fits as exactly
        assert top.correlation == pytest.approx(1, abs=1e-3)


def test_cycle_score_finds_the_first_beat() -> None:
    teentaal = HINDUSTANI.cycle("teentaal")
    onsets, weights = played(teentaal, 5, 0.4, first_beat=6)
    assert cycle_fit.cycle_score(onsets, weights, teentaal, 0.4).first_beat == 6
    drifting = np.cumsum(np.linspace(0.3, 0.6, 100))
    at = np.interp(onsets / 0.4, np.arange(100), drifting)
    assert cycle_fit.cycle_score(at, weights, teentaal, drifting).first_beat == 6


def test_cycle_score_of_noise_is_about_zero() -> None:
    rng = np.random.default_rng(1)
    fits = [
        cycle_fit.cycle_score(np.sort(rng.uniform(0, 120, 500)), None, cycle, 0.5).fit
        for cycle in HINDUSTANI.cycles[:8]
    ]
    assert np.mean(fits) < 0.02


def test_cycle_score_of_less_than_two_cycles_is_nan() -> None:
    teentaal = HINDUSTANI.cycle("teentaal")
    onsets, weights = played(teentaal, 1, 0.5)
    assert np.isnan(cycle_fit.cycle_score(onsets, weights, teentaal, 0.5).fit)
    assert np.isnan(cycle_fit.cycle_score(np.zeros(0), None, teentaal, 0.5).fit)
    assert ranked(np.zeros(0), None, HINDUSTANI.cycles, 0.5) == []


def test_cycle_score_with_invalid_input_raises() -> None:
    teentaal, zencir = HINDUSTANI.cycle("teentaal"), MAKAM.cycle("zencir")
    onsets = np.arange(40.0)
    with pytest.raises(TalimError, match="no strokes on record"):
        cycle_fit.cycle_score(onsets, None, zencir, 1.0)
    with pytest.raises(TalimError, match="beat_seconds must be above 0"):
        cycle_fit.cycle_score(onsets, None, teentaal, 0.0)
    with pytest.raises(TalimError, match="two or more rising times"):
        cycle_fit.cycle_score(onsets, None, teentaal, np.array([0.0, 1, 1]))
    with pytest.raises(TalimError, match="40 onsets need as many weights, not 3"):
        cycle_fit.cycle_score(onsets, np.ones(3), teentaal, 1.0)


def score_onsets(path: Path, pulse: float) -> np.ndarray:
    """The note onsets of a SymbTr score, in pulses of its usul."""
    at, onsets = 0.0, []
    for row in csv.DictReader(path.open(encoding="utf-8"), delimiter="\t"):
        if row["Kod"] in ("8", "35", "51", "53", "54", "55") or int(row["Payda"] or 0) == 0:
            continue
        if int(row["Koma53"]) > 0:
            onsets.append(at / pulse)
        at += int(row["Pay"]) / int(row["Payda"])
    return np.array(onsets)


@pytest.mark.real
def test_cycle_score_of_real_scores_ranks_the_usul_among_the_best_three() -> None:
    if not (DATA / "makam" / "metadata.csv").is_file():
        pytest.skip("the scores (shared/data/makam) are not here")
    ranks = []
    for row in csv.DictReader((DATA / "makam" / "metadata.csv").open(encoding="utf-8")):
        usul = MAKAM.cycle(row["usul"])
        onsets = score_onsets(DATA / "makam" / row["file"], 1 / int(row["usul_mertebe"]))
        ranking = ranked(onsets, None, MAKAM.cycles, 1.0)
        patterns = list(dict.fromkeys(cycle.strokes for cycle, _ in ranking))
        if usul.strokes in patterns:
            ranks.append(patterns.index(usul.strokes))
    assert len(ranks) >= 60
    assert np.mean(np.array(ranks) == 0) >= 0.38
    assert np.mean(np.array(ranks) < 3) >= 0.78


@pytest.mark.real
def test_cycle_score_of_sung_onsets_finds_sam_with_a_low_fit() -> None:
    """Jhaptaal and fast Ektaal show in note onsets; most talas do not, and the fit is about 0."""
    path = DATA / "hindustani" / "annotations" / "0a11bf6f-b55d-459c-9447-7a5a555a286f.json"
    if not path.is_file():
        pytest.skip("the annotations (shared/data/hindustani/annotations) are not here")
    sama = np.array(json.loads(path.read_text("utf-8"))["sama_s"])
    assert np.all(np.diff(sama) > 0)
    track = np.load(DATA / "hindustani" / "pitch" / "0a11bf6f_s2p2.npz")
    start, cents = float(track["t0_s"]), track["cents"]
    voiced = np.isfinite(cents)
    onsets = start + 0.01 * (np.flatnonzero(voiced[1:] & ~voiced[:-1]) + 1)
    inside = sama[(sama >= start) & (sama <= start + cents.size * 0.01)]
    beats = np.concatenate([np.linspace(a, b, 10, endpoint=False) for a, b in pairwise(inside)])
    score = cycle_fit.cycle_score(onsets, None, HINDUSTANI.cycle("jhaptaal"), beats)
    assert score.first_beat == 0
    assert -0.2 < score.fit < 0.4
