"""The losses of a trial: of base, adapter and predictors, by recording and by musical event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from talim.adapters import injection, serialization
from talim.evaluation import intervals
from talim.evaluation.held_out_loss import prepare_held_out
from talim.evaluation.loss_by_event import EVENT_GROUPS, aggregate_by_event, frame_losses
from talim.evaluation.ornament_gain import ornament_gains
from talim.evaluation.return_gain import ReturningClip, gains_on_returns, returning_clips

if TYPE_CHECKING:
    import numpy as np

    from talim.backbones.protocol import Backbone
    from talim.corpus.manifest import Corpus
    from talim.experiments.study_file import TrialSpec
    from talim.experiments.worker_cache import TrialWorkerCache
    from talim.progress import Progress
    from talim.recipe import Recipe
    from talim.run import Run
    from talim.training.crops import EncodedClip

Measures = dict[str, dict[str, float]]  # measure -> recording (or "run") -> value
RETURN_GAIN = "repeat_gain"
AS_PLAYED, PLAIN = "as played", "performed plain"


def loss_measures(
    spec: TrialSpec,
    run: Run,
    recipe: Recipe,
    corpus: Corpus,
    backbone: Backbone,
    cache: TrialWorkerCache,
    progress: Progress,
) -> tuple[Measures, dict[str, str]]:
    """Losses of base, adapter and predictors that need no model, by held-out recording, and the loss reduction.

    With ground truth also by musical event, and what the adapter gains on ornaments and on returns; in addition the
    reasons why measures have no value, or none for some clips.
    """
    batch_size, rate_hz = recipe.training.batch_size, backbone.frame_rate_hz
    clips, frozen_cache = prepare_held_out(recipe, corpus, backbone, progress)
    key = (corpus.hash, batch_size, recipe.training.predict_beats_chords, recipe.training.melody_from)
    truths = cache.ground_truth(spec, corpus)
    sets, notes = {AS_PLAYED: clips}, dict[str, str]()
    returning: dict[str, list[ReturningClip]] = {}
    if truths:
        sets[PLAIN] = cache.performed_otherwise(spec, backbone, clips, ornaments=False)
        found, reason = returning_clips(clips, truths, rate_hz, recipe.training.crop_seconds)
        notes |= {RETURN_GAIN: reason} if reason else {}
        if found:
            present = [clip.present for clip in found]
            others = cache.performed_otherwise(spec, backbone, present, returns=False)
            control = [clip.performed(other.targets) for clip, other in zip(found, others, strict=True)]
            returning = {"what returns": found, "what does not return": control}
        for name, found in returning.items():
            sets[f"{name}, first heard"] = [clip.present for clip in found]
            sets[f"{name}, not heard"] = [clip.absent for clip in found]
    for name, reason in notes.items():
        progress.log(f"note: {name}: {reason}")
    backbone.model.eval()
    base = {
        name: cache.base_losses((*key, name), backbone, items, batch_size, progress) for name, items in sets.items()
    }
    with injection.temporary_adapters(backbone.model):
        serialization.load(backbone, run.adapter)
        backbone.model.eval()
        adapted = {
            name: frame_losses(
                backbone, items, batch_size, progress, f"loss with adapter, {name}",
                frozen_cache if name == AS_PLAYED else None,
            )
            for name, items in sets.items()
        }  # fmt: skip
    measures = reduction_measures(clips, base[AS_PLAYED], adapted[AS_PLAYED])
    names = [item.clip.sound_group for item in clips]
    references = cache.reference_losses(key, corpus, backbone, clips, batch_size, progress)
    for predictor, rows in references.items():
        measures[f"{predictor}_loss"] = intervals.mean_by_recording(rows.mean(axis=1).tolist(), names)
    if truths:
        measures |= event_measures(aggregate_by_event(clips, base[AS_PLAYED], adapted[AS_PLAYED], truths, rate_hz))
        ornamented, plain = ((base[name], adapted[name]) for name in (AS_PLAYED, PLAIN))
        measures["ornament_gain"] = ornament_gains(clips, ornamented, plain, truths, backbone)
    if returning:
        gains, control = (
            gains_on_returns(
                found, *((losses[f"{name}, first heard"], losses[f"{name}, not heard"]) for losses in (base, adapted))
            )
            for name, found in returning.items()
        )
        measures |= {RETURN_GAIN: difference(gains, control), f"{RETURN_GAIN}_control": control}
    return {name: values for name, values in measures.items() if values}, notes


def reduction_measures(
    clips: Sequence[EncodedClip], base: Sequence[np.ndarray], adapted: Sequence[np.ndarray]
) -> Measures:
    """`base_loss`, `adapted_loss` and `loss_reduction` by recording, of losses by frame [K, T] a clip."""
    names = [item.clip.sound_group for item in clips]
    measures = {
        f"{name}_loss": intervals.mean_by_recording([float(row.mean()) for row in losses], names)
        for name, losses in (("base", base), ("adapted", adapted))
    }
    return {**measures, "loss_reduction": difference(measures["base_loss"], measures["adapted_loss"])}


def difference(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """The first minus the second, by recording."""
    return {name: value - other[name] for name, value in one.items()}


def event_measures(events: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Measures:
    """The loss reduction by recording for each group of events."""
    reductions: Measures = {f"loss_reduction_{group}": {} for group in EVENT_GROUPS}
    for recording, groups in events.items():
        for group, loss in groups.items():
            reductions[f"loss_reduction_{group}"][recording] = float(loss["base_loss"] - loss["adapted_loss"])
    return {name: values for name, values in reductions.items() if values}
