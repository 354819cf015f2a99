"""Structure of melodies with and without a refrain."""

import numpy as np
import pytest

from talim.metrics import structure

HOP = 0.02


def tune(rng, seconds):
    return np.repeat(rng.choice([0, 200, 300, 500, 700, 800, 1000], size=round(seconds / 0.25)), 12) + 0.0


def returning(refrains=4, seed=0):
    """Episodes of 3 s, each followed by one refrain of 3 s."""
    rng = np.random.default_rng(seed)
    refrain = tune(rng, 3)
    return np.concatenate([part for _ in range(refrains) for part in (tune(rng, 3), refrain)])


def strange(seed=0):
    return tune(np.random.default_rng(seed + 100), 24)


def test_repetition_rate_of_refrain_is_high_and_of_unrelated_melodies_low():
    assert structure.repetition_rate(returning(), HOP) > 0.25
    assert structure.repetition_rate(strange(), HOP) < 0.1
    assert structure.novelty(returning(), HOP) < structure.novelty(strange(), HOP) - 0.15


def test_recurrence_at_lag_is_highest_at_the_period():
    piece, cycle = returning(), tune(np.random.default_rng(0), 3).size * 2 * HOP
    assert structure.recurrence_at_lag(piece, HOP, cycle) > 0.25
    assert structure.recurrence_at_lag(piece, HOP, 0.7 * cycle) < 0.15


@pytest.mark.parametrize("measure", [structure.repetition_rate, structure.novelty])
def test_structure_measures_with_transposition_are_unchanged(measure):
    assert measure(returning() + 340, HOP) == pytest.approx(measure(returning(), HOP))
    jumped = returning()
    jumped[::3] += 1200
    assert measure(jumped, HOP) == pytest.approx(measure(returning(), HOP))


def test_structure_measures_of_held_or_short_melody_are_nan():
    assert np.isnan(structure.repetition_rate(np.zeros(1000), HOP))
    assert np.isnan(structure.novelty(np.zeros(20), HOP))
    assert np.isnan(structure.recurrence_at_lag(np.zeros(20), HOP, 1.0))
    assert np.isnan(structure.repetition_rate(np.full(1000, np.nan), HOP))
