"""Learning curves of trials: validation loss over optimiser steps, and how much of the gain came at the end."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from talim.atomic_io import read_jsonl
from talim.run import Run

LAST_PART = 0.2  # of the steps: what still comes in it decides whether a curve is flat
FLAT_FRACTION = 0.02  # of the whole gain, in the last part; less is flat
STEEP_FRACTION = 0.1  # half of what the last part of a straight line brings; what lies beyond is not told from a curve
Curve = Sequence[tuple[int, float]]


def read_curve(run: Run) -> list[tuple[int, float]]:
    """The validation loss at step 0 (the base with the untrained adapter) and at every evaluation of a run.

    In nats per token, or the unit of a diffusion base. Empty without validation clips.
    """
    rows = read_jsonl(run.log) if run.log.is_file() else []
    return [(int(row["step"]), float(row["loss"])) for row in rows if row["split"] == "validation"]


def plateau_fraction(curve: Curve) -> float | None:
    """The share of the whole gain (loss at step 0 minus the last loss) that the last fifth of the steps brought.

    Between evaluations the loss is interpolated. Negative where the loss rose at the end; None where the loss never
    fell, or the curve does not tell: fewer than three evaluations after step 0, none of them before the last fifth
    begins, or a loss that is not finite.
    """
    if len(curve) < 4 or not all(math.isfinite(loss) for _, loss in curve):
        return None
    steps, losses = (np.asarray(values, float) for values in zip(*curve, strict=True))
    begin = steps[0] + (1 - LAST_PART) * (steps[-1] - steps[0])
    gain = losses[0] - losses[-1]
    if not (np.all(np.diff(steps) > 0) and gain > 0 and steps[1] <= begin):
        return None
    return float((np.interp(begin, steps, losses) - losses[-1]) / gain)


def growth_at_twice_the_steps(fraction: float) -> float:
    """By what fraction of itself a gain would grow at twice the steps, from its `plateau_fraction`.

    As if the loss went on to fall with the logarithm of the steps as fast as in the last fifth. Losses of trainings of
    several lengths fall no faster than that (a power of the steps: Hestness et al. 2017, arXiv 1712.00409).
    """
    return fraction * math.log(2) / -math.log(1 - LAST_PART)


def mean_curve(curves: Sequence[Curve]) -> list[tuple[int, float]]:
    """The mean of several curves at the steps that all of them have."""
    values = [dict(curve) for curve in curves if curve]
    shared = sorted(set.intersection(*(set(each) for each in values))) if values else []
    return [(step, float(np.mean([each[step] for each in values]))) for step in shared]


def is_flat(curve: Curve) -> bool:
    """Whether the last fifth of the steps brought less than FLAT_FRACTION of the gain; False where no one knows."""
    fraction = plateau_fraction(curve)
    return fraction is not None and fraction < FLAT_FRACTION


def flat_from(curve: Curve) -> int | None:
    """The first evaluated step at which the curve until then is flat, as it is at all later ones; None without one."""
    first = None
    for count in range(len(curve), 0, -1):
        if not is_flat(curve[:count]):
            break
        first = curve[count - 1][0]
    return first
