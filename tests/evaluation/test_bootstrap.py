"""Intervals are by recording, not by clip."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from talim.evaluation import bootstrap


def test_mean_by_recording_averages_the_clips_of_each() -> None:
    assert bootstrap.mean_by_recording([1.0, 3.0, 10.0], ["a", "a", "b"]) == {"a": 2.0, "b": 10.0}


def test_bootstrap_ci_of_one_recording_is_none_with_a_note() -> None:
    assert bootstrap.bootstrap_ci({"a": 1.0}) is None
    assert "only one held-out recording" in str(bootstrap.ci_note(1))
    assert "rough" in str(bootstrap.ci_note(3))
    assert bootstrap.ci_note(8) is None


def test_bootstrap_ci_of_normal_sample_matches_theory() -> None:
    values = np.random.default_rng(1).normal(0.5, 0.2, 40)
    low, high = bootstrap.bootstrap_ci({str(i): v for i, v in enumerate(values)}) or (0, 0)
    half = 1.96 * values.std() / np.sqrt(40)  # of the mean of 40 normal values
    assert low == pytest.approx(values.mean() - half, abs=0.01)
    assert high == pytest.approx(values.mean() + half, abs=0.01)


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=12), st.integers(0, 5))
def test_bootstrap_ci_is_reproducible_and_within_the_values(values: list[float], seed: int) -> None:
    named = {str(i): v for i, v in enumerate(values)}
    found = bootstrap.bootstrap_ci(named, seed)
    assert found == bootstrap.bootstrap_ci(named, seed)
    low, high = found or (0.0, 0.0)
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9


def test_wilson_interval_matches_published_values() -> None:
    """Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29."""
    for count, of, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611)):
        assert bootstrap.wilson_interval(count, of) == pytest.approx((low, high), abs=1e-4)
    assert bootstrap.wilson_interval(1, 29) == pytest.approx((0.0061, 0.1718), abs=1e-4)
    with pytest.raises(ValueError, match="not 3 of 2"):
        bootstrap.wilson_interval(3, 2)


def test_difference_ci_matches_a_published_t_interval() -> None:
    """Student 1908, the hours of sleep that ten patients gained with one drug over the other."""
    gains = dict(zip("abcdefghij", (1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4), strict=True))
    assert bootstrap.difference_ci(gains) == pytest.approx((0.7001, 2.4599), abs=1e-4)
    assert bootstrap.difference_ci({"a": 1.0}) is None
    assert bootstrap.difference_ci({"a": 1.0, "b": 1.0}) == [1.0, 1.0]


@pytest.mark.parametrize("recordings", [2, 3, 4, 6, 12])
def test_difference_ci_of_equal_pairs_misses_zero_in_one_of_twenty(recordings: int) -> None:
    rng = np.random.default_rng(recordings)
    draws = rng.normal(0, 1, (2000, recordings))
    ends = [bootstrap.difference_ci(dict(enumerate(row))) or [0, 0] for row in draws]  # type: ignore[arg-type]
    missed = np.mean([low > 0 or high < 0 for low, high in ends])
    assert missed == pytest.approx(0.05, abs=0.015)  # three standard errors
    found = [bootstrap.difference_ci(dict(enumerate(row))) or [0, 0] for row in draws + 30]  # type: ignore[arg-type]
    assert np.mean([low > 0 for low, _ in found]) > 0.95
