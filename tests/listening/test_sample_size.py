"""The planner against formulas and simulations that do not share its code."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from talim.errors import UsageError
from talim.listening.sample_size import PowerTarget, listeners_by_formula, listeners_needed, simulated_power


def test_the_level_is_kept_where_there_is_no_preference() -> None:
    none = PowerTarget(0.5 + 1e-9, votes=6, icc=0.2)
    assert simulated_power(none, 20, np.random.default_rng(0), 20_000) == pytest.approx(0.05, abs=0.008)


def test_power_agrees_with_an_exact_sum_where_votes_are_independent() -> None:
    """One vote each: the number of A is binomial, and the t-test rejects at counts that can be listed."""
    n, p = 30, 0.75
    counts = np.arange(n + 1)
    share = counts / n
    spread = np.sqrt(share * (1 - share) * n / (n - 1))
    least = 0.5 / n
    t = (share - 0.5) / np.maximum(spread / np.sqrt(n), least)
    exact = stats.binom.pmf(counts, n, p)[np.abs(t) > stats.t.ppf(0.975, n - 1)].sum()
    found = simulated_power(PowerTarget(p, votes=1, icc=0), n, np.random.default_rng(1), 20_000)
    assert found == pytest.approx(exact, abs=0.012)


@pytest.mark.parametrize(("preference", "clustering"), [(0.65, 0.0), (0.65, 0.2), (0.6, 0.1)])
def test_the_number_is_near_the_formula(preference: float, clustering: float) -> None:
    wanted = PowerTarget(preference, icc=clustering)
    plan = listeners_needed(wanted)
    assert plan["listeners"] == pytest.approx(listeners_by_formula(wanted), rel=0.25, abs=3)
    assert plan["power"] >= 0.8
    assert simulated_power(wanted, plan["listeners"] // 2, np.random.default_rng(2)) < 0.75


def test_clustering_and_small_preferences_cost_listeners() -> None:
    needed = [listeners_needed(PowerTarget(0.65, icc=c))["listeners"] for c in (0.0, 0.3)]
    assert needed[0] < needed[1] < listeners_needed(PowerTarget(0.58, icc=0.3))["listeners"]


@pytest.mark.parametrize("wrong", [0.4, 0.5, 1.0])
def test_a_preference_that_is_none(wrong: float) -> None:
    with pytest.raises(UsageError, match=r"between 0\.5 and 1"):
        PowerTarget(wrong)


def test_too_small_to_be_seen() -> None:
    with pytest.raises(UsageError, match="more than 2000"):
        listeners_needed(PowerTarget(0.505, icc=0.5))
