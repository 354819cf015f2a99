"""The learning curve: the chosen design taught from a quarter, a half and all of the recordings. Would more help?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from talim.atomic_io import read_json
from talim.evaluation.bootstrap import bootstrap_ci
from talim.html import formatting
from talim.poc.runs import PocContext, loss_reduction_of, train_one
from talim.recipe import Recipe
from talim.run import Run
from talim.training.batches import training_subset

SHARES = (0.25, 0.5)
MIN_RECORDINGS = 4
TIME_SAFETY_FACTOR = 1.1  # runs of one kind do not all take the same time


def learning_curve(way: PocContext, recipe: Recipe, run: Run, margin_share: float) -> dict[str, Any]:
    """{"points", "sentence"}: the fall by the number of recordings, in runs of the same steps below the run's folder.

    Without points where the curve was not asked for, there are too few recordings, or the hours would not hold it.
    """
    heard = len({clip.recording for clip in way.corpus.train})
    places = {share: Run(run.folder / "curve" / f"{share:g}") for share in SHARES}
    missing = sum(not place.finished for place in places.values())
    needed = missing * float(read_json(run.cost)["wall_seconds"]) * TIME_SAFETY_FACTOR
    if not way.wishes.curve:
        return _none("No learning curve was asked for.")
    if heard < MIN_RECORDINGS:
        return _none(
            f"Whether more recordings would help was not asked: {formatting.format_counted(heard, 'training recording')} cannot be "
            f"cut in four."
        )
    if missing and needed > way.seconds_left():
        left = formatting.format_duration(max(0.0, way.seconds_left()))
        return _none(
            f"Whether more recordings would help was not asked: it takes {formatting.format_duration(needed)}, and of the hours "
            f"{left} are left."
        )
    points = [_point(way, recipe, place, share) for share, place in places.items()]
    fall = loss_reduction_of(run)
    points.append(
        {
            "share": 1.0,
            "recordings": heard,
            **{key: fall[key] for key in ("mean", "interval", "per_recording")},
        }
    )
    return {"points": points, "sentence": sentence(points, margin_share)}


def _none(why: str) -> dict[str, Any]:
    return {"points": [], "sentence": why}


def _point(way: PocContext, recipe: Recipe, place: Run, share: float) -> dict[str, Any]:
    """The fall of a run that learned from a share of the recordings, against the same untrained base."""
    from talim.evaluation.held_out_loss import FILE, held_out_loss

    training = recipe.training.model_copy(update={"recordings_share": share})
    mine = recipe.model_copy(update={"training": training})
    train_one(way, mine, place)
    if not (place.folder / FILE).is_file():
        with way.spent.counting(way.progress) as progress:
            held_out_loss(place.folder, progress, way.wishes.device)
    before = read_json(Run(place.folder.parents[1]).scores)["held_out_loss"]["before"]["per_recording"]
    after = read_json(place.folder / FILE)["per_recording"]
    falls = {name: before[name] - after[name] for name in before}
    there = len({clip.recording for clip in training_subset(way.corpus, share, recipe.seed)})
    return {
        "share": share,
        "recordings": there,
        "mean": float(np.mean(list(falls.values()))),
        "interval": bootstrap_ci(falls),
        "per_recording": falls,
    }


def sentence(points: Sequence[Mapping[str, Any]], margin_share: float) -> str:
    """Would more recordings help, by what the last doubling brought; said not to be known where it is not.

    Little is what is surely under `margin_share` of the fall with all recordings.
    """
    half, whole = points[-2], points[-1]
    gains = {name: value - half["per_recording"][name] for name, value in whole["per_recording"].items()}
    gain, ends = float(np.mean(list(gains.values()))), bootstrap_ci(gains)
    told = (
        f"From {half['recordings']} to {formatting.format_counted(whole['recordings'], 'recording')}, with the same number of "
        f"steps, the fall grew by {formatting.format_number(gain)}"
    )
    if ends is None:
        return f"{told}; with one held-out recording it cannot be told from chance, so whether more would help is open."
    low, high = ends
    told += f" (95\u202f% interval {formatting.format_number(low)} to {formatting.format_number(high)})"
    caution = "One seed and one order of the recordings were tried."
    if low > 0:
        return (
            f"{told}: more recordings would likely help; the next doubling brings less, as a rule. {caution}"
        )
    if high < margin_share * max(whole["mean"], 0.0):
        return f"{told}: more recordings of the same sort would hardly help. {caution}"
    return f"{told}: whether more recordings would help cannot be told from these. {caution}"
