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


def logit(share: float) -> float:
    return float(np.log(share / (1 - share)))


@given(st.integers(50, 500), st.integers(50, 500), st.integers(50, 500))
def test_two_conditions_have_a_closed_form(second: int, tie: int, first: int) -> None:
    """Rao and Kupper's model is saturated there: both cumulative shares are met exactly."""
    total = second + tie + first
    low, high = logit(second / total), logit((second + tie) / total)
    found = s.fit_bradley_terry(np.array([[[second, tie, first]]], dtype=float), s.all_pairs(2), 2)
    assert found.strengths[0, 0] - found.strengths[0, 1] == pytest.approx(-(low + high) / 2, abs=2e-3)
    assert found.cuts[0, 0] == pytest.approx((high - low) / 2, abs=5e-3)


def test_five_steps_agree_with_an_independent_optimiser() -> None:
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

    best = minimize(
        loss, [0.1, 0, 0, 0.5, 1.0], method="Nelder-Mead", options={"maxiter": 9000, "fatol": 1e-10}
    )
    found = s.fit_bradley_terry(table[None], pairs, 4)
    assert found.strengths[0, :3] == pytest.approx(best.x[:3], abs=3e-3)
    assert found.cuts[0] == pytest.approx([best.x[3], best.x[3] + best.x[4]], abs=3e-3)


def test_turning_all_answers_round_turns_strengths_round() -> None:
    table = simulate_study(SimulatedPopulation(), 20, np.random.default_rng(0)).sum(axis=0)[None]
    one, other = (
        s.fit_bradley_terry(table, s.all_pairs(4), 4),
        s.fit_bradley_terry(table[:, :, ::-1], s.all_pairs(4), 4),
    )
    assert one.strengths == pytest.approx(-other.strengths, abs=1e-4)
    assert one.cuts == pytest.approx(other.cuts, abs=1e-4)


def test_many_tables_at_once_are_each_as_if_alone() -> None:
    tables = np.stack(
        [simulate_study(SimulatedPopulation(), 15, np.random.default_rng(i)).sum(axis=0) for i in range(4)]
    )
    together = s.fit_bradley_terry(tables, s.all_pairs(4), 4)
    for place in range(4):
        assert s.fit_bradley_terry(tables[place][None], s.all_pairs(4), 4).strengths[0] == pytest.approx(
            together.strengths[place], abs=1e-4
        )


def test_a_design_that_always_wins_and_an_unused_step_stay_finite() -> None:
    table = np.zeros((1, 3, 5))
    table[0, 0, 4] = table[0, 1, 4] = 40  # the first beats both, always by much; nobody says anything else
    found = s.fit_bradley_terry(table, s.all_pairs(3), 3)
    assert np.isfinite(found.strengths).all()
    assert np.isfinite(found.cuts).all()
    assert found.strengths[0].argmax() == 0
    assert found.strengths[0, 1] == pytest.approx(found.strengths[0, 2], abs=1e-6)


def test_chances_are_chances_and_the_truth_without_spread_is_the_truth() -> None:
    assert answer_probabilities(SimulatedPopulation(), np.array([-3.0, 0.0, 2.0])).sum(
        axis=1
    ) == pytest.approx(1)
    flat = SimulatedPopulation(spread=0.0)
    assert true_strengths(flat) == pytest.approx(np.array(flat.strengths) - np.mean(flat.strengths), abs=1e-3)
    assert np.ptp(true_strengths(SimulatedPopulation(spread=1.5))) < np.ptp(true_strengths(flat))


def test_preference_counts_ties_half() -> None:
    assert s.preference_probability(0.0, np.array([0.7, 2.0])) == pytest.approx(0.5)
    assert s.preference_probability(1.0, np.array([0.7])) + s.preference_probability(
        -1.0, np.array([0.7])
    ) == pytest.approx(1)


def test_answers_are_counted_from_the_earlier_condition() -> None:
    table = s.count_answers([(0, 0, 1, 2), (0, 1, 0, -2), (1, 2, 0, 1)], units=2, conditions=3)
    assert table[0, 0].tolist() == [0, 0, 0, 0, 2]
    assert table[1, 1].tolist() == [0, 1, 0, 0, 0]
    assert s.count_answers([(0, 0, 1, 2)], 1, 2, steps=3)[0, 0].tolist() == [0, 0, 1]


def test_the_jackknife_of_a_mean_is_the_t_interval() -> None:
    values = np.random.default_rng(0).standard_normal(9)
    alone = (values.sum() - values) / 8
    low, high = s.jackknife_interval(values.mean(), alone)
    reach = 2.306004 * values.std(ddof=1) / 3  # Student's t with 8 degrees of freedom
    assert (low, high) == pytest.approx((values.mean() - reach, values.mean() + reach), abs=1e-6)


def test_intervals_over_listeners_hold_where_votes_do_not() -> None:
    """Few studies, wide bounds: the full table is benchmarks/interval_coverage.py, the full test is the slow one."""
    found = coverage(SimulatedPopulation(), listeners=12, studies=40, resamples=120)
    assert 0.87 <= found["jackknife"] <= 1.0
    assert found["votes"] < found["jackknife"] - 0.08
    assert found["percentile"] <= found["expanded"] <= 1.0


@pytest.mark.slow
@pytest.mark.parametrize("listeners", [8, 12, 20, 40])
def test_a_thousand_studies_are_covered(listeners: int) -> None:
    found = coverage(SimulatedPopulation(), listeners, studies=1000, resamples=60)
    assert 0.92 <= found["jackknife"] <= 0.98
    assert found["votes"] < 0.85
