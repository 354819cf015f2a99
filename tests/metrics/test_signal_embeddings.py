"""The shipped embeddings: independent of tonic and gain, sensitive to mode and tempo."""

from __future__ import annotations

import numpy as np

from research.pretraining.western_style import perform
from talim.metrics import signal_embeddings
from talim.metrics.pitch import PitchTrack

RATE_HZ = 16000


def test_timbre_features_with_gain_are_unchanged() -> None:
    samples = perform(0, "western", 3.0).samples
    one, quiet = (
        signal_embeddings.timbre_features(samples, RATE_HZ),
        signal_embeddings.timbre_features(0.5 * samples, RATE_HZ),
    )
    assert one.shape == (80,)
    np.testing.assert_array_equal(one, signal_embeddings.timbre_features(samples, RATE_HZ))
    np.testing.assert_allclose(one, quiet, atol=0.5)


def test_timbre_features_separate_bright_and_dark_noise() -> None:
    rng = np.random.default_rng(0)
    white, white_again = (rng.standard_normal(RATE_HZ).astype(np.float32) for _ in range(2))
    dark = np.convolve(white, np.ones(16) / 16, mode="same").astype(np.float32)
    one, two, three = (signal_embeddings.timbre_features(x, RATE_HZ) for x in (white, white_again, dark))
    assert np.linalg.norm(one - three) > 5 * np.linalg.norm(one - two)


def curve(cents: np.ndarray) -> PitchTrack:
    return PitchTrack(440 * 2 ** (cents / 1200), np.isfinite(cents), 0.02)


def test_pitch_invariants_ignore_the_tonic_and_separate_a_mode_from_its_inversion() -> None:
    rng = np.random.default_rng(0)
    steps = np.array([0, 150, 350, 500, 700, 850, 1050])
    line = np.repeat(steps[rng.integers(7, size=60)], 10) + rng.normal(0, 5, 600)
    one, moved, mirrored = (signal_embeddings.pitch_invariants(curve(c)) for c in (line, line + 270, -line))
    np.testing.assert_allclose(one, moved, atol=0.05)
    assert np.linalg.norm(one[:46] - mirrored[:46]) > 20 * np.linalg.norm(one[:46] - moved[:46])
    assert not signal_embeddings.pitch_invariants(curve(np.full(50, np.nan))).any()


def clicks(bpm: float, seconds: float = 6.0) -> np.ndarray:
    samples = np.zeros(int(seconds * 16000), np.float32)
    for onset in np.arange(0, seconds - 0.1, 60 / bpm):
        at = int(onset * 16000)
        samples[at : at + 200] = np.random.default_rng(0).standard_normal(200)
    return samples


def test_rhythm_vector_separates_tempi_and_ignores_gain() -> None:
    slow, quiet, fast = (signal_embeddings.rhythm_vector(x) for x in (clicks(90), 0.1 * clicks(90), clicks(140)))
    np.testing.assert_allclose(slow, quiet, atol=1e-3)
    assert np.linalg.norm(slow - fast) > 1.0
    assert not signal_embeddings.rhythm_vector(np.zeros(16000, np.float32)).any()
