"""Strengths: closed forms, an independent optimiser, symmetries, and whether intervals hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from research.validation.listener_simulation import (
    SimulatedPopulation,
    answer_probabilities,
    coverage,
    simulate_study,
    true_strengths,
)
from talim.listening import bradley_terry as s


def logit(fraction: float) -> float:
    return float(np.log(fraction / (1 - fraction)))


@given(st.integers(50, 500), st.integers(50, 500), st.integers(50, 500))
def test_fit_bradley_terry_two_conditions_equals_closed_form(second: int, tie: int, first: int) -> None:
    """Rao and Kupper's model is saturated there: both cumulative shares are met exactly."""
    total = second + tie + first
    low, high = logit(second / total), logit((second + tie) / total)
    result = s.fit_bradley_terry(np.array([[[second, tie, first]]], dtype=float), s.all_pairs(2), 2)
    assert result.strengths[0, 0] - result.strengths[0, 1] == pytest.approx(-(low + high) / 2, abs=2e-3)
    assert result.cuts[0, 0] == pytest.approx((high - low) / 2, abs=5e-3)


def test_fit_bradley_terry_five_steps_equals_scipy_optimum() -> None:
    pairs, world = s.all_pairs(4), SimulatedPopulation()
    table = simulate_study(world, 60, np.random.default_rng(3)).sum(axis=0)

    def loss(x: np.ndarray) -> float:
        level = np.append(x[:3], -x[:3].sum())
        cuts = np.array([x[3] + x[4], x[3]])
        total = 0.0
        for (i, j), row in zip(pairs, table, strict=True):
            gap = level[i] - level[j]
            below = [1 / (1 + np.exp(-(c - gap))) for c in (-cuts[0], -cuts[1], cuts[1], cuts[0])]
            total -= float(row @ np.log(np.diff([0.0, *below, 1.0])))
        return total

    best = minimize(loss, [0.1, 0, 0, 0.5, 1.0], method="Nelder-Mead", options={"maxiter": 9000, "fatol": 1e-10})
    result = s.fit_bradley_terry(table[None], pairs, 4)
    assert result.strengths[0, :3] == pytest.approx(best.x[:3], abs=3e-3)
    assert result.cuts[0] == pytest.approx([best.x[3], best.x[3] + best.x[4]], abs=3e-3)


def test_fit_bradley_terry_reversed_answers_reverse_strengths() -> None:
    table = simulate_study(SimulatedPopulation(), 20, np.random.default_rng(0)).sum(axis=0)[None]
    a_value, b_value = (
        s.fit_bradley_terry(table, s.all_pairs(4), 4),
        s.fit_bradley_terry(table[:, :, ::-1], s.all_pairs(4), 4),
    )
    assert a_value.strengths == pytest.approx(-b_value.strengths, abs=1e-4)
    assert a_value.cuts == pytest.approx(b_value.cuts, abs=1e-4)


def test_fit_bradley_terry_batch_equals_single_fits() -> None:
    tables = np.stack(
        [simulate_study(SimulatedPopulation(), 15, np.random.default_rng(i)).sum(axis=0) for i in range(4)]
    )
    together = s.fit_bradley_terry(tables, s.all_pairs(4), 4)
    for index in range(4):
        assert s.fit_bradley_terry(tables[index][None], s.all_pairs(4), 4).strengths[0] == pytest.approx(
            together.strengths[index], abs=1e-4
        )


def test_fit_bradley_terry_separable_answers_stay_finite() -> None:
    table = np.zeros((1, 3, 5))
    table[0, 0, 4] = table[0, 1, 4] = 40  # the first beats both, always by much; nobody says anything else
    result = s.fit_bradley_terry(table, s.all_pairs(3), 3)
    assert np.isfinite(result.strengths).all()
    assert np.isfinite(result.cuts).all()
    assert result.strengths[0].argmax() == 0
    assert result.strengths[0, 1] == pytest.approx(result.strengths[0, 2], abs=1e-6)


def test_simulation_probabilities_sum_to_1_and_true_strengths_match_without_spread() -> None:
    assert answer_probabilities(SimulatedPopulation(), np.array([-3.0, 0.0, 2.0])).sum(axis=1) == pytest.approx(1)
    flat = SimulatedPopulation(spread=0.0)
    assert true_strengths(flat) == pytest.approx(np.array(flat.strengths) - np.mean(flat.strengths), abs=1e-3)
    assert np.ptp(true_strengths(SimulatedPopulation(spread=1.5))) < np.ptp(true_strengths(flat))


def test_preference_probability_counts_ties_half() -> None:
    assert s.preference_probability(0.0, np.array([0.7, 2.0])) == pytest.approx(0.5)
    assert s.preference_probability(1.0, np.array([0.7])) + s.preference_probability(
        -1.0, np.array([0.7])
    ) == pytest.approx(1)


def test_count_answers_orders_pairs_by_condition() -> None:
    table = s.count_answers([(0, 0, 1, 2), (0, 1, 0, -2), (1, 2, 0, 1)], units=2, conditions=3)
    assert table[0, 0].tolist() == [0, 0, 0, 0, 2]
    assert table[1, 1].tolist() == [0, 1, 0, 0, 0]
    assert s.count_answers([(0, 0, 1, 2)], 1, 2, steps=3)[0, 0].tolist() == [0, 0, 1]


def test_jackknife_interval_of_mean_equals_t_interval() -> None:
    values = np.random.default_rng(0).standard_normal(9)
    alone = (values.sum() - values) / 8
    low, high = s.jackknife_interval(values.mean(), alone)
    reach = 2.306004 * values.std(ddof=1) / 3  # Student's t with 8 degrees of freedom
    assert (low, high) == pytest.approx((values.mean() - reach, values.mean() + reach), abs=1e-6)


def test_coverage_over_listeners_is_nominal_and_over_votes_is_not() -> None:
    """Few studies, wide bounds; table: research/validation/listening_interval_coverage.py, the full test slow."""
    result = coverage(SimulatedPopulation(), listeners=12, studies=40, resamples=120)
    assert 0.87 <= result["jackknife"] <= 1.0
    assert result["votes"] < result["jackknife"] - 0.08
    assert result["percentile"] <= result["expanded"] <= 1.0


@pytest.mark.slow
@pytest.mark.parametrize("listeners", [8, 12, 20, 40])
def test_coverage_of_1000_simulated_studies_is_nominal(listeners: int) -> None:
    result = coverage(SimulatedPopulation(), listeners, studies=1000, resamples=60)
    assert 0.92 <= result["jackknife"] <= 0.98
    assert result["votes"] < 0.85
