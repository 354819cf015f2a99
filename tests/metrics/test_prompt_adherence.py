"""Prompt adherence of fits with known results."""

import numpy as np
import pytest

from talim.metrics import prompt_adherence


def test_prompt_preference_of_best_fits_is_one_and_of_random_fits_a_half():
    asked = ["yaman", "bhairav", "yaman", "todi"]
    fit = np.array([[2.0 if a == b else 0.0 for b in asked] for a in asked])
    assert prompt_adherence.prompt_preference(fit, asked) == pytest.approx([1, 1, 1, 1])
    assert prompt_adherence.prompt_preference(np.zeros((4, 4)), asked) == pytest.approx([0.5] * 4)
    assert prompt_adherence.prompt_preference(-fit, asked) == pytest.approx([0] * 4)


def test_prompt_preference_of_equal_prompts_or_missing_fit_is_nan():
    assert np.isnan(prompt_adherence.prompt_preference(np.eye(2), ["same", "same"])).all()
    assert np.isnan(prompt_adherence.prompt_preference(np.full((2, 2), np.nan), ["a", "b"])).all()
    with pytest.raises(ValueError, match="square"):
        prompt_adherence.prompt_preference(np.eye(3), ["a", "b"])


def test_tempo_fit_of_half_and_double_tempo_is_perfect():
    fit = prompt_adherence.tempo_fit([60, 90], [120, 91])
    assert fit[0, 0] == pytest.approx(0)
    assert fit[1, 1] > fit[1, 0]


def test_prototype_fit_of_matching_prototype_is_highest():
    prototypes = np.array([[0.0, 0], [4, 0], [0, 4]])
    fit = prompt_adherence.prototype_fit(prototypes + 0.5, prototypes)
    assert (fit.argmax(1) == np.arange(3)).all()
