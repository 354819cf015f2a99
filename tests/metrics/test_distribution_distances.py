"""Distances between sets: closed forms on Gaussians, scipy, hand-computed cases, and properties."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import scipy.linalg
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

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


def test_kernel_distance_in_one_dimension_is_the_energy_distance_of_scipy() -> None:
    """scipy's counts each value's distance to itself, which n / (n - 1) takes out of the mean within a set."""
    one, other = gaussian(0, 30, 1), gaussian(1, 20, 1, 1.5)
    within = [np.abs(rows - rows.T).mean() for rows in (one, other)]
    biased = stats.energy_distance(one[:, 0], other[:, 0]) ** 2
    expected = biased - within[0] / 29 - within[1] / 19
    assert d.kernel_distance(one, other, 1.0, scale=1.0) == pytest.approx(expected, rel=1e-9)


def test_kernel_distance_of_gaussians_matches_the_closed_form() -> None:
    """A normal difference of mean m, deviation s: E|x - y| = s sqrt(2 / pi) exp(-m^2 / 2 s^2) + m erf(m / s sqrt 2)."""
    shift, spread = 1.5, np.sqrt(2)
    across = spread * np.sqrt(2 / np.pi) * np.exp(-(shift**2) / 4) + shift * scipy.special.erf(shift / 2)
    expected = 2 * (across - spread * np.sqrt(2 / np.pi))
    found = [d.kernel_distance(gaussian(s, 400, 1), gaussian(s + 50, 400, 1, shift), 1.0, scale=1.0) for s in range(6)]
    assert np.mean(found) == pytest.approx(expected, rel=0.1)


def test_kernel_distance_matches_hand_computed_value() -> None:
    """Rows 0, 2 against 0, 4: across 0, 4, 2, 2, within 2 and 4."""
    rows = np.array([[0.0], [2.0]]), np.array([[0.0], [4.0]])
    assert d.kernel_distance(*rows, 1.0, scale=1.0) == pytest.approx(2 * 2 - 2 - 4)
    assert d.kernel_distance(*rows) == pytest.approx(100 * -2 / np.sqrt(2))


@pytest.mark.parametrize("n", [2, 3, 4, 10, 40])
def test_kernel_distance_of_one_law_is_zero_on_average_for_any_number_of_clips(n: int) -> None:
    for law in ("normal", "lognormal"):
        rng = np.random.default_rng(n)
        draws = getattr(rng, law)(size=(600 // n + 60, 2, n, 8))
        found = [d.kernel_distance(*pair) for pair in draws]
        assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(len(found))
        assert min(found) < 0 < max(found)


def test_kernel_distance_of_one_law_is_zero_where_clips_of_a_recording_are_alike() -> None:
    names = [f"r{n}" for n in range(3) for _ in range(4)]
    others = [f"s{n}" for n in range(3) for _ in range(4)]
    by_clip, by_recording = [], []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        one, other = (np.repeat(rng.normal(size=(3, 6)), 4, 0) + 0.3 * rng.normal(size=(12, 6)) for _ in range(2))
        by_clip.append(d.kernel_distance(one, other))
        found = d.kernel_distance(one, other, reference_recordings=names, evaluated_recordings=others)
        by_recording.append(found)
        again = d.kernel_distance(one, one, reference_recordings=names, evaluated_recordings=names)
        assert again == pytest.approx(0.0, abs=1e-9)  # the same recordings, each with the others
    error = np.std(by_recording) / np.sqrt(150)
    assert abs(np.mean(by_recording)) < 3 * error
    assert np.mean(by_clip) > 10 * error


def test_kernel_distance_keeps_growing_and_is_equal_for_equally_far_sets() -> None:
    """A Gaussian kernel of the reference's width gives wide and narrow sets at one distance other values."""
    reference = gaussian(0, 60, 8)
    far = [d.kernel_distance(reference, gaussian(1, 60, 8, shift)) for shift in (5.0, 10.0, 20.0, 40.0)]
    assert far[1] / far[0] > 2
    assert far[2] / far[1] == pytest.approx(2, abs=0.5)
    assert far[3] / far[2] == pytest.approx(2, abs=0.3)
    wide, narrow = (
        d.kernel_distance(reference, gaussian(2, 60, 8, 100.0, scale)) for scale in (1.0, 0.2)
    )  # the same place
    assert narrow == pytest.approx(wide, rel=0.06)


def test_kernel_distance_of_a_far_set_is_larger_the_more_it_varies_only_by_how_much_farther_it_is() -> None:
    reference, wild = gaussian(0, 100, 8), gaussian(1, 100, 8, scale=4.0)
    assert d.kernel_distance(reference, wild) > 20 * d.kernel_distance(reference, gaussian(2, 100, 8, scale=1.1))
    assert d.median_bandwidth(np.array([[0.0], [1.0], [5.0]])) == 4.0
    assert d.median_bandwidth(np.ones((4, 2))) == 1.0


def test_knn_measures_match_hand_computed_values() -> None:
    """Reference 0, 1, 3 with k = 1 reaches 1, 1, 2; evaluated 0.5, 10, 11 reaches 9.5, 1, 1."""
    found = d.knn_measures(np.array([[0.0], [1.0], [3.0]]), np.array([[0.5], [10.0], [11.0]]), k=1)
    assert found.precision == pytest.approx(1 / 3)
    assert found.recall == 1.0
    assert found.density == pytest.approx(2 / 3)
    assert found.coverage == pytest.approx(2 / 3)


def fixed_sets() -> tuple[np.ndarray, np.ndarray]:
    """Two sets of 24 rows of 4 values that any program can make."""
    n = np.arange(96)
    return np.sin(0.7 * n * n).reshape(24, 4), (1.2 * np.cos(1.3 * n * n) + 0.3).reshape(24, 4)


def unbiased_mmd2(kernel: Callable[[np.ndarray, np.ndarray], float], one: np.ndarray, other: np.ndarray) -> float:
    """Equation 3 of Gretton et al. 2012, as the paper of KID (Binkowski et al. 2018) uses it."""
    within = [np.mean([kernel(x, y) for i, x in enumerate(rows) for j, y in enumerate(rows) if i != j])
              for rows in (one, other)]  # fmt: skip
    return float(sum(within) - 2 * np.mean([kernel(x, y) for x in one for y in other]))


def test_kernel_distance_is_the_estimator_of_kid_with_the_distance_as_kernel() -> None:
    """The numbers are those of torch-fidelity 0.4 on these sets: its KID, and its `mmd2` of our kernel."""
    one, other = fixed_sets()
    kid = unbiased_mmd2(lambda x, y: float(x @ y / 4 + 1) ** 3, one, other)
    assert kid == pytest.approx(0.9265817314697542, abs=1e-9)  # the formula is KID's
    same_estimator = unbiased_mmd2(lambda x, y: -float(np.linalg.norm(x - y)), one, other)
    assert same_estimator == pytest.approx(0.39578303628725786, abs=1e-9)
    assert d.kernel_distance(one, other, width=1.0, scale=1.0) == pytest.approx(0.39578303628725786, abs=1e-9)


def test_frechet_distance_and_knn_measures_equal_reference_implementations() -> None:
    """The numbers are those of torch-fidelity 0.4 (Fréchet, precision, recall) and prdc 0.2 on these sets."""
    one, other = fixed_sets()
    assert d.frechet_distance(one, other) == pytest.approx(1.2485923930914398, abs=1e-9)
    found = d.knn_measures(one, other, 5)
    assert found == d.PrdcScores(precision=20 / 24, recall=22 / 24, density=pytest.approx(0.4333333333333333),
                                 coverage=18 / 24)  # fmt: skip


def test_knn_measures_of_equal_distances_count_the_surface_of_a_ball() -> None:
    """Every row is one step from its neighbours; an evaluated row one step off the end lies on a ball's surface."""
    line = np.arange(4.0)[:, None]
    found = d.knn_measures(line, line + 4, 1)
    assert (found.precision, found.recall, found.density, found.coverage) == (0.25, 0.25, 0.25, 0.25)


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


def of_recordings(one: np.ndarray, other: np.ndarray, names: np.ndarray, others: np.ndarray) -> float:
    return d.kernel_distance(one, other, reference_recordings=names.tolist(), evaluated_recordings=others.tolist())


def test_jackknife_by_recording_of_a_difference_of_means_is_its_textbook_error() -> None:
    """Of two sets of other recordings: the root of both variances of a mean; of the same recordings: of differences."""
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(7, 1)), rng.normal(size=(9, 1))

    def shift(first: np.ndarray, second: np.ndarray, *_: np.ndarray) -> float:
        return float(second.mean() - first.mean())

    found = d.jackknife_by_recording(shift, one, other, [f"a{n}" for n in range(7)], [f"b{n}" for n in range(9)])
    assert found == pytest.approx((np.sqrt(one.var(ddof=1) / 7 + other.var(ddof=1) / 9), 6))
    names = [f"a{n}" for n in range(7)]
    found = d.jackknife_by_recording(shift, one, other[:7], names, names)
    assert found == pytest.approx((stats.sem((other[:7] - one)[:, 0]), 6))


def test_jackknife_by_recording_reaches_the_true_distance() -> None:
    """Eight recordings of five equal clips: the error reaches the true distance; clips as units fall short."""
    from talim.evaluation.intervals import Effect

    names, clips = [f"r{n}" for n in range(8) for _ in range(5)], [f"c{n}" for n in range(40)]
    others = [f"s{n}" for n in range(8) for _ in range(5)]
    truth = np.mean([d.kernel_distance(gaussian(s, 300, 3), gaussian(s + 40, 300, 3, 1.0)) for s in range(8)])
    held, narrower = 0, 0
    for seed in range(30):
        pair = [np.repeat(gaussian(seed + 1000 * k, 8, 3, float(k)), 5, axis=0) for k in range(2)]
        found = d.jackknife_by_recording(of_recordings, *pair, names, others)
        by_clip = d.jackknife_by_recording(lambda a, b, *_: d.kernel_distance(a, b), *pair, clips, clips)
        assert found is not None
        assert by_clip is not None
        low, high = Effect(of_recordings(*pair, np.array(names), np.array(others)), *found, 1, 8).interval()
        held += low <= truth <= high
        narrower += by_clip[0] < found[0]
    assert held >= 27
    assert narrower >= 25


def test_jackknife_by_recording_is_none_for_three_recordings() -> None:
    one, other = gaussian(0, 30, 4), gaussian(1, 30, 4)
    names, three = [f"r{n % 6}" for n in range(30)], [f"r{n % 3}" for n in range(30)]
    assert d.jackknife_by_recording(of_recordings, one, other, names, three) is None


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
        d.jackknife_by_recording(of_recordings, gaussian(0, 9, 3), gaussian(0, 9, 3), names, names)
