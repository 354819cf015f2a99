"""Tempo, cycles and drift of click tracks and performances."""

from __future__ import annotations

import numpy as np
import pytest

from research.pretraining.western_style import perform
from talim.audio.load_librosa import load_librosa
from talim.metrics import rhythm

RATE_HZ = 16000


@pytest.mark.parametrize("bpm", [60, 88, 120, 160])
def test_tempo_bpm_of_clicks_is_their_tempo(bpm: float) -> None:
    samples = np.zeros(10 * RATE_HZ, np.float32)
    for onset in np.arange(0, 9.9, 60 / bpm):
        at = int(onset * RATE_HZ)
        samples[at : at + 200] = np.random.default_rng(0).standard_normal(200)
    assert rhythm.same_tempo(rhythm.tempo_bpm(samples, RATE_HZ), bpm, tolerance=0.03)


def test_tempo_bpm_of_performances_is_mostly_their_tempo() -> None:
    pieces = [perform(seed, "western", 8.0) for seed in range(12)]
    met = [rhythm.same_tempo(rhythm.tempo_bpm(p.samples, RATE_HZ), float(str(p.facts["tempo_bpm"]))) for p in pieces]
    assert np.mean(met) >= 0.75


def test_same_tempo_accepts_octaves_within_the_tolerance() -> None:
    assert rhythm.same_tempo(60, 120)
    assert rhythm.same_tempo(240, 120)
    assert rhythm.same_tempo(129, 120)
    assert not rhythm.same_tempo(131, 120)
    assert not rhythm.same_tempo(80, 120)


def test_tempo_bpm_of_silence_is_nan() -> None:
    assert np.isnan(rhythm.tempo_bpm(np.zeros(RATE_HZ, np.float32), RATE_HZ))


def strokes(onsets: np.ndarray, weights: np.ndarray, seconds: float = 30.0) -> np.ndarray:
    """An onset strength with one frame of each weight at each onset."""
    strength = np.zeros(round(seconds * rhythm.FRAMES_PER_SECOND))
    strength[np.round(onsets * rhythm.FRAMES_PER_SECOND).astype(int)] = weights
    return np.convolve(strength, np.hanning(7), mode="same")


def cycles(beats: int = 7, beat_seconds: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    onsets = np.arange(0, 29, beat_seconds)
    return onsets, np.random.default_rng(1).uniform(0.2, 1, beats)[np.arange(onsets.size) % beats]


def test_cycle_strength_of_cycle_is_highest_at_its_length() -> None:
    onsets, weights = cycles()
    strength = strokes(onsets, weights)
    own = rhythm.cycle_strength(strength, 7, 150)
    assert own > 0.1
    assert own > rhythm.cycle_strength(strength, 5, 150) + 0.05
    shuffled = strokes(onsets, np.random.default_rng(0).permutation(weights))
    assert rhythm.cycle_strength(shuffled, 7, 150) < own - 0.05
    assert np.isnan(rhythm.cycle_strength(strength[:300], 7, 150))


@pytest.mark.parametrize("beats", [3, 5, 7, 9])
def test_cycle_strength_of_plain_pulse_is_near_zero(beats: int) -> None:
    even = strokes(np.arange(0, 29, 0.4), np.ones(73))
    assert abs(rhythm.cycle_strength(even, beats, 150)) < 0.05


def test_beat_phase_coherence_falls_with_jittered_onsets() -> None:
    onsets, weights = cycles()
    loose = np.clip(onsets + np.random.default_rng(0).normal(0, 0.06, onsets.size), 0, 29.5)
    assert rhythm.beat_phase_coherence(strokes(onsets, weights), 0.4) > 0.95
    assert rhythm.beat_phase_coherence(strokes(loose, weights), 0.4) < 0.7
    assert rhythm.beat_phase_coherence(strokes(onsets, weights)) > 0.9  # the tempo is found
    assert np.isnan(rhythm.beat_phase_coherence(np.zeros(1000), 0.4))
    assert np.isnan(rhythm.beat_phase_coherence(np.zeros(1000)))


@pytest.mark.parametrize("beat_seconds", [None, 0.4])
def test_beat_phase_coherence_of_onsets_anywhere_and_of_noise_is_zero_on_average(beat_seconds: float | None) -> None:
    """Their mean phase vectors are far from 0 long, as tempo and phase are searched."""
    rng = np.random.default_rng(2)
    anywhere = [strokes(np.sort(rng.uniform(0.1, 9.9, 24)), rng.uniform(0.2, 1, 24), 10.0) for _ in range(24)]
    noise = [rng.gamma(2.0, size=1000) for _ in range(8)]
    for clips, error in ((anywhere, 0.05), (noise, 0.04)):
        assert np.mean([rhythm.phase_length(strength, beat_seconds or 0.4) for strength in clips]) > 0.1
        assert abs(np.mean([rhythm.beat_phase_coherence(strength, beat_seconds) for strength in clips])) < error
    even = [strokes(np.arange(0.1, 9.9, beat), np.ones(len(np.arange(0.1, 9.9, beat))), 10.0) for beat in (0.31, 0.5)]
    assert min(rhythm.beat_phase_coherence(strength, None) for strength in even) > 0.85


def drifting_beats(drift: float, beat_seconds: float = 0.4, seconds: float = 29.0) -> np.ndarray:
    """Onsets of a tempo that grows by the share `drift` a minute."""
    times, now = [], 0.0
    while now < seconds:
        times.append(now)
        now += beat_seconds / (1 + drift * now / 60)
    return np.array(times)


@pytest.mark.parametrize("drift", [-0.3, -0.1, 0.0, 0.1, 0.2, 0.5])
@pytest.mark.parametrize("beat_seconds", [0.4, 0.63, 1.1])
def test_tempo_drift_of_drifting_clicks_is_their_drift(drift: float, beat_seconds: float) -> None:
    times = drifting_beats(drift, beat_seconds)
    weights = np.random.default_rng(0).uniform(0.3, 1, times.size)
    # The tempo here grows along a line: in its middle, after 14.5 s, it is 1 + drift * 14.5 / 60 of the first.
    middle = abs(drift) / (1 + drift * 14.5 / 60)
    assert rhythm.tempo_drift(strokes(times, weights)) == pytest.approx(middle, abs=0.03)


def test_tempo_drift_of_short_or_unclear_pulse_is_nan() -> None:
    times = drifting_beats(0.0)
    strength = strokes(times, np.ones(times.size))
    assert np.isfinite(rhythm.tempo_drift(strength[:2500]))
    assert np.isnan(rhythm.tempo_drift(strength[:2300]))
    assert np.isnan(rhythm.tempo_drift(np.zeros(3000)))
    for seed in range(4):
        anywhere = np.sort(np.random.default_rng(seed).uniform(0, 29, 90))
        assert np.isnan(rhythm.tempo_drift(strokes(anywhere, np.ones(90))))


def test_onset_strength_and_drift_are_the_same_whatever_is_computed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    librosa = load_librosa()

    rng = np.random.default_rng(0)
    samples = 0.01 * rng.standard_normal(30 * RATE_HZ).astype(np.float32)
    for onset in np.cumsum(0.5 * 0.998 ** np.arange(55)):
        samples[int(onset * RATE_HZ) :][:200] += rng.standard_normal(200)
    strength = rhythm.onset_strength(samples, RATE_HZ)
    expected = librosa.onset.onset_strength(y=samples, sr=RATE_HZ, hop_length=160, n_fft=1024)
    np.testing.assert_allclose(strength, np.maximum(expected, 0), atol=1e-5)
    drift = rhythm.tempo_drift(strength)
    assert drift > 0.1
    monkeypatch.setattr(rhythm, "_RATES", 100)
    monkeypatch.setattr(rhythm, "_SPECTRA", 999)
    np.testing.assert_allclose(rhythm.onset_strength(samples, RATE_HZ), strength, atol=1e-5)
    assert rhythm.tempo_drift(strength) == drift


def test_drifting_coherence_is_the_best_of_all_rates() -> None:
    onsets = np.sort(np.random.default_rng(1).uniform(-15, 15, 40))
    weights = np.full(40, 1 / 40)
    for drift in (0.0, 0.3):
        warped = np.expm1(drift / 60 * onsets) / (drift / 60) if drift else onsets
        rates_hz = np.arange(rhythm.MIN_BPM / 60, 4 * rhythm.MIN_BPM / 60, 1 / 240)
        turned = [np.abs(np.exp(2j * np.pi * k * np.outer(rates_hz, warped)) @ weights) for k in (1, 2, 4)]
        assert rhythm._drifting_coherence(onsets, weights, drift, 30.0) == pytest.approx(np.sum(turned, axis=0).max())
