"""Scores of single modes and cycles: golden values by hand, properties, bad input, and real music."""

from __future__ import annotations

import csv
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from talim.errors import TalimError
from talim.traditions import cycle_fit
from talim.traditions.schema import Cycle, Mode
from talim.traditions.tradition import load

HINDUSTANI, MAKAM = load("hindustani"), load("makam")
PENTATONIC = Mode("five", "Five", (), (0, 200, 400, 700, 900), (0, 204, 386, 702, 884), final_cents=0)
DATA = Path(__file__).parents[3] / "shared" / "data"
HOP = 0.01


def test_degrees_by_hand() -> None:
    found = cycle_fit.degree_of(np.array([0, 210, 1190, -300, 1900, np.nan, 1051]), PENTATONIC)
    assert found.number.tolist() == [1, 2, 1, 5, 4, 0, 1]
    assert found.octave.tolist() == [0, 0, 1, -1, 1, 0, 1]
    assert np.allclose(found.off_cents, [0, 10, -10, 0, 0, np.nan, -149], equal_nan=True)


def test_degrees_as_theory_writes_them() -> None:
    ussak = MAKAM.mode("Uşşak")
    played = cycle_fit.degree_of(7 * 1200 / 53, ussak).off_cents[0]
    written = cycle_fit.degree_of(7 * 1200 / 53, ussak, theory=True).off_cents[0]
    assert played == pytest.approx(0, abs=0.01)
    assert written == pytest.approx(-1200 / 53, abs=0.01)


@given(st.floats(-4000, 4000), st.sampled_from([*HINDUSTANI.modes, *MAKAM.modes]))
def test_a_degree_and_its_distance_give_the_pitch_back(cents: float, mode: Mode) -> None:
    found = cycle_fit.degree_of(cents, mode)
    degree = mode.degrees_cents[found.number[0] - 1]
    assert degree + 1200 * found.octave[0] + found.off_cents[0] == pytest.approx(cents, abs=1e-6)
    assert (
        abs(found.off_cents[0])
        <= max(np.diff([*mode.degrees_cents, mode.degrees_cents[0] + 1200])) / 2 + 1e-6
    )


def test_a_track_in_the_scale_scores_one() -> None:
    track = np.repeat([0, 200, 400, 700, 900, 1200, 910, 0, -500], 50)
    score = cycle_fit.scale_score(track, PENTATONIC, HOP, rest_seconds=1.0)
    assert (score.in_scale, score.fit, score.heard) == (1.0, 1.0, 1.0)
    assert score.at_rest == 0.5  # half of the last second is on the final
    assert score.off_cents == 0
    assert score.chance == pytest.approx(5 * 70 / 1200, abs=0.005)


def test_random_pitches_score_nothing_and_another_scale_less() -> None:
    rng = np.random.default_rng(4)
    noise = cycle_fit.scale_score(rng.uniform(-1200, 2400, 60_000), PENTATONIC, HOP)
    between = cycle_fit.scale_score(np.repeat([100.0, 300, 550, 800, 1050], 500), PENTATONIC, HOP)
    assert abs(noise.fit) < 0.01
    assert between.fit < -0.3


def test_only_voiced_time_counts() -> None:
    track = np.repeat([0.0, np.nan, 200, np.nan, 550], 100)
    assert cycle_fit.scale_score(track, PENTATONIC, HOP).in_scale == pytest.approx(2 / 3)
    nothing = cycle_fit.scale_score(np.full(500, np.nan), PENTATONIC, HOP)
    assert np.isnan([nothing.fit, nothing.in_scale, nothing.at_rest]).all()
    assert np.isnan(cycle_fit.scale_score(np.zeros(50), PENTATONIC, HOP).fit)  # half a second


@pytest.mark.parametrize(("hop", "tolerance"), [(0.0, 35), (float("nan"), 35), (0.01, 0), (0.01, 101)])
def test_a_scale_score_refuses_nonsense(hop: float, tolerance: float) -> None:
    with pytest.raises(TalimError, match="must be above 0"):
        cycle_fit.scale_score(np.zeros(500), PENTATONIC, hop, tolerance_cents=tolerance)


def test_intonation_finds_where_each_degree_is_sung() -> None:
    track = np.repeat([5.0, 190, 410 + 1200, np.nan, 700 - 1200 - 20], 100)
    assert np.allclose(
        cycle_fit.degree_intonation(track, PENTATONIC), [5, 190, 410, 680, np.nan], equal_nan=True
    )


def played(
    cycle: Cycle, times: int, beat_seconds: float, first_beat: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Onsets (seconds) and weights of a cycle struck `times` times, beginning `first_beat` beats after 0."""
    at = [
        stroke.onset_beats + first_beat + cycle.beats * time
        for time in range(times)
        for stroke in cycle.strokes
    ]
    return np.array(at) * beat_seconds, np.array([stroke.weight for stroke in cycle.strokes] * times)


STRUCK = [cycle for tradition in (HINDUSTANI, MAKAM) for cycle in tradition.cycles if cycle.strokes]


@pytest.mark.parametrize("cycle", STRUCK, ids=lambda cycle: cycle.slug)
def test_a_cycle_played_is_that_cycle_and_begins_where_it_begins(cycle: Cycle) -> None:
    onsets, weights = played(cycle, 6, 0.5)
    score = cycle_fit.cycle_score(onsets, weights, cycle, 0.5)
    assert score.correlation == pytest.approx(1, abs=1e-3)
    assert score.first_beat == 0
    tradition = HINDUSTANI if cycle in HINDUSTANI.cycles else MAKAM
    best, top = cycle_fit.best_cycles(onsets, weights, tradition.cycles, 0.5)[0]
    assert top.fit >= score.fit
    if best is not cycle:  # the same strokes at another tempo, or one that fits as exactly
        assert top.correlation == pytest.approx(1, abs=1e-3)


def test_the_first_beat_is_found() -> None:
    teentaal = HINDUSTANI.cycle("teentaal")
    onsets, weights = played(teentaal, 5, 0.4, first_beat=6)
    assert cycle_fit.cycle_score(onsets, weights, teentaal, 0.4).first_beat == 6
    drifting = np.cumsum(np.linspace(0.3, 0.6, 100))
    at = np.interp(onsets / 0.4, np.arange(100), drifting)
    assert cycle_fit.cycle_score(at, weights, teentaal, drifting).first_beat == 6


def test_noise_fits_no_cycle() -> None:
    rng = np.random.default_rng(1)
    fits = [
        cycle_fit.cycle_score(np.sort(rng.uniform(0, 120, 500)), None, cycle, 0.5).fit
        for cycle in HINDUSTANI.cycles[:8]
    ]
    assert np.mean(fits) < 0.02


def test_too_little_music_has_no_score() -> None:
    teentaal = HINDUSTANI.cycle("teentaal")
    onsets, weights = played(teentaal, 1, 0.5)
    assert np.isnan(cycle_fit.cycle_score(onsets, weights, teentaal, 0.5).fit)
    assert np.isnan(cycle_fit.cycle_score(np.zeros(0), None, teentaal, 0.5).fit)
    assert cycle_fit.best_cycles(np.zeros(0), None, HINDUSTANI.cycles, 0.5) == []


def test_a_cycle_score_refuses_nonsense() -> None:
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


@pytest.mark.real
def test_singers_keep_to_the_scale_of_their_raga() -> None:
    if not (DATA / "hindustani" / "metadata.csv").is_file():
        pytest.skip("the pitch tracks (shared/data/hindustani) are not here")
    fits = []
    for row in csv.DictReader((DATA / "hindustani" / "metadata.csv").open(encoding="utf-8")):
        track = np.load(DATA / "hindustani" / row["file"])
        raga = HINDUSTANI.mode(row["raga"])
        fits.append(cycle_fit.scale_score(track["cents"], raga, float(track["hop_s"])).fit)
    assert len(fits) == 62
    assert np.mean(np.array(fits) > 0.2) >= 0.95
    assert np.median(fits) > 0.4


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
def test_the_usul_of_a_score_is_mostly_among_the_best_three() -> None:
    if not (DATA / "makam" / "metadata.csv").is_file():
        pytest.skip("the scores (shared/data/makam) are not here")
    places = []
    for row in csv.DictReader((DATA / "makam" / "metadata.csv").open(encoding="utf-8")):
        usul = MAKAM.cycle(row["usul"])
        onsets = score_onsets(DATA / "makam" / row["file"], 1 / int(row["usul_mertebe"]))
        ranked = cycle_fit.best_cycles(onsets, None, MAKAM.cycles, 1.0)
        patterns = list(dict.fromkeys(cycle.strokes for cycle, _ in ranked))
        if usul.strokes in patterns:
            places.append(patterns.index(usul.strokes))
    assert len(places) >= 60
    assert np.mean(np.array(places) == 0) >= 0.38
    assert np.mean(np.array(places) < 3) >= 0.78


@pytest.mark.real
def test_sung_onsets_alone_do_not_tell_the_tala() -> None:
    """Jhaptaal and fast Ektaal show in where notes begin; most talas do not, and the fit says so (about 0)."""
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
