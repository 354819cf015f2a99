"""Intervals of means by recording: scipy's and published values, coverage, and that p values and intervals agree."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from talim.evaluation import intervals
from talim.evaluation.intervals import Effect, mean_interval, two_way_effect


def test_mean_by_recording_averages_the_clips_of_each() -> None:
    assert intervals.mean_by_recording([1.0, 3.0, 10.0], ["a", "a", "b"]) == {"a": 2.0, "b": 10.0}


def test_one_recording_has_no_interval() -> None:
    assert mean_interval({"a": 1.0}) is None


def test_an_interval_ends_at_the_bounds_of_what_is_averaged() -> None:
    """Two losses, 2.016 and 3.756: the interval would begin at -8 nats, which no loss can have."""
    low, high = mean_interval([2.016, 3.756]) or (0, 0)
    assert low < -8
    assert mean_interval([2.016, 3.756], bounds=intervals.NOT_NEGATIVE) == [0.0, high]
    assert mean_interval([0.9, 1.0, 1.0], bounds=(0.0, 1.0))[1] == 1.0  # type: ignore[index]
    assert mean_interval([2.0, 2.1, 1.9, 2.0], bounds=intervals.NOT_NEGATIVE) == mean_interval([2.0, 2.1, 1.9, 2.0])
    assert mean_interval([1.0], bounds=intervals.NOT_NEGATIVE) is None


def test_wilson_interval_matches_published_values() -> None:
    """Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29."""
    for count, of, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611)):
        assert intervals.wilson_interval(count, of) == pytest.approx((low, high), abs=1e-4)
    assert all(intervals.wilson_interval(0, of)[0] == 0 for of in (5.5, 11, 20.5, 400))
    assert all(intervals.wilson_interval(of, of)[1] == 1 for of in range(1, 100))
    assert intervals.wilson_interval(1, 29) == pytest.approx((0.0061, 0.1718), abs=1e-4)
    with pytest.raises(ValueError, match="not 3 of 2"):
        intervals.wilson_interval(3, 2)


@pytest.mark.parametrize("confidence", [0.95, 0.994])
def test_symmetric_values_of_many_recordings_have_the_t_interval_of_scipy(confidence: float) -> None:
    half = np.random.default_rng(1).gamma(2.0, size=20)
    values = 3 + np.concatenate([half, -half])
    known = stats.ttest_1samp(values, 0)
    assert mean_interval(values, confidence) == pytest.approx(tuple(known.confidence_interval(confidence)))
    assert two_way_effect(values[None]).p_value == pytest.approx(known.pvalue)


@pytest.mark.parametrize(("count", "error_rate"), [(2, 0.5), (4, 0.2 + 0.8 * 4 / 30), (10, 0.2 + 0.8 * 10 / 30)])
def test_few_symmetric_values_have_the_t_interval_of_a_smaller_error_rate(count: int, error_rate: float) -> None:
    values = np.concatenate([np.arange(count // 2) + 0.5, -np.arange(count // 2) - 0.5]) + 7
    known = stats.ttest_1samp(values, 0).confidence_interval(1 - 0.05 * error_rate)
    assert mean_interval(values) == pytest.approx(tuple(known))


def test_the_end_of_the_longer_tail_is_that_of_hall() -> None:
    """Forty values, one above the rest: Hall's transformed t (Hall 1992), solved for the mean by bisection."""
    from scipy.optimize import brentq

    values = np.array([float(n % 4) for n in range(39)] + [9.0])
    mean, error = values.mean(), stats.sem(values)
    skew = float(stats.skew(values, bias=False)) / np.sqrt(40)

    def transformed(true_mean: float) -> float:
        t = (mean - true_mean) / error
        return t + skew * t**2 / 3 + skew**2 * t**3 / 27 + skew / 6

    high = brentq(lambda at: transformed(at) - stats.t.ppf(0.025, 39), mean, mean + 20 * error)
    low, found = mean_interval(values) or [0.0, 0.0]
    assert found == pytest.approx(high)
    assert low == pytest.approx(stats.t.interval(0.95, 39, mean, error)[0])
    assert mean_interval(-values) == pytest.approx([-high, -low])
    values[-1] = 1e6
    mean, (low, found) = values.mean(), mean_interval(values) or [0.0, 0.0]
    assert found - mean == pytest.approx(2 * (mean - low))  # farther than twice t it covers little more


def test_the_interval_contains_the_published_t_interval() -> None:
    """Student 1908, the hours of sleep that ten patients gained with one drug over the other: 0.7001 to 2.4599."""
    gains = dict(zip("abcdefghij", (1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4), strict=True))
    low, high = mean_interval(gains) or [0.0, 0.0]
    error_rate = 0.05 * (0.2 + 0.8 * 10 / 30)  # of ten values
    low_of_t, high_of_t = stats.t.interval(1 - error_rate, 9, 1.58, stats.sem(list(gains.values())))
    assert low == pytest.approx(low_of_t)
    assert low < 0.7001
    assert high_of_t < high <= 1.58 + 2 * (high_of_t - 1.58)  # the value of 4.6 skews them upwards


def coverage(draw: object, true_mean: float, shape: tuple[int, int], confidence: float, count: int = 500) -> float:
    assert callable(draw)
    ends = [two_way_effect(draw(shape)).interval(confidence) for _ in range(count)]
    return float(np.mean([low <= true_mean <= high for low, high in ends]))


@pytest.mark.parametrize("recordings", [2, 3, 4, 6, 10, 20])
def test_intervals_cover_the_mean_of_normal_and_lognormal_recordings(recordings: int) -> None:
    """93 % or more; 500 draws have a standard error of 1.1 points. A percentile bootstrap of 4 has 69 to 81 %."""
    rng, shape = np.random.default_rng(recordings), (1, recordings)
    assert coverage(lambda size: rng.normal(size=size), 0.0, shape, 0.95) > 0.94
    assert coverage(lambda size: rng.lognormal(size=size), np.exp(0.5), shape, 0.95) > 0.905
    assert coverage(lambda size: -rng.lognormal(size=size), -np.exp(0.5), shape, 0.994) > 0.955


@pytest.mark.parametrize(("seeds", "recordings"), [(2, 4), (3, 8), (8, 20)])
def test_intervals_cover_the_mean_over_seeds_and_recordings(seeds: int, recordings: int) -> None:
    rng = np.random.default_rng(seeds)

    def draw(size: tuple[int, int]) -> np.ndarray:
        of_recordings = rng.lognormal(size=size[1]) - np.exp(0.5)
        return 0.7 * rng.normal(size=(size[0], 1)) + of_recordings[None] + 0.5 * rng.normal(size=size)

    assert coverage(draw, 0.0, (seeds, recordings), 0.95, 400) > 0.905
    assert coverage(draw, 0.0, (seeds, recordings), 0.994, 400) > 0.965


def test_a_planted_difference_is_found_and_an_equal_pair_is_not_told_apart() -> None:
    rng = np.random.default_rng(3)
    equal = [two_way_effect(rng.normal(size=(1, 8))).interval() for _ in range(400)]
    assert np.mean([low > 0 or high < 0 for low, high in equal]) < 0.05
    planted = [two_way_effect(rng.normal(2.5, 1, (1, 8))).interval() for _ in range(300)]
    assert np.mean([low > 0 for low, _ in planted]) > 0.9


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=12), st.floats(0.5, 0.999), st.floats(-5, 5))
def test_p_value_and_interval_agree_and_the_interval_moves_with_the_values(
    values: list[float], confidence: float, shift: float
) -> None:
    found = two_way_effect(np.array(values)[None])
    low, high = found.interval(confidence)
    assert low <= found.mean <= high
    if found.error > 1e-6 and abs(found.p_value - (1 - confidence)) > 1e-6:
        assert (found.p_value > 1 - confidence) == (low <= 0 <= high)
        moved = mean_interval([value + shift for value in values], confidence) or [0.0, 0.0]
        assert moved == pytest.approx([low + shift, high + shift], abs=1e-6 * (high - low) + 1e-9)
    wider = found.interval((1 + confidence) / 2)
    assert wider[0] <= low
    assert wider[1] >= high


def test_an_unknown_error_gives_no_ends() -> None:
    assert np.isnan(two_way_effect(np.ones((1, 1))).interval()).all()
    assert Effect(1.0, 0.0, 3, 1, 4).interval() == (1.0, 1.0)
    assert mean_interval([0.1] * 3) == [pytest.approx(0.1)] * 2
