"""The timbre vector: deterministic, blind to loudness, sharp on instruments."""

from __future__ import annotations

import numpy as np

from talim.metrics import timbre
from talim.traditions.performer import perform

RATE_HZ = 16000


def test_same_sound_same_vector_at_any_level() -> None:
    samples = perform(0, "western", 3.0).samples
    one, quiet = timbre.describe(samples, RATE_HZ), timbre.describe(0.5 * samples, RATE_HZ)
    assert one.shape == (80,)
    np.testing.assert_array_equal(one, timbre.describe(samples, RATE_HZ))
    np.testing.assert_allclose(one, quiet, atol=0.5)


def test_bright_and_dark_noise_lie_apart() -> None:
    rng = np.random.default_rng(0)
    white, white_again = (rng.standard_normal(RATE_HZ).astype(np.float32) for _ in range(2))
    dark = np.convolve(white, np.ones(16) / 16, mode="same").astype(np.float32)
    one, two, three = (timbre.describe(x, RATE_HZ) for x in (white, white_again, dark))
    assert np.linalg.norm(one - three) > 5 * np.linalg.norm(one - two)
