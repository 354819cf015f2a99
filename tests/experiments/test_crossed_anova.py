"""Designs side by side: the shared error against two designs alone and against its own promise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fixtures.simulated_study import SMALL, lines, study, write
from hypothesis import given
from hypothesis import strategies as st

from talim.experiments import crossed_anova
from talim.experiments.crossed_anova import CrossedTable, bootstrap_means, crossed_table, pool_tables
from talim.experiments.effects import two_way_effect
from talim.experiments.results import read_study


def made(values: np.ndarray) -> CrossedTable:
    designs, seeds, recordings = values.shape
    return CrossedTable(
        [str(n) for n in range(designs)], values, [str(n) for n in range(recordings)], list(range(seeds))
    )


def lucky(rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    """No design is better: luck of seed, recording, both by design, and of each cell."""
    designs, seeds, recordings = shape
    y = rng.normal(size=(1, seeds, 1)) + rng.normal(size=(1, 1, recordings))
    if seeds > 1:  # what one seed's luck does, or one recording's, cannot be known from it alone
        y = y + 0.3 * rng.normal(size=(designs, seeds, 1))
    if recordings > 1:
        y = y + 0.3 * rng.normal(size=(designs, 1, recordings))
    return y + 0.4 * rng.normal(size=shape)


@given(st.integers(0, 50), st.integers(1, 4), st.integers(1, 6))
def test_of_two_designs_it_is_the_paired_error(seed: int, seeds: int, recordings: int) -> None:
    values = lucky(np.random.default_rng(seed), (2, seeds, recordings))
    spread, known = made(values).spread(), two_way_effect(values[1] - values[0])
    assert spread.error == pytest.approx(known.error, nan_ok=True)
    if seeds * recordings > 1:
        assert spread.freedom == pytest.approx(known.freedom)


@pytest.mark.parametrize("shape", [(6, 3, 8), (12, 1, 6), (8, 4, 1)])
def test_differences_by_luck_pass_the_quantile_as_often_as_it_says(shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(4)
    beyond = []
    for _ in range(400):
        found = made(lucky(rng, shape))
        beyond.append(found.means[1] - found.means[0] > found.spread().quantile(0.05))
    assert 0.02 < np.mean(beyond) < 0.09


def test_what_all_designs_have_is_compared(tmp_path: Path) -> None:
    some = [line for line in lines() if not (line["design"] == "conv@all:2.7%" and line["seed"] == 2)]
    some[0]["measures"]["fall"].pop("hindustani-solo-03")
    table = read_study(write(tmp_path, some)).tables[0]
    field = crossed_table(table, "fall")
    assert field is not None
    assert (
        "conv@all:2.7%" not in field.designs
    )  # eleven designs with three seeds are more than twelve with two
    assert field.values.shape == (11, 3, 5)
    assert crossed_table(table, "beauty") is None
    difference = crossed_table(table, "ornament_fall", "plain_fall")
    assert difference is not None
    assert abs(difference.means.mean()) < 0.05


def test_tables_count_the_same(tmp_path: Path) -> None:
    tables = study(tmp_path).tables
    parts = [field for table in tables if (field := crossed_table(table, "fall"))]
    designs, means, spread = pool_tables(parts)
    assert designs == list(parts[0].designs)
    assert means == pytest.approx((parts[0].means + parts[1].means) / 2)
    assert spread.error == pytest.approx(np.hypot(parts[0].spread().error, parts[1].spread().error) / 2)


def test_drawn_again_the_means_stay_and_vary_as_they_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crossed_anova, "RESAMPLES", 4000)
    rng = np.random.default_rng(0)
    found = made(lucky(rng, (2, 8, 20)))
    again = bootstrap_means([found], found.designs, rng)
    assert again.mean(axis=0) == pytest.approx(found.means, abs=0.05)
    assert (again[:, 1] - again[:, 0]).std() == pytest.approx(found.spread().error, rel=0.35)


def test_one_seed_and_recording_leave_no_error() -> None:
    assert np.isnan(made(np.zeros((3, 1, 1))).spread().error)
    assert np.isnan(made(np.zeros((1, 3, 3))).spread().error)


def test_the_simulator_is_the_same_for_the_same_seed() -> None:
    assert lines(SMALL, 5) == lines(SMALL, 5)
    assert lines(SMALL, 5) != lines(SMALL, 6)
