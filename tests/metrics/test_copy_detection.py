"""P-values against a null distribution, and shared runs of tokens."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talim.metrics import copy_detection


def test_p_value_matches_its_formula_and_false_positive_rate() -> None:
    assert copy_detection.p_value(3.0, np.array([1.0, 2.0, 3.0, 4.0])) == pytest.approx(3 / 5)
    rng = np.random.default_rng(0)
    alarms = [copy_detection.p_value(rng.normal(), rng.normal(size=99)) <= 0.1 for _ in range(2000)]
    assert np.mean(alarms) == pytest.approx(0.1, abs=0.02)


def naive_run(codes: list[int], source: list[int]) -> int:
    """Most changes of token in a common substring, by trying them all."""
    best = 0
    for i in range(len(codes)):
        for j in range(len(source)):
            n = 0
            while i + n < len(codes) and j + n < len(source) and codes[i + n] == source[j + n]:
                n += 1
            part = codes[i : i + n]
            best = max(best, sum(a != b for a, b in itertools.pairwise(part)))
    return best


@settings(max_examples=40)
@given(st.lists(st.integers(0, 2), max_size=14), st.lists(st.lists(st.integers(0, 2), max_size=14), max_size=3))
def test_longest_common_run_agrees_with_exhaustive_search(codes: list[int], sources: list[list[int]]) -> None:
    arrays = [np.array(source, int) for source in sources]
    changes, source, here, there, length = copy_detection.longest_common_run(np.array(codes, int), arrays)
    assert changes == max((naive_run(codes, s) for s in sources), default=0)
    if changes:
        assert codes[here : here + length] == sources[source][there : there + length]


def test_find_token_copy_of_inserted_run_gives_times_and_of_silence_none() -> None:
    rng = np.random.default_rng(0)
    sources = [rng.integers(0, 64, 500) for _ in range(20)]
    null = np.array(
        [copy_detection.longest_common_run(one, [other for other in sources if other is not one])[0] for one in sources]
    )
    codes = rng.integers(0, 64, 500)
    codes[100:150] = sources[4][230:280]
    found = copy_detection.find_token_copy(codes, sources, 50.0, null)
    assert found is not None
    assert (found.source, found.clip_seconds, found.source_seconds) == (4, (2.0, 3.0), (4.6, 5.6))
    assert found.p_value < 1e-4  # far beyond the longest runs of 20 unrelated clips
    silent = [np.full(500, 7) for _ in range(3)]
    assert copy_detection.find_token_copy(np.full(500, 7), silent, 50.0, np.zeros(0)) is None


def test_tail_p_value_is_empirical_inside_the_null_and_smaller_beyond() -> None:
    rng = np.random.default_rng(0)
    null = rng.gumbel(0.1, 0.05, 60)
    inside = float(np.quantile(null, 0.8))
    assert copy_detection.tail_p_value(inside, null) == copy_detection.p_value(inside, null)
    truth = 1 - np.exp(-np.exp(-(0.5 - 0.1) / 0.05))
    assert truth / 10 < copy_detection.tail_p_value(0.5, null) < truth * 10
    assert copy_detection.tail_p_value(0.5, null) < 0.002 < copy_detection.p_value(0.5, null)
    assert copy_detection.tail_p_value(0.5, np.full(60, 0.1)) == pytest.approx(1 / 61)
    assert copy_detection.tail_p_value(0.5, null[:5]) == pytest.approx(1 / 6)


@pytest.mark.parametrize("count", [10, 20, 60])
def test_tail_p_value_with_few_null_clips_keeps_the_false_positive_rate(count: int) -> None:
    """0.5 to 1.5 %; 4000 draws have a standard error of 0.16 points. A plain Gumbel tail gives 2.1, 2.5 and 1.3 %."""
    rng = np.random.default_rng(count)
    alarms = [
        copy_detection.tail_p_value(rng.gumbel(), rng.gumbel(size=count)) <= copy_detection.FALSE_POSITIVE_RATE
        for _ in range(4000)
    ]
    assert 0.004 < np.mean(alarms) < 0.016
    copies = [copy_detection.tail_p_value(12 + rng.gumbel(), rng.gumbel(size=count)) <= 0.01 for _ in range(200)]
    assert np.mean(copies) > 0.8  # a copy is still found


def test_tail_p_value_with_repeated_training_passage_still_finds_copies() -> None:
    rng = np.random.default_rng(0)
    null = rng.gumbel(0.1, 0.06, 98)
    twins = np.append(null, [0.85, 0.84])
    assert copy_detection.tail_p_value(0.7, twins) <= copy_detection.FALSE_POSITIVE_RATE
    assert copy_detection.tail_p_value(0.7, twins) == copy_detection.tail_p_value(0.7, null)
    assert copy_detection.tail_p_value(0.25, twins) > copy_detection.FALSE_POSITIVE_RATE
    lost = [100 - copy_detection.trim_null_outliers(rng.gumbel(size=100)).size for _ in range(500)]
    assert np.mean(lost) < 0.3  # of unrelated clips
    few = np.array([0.1, 0.9])
    assert copy_detection.trim_null_outliers(few) is few
    assert copy_detection.trim_null_outliers(np.zeros(20)).size == 20
