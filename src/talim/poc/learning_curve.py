"""The learning curve: the selected design trained on a quarter, a half and all of the recordings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from talim.atomic_io import read_json
from talim.evaluation.intervals import mean_interval
from talim.experiments.trial import train_and_evaluate
from talim.html.formatting import format_number
from talim.html.languages import to_fields
from talim.poc.runs import PocContext, validation_reduction_of
from talim.recipe import Recipe
from talim.reporting.catalogue import Texts, counted, duration, in_languages, interval_in_languages
from talim.run import Run
from talim.training.batches import training_subset

FRACTIONS = (0.25, 0.5)
MIN_RECORDINGS = 4
TIME_SAFETY_FACTOR = 1.1  # equal runs do not all take the same time


def learning_curve(context: PocContext, recipe: Recipe, run: Run, tolerance_fraction: float) -> dict[str, Any]:
    """{"points", "sentence", "sentence_translated"}: validation loss reduction by number of recordings, equal steps.

    Without points if the curve is switched off, there are too few recordings, or the time budget is too small.
    """
    recordings = len({clip.sound_group for clip in context.corpus.train})
    runs = {fraction: Run(run.folder / "curve" / f"{fraction:g}") for fraction in FRACTIONS}
    missing = sum(not each.finished for each in runs.values())
    needed = missing * float(read_json(run.cost)["wall_seconds"]) * TIME_SAFETY_FACTOR
    if not context.options.learning_curve:
        return _skipped(in_languages("poc_curve_off"))
    if recordings < MIN_RECORDINGS:
        return _skipped(in_languages("poc_curve_few", count=counted(recordings, "training recording")))
    full = validation_reduction_of(run)
    if full is None:
        return _skipped(in_languages("poc_curve_no_validation"))
    if missing and needed > context.seconds_left():
        left = duration(max(0.0, context.seconds_left()))
        return _skipped(in_languages("poc_curve_time", needed=duration(needed), left=left))
    points = [_point(context, recipe, run, each, fraction) for fraction, each in runs.items()]
    values = {key: full[key] for key in ("mean", "ci95", "per_recording")}
    points.append({"fraction": 1.0, "recordings": recordings, **values})
    texts = curve_texts(points, tolerance_fraction)
    return _curve(points, texts)


def _skipped(reason: Texts) -> dict[str, Any]:
    return _curve([], reason)


def _curve(points: Sequence[Mapping[str, Any]], texts: Texts) -> dict[str, Any]:
    return {"points": points, **to_fields("sentence", texts)}


def _point(context: PocContext, recipe: Recipe, full_run: Run, run: Run, fraction: float) -> dict[str, Any]:
    """The loss reduction of a run on a fraction of the recordings, against the same base losses."""
    from talim.evaluation.held_out_loss import FILE, validation_loss

    training = recipe.training.model_copy(update={"train_fraction": fraction})
    smaller = recipe.model_copy(update={"training": training})
    loss_file, device = run.folder / FILE, context.options.device
    if not (run.finished and loss_file.is_file()):
        with context.time_log.counting(context.progress) as progress:
            train_and_evaluate(
                smaller,
                run,
                lambda: loss_file.is_file() or validation_loss(run.folder, progress, device),
                progress,
                device=device,
            )
    base = read_json(full_run.scores)["validation_loss"]["base_loss"]["per_recording"]
    adapted = read_json(loss_file)["per_recording"]
    reductions = {name: base[name] - adapted[name] for name in base}
    clips = training_subset(context.corpus, fraction, recipe.seed)
    return {
        "fraction": fraction,
        "recordings": len({clip.sound_group for clip in clips}),
        "mean": float(np.mean(list(reductions.values()))),
        "ci95": mean_interval(reductions),
        "per_recording": reductions,
    }


def curve_texts(points: Sequence[Mapping[str, Any]], tolerance_fraction: float) -> Texts:
    """Whether more recordings would help, by the gain of the last doubling and its interval, by language.

    A gain is small if it is shown to be less than `tolerance_fraction` of the loss reduction with all recordings.
    """
    half, full = points[-2], points[-1]
    gains = {name: value - half["per_recording"][name] for name, value in full["per_recording"].items()}
    gain, ends = float(np.mean(list(gains.values()))), mean_interval(gains)
    change = in_languages("poc_curve_grew" if gain >= 0 else "poc_curve_shrank", gain=format_number(abs(gain)))
    values = {"half": half["recordings"], "full": counted(full["recordings"], "recording"), "change": change}
    if ends is None:
        return in_languages("poc_curve_by_chance", **values)
    low, high = ends
    interval = interval_in_languages(low, high, gains.values())
    values["interval"] = interval if gain >= 0 else in_languages("poc_curve_gain", interval=interval)
    if low > 0:
        return in_languages("poc_curve_helps", **values)
    if high < tolerance_fraction * max(full["mean"], 0.0):
        return in_languages("poc_curve_hardly", **values)
    return in_languages("poc_curve_open", **values)
