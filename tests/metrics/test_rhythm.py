"""Tempo of click tracks and performances."""

from __future__ import annotations

import numpy as np
import pytest

from talim.metrics import rhythm
from talim.traditions.performer import perform

RATE_HZ = 16000


@pytest.mark.parametrize("bpm", [60, 88, 120, 160])
def test_clicks(bpm: float) -> None:
    samples = np.zeros(10 * RATE_HZ, np.float32)
    for onset in np.arange(0, 9.9, 60 / bpm):
        at = int(onset * RATE_HZ)
        samples[at : at + 200] = np.random.default_rng(0).standard_normal(200)
    assert rhythm.same_tempo(rhythm.tempo_bpm(samples, RATE_HZ), bpm, within=0.03)


def test_most_performances_have_the_tempo_they_were_played_at() -> None:
    pieces = [perform(seed, "western", 8.0) for seed in range(12)]
    met = [
        rhythm.same_tempo(rhythm.tempo_bpm(p.samples, RATE_HZ), float(str(p.facts["tempo_bpm"])))
        for p in pieces
    ]
    assert np.mean(met) >= 0.75


def test_octaves_are_forgiven_and_thirds_are_not() -> None:
    assert rhythm.same_tempo(60, 120)
    assert rhythm.same_tempo(240, 120)
    assert rhythm.same_tempo(129, 120)
    assert not rhythm.same_tempo(131, 120)
    assert not rhythm.same_tempo(80, 120)


def test_silence_has_no_tempo() -> None:
    assert np.isnan(rhythm.tempo_bpm(np.zeros(RATE_HZ, np.float32), RATE_HZ))
