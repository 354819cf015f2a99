"""Structure of melodies with and without a refrain."""

import tracemalloc

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


@pytest.mark.parametrize("rows", [1, 7, 200])
def test_measures_are_the_same_whatever_is_compared_at_once(rows, monkeypatch):
    cents = returning()
    at_once = structure.self_similarity(cents, HOP)
    measures = structure.repetition_rate(cents, HOP), structure.novelty(cents, HOP)
    monkeypatch.setattr(structure, "_ROWS", rows)
    np.testing.assert_array_equal(structure.self_similarity(cents, HOP), at_once)
    assert (structure.repetition_rate(cents, HOP), structure.novelty(cents, HOP)) == measures
    # from the whole table, by their definitions
    moving = np.diag(at_once) > 0
    apart = np.abs(np.subtract.outer(np.arange(len(at_once)), np.arange(len(at_once))))
    again = np.where(apart >= 30, at_once, 0).max(1)[moving] >= structure.MIN_SIMILARITY
    new = np.tril(at_once, -20).max(1)[moving] < structure.MIN_SIMILARITY
    assert measures == (pytest.approx(again.mean()), pytest.approx(new.mean()))


def test_measures_of_a_long_melody_take_no_table_of_its_square():
    cents = np.tile(strange(), 10)  # four minutes: the table would take 23 MB, and its parts several times that
    tracemalloc.start()
    structure.novelty(cents, HOP)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6
