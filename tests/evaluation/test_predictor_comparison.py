"""Where base and adapter stand to the best predictor: hand-computed margins, verdicts, calibration."""

from __future__ import annotations

from typing import Any

import pytest

from talim.evaluation.predictor_comparison import ABOVE, BELOW, KEY, NOT_SHOWN, is_calibration, standing


def losses(*values: float) -> dict[str, Any]:
    return {"mean": sum(values) / len(values), "per_recording": dict(zip("abcdef", values, strict=False))}


PREDICTORS = {"uniform": losses(6.9, 6.9), "unigram": losses(6.0, 6.4), "last_token": losses(5.0, 5.8)}


@pytest.mark.parametrize(
    ("base", "adapted", "verdict", "margin"),
    [
        ((8.1, 8.3), (4.0, 4.75), BELOW, 1.025),  # by 1.0 and 1.05
        ((8.1, 8.3), (4.9, 4.9), NOT_SHOWN, 0.5),  # by 0.1 and 0.9: t of one degree of freedom tells nothing
        ((8.1, 8.3), (5.4, 5.9), ABOVE, -0.25),
        ((8.1, 8.3), (5.0, 5.8), ABOVE, 0.0),  # equal is not below
        ((8.1,), (4.0,), NOT_SHOWN, 1.0),  # one recording
    ],
)
def test_standing_is_that_of_paired_recordings(
    base: tuple[float, ...], adapted: tuple[float, ...], verdict: str, margin: float
) -> None:
    found = standing(losses(*base), losses(*adapted), PREDICTORS)
    assert found["best"] == "last_token"
    assert found["verdict"] == verdict
    assert found["adapted_margin"]["mean"] == pytest.approx(margin)
    assert found["base_margin"]["mean"] < 0
    assert set(found["adapted_margin"]["per_recording"]) == set("ab"[: len(base)])


def test_calibration_is_a_fall_that_ends_above() -> None:
    cases = ((1.0, ABOVE, True), (-1.0, ABOVE, False), (1.0, BELOW, False), (1.0, NOT_SHOWN, False))
    for reduction, verdict, expected in cases:
        assert is_calibration({"loss_reduction": {"mean": reduction}, KEY: {"verdict": verdict}}) is expected
    assert not is_calibration({"loss_reduction": {"mean": 1.0}})  # scores of an older version
