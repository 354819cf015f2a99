"""Diversity of sets with a known number of different pieces."""

import numpy as np
import pytest

from talim.metrics import diversity


def test_effective_sample_count_of_copies_is_one_and_of_unrelated_rows_many():
    reference = np.random.default_rng(0).standard_normal((40, 30))
    assert diversity.effective_sample_count(np.tile(reference[:1], (8, 1)), reference) == pytest.approx(1)
    assert diversity.effective_sample_count(10 * reference[:8], reference) == pytest.approx(8)
    three = np.repeat(10 * reference[:3], 4, axis=0)
    assert diversity.effective_sample_count(three, reference) == pytest.approx(3)


def test_effective_sample_count_of_empty_set_raises():
    with pytest.raises(ValueError, match="rows"):
        diversity.effective_sample_count(np.zeros((0, 3)), np.eye(3))
