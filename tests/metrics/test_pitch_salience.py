"""The Viterbi path against brute force, and the salience of constructed sounds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talim.metrics import pitch_salience


def worth(path: tuple[int, ...], strength: np.ndarray) -> float:
    """Sum of saliences less costs, as the constants say; -1 is unvoiced."""
    total = 0.0
    for n, state in enumerate(path):
        total += pitch_salience.UNVOICED_SALIENCE if state < 0 else float(strength[state, n])
        if n and (state < 0) != (path[n - 1] < 0):
            total -= pitch_salience.VOICING_COST
        elif n and state >= 0:
            semitones = abs(state - path[n - 1]) * pitch_salience.STEP_CENTS / 100
            total -= min(pitch_salience.JUMP_COST, pitch_salience.GLIDE_COST * semitones)
    return total


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_viterbi_path_is_the_best_of_all_paths(seed: int) -> None:
    strength = np.random.default_rng(seed).uniform(-0.2, 1.2, (4, 5))
    strength[:, 2] -= 0.6
    every = itertools.product(range(-1, 4), repeat=5)
    best = max(worth(path, strength) for path in every)
    found = tuple(int(state) for state in pitch_salience.viterbi([strength]))
    assert worth(found, strength) == pytest.approx(best)


def test_track_f0_salience_of_tone_is_near_one_and_of_noise_near_zero() -> None:
    seconds = np.arange(16000) / 16000
    tone = sum(np.sin(2 * np.pi * 220 * k * seconds) / k for k in range(1, 12))
    noise = np.random.default_rng(0).standard_normal(16000)
    of_tone = pitch_salience.track_f0(tone, 16000, 320, 75.0, 1100.0, steady_fraction=0.0)[1][5:-5]
    of_noise = pitch_salience.track_f0(noise, 16000, 320, 75.0, 1100.0)[1][5:-5]
    assert np.median(of_tone) > 0.6
    assert np.median(of_noise) < 0.35


def test_track_f0_with_hum_follows_the_melody() -> None:
    seconds = np.arange(3 * 16000) / 16000
    melody = np.sin(2 * np.pi * np.cumsum(np.where(seconds % 1 < 0.5, 440, 494)) / 16000)
    hum = np.sin(2 * np.pi * 100 * seconds)
    kept, thinned = (pitch_salience.log_spectrum(melody + hum, 16000, 320, 75.0, still) for still in (0.0, 1.0))
    at_hum = int(1200 * np.log2(100 / 75) / pitch_salience.STEP_CENTS)
    assert thinned[at_hum].mean() < 0.1 * kept[at_hum].mean()
    assert thinned.max(0).mean() > kept.max(0).mean()


def test_track_f0_is_the_same_whatever_is_computed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    turns = np.cumsum(220 * 2 ** np.interp(np.arange(16000), [0, 6000, 9000, 16000], [0, 0, 0.5, 0.5])) / 16000
    samples = sum(np.sin(2 * np.pi * k * turns) / k for k in range(1, 5)) + 0.05 * rng.normal(size=16000)
    samples[12000:14000] = 0
    at_once = pitch_salience.track_f0(samples, 16000, 160, 75.0, 1100.0)
    assert 60 < np.isfinite(at_once[0]).sum() < 101
    for frames in (1, 7, 100):
        monkeypatch.setattr(pitch_salience, "_PART_FRAMES", frames)
        found = pitch_salience.track_f0(samples, 16000, 160, 75.0, 1100.0)
        np.testing.assert_array_equal(found[0], at_once[0])
        np.testing.assert_allclose(found[1], at_once[1], atol=1e-12)
