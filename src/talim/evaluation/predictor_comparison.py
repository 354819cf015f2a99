"""Where the losses of base and adapter stand to the best predictor that needs no model; plain values of scores.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from talim.evaluation import intervals

BELOW, NOT_SHOWN, ABOVE = "below", "not shown", "above"
KEY = "reference_predictors"  # in the held-out loss of scores.json

Losses = Mapping[str, Any]  # "mean" and "per_recording"


def standing(base: Losses, adapted: Losses, predictors: Mapping[str, Losses]) -> dict[str, Any]:
    """The best predictor, how far base and adapter end below it by recording (negative: above), and a verdict.

    The verdict on the adapter is "below" where the whole 95 % interval says so, "above" where its mean is not below,
    else "not shown".
    """
    best = min(predictors, key=lambda name: predictors[name]["mean"])
    margins = {name: margin(predictors[best], losses) for name, losses in (("base", base), ("adapted", adapted))}
    ends, mean = margins["adapted"]["ci95"], margins["adapted"]["mean"]
    verdict = ABOVE if mean <= 0 else BELOW if ends and ends[0] > 0 else NOT_SHOWN
    return {"best": best, **{f"{name}_margin": each for name, each in margins.items()}, "verdict": verdict}


def margin(predictor: Losses, losses: Losses) -> dict[str, Any]:
    """How much lower `losses` are than a predictor's, paired by recording, with its interval."""
    reference, values = predictor["per_recording"], losses["per_recording"]
    differences = {name: float(reference[name] - values[name]) for name in sorted(values)}
    return {
        "mean": float(np.mean(list(differences.values()))),
        "ci95": intervals.mean_interval(differences),
        "per_recording": differences,
    }


def may_be_chance(change: Mapping[str, Any]) -> bool:
    """Whether a change ("mean", "ci95") is told that its 95 % interval does not tell from 0, or that has none."""
    ends = change.get("ci95")
    return bool(change.get("mean")) and (not ends or ends[0] <= 0 <= ends[1])


def is_calibration(losses: Mapping[str, Any]) -> bool:
    """Whether a held-out loss fell and yet does not end below the best predictor that needs no model."""
    known = losses.get(KEY) or {}
    return known.get("verdict") == ABOVE and losses["loss_reduction"]["mean"] > 0
