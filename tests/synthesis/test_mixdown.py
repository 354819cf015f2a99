"""Rendering: drones, drums in time, octaves for the second player, one level for all."""

from __future__ import annotations

import numpy as np
import pytest

from talim.synthesis.arrangement import PerformanceRequest, arrange
from talim.synthesis.ground_truth import PlayedStroke
from talim.synthesis.instruments import INSTRUMENTS
from talim.synthesis.melody_line import NoteEvent
from talim.synthesis.mixdown import delay, drone, drumming, normalize_rms, octave_shift_cents, tanpura_string
from talim.synthesis.western_instruments import RATE_HZ, mix_in
from talim.traditions.tradition import load


def test_tanpura_string_is_in_tune_and_rings() -> None:
    string = tanpura_string(110.0)
    spectrum = np.abs(np.fft.rfft(string * np.hanning(string.size), 1 << 18))
    hz = np.fft.rfftfreq(1 << 18, 1 / RATE_HZ)
    near = (hz > 320) & (hz < 340)
    assert abs(1200 * np.log2(hz[near][np.argmax(spectrum[near])] / 330)) < 3
    assert np.std(string[3 * RATE_HZ : 4 * RATE_HZ]) > 0.1 * np.std(string[:RATE_HZ])


@pytest.mark.parametrize(("raga", "cents"), [("Yaman", 702.0), ("Malkauns", 498.0)])
def test_drone_has_tonic_and_fifth_or_fourth(raga: str, cents: float) -> None:
    plan = arrange(load("hindustani"), PerformanceRequest(mode=raga, form="free"), 8.0, np.random.default_rng(0))
    samples = drone(plan, np.random.default_rng(0))
    assert samples.size == 8 * RATE_HZ
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(samples.size)))
    hz = np.fft.rfftfreq(samples.size, 1 / RATE_HZ)

    def strength(interval: float) -> float:
        expected = plan.tonic_hz * 2 ** (interval / 1200)
        while expected > 175:
            expected /= 2
        expected *= 2
        return float(spectrum[np.abs(1200 * np.log2(np.maximum(hz, 1) / expected)) < 15].max())

    assert strength(0.0) > 10 * strength(250.0)
    assert strength(cents) > 5 * strength(250.0)


def test_drumming_onsets_match_strokes() -> None:
    strokes = tuple(PlayedStroke("na", t, 0.0, 1.0) for t in (0.25, 1.0, 1.5))
    track = drumming(strokes, 140.0, 2 * RATE_HZ, np.random.default_rng(0))
    for stroke in strokes:
        at = round(stroke.onset_seconds * RATE_HZ)
        assert np.abs(track[at : at + 200]).max() > 5 * np.abs(track[at - 200 : at]).max()


def test_octave_shift_moves_line_into_range() -> None:
    assert octave_shift_cents(INSTRUMENTS["kanun"], 130.0) == 1200
    assert octave_shift_cents(INSTRUMENTS["ud"], 150.0) == 0
    assert octave_shift_cents(INSTRUMENTS["ud"], 310.0) == -1200


def test_delay_keeps_line_within_recording() -> None:
    moved = delay([NoteEvent(0, 1, 0, "a"), NoteEvent(1, 1, 100, "a")], 0.3, 2.0)
    assert [t.onset_seconds for t in moved] == [0.3, 1.3]
    assert moved[-1].end_seconds == 2.0


def test_mix_in_and_normalize_rms_give_levels() -> None:
    assert np.sqrt(np.mean(normalize_rms(np.sin(np.arange(9999.0))) ** 2)) == pytest.approx(1, rel=1e-3)
    assert not normalize_rms(np.zeros(5)).any()
    mix = np.zeros(4)
    mix_in(mix, np.ones(3), 2 / RATE_HZ, 0.5)
    assert mix.tolist() == [0, 0, 0.5, 0.5]
