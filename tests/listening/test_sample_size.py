"""The planner against formulas and simulations that do not share its code."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from talim.errors import UsageError
from talim.listening.sample_size import PowerTarget, listeners_by_formula, listeners_needed, simulated_power


def test_simulated_power_without_preference_equals_level() -> None:
    none = PowerTarget(0.5 + 1e-9, votes=6, icc=0.2)
    assert simulated_power(none, 20, np.random.default_rng(0), 20_000) == pytest.approx(0.05, abs=0.008)


def test_simulated_power_independent_votes_equals_exact_power() -> None:
    """One vote each: the number of A is binomial, and the t-test rejects at counts that can be listed."""
    n, p = 30, 0.75
    counts = np.arange(n + 1)
    fraction = counts / n
    spread = np.sqrt(fraction * (1 - fraction) * n / (n - 1))
    least = 0.5 / n
    t = (fraction - 0.5) / np.maximum(spread / np.sqrt(n), least)
    exact = stats.binom.pmf(counts, n, p)[np.abs(t) > stats.t.ppf(0.975, n - 1)].sum()
    result = simulated_power(PowerTarget(p, votes=1, icc=0), n, np.random.default_rng(1), 20_000)
    assert result == pytest.approx(exact, abs=0.012)


@pytest.mark.parametrize(("preference", "clustering"), [(0.65, 0.0), (0.65, 0.2), (0.6, 0.1)])
def test_listeners_needed_is_near_formula(preference: float, clustering: float) -> None:
    expected = PowerTarget(preference, icc=clustering)
    plan = listeners_needed(expected)
    assert plan["listeners"] == pytest.approx(listeners_by_formula(expected), rel=0.25, abs=3)
    assert plan["power"] >= 0.8
    assert simulated_power(expected, plan["listeners"] // 2, np.random.default_rng(2)) < 0.75


def test_listeners_needed_is_never_less_than_an_interval_takes() -> None:
    plan = listeners_needed(PowerTarget(0.99, votes=8))
    assert (plan["listeners"], plan["by_formula"] < 6) == (6, True)


def test_listeners_needed_grows_with_icc_and_smaller_preference() -> None:
    needed = [listeners_needed(PowerTarget(0.65, icc=c))["listeners"] for c in (0.0, 0.3)]
    assert needed[0] < needed[1] < listeners_needed(PowerTarget(0.58, icc=0.3))["listeners"]


@pytest.mark.parametrize("wrong", [0.4, 0.5, 1.0])
def test_power_target_invalid_preference_raises_usage_error(wrong: float) -> None:
    with pytest.raises(UsageError, match=r"between 0\.5 and 1"):
        PowerTarget(wrong)


def test_listeners_needed_tiny_preference_raises_usage_error() -> None:
    with pytest.raises(UsageError, match="more than 2000"):
        listeners_needed(PowerTarget(0.505, icc=0.5))
