"""Distances between sets: closed forms on Gaussians, scipy, hand-computed cases, and properties."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from talim.metrics import distribution_distances as d


def gaussian(seed: int, n: int, dims: int, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((n, dims)) * scale
    rows[:, 0] += shift
    return rows


def textbook_frechet(one: np.ndarray, other: np.ndarray) -> float:
    """The formula as printed, with scipy's matrix root."""
    c1, c2 = np.cov(one.T), np.cov(other.T)
    root = np.asarray(scipy.linalg.sqrtm(c1 @ c2)).real
    return float(((one.mean(0) - other.mean(0)) ** 2).sum() + np.trace(c1 + c2 - 2 * root))


@pytest.mark.parametrize(("n", "m", "dims"), [(50, 40, 5), (300, 500, 20), (12, 200, 6)])
def test_frechet_distance_equals_the_published_formula(n: int, m: int, dims: int) -> None:
    mixing = np.random.default_rng(9).standard_normal((dims, dims))
    one, other = gaussian(0, n, dims) @ mixing, gaussian(1, m, dims, 2.0) * 1.7
    assert d.frechet_distance(one, other) == pytest.approx(textbook_frechet(one, other), rel=1e-8)


def test_frechet_distance_matches_hand_computed_value() -> None:
    """Means 1 and 4, variances 2 and 8: 9 + (sqrt 8 - sqrt 2)^2 = 11."""
    assert d.frechet_distance(np.array([[0.0], [2.0]]), np.array([[2.0], [6.0]])) == pytest.approx(11.0)


def test_frechet_distance_of_fewer_rows_than_dimensions_is_exact() -> None:
    """Scaling a set by s about its mean leaves (s - 1)^2 tr S: known without any root."""
    one = gaussian(0, 6, 40)
    other = 3 * (one - one.mean(0)) + one.mean(0) + 0.5
    expected = 40 * 0.25 + 4 * np.trace(np.cov(one.T))
    assert d.frechet_distance(one, other) == pytest.approx(expected, rel=1e-10)


def test_frechet_distance_of_large_samples_approaches_the_closed_form() -> None:
    """Shift 2 and standard deviations 1 and 1.5 in 8 dimensions: 4 + 8 * 0.25 = 6."""
    found = d.frechet_distance_infinity(
        gaussian(0, 2000, 8), gaussian(1, 2000, 8, 2.0, 1.5), np.random.default_rng(0), repeats=2
    )
    assert found.value == pytest.approx(6.0, rel=0.05)


def test_frechet_distance_infinity_removes_the_bias_and_reports_the_fit() -> None:
    """Two sets of 400 of one Gaussian in 32 dimensions: true distance 0."""
    pairs = [(gaussian(s, 400, 32), gaussian(100 + s, 400, 32)) for s in range(4)]
    plain = np.mean([d.frechet_distance(*pair) for pair in pairs])
    fits = [d.frechet_distance_infinity(*pair, np.random.default_rng(0), repeats=2) for pair in pairs]
    assert plain > 0.6
    assert abs(np.mean([fit.value for fit in fits])) < 0.12 * plain
    assert all(fit.r_squared > 0.98 and fit.smallest == 100 for fit in fits)
    assert fits[0].thinned[0] == d.frechet_distance(*pairs[0])


def test_frechet_distance_infinity_subsamples_whole_recordings() -> None:
    """Ten clips a recording that are nearly one clip: drawing clips would take the bias for settled."""
    names = [f"r{n}" for n in range(40) for _ in range(10)]

    def clustered(seed: int) -> np.ndarray:
        return np.repeat(gaussian(seed, 40, 4), 10, axis=0) + 0.05 * gaussian(seed + 50, 400, 4)

    by_clip, by_recording = [], []
    for seed in range(8):
        pair = clustered(seed), clustered(seed + 20)
        by_clip.append(d.frechet_distance_infinity(*pair, np.random.default_rng(0), repeats=2).value)
        by_recording.append(
            d.frechet_distance_infinity(
                *pair, np.random.default_rng(0), reference_recordings=names, evaluated_recordings=names, repeats=4
            ).value
        )
    assert abs(np.mean(by_recording)) < 0.5 * np.mean(by_clip)


def test_kernel_distance_of_gaussians_matches_the_closed_form() -> None:
    """E k = (w^2 / (w^2 + 2 s^2))^(d/2) exp(-|shift|^2 / (2 (w^2 + 2 s^2))) for variances s^2 (integral by hand)."""
    dims, width, shift = 3, 2.0, 1.5
    same = (width**2 / (width**2 + 2)) ** (dims / 2)
    expected = 2 * same * (1 - np.exp(-(shift**2) / (2 * (width**2 + 2))))
    found = [
        d.kernel_distance(gaussian(s, 400, dims), gaussian(s + 50, 400, dims, shift), width, scale=1.0)
        for s in range(6)
    ]
    assert np.mean(found) == pytest.approx(expected, rel=0.06)


def test_kernel_distance_matches_hand_computed_value() -> None:
    """Rows 0, 2 against 0, 4 with width 1: pairs within e^-2 and e^-8, across 1, e^-8, e^-2, e^-2."""
    e2, e8 = np.exp(-2), np.exp(-8)
    found = d.kernel_distance(np.array([[0.0], [2.0]]), np.array([[0.0], [4.0]]), 1.0, scale=1.0)
    assert found == pytest.approx(e2 + e8 - (1 + e8 + e2 + e2) / 2)


def test_kernel_distance_of_small_samples_is_unbiased() -> None:
    found = [d.kernel_distance(gaussian(s, 30, 8), gaussian(s + 500, 30, 8)) for s in range(60)]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(60)
    assert min(found) < 0 < max(found)


def test_kernel_distance_bandwidth_comes_from_the_reference_alone() -> None:
    reference, wild = gaussian(0, 100, 8), gaussian(1, 100, 8, scale=4.0)
    flattering = d.kernel_distance(reference, wild, d.median_bandwidth(wild))
    assert d.kernel_distance(reference, wild) > 3 * flattering
    assert d.median_bandwidth(np.array([[0.0], [1.0], [5.0]])) == 4.0
    assert d.median_bandwidth(np.ones((4, 2))) == 1.0


def test_knn_measures_match_hand_computed_values() -> None:
    """Reference 0, 1, 3 with k = 1 reaches 1, 1, 2; evaluated 0.5, 10, 11 reaches 9.5, 1, 1."""
    found = d.knn_measures(np.array([[0.0], [1.0], [3.0]]), np.array([[0.5], [10.0], [11.0]]), k=1)
    assert found.precision == pytest.approx(1 / 3)
    assert found.recall == 1.0
    assert found.density == pytest.approx(2 / 3)
    assert found.coverage == pytest.approx(2 / 3)


def test_knn_measures_of_one_distribution_reach_expected_values() -> None:
    pairs = [(gaussian(s, 120, 4), gaussian(s + 90, 80, 4)) for s in range(15)]
    found = [d.knn_measures(*pair) for pair in pairs]
    assert np.mean([f.density for f in found]) == pytest.approx(1.0, abs=0.06)
    assert np.mean([f.coverage for f in found]) == pytest.approx(d.expected_coverage(120, 80), abs=0.03)


def test_knn_measures_of_collapsed_model_have_high_precision_and_low_coverage() -> None:
    reference = gaussian(0, 200, 4)
    found = d.knn_measures(reference, gaussian(1, 200, 4, scale=0.05))
    assert found.precision == 1.0
    assert found.coverage < 0.35
    assert found.recall < 0.05


MEASURES = [
    d.frechet_distance,
    partial(d.kernel_distance, width=2.0),
    lambda one, other: 1 - d.knn_measures(one, other).coverage,
]


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.integers(8, 30), st.integers(1, 12))
def test_distances_of_identical_rotated_and_exchanged_sets(seed: int, n: int, dims: int) -> None:
    one, other = gaussian(seed, n, dims), gaussian(seed + 1, n + 3, dims, 1.0)
    turn = np.linalg.qr(np.random.default_rng(seed).standard_normal((dims, dims)))[0]
    assert d.frechet_distance(one, one) == pytest.approx(0.0, abs=1e-8)
    assert d.kernel_distance(one, one) <= 0  # unbiased: shared rows count across but not within
    assert d.knn_measures(one, one) == d.PrdcScores(1.0, 1.0, pytest.approx(6 / 5, abs=0.001), 1.0)
    assert d.frechet_distance(one, other) == pytest.approx(d.frechet_distance(other, one), rel=1e-8)
    for measure in MEASURES:
        assert measure(one @ turn, other @ turn) == pytest.approx(measure(one, other), rel=1e-6, abs=1e-8)


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.floats(0, 3), st.floats(0.1, 3))
def test_frechet_distance_grows_with_the_squared_shift_of_the_mean(seed: int, near: float, more: float) -> None:
    one = gaussian(seed, 20, 5)
    shifted = [d.frechet_distance(one, one + np.eye(5)[0] * shift) for shift in (near, near + more)]
    assert shifted == pytest.approx([near**2, (near + more) ** 2], abs=1e-7)


def test_interval_by_recording_covers_the_true_distance() -> None:
    """Sixteen recordings of five equal clips: the interval reaches the true distance, clips as units fall short."""
    names = [f"r{n}" for n in range(16) for _ in range(5)]
    truth = np.mean([d.kernel_distance(gaussian(s, 300, 3), gaussian(s + 40, 300, 3, 1.0), 2.0) for s in range(8)])
    measure, held, widths = partial(d.kernel_distance, width=2.0), 0, []
    for seed in range(40):
        pair = [
            np.repeat(gaussian(seed + 1000 * k, 16, 3, float(k)), 5, axis=0) for k in range(2)
        ]  # clips of a recording are alike
        found = d.interval_by_recording(measure, *pair, names, names, np.random.default_rng(0), resamples=60)
        assert found is not None
        # Alike clips lift the unbiased estimate: their own pairs count as distinct rows. Only the width is judged.
        centre = measure(*pair)
        widths.append(found[1] - found[0])
        held += abs(measure(*(p[::5] for p in pair)) - truth) <= max(found[1] - centre, centre - found[0])
    assert held >= 33
    clips = [f"c{n}" for n in range(80)]
    as_clips = d.interval_by_recording(measure, *pair, clips, clips, np.random.default_rng(0), resamples=60)
    assert as_clips is not None
    assert as_clips[1] - as_clips[0] < 0.8 * np.mean(widths)


def test_interval_by_recording_is_reproducible_and_none_for_three_recordings() -> None:
    one, other = gaussian(0, 30, 4), gaussian(1, 30, 4)
    names = [f"r{n % 6}" for n in range(30)]
    first, again = (
        d.interval_by_recording(d.frechet_distance, one, other, names, names, np.random.default_rng(3), resamples=20)
        for _ in range(2)
    )
    assert first == again
    three = [f"r{n % 3}" for n in range(30)]
    assert d.interval_by_recording(d.frechet_distance, one, other, names, three, np.random.default_rng(3)) is None


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        (np.zeros((1, 3)), np.zeros((5, 3)), "1 rows"),
        (np.zeros((5, 3)), np.zeros((5, 4)), "3 and 4 dimensions"),
        (np.full((5, 3), np.nan), np.zeros((5, 3)), "finite"),
        (np.zeros(5), np.zeros((5, 1)), "shape"),
    ],
)
def test_distances_of_unusable_sets_raise(one: np.ndarray, other: np.ndarray, words: str) -> None:
    for measure in (d.frechet_distance, d.kernel_distance):
        with pytest.raises(ValueError, match=words):
            measure(one, other)


def test_frechet_distance_infinity_of_too_few_recordings_raises() -> None:
    names = [f"r{n % 5}" for n in range(40)]
    with pytest.raises(ValueError, match="8 recordings or more in each set, not 5"):
        d.frechet_distance_infinity(
            gaussian(0, 40, 3),
            gaussian(1, 40, 3),
            np.random.default_rng(0),
            reference_recordings=names,
            evaluated_recordings=names,
        )
    with pytest.raises(ValueError, match="one name per row"):
        d.interval_by_recording(
            d.frechet_distance, gaussian(0, 9, 3), gaussian(0, 9, 3), names, names, np.random.default_rng(0)
        )
