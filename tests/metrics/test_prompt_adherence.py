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


def test_recognition_rates_of_a_recogniser_that_is_right_in_three_of_four_comparisons():
    """Two labels, eight clips: six prefer their own label, two the other's; a preference is 1 or 0."""
    labels = ["a"] * 4 + ["b"] * 4
    right = np.array([True, True, True, False] * 2)
    own = np.array([[one == other for other in labels] for one in labels])
    fit = np.where(own == right[:, None], 1.0, 0.0)
    rates = prompt_adherence.recognition_rates(fit, labels)
    assert (rates.hit, rates.false_alarm) == (0.75, 0.25)
    assert rates.hit_variance == pytest.approx(8 / 7 * 0.75 * 0.25)
    assert rates.chance_variance == pytest.approx(0.25)
    # (1.96 + 0.84)^2 * (0.2143 + 0.25) / 0.25^2
    assert rates.prompts_needed() == 59
    assert rates.power(59) == pytest.approx(0.8, abs=0.01)
    assert rates.power(10) == pytest.approx(0.212, abs=0.002)  # Phi(0.25 / sqrt(0.4643 / 10) - 1.96)


def test_power_is_how_often_a_model_that_follows_is_told_from_one_that_does_not():
    """Simulated: preferences of 0 or 1 with the rates of the recogniser, a z test of two means."""
    rates = prompt_adherence.RecognitionRates(0.75, 0.25, 0.75 * 0.25, 0.25)
    rng = np.random.default_rng(0)
    for prompts in (20, 60):
        follows, ignores = rng.random((2, 20_000, prompts))
        means = (follows < 0.75).mean(1) - (ignores < 0.5).mean(1)
        error = np.sqrt((0.75 * 0.25 + 0.25) / prompts)
        assert rates.power(prompts) == pytest.approx((means / error > 1.96).mean(), abs=0.05)


def test_labels_that_real_music_does_not_fit_can_never_be_decided():
    labels = ["a", "b", "a", "b"]
    rates = prompt_adherence.recognition_rates(np.zeros((4, 4)), labels)
    assert (rates.hit, rates.prompts_needed()) == (0.5, None)
    assert prompt_adherence.recognition_rates(np.full((4, 4), np.nan), labels) is None
    perfect = np.array([[1.0 if a == b else 0.0 for b in labels] for a in labels])
    assert prompt_adherence.recognition_rates(perfect, labels).prompts_needed() == 8


def test_tempo_fit_of_half_and_double_tempo_is_perfect():
    fit = prompt_adherence.tempo_fit([60, 90], [120, 91])
    assert fit[0, 0] == pytest.approx(0)
    assert fit[1, 1] > fit[1, 0]


def test_prototype_fit_of_matching_prototype_is_highest():
    prototypes = np.array([[0.0, 0], [4, 0], [0, 4]])
    fit = prompt_adherence.prototype_fit(prototypes + 0.5, prototypes)
    assert (fit.argmax(1) == np.arange(3)).all()
