"""Rates, costs and their intervals, against closed forms and by counting."""

from __future__ import annotations

import numpy as np
import pytest
from fixtures.brief_folder import brief_of
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from talim.briefs import acceptance


def test_candidates_needed_is_the_least_with_which_the_rule_can_go_both_ways() -> None:
    def decides(count: int, bound: float) -> bool:
        low, high = acceptance.proportion(count, count)["low"], acceptance.proportion(0, count)["high"]
        assert low is not None
        assert high is not None
        return low >= bound > high

    assert acceptance.candidates_needed(0.25) == 9
    for bound in (0.1, 0.25, 0.5, 0.75):
        count = acceptance.candidates_needed(bound)
        assert decides(count, bound)
        assert not decides(count - 1, bound)
    assert acceptance.candidates_needed(1.0) == 1
    assert acceptance.candidates_needed(None) == 13  # 6 of 13: 22 to 72 %


@pytest.mark.parametrize("count", [8, 20])
def test_proportion_interval_coverage_is_near_nominal(count: int) -> None:
    """Exact coverage by the binomial, averaged over shares; and never far below."""
    shares = np.linspace(0.05, 0.95, 181)
    ends = [acceptance.proportion(x, count) for x in range(count + 1)]
    inside = np.array([[e["low"] <= p <= e["high"] for e in ends] for p in shares])  # type: ignore[operator]
    coverage = (inside * stats.binom.pmf(np.arange(count + 1), count, shares[:, None])).sum(axis=1)
    assert 0.94 <= coverage.mean() <= 0.97
    assert coverage.min() > 0.86


@given(st.integers(0, 50), st.integers(0, 50))
def test_proportion_lies_in_interval_and_is_symmetric(part: int, rest: int) -> None:
    result, mirrored = acceptance.proportion(part, part + rest), acceptance.proportion(rest, part + rest)
    if part + rest == 0:
        assert result == {"value": None, "low": None, "high": None}
        return
    low, value, high = result["low"], result["value"], result["high"]
    assert low is not None
    assert value is not None
    assert high is not None
    assert 0 <= low <= value <= high <= 1
    assert mirrored["low"] == pytest.approx(1 - high)


def test_cost_per_unit_inverts_interval() -> None:
    assert acceptance.cost_per_unit(6.0, {"value": 0.5, "low": 0.25, "high": 0.75}) == {
        "value": 12.0,
        "low": 8.0,
        "high": 24.0,
    }
    none = acceptance.cost_per_unit(6.0, {"value": 0.0, "low": 0.0, "high": 0.2})
    assert none == {"value": None, "low": pytest.approx(30.0), "high": None}


def test_mean_ci_and_difference_equal_scipy_intervals() -> None:
    reach = 4.302653 / 3**0.5  # t with 2 degrees of freedom, a deviation of 1
    assert acceptance.mean_ci([1, 2, 3])["high"] == pytest.approx(2 + reach, abs=1e-5)
    result = acceptance.mean_difference_ci([1, 2, 3], [4, 5, 6])
    reach = 2.776445 * (2 / 3) ** 0.5  # t with 4
    assert (result["low"], result["high"]) == pytest.approx((-3 - reach, -3 + reach), abs=1e-5)
    assert acceptance.mean_ci([7])["low"] is None
    assert acceptance.mean_difference_ci([1], [2, 3]) == {"value": -1.5, "low": None, "high": None}


@pytest.mark.parametrize(
    ("sent", "by", "verdict"),
    [
        (["accept"], "majority", "accept"),
        (["accept", "reject"], "majority", "reject"),
        (["accept", "accept", "reject"], "majority", "accept"),
        (["accept", "edit", "reject"], "majority", "edit"),
        (["accept", "edit"], "all", "edit"),
        (["accept", "reject"], "all", "reject"),
        (["accept", "reject"], "any", "accept"),
        (["edit", "reject"], "any", "edit"),
    ],
)
def test_combined_verdict_follows_accepted_by(sent: list[str], by: str, verdict: str) -> None:
    assert acceptance.combined_verdict(sent, by) == verdict  # type: ignore[arg-type]


def rows(count: int) -> list[dict]:
    checks = [{"name": "length", "passed": True}, {"name": "mode", "passed": None}]
    return [
        {"id": f"d-{n}", "contender": "d", "number": n, "generation_seconds": 36.0, "checks": checks}
        for n in range(1, count + 1)
    ]


def reviews(verdicts: str) -> list[dict]:
    message = {"a": "accept", "e": "edit", "r": "reject"}
    return [
        {"candidate": f"d-{n}", "reviewer": "p", "verdict": message[v], "seconds": 60.0, "reasons": ["sound"]}
        for n, v in enumerate(verdicts, start=1)
    ]


def test_measure_contender_equals_values_by_hand() -> None:
    """Two of four accepted; 2 h at 2 of training and what is around it, 144 s of making, 4 min of review at 30."""
    cost = {"wall_seconds": 3600.0, "evaluation_seconds": 1800.0, "rest_seconds": 1800.0}
    result = acceptance.measure_contender(rows(4), reviews("rara"), {"cost": cost}, brief_of())
    assert (result["reviewed"], result["accepted"], result["rejected"]) == (4, 2, 2)
    assert result["costs"] == pytest.approx(
        {"training": 2.0, "evaluation": 1.0, "proof": 1.0, "generation": 0.08, "review": 2.0, "total": 6.08}
    )
    assert result["cost_per_accepted_piece"]["value"] == pytest.approx(3.04)
    assert result["cost_per_accepted_minute"]["value"] == pytest.approx(3.04 * 30)  # two-second pieces
    assert result["cost_per_further_minute"]["value"] == pytest.approx(1.04 * 30)
    low, high = (result["cost_per_accepted_minute"][end] for end in ("low", "high"))
    assert low < result["cost_per_accepted_minute"]["value"] < high
    first = result["first_accepted"]
    assert (first["candidates"], first["generation_seconds"], first["review_seconds"]) == (2, 72.0, 120.0)
    assert result["checks"]["mode"] == {"passed": 0, "failed": 0, "not_checked": 4}
    assert result["reasons"] == {"sound": 4}


def test_measure_contender_without_price_or_review_has_no_cost_or_rate() -> None:
    free = brief_of(prices={}, decision_rule={}, status_quo=None)
    result = acceptance.measure_contender(rows(2), reviews("aa"), {"cost": {"wall_seconds": 1.0}}, free)
    assert result["cost_per_accepted_minute"] == {"value": None, "low": None, "high": None}
    nothing = acceptance.measure_contender(rows(2), [], {}, brief_of())
    assert nothing["acceptance"]["value"] is None
    assert nothing["first_accepted"] is None


def test_measure_contender_long_review_counts_ten_minutes() -> None:
    long = [reviews("a")[0] | {"seconds": 86_400.0}]
    result = acceptance.measure_contender(rows(1), long, {"cost": {"wall_seconds": 1.0}}, brief_of())
    assert result["hours"]["review"] == pytest.approx(600 / 3600)


def test_reviewer_agreement_of_one_reviewer_is_none() -> None:
    a_value = reviews("ara")
    assert acceptance.reviewer_agreement(a_value) is None
    assert acceptance.reviewer_agreement([*a_value, *(row | {"reviewer": "q"} for row in a_value)]) == pytest.approx(
        1.0
    )
