"""Crossed tables: the pooled error against the paired one, its coverage, and incomplete tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fixtures.simulated_study import SMALL, lines, study, write
from hypothesis import given
from hypothesis import strategies as st

from talim.evaluation.intervals import two_way_effect
from talim.experiments import crossed_anova
from talim.experiments.crossed_anova import CrossedTable, bootstrap_means, crossed_table, pool_tables
from talim.experiments.results import read_study


def table_of(values: np.ndarray) -> CrossedTable:
    designs, seeds, recordings = values.shape
    return CrossedTable(
        [str(n) for n in range(designs)], values, [str(n) for n in range(recordings)], list(range(seeds))
    )


def noise(rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    """No design is better: random effects of seed, recording, both by design, and of each cell."""
    designs, seeds, recordings = shape
    y = rng.normal(size=(1, seeds, 1)) + rng.normal(size=(1, 1, recordings))
    if seeds > 1:  # with one seed, or one recording, its interaction cannot be estimated
        y = y + 0.3 * rng.normal(size=(designs, seeds, 1))
    if recordings > 1:
        y = y + 0.3 * rng.normal(size=(designs, 1, recordings))
    return y + 0.4 * rng.normal(size=shape)


@given(st.integers(0, 50), st.integers(1, 4), st.integers(1, 6))
def test_error_components_of_two_designs_equal_the_paired_error(seed: int, seeds: int, recordings: int) -> None:
    values = noise(np.random.default_rng(seed), (2, seeds, recordings))
    errors, paired = table_of(values).error_components(), two_way_effect(values[1] - values[0])
    assert errors.error == pytest.approx(paired.error, nan_ok=True)
    if seeds * recordings > 1:
        assert errors.df == pytest.approx(paired.df)


@pytest.mark.parametrize("shape", [(6, 3, 8), (12, 1, 6), (8, 4, 1)])
def test_quantile_without_an_effect_is_exceeded_at_its_rate(shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(4)
    beyond = []
    for _ in range(400):
        found = table_of(noise(rng, shape))
        beyond.append(found.means[1] - found.means[0] > found.error_components().quantile(0.05))
    assert 0.02 < np.mean(beyond) < 0.09


def test_crossed_table_incomplete_trials_keeps_the_largest_full_table(tmp_path: Path) -> None:
    some = [line for line in lines() if not (line["design"] == "conv@all:2.7%" and line["seed"] == 2)]
    some[0]["measures"]["loss_reduction"].pop("hindustani-solo-03")
    table = read_study(write(tmp_path, some)).tables[0]
    field = crossed_table(table, "loss_reduction")
    assert field is not None
    assert "conv@all:2.7%" not in field.designs  # eleven designs with three seeds are more than twelve with two
    assert field.values.shape == (11, 3, 5)
    assert crossed_table(table, "beauty") is None


def test_pool_tables_have_equal_weights(tmp_path: Path) -> None:
    tables = study(tmp_path).tables
    parts = [field for table in tables if (field := crossed_table(table, "loss_reduction"))]
    designs, means, errors = pool_tables(parts)
    assert designs == list(parts[0].designs)
    assert means == pytest.approx((parts[0].means + parts[1].means) / 2)
    assert errors.error == pytest.approx(
        np.hypot(parts[0].error_components().error, parts[1].error_components().error) / 2
    )


def test_bootstrap_means_have_the_means_and_the_error_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crossed_anova, "RESAMPLES", 4000)
    rng = np.random.default_rng(0)
    found = table_of(noise(rng, (2, 8, 20)))
    again = bootstrap_means([found], found.designs, rng)
    assert again.mean(axis=0) == pytest.approx(found.means, abs=0.05)
    assert (again[:, 1] - again[:, 0]).std() == pytest.approx(found.error_components().error, rel=0.35)


def test_error_components_with_one_seed_and_recording_are_nan() -> None:
    assert np.isnan(table_of(np.zeros((3, 1, 1))).error_components().error)
    assert np.isnan(table_of(np.zeros((1, 3, 3))).error_components().error)


def test_simulated_study_same_seed_is_identical() -> None:
    assert lines(SMALL, 5) == lines(SMALL, 5)
    assert lines(SMALL, 5) != lines(SMALL, 6)
