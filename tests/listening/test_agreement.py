"""Agreement: Krippendorff's own example, bounds, repeats, and exact rank correlations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from talim.listening.agreement import intra_rater_agreement, krippendorff_alpha, rank_correlation

N = np.nan
# Four observers, twelve units: Krippendorff (2011), section D.
KRIPPENDORFF = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, N, N, N],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, N, 3],
        [N, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, N],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, N],
    ]
)


@pytest.mark.parametrize(("metric", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_krippendorff_alpha_published_example_gives_published_values(metric: str, alpha: float) -> None:
    assert krippendorff_alpha(KRIPPENDORFF, metric) == pytest.approx(alpha, abs=5e-4)  # type: ignore[arg-type]


def test_krippendorff_alpha_agreement_chance_and_contradiction_give_1_0_and_negative() -> None:
    same = np.array([[1.0, 2, 3, 4]] * 3)
    assert krippendorff_alpha(same) == pytest.approx(1)
    chance = np.random.default_rng(0).integers(-2, 3, (6, 3000)).astype(float)
    assert krippendorff_alpha(chance) == pytest.approx(0, abs=0.02)
    assert (krippendorff_alpha(np.array([[-2.0, 2, -2, 2], [2, -2, 2, -2]])) or 0) < -0.5


@pytest.mark.parametrize("values", [np.full((2, 3), N), np.array([[1.0, N], [N, 2.0]]), np.ones((3, 3))])
def test_krippendorff_alpha_without_pairable_values_is_none(values: np.ndarray) -> None:
    assert krippendorff_alpha(values) is None


def test_intra_rater_agreement_of_repeats_counts_same_near_and_reversed() -> None:
    result = intra_rater_agreement(np.array([2, 1, 0, -1]), np.array([2, 0, 0, 2]))
    assert (result["same"], result["within_one_step"], result["reversed"]) == (0.5, 0.75, 0.25)
    assert intra_rater_agreement(np.array([]), np.array([]))["repeats"] == 0


def test_rank_correlation_equals_spearman_with_exact_p() -> None:
    people = {"a": 3.0, "b": 2.0, "c": 1.0, "d": 0.5, "e": 0.1}
    score = {"a": 9, "b": 7, "c": 8, "d": 2, "e": 1, "unheard": 4}
    (result,) = rank_correlation(people, {"metric": score})
    expected = stats.spearmanr(list(people.values()), [score[k] for k in people])[0]
    assert result["spearman"] == pytest.approx(expected)
    assert result["conditions"] == 5
    assert result["p"] == pytest.approx(10 / 120)  # five orders of 120 lie at 0.9 or above, as many below -0.9


def test_rank_correlation_of_few_or_constant_scores_is_none() -> None:
    result = rank_correlation({"a": 1.0, "b": 2.0, "c": 3.0}, {"x": {"a": 1}, "y": {"a": 1, "b": 1, "c": 1}})
    assert [row["spearman"] for row in result] == [None, None]
