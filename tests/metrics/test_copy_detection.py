"""Nearest clips, shared runs of tokens, and the chance that a stranger is as alike."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talim.metrics import copy_detection


def test_p_value_by_hand_and_its_promise() -> None:
    assert copy_detection.p_value(3.0, np.array([1.0, 2.0, 3.0, 4.0])) == pytest.approx(3 / 5)
    rng = np.random.default_rng(0)
    alarms = [copy_detection.p_value(rng.normal(), rng.normal(size=99)) <= 0.1 for _ in range(2000)]
    assert np.mean(alarms) == pytest.approx(0.1, abs=0.02)


def test_a_copy_is_nearer_than_strangers_are() -> None:
    rng = np.random.default_rng(0)
    sources = rng.standard_normal((60, 6)) * np.array([1, 1, 1, 1, 1, 100])
    names = [f"r{n // 2}" for n in range(60)]
    copy, stranger = sources[17] + 0.01, rng.standard_normal(6) * np.array([1, 1, 1, 1, 1, 100])
    found = copy_detection.nearest_sources(np.stack([copy, stranger]), sources, names)
    assert found[0].source == 17
    assert found[0].percentile == 0.0
    assert found[1].percentile > 1.0


def test_neighbours_of_the_same_recording_do_not_count() -> None:
    sources = np.array([[0.0], [0.1], [5.0], [5.1]])
    scale = sources.std()
    found = copy_detection.nearest_source_distances(sources, ["a", "a", "b", "b"])
    np.testing.assert_allclose(found * scale, [5.0, 4.9, 4.9, 5.0], rtol=1e-6)
    assert copy_detection.nearest_source_distances(sources, ["a"] * 4).size == 0
    with pytest.raises(ValueError, match="names of recordings"):
        copy_detection.nearest_source_distances(sources, ["a"])


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
@given(
    st.lists(st.integers(0, 2), max_size=14), st.lists(st.lists(st.integers(0, 2), max_size=14), max_size=3)
)
def test_longest_run_against_trying_everything(codes: list[int], sources: list[list[int]]) -> None:
    arrays = [np.array(source, int) for source in sources]
    changes, source, here, there, length = copy_detection.longest_common_run(np.array(codes, int), arrays)
    assert changes == max((naive_run(codes, s) for s in sources), default=0)
    if changes:
        assert codes[here : here + length] == sources[source][there : there + length]


def test_a_planted_fragment_of_tokens_is_named_with_its_times_and_silence_is_not() -> None:
    rng = np.random.default_rng(0)
    sources = [rng.integers(0, 64, 500) for _ in range(20)]
    names = [str(n) for n in range(20)]
    strangers = copy_detection.token_null(sources, names)
    codes = rng.integers(0, 64, 500)
    codes[100:150] = sources[4][230:280]
    found = copy_detection.find_token_copy(codes, sources, 50.0, strangers)
    assert found is not None
    assert (found.source, found.clip_seconds, found.source_seconds) == (4, (2.0, 3.0), (4.6, 5.6))
    assert found.p_value < 1e-4  # far beyond the longest runs of 20 strangers
    silent = [np.full(500, 7) for _ in range(3)]
    assert copy_detection.find_token_copy(np.full(500, 7), silent, 50.0, np.zeros(0)) is None


def test_tail_p_value_agrees_inside_and_reaches_further_outside() -> None:
    rng = np.random.default_rng(0)
    strangers = rng.gumbel(0.1, 0.05, 60)
    inside = float(np.quantile(strangers, 0.8))
    assert copy_detection.tail_p_value(inside, strangers) == copy_detection.p_value(inside, strangers)
    truth = 1 - np.exp(-np.exp(-(0.5 - 0.1) / 0.05))
    assert truth / 10 < copy_detection.tail_p_value(0.5, strangers) < truth * 10
    assert copy_detection.tail_p_value(0.5, strangers) < 0.001 < copy_detection.p_value(0.5, strangers)
    assert copy_detection.tail_p_value(0.5, np.full(60, 0.1)) == pytest.approx(1 / 61)
    assert copy_detection.tail_p_value(0.5, strangers[:5]) == pytest.approx(1 / 6)


def test_tail_p_value_keeps_its_promise_with_few_strangers() -> None:
    rng = np.random.default_rng(0)
    alarms = [
        copy_detection.tail_p_value(rng.gumbel(), rng.gumbel(size=40)) <= copy_detection.FALSE_POSITIVE_RATE
        for _ in range(4000)
    ]
    assert 0.005 < np.mean(alarms) < 0.02


def test_a_passage_that_stands_twice_in_the_training_set_hides_no_copy() -> None:
    rng = np.random.default_rng(0)
    strangers = rng.gumbel(0.1, 0.06, 98)
    twins = np.append(strangers, [0.85, 0.84])
    assert copy_detection.tail_p_value(0.7, twins) <= copy_detection.FALSE_POSITIVE_RATE
    assert copy_detection.tail_p_value(0.7, twins) == copy_detection.tail_p_value(0.7, strangers)
    assert copy_detection.tail_p_value(0.25, twins) > copy_detection.FALSE_POSITIVE_RATE
    lost = [100 - copy_detection.trim_null_outliers(rng.gumbel(size=100)).size for _ in range(500)]
    assert np.mean(lost) < 0.3  # of true strangers
    few = np.array([0.1, 0.9])
    assert copy_detection.trim_null_outliers(few) is few
    assert copy_detection.trim_null_outliers(np.zeros(20)).size == 20
