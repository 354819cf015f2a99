"""Adherence from fits whose answer is known."""

import numpy as np
import pytest

from talim.metrics import prompt_adherence


def test_own_prompts_that_fit_best_are_followed_and_chance_is_a_half():
    asked = ["yaman", "bhairav", "yaman", "todi"]
    fit = np.array([[2.0 if a == b else 0.0 for b in asked] for a in asked])
    assert prompt_adherence.prompt_preference(fit, asked) == pytest.approx([1, 1, 1, 1])
    assert prompt_adherence.prompt_preference(np.zeros((4, 4)), asked) == pytest.approx([0.5] * 4)
    assert prompt_adherence.prompt_preference(-fit, asked) == pytest.approx([0] * 4)


def test_without_a_contrast_or_a_fit_it_cannot_be_told():
    assert np.isnan(prompt_adherence.prompt_preference(np.eye(2), ["same", "same"])).all()
    assert np.isnan(prompt_adherence.prompt_preference(np.full((2, 2), np.nan), ["a", "b"])).all()
    with pytest.raises(ValueError, match="square"):
        prompt_adherence.prompt_preference(np.eye(3), ["a", "b"])


def test_tempi_forgive_half_and_double():
    fit = prompt_adherence.tempo_fit([60, 90], [120, 91])
    assert fit[0, 0] == pytest.approx(0)
    assert fit[1, 1] > fit[1, 0]


def test_prototypes_of_the_right_instrument_are_nearest():
    prototypes = np.array([[0.0, 0], [4, 0], [0, 4]])
    fit = prompt_adherence.prototype_fit(prototypes + 0.5, prototypes)
    assert (fit.argmax(1) == np.arange(3)).all()
