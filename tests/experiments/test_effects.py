"""Effects over pairs and recordings: against least squares, interval coverage, invalid input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from talim.evaluation.intervals import two_way_effect
from talim.experiments import effects
from talim.experiments.effects import WeightedGroup


def simulated(rng: np.random.Generator, shape: tuple[int, int], spreads: tuple[float, float, float]) -> np.ndarray:
    """Differences without an effect: random components of seed, recording and cell."""
    seed, recording, cell = spreads
    return (
        seed * rng.normal(size=(shape[0], 1))
        + recording * rng.normal(size=(1, shape[1]))
        + cell * rng.normal(size=shape)
    )


def test_two_way_effect_equals_nested_least_squares() -> None:
    table = simulated(np.random.default_rng(3), (3, 7), (1.0, 1.0, 0.5)) + 0.4
    seed, recording = (index.ravel() for index in np.indices(table.shape))
    by_seed, by_recording = np.eye(3)[seed], np.eye(7)[recording]

    def residual(*factors: np.ndarray) -> float:
        design = np.concatenate([np.ones((21, 1)), *factors], axis=1)
        fitted = design @ np.linalg.lstsq(design, table.ravel(), rcond=None)[0]
        return float(np.square(table.ravel() - fitted).sum())

    full = residual(by_seed, by_recording)
    of_seeds, of_recordings = (residual(by_recording) - full) / 2, (residual(by_seed) - full) / 6
    found = two_way_effect(table)
    assert found.mean == pytest.approx(table.mean())
    assert found.error == pytest.approx(np.sqrt((of_seeds + of_recordings - full / 12) / 21))
    assert 1 <= found.df <= 20


@pytest.mark.parametrize("spreads", [(1.0, 0.0, 0.3), (0.0, 1.0, 0.3), (0.0, 0.0, 1.0), (0.7, 0.7, 0.7)])
def test_interval_covers_the_true_mean_at_its_level(spreads: tuple[float, float, float]) -> None:
    rng = np.random.default_rng(7)
    covered = []
    for _ in range(1500):
        low, high = two_way_effect(simulated(rng, (3, 8), spreads)).interval()
        covered.append(low <= 0 <= high)
    assert np.mean(covered) > 0.93


def test_min_detectable_effect_is_detected_with_its_power() -> None:
    rng = np.random.default_rng(5)
    spreads = (0.2, 0.5, 1.0)
    predicted = [two_way_effect(simulated(rng, (3, 12), spreads)).min_detectable_effect() for _ in range(400)]
    typical = float(np.sqrt(np.mean(np.square(predicted))))
    detected = [two_way_effect(simulated(rng, (3, 12), spreads) + typical).interval()[0] > 0 for _ in range(1500)]
    assert 0.7 < np.mean(detected) < 0.92


def test_pooled_effect_averages_groups_and_reduces_the_error() -> None:
    rng = np.random.default_rng(2)
    parts = [two_way_effect(simulated(rng, (3, 8), (0.3, 0.5, 0.5)) + shift) for shift in (0.0, 1.0)]
    both = effects.pooled_effect(parts)
    assert both.mean == pytest.approx(np.mean([part.mean for part in parts]))
    assert both.error == pytest.approx(np.hypot(parts[0].error, parts[1].error) / 2)
    assert both.recordings == 16
    assert effects.pooled_effect(parts[:1]).interval() == pytest.approx(parts[0].interval())


def group(corpus: str, weight: float, table: np.ndarray, *, seeds: int = 0, recordings: int = 0) -> WeightedGroup:
    """A table [seeds, recordings] as a group of trials; the numbers of seeds and recordings begin there."""
    rows = [
        (seeds + seed, {f"r{recordings + n}": float(value) for n, value in enumerate(row)})
        for seed, row in enumerate(table)
    ]
    return WeightedGroup(corpus, weight, rows)


def test_effect_of_groups_on_other_corpora_is_that_of_independent_means() -> None:
    rng = np.random.default_rng(2)
    tables = [simulated(rng, (3, 8), (0.3, 0.5, 0.5)) + shift for shift in (0.0, 1.0)]
    parts = [two_way_effect(table) for table in tables]
    mean = effects.effect_of_groups([group(name, 0.5, table) for name, table in zip("ab", tables, strict=True)])
    assert mean is not None
    pooled = effects.pooled_effect(parts)
    assert (mean.mean, mean.error, mean.df) == pytest.approx((pooled.mean, pooled.error, pooled.df))
    apart, back = (
        effects.effect_of_groups([group("a", sign, tables[0]), group("b", -sign, tables[1])]) for sign in (1.0, -1.0)
    )
    assert apart is not None
    assert back is not None
    assert apart.mean == pytest.approx(parts[0].mean - parts[1].mean)
    assert apart.error == pytest.approx(np.hypot(parts[0].error, parts[1].error))
    assert apart.interval() == pytest.approx([-end for end in back.interval()[::-1]])
    assert (apart.seeds, apart.recordings, apart.pairs) == (6, 16, 6)


def test_effect_of_groups_on_one_corpus_adds_them_by_seed_and_recording() -> None:
    rng = np.random.default_rng(3)
    common, own = simulated(rng, (3, 8), (0.3, 0.5, 0.5)), simulated(rng, (3, 8), (0.1, 0.1, 0.1))
    mean = effects.effect_of_groups([group("a", 0.5, common), group("a", 0.5, common + own)])
    assert mean is not None
    alone = two_way_effect(common + own / 2)
    assert (mean.mean, mean.error, mean.df) == pytest.approx((alone.mean, alone.error, alone.df))
    assert (mean.seeds, mean.recordings, mean.pairs) == (3, 8, 6)
    difference = effects.effect_of_groups([group("a", 1.0, common + 0.4), group("a", -1.0, common)])
    assert difference is not None
    assert (difference.mean, difference.error) == pytest.approx((0.4, 0.0))


def test_effect_of_groups_takes_what_all_have_and_nothing_shared_as_independent() -> None:
    rng = np.random.default_rng(4)
    first, second = rng.normal(size=(4, 8)), rng.normal(size=(3, 6))
    some = effects.effect_of_groups([group("a", 0.5, first), group("a", 0.5, second, seeds=2, recordings=4)])
    assert some is not None
    assert (some.seeds, some.recordings) == (2, 4)
    assert some.mean == pytest.approx((first[2:, 4:].mean() + second[:2, :4].mean()) / 2)
    other_seeds = effects.effect_of_groups([group("a", 0.5, first), group("a", 0.5, second, seeds=10)])
    assert other_seeds is not None
    assert other_seeds.mean == pytest.approx((first[:3, :6].mean() + second.mean()) / 2)
    apart = effects.effect_of_groups([group("a", 0.5, first), group("a", 0.5, second, recordings=100)])
    assert apart is not None
    assert (apart.seeds, apart.recordings) == (7, 14)
    assert effects.effect_of_groups([WeightedGroup("a", 1.0, [(0, {"x": 1.0}), (1, {"y": 1.0})])]) is None


def test_holm_adjusted_equals_values_computed_by_hand() -> None:
    assert effects.holm_adjusted([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_adjusted_lies_between_unadjusted_and_bonferroni(p_values: list[float]) -> None:
    for plain, adjusted in zip(p_values, effects.holm_adjusted(p_values), strict=True):
        assert plain <= adjusted <= min(1.0, len(p_values) * plain) + 1e-12


@given(st.integers(1, 4), st.integers(1, 6), st.integers(0, 99), st.floats(0.1, 10))
def test_two_way_effect_scale_and_order_do_not_matter(seeds: int, recordings: int, seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(seeds, recordings))
    found = two_way_effect(table)
    again = two_way_effect(
        scale * rng.permuted(rng.permutation(table), axis=0)[:, ::-1] if seeds == 1 else scale * table[::-1, ::-1]
    )
    assert again.mean == pytest.approx(scale * found.mean)
    assert again.error == pytest.approx(scale * found.error, nan_ok=True)


def test_two_way_effect_of_equal_numbers_has_no_error() -> None:
    found = two_way_effect(np.full((3, 4), 0.25))
    assert found.interval() == (0.25, 0.25)
    assert found.p_value == 0.0


@pytest.mark.parametrize("table", [np.zeros(3), np.zeros((0, 3)), np.array([[1.0, np.nan]])])
def test_two_way_effect_incomplete_table_raises(table: np.ndarray) -> None:
    with pytest.raises(ValueError, match="full table"):
        two_way_effect(table)


def test_pooled_effect_without_parts_raises() -> None:
    with pytest.raises(ValueError, match="at least one effect"):
        effects.pooled_effect([])
