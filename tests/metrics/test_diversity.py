"""Diversity of sets whose number of different pieces is known."""

import numpy as np
import pytest

from talim.metrics import diversity


def test_copies_are_one_piece_and_strangers_many():
    reference = np.random.default_rng(0).standard_normal((40, 30))
    assert diversity.effective_sample_count(np.tile(reference[:1], (8, 1)), reference) == pytest.approx(1)
    assert diversity.effective_sample_count(10 * reference[:8], reference) == pytest.approx(8)
    three = np.repeat(10 * reference[:3], 4, axis=0)
    assert diversity.effective_sample_count(three, reference) == pytest.approx(3)


def test_nothing_is_an_error():
    with pytest.raises(ValueError, match="rows"):
        diversity.effective_sample_count(np.zeros((0, 3)), np.eye(3))
