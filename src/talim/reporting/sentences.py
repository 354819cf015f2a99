"""The results of a run in sentences."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeGuard

from talim.backbones import registry
from talim.design.musicgen_sites import MusicGenShape
from talim.html.formatting import (
    format_ci,
    format_count,
    format_counted,
    format_duration,
    format_number,
    format_percent,
    format_scientific,
)
from talim.reporting.catalogue import words
from talim.reporting.run_results import RunResults

NOT_MEASURED = "not measured"
REFERENCE_BASE = "musicgen-small"
FRAME_RATE_HZ = 50

# "better", "unclear", "worse" or "unknown", and a headline
StatedVerdict = tuple[str, str]


@dataclass(frozen=True)
class TrainingTimeEstimate:
    """Training time of the reference base on this machine, and how it was estimated."""

    hours: float
    basis: str


def sentences(result: RunResults) -> list[str]:
    """The result in three sentences: the loss, the effect of the adapter, the cost."""
    return [loss_sentence(result), effect_sentence(result), cost_sentence(result)]


def loss_verdict(result: RunResults) -> StatedVerdict:
    """Better or worse only if the whole interval is on that side of 0."""
    reduction = result.losses.get("loss_reduction") or {}
    low, high = interval_of(reduction)
    if not _is_number(reduction.get("mean")):
        return "unknown", "Trained, but not evaluated yet."
    if low is None or high is None:
        verb = "fell" if reduction["mean"] > 0 else "did not fall"
        return "unclear", f"The held-out loss {verb}; its interval was {NOT_MEASURED}."
    if low > 0:
        return "better", "The adapter learned something that generalises to held-out recordings."
    if high < 0:
        return "worse", "The adapter made the model worse on held-out recordings."
    return "unclear", "No improvement is shown: the difference may be chance."


def loss_meaning(result: RunResults) -> tuple[str, str]:
    """The meaning of this base's loss, and of its parts."""
    meanings = words("run")["loss_meanings"]
    loss, parts = meanings.get(result.loss_unit, meanings["other"])
    return loss.format(unit=result.loss_unit), parts.format(unit=result.loss_unit)


def loss_sentence(result: RunResults) -> str:
    """The change of the held-out loss, its interval, the number of recordings, and how the corpus was split."""
    losses = result.losses
    reduction = losses.get("loss_reduction") or {}
    mean = reduction.get("mean")
    if not _is_number(mean):
        return f"The held-out loss without and with the adapter was {NOT_MEASURED}: run talim evaluate."
    verb = "fell" if mean > 0 else "rose" if mean < 0 else "stayed the same"
    unit = f" {result.loss_unit}" if result.loss_unit == "nats" else f" ({result.loss_unit})"
    amount = f" by {format_number(abs(mean))}{unit}" if mean else ""
    base, adapted = ((losses.get(key) or {}).get("mean") for key in ("base_loss", "adapted_loss"))
    known = _is_number(base) and _is_number(adapted)
    change = f", from {format_number(base)} to {format_number(adapted)}" if known else ""
    count = (losses.get("adapted_loss") or {}).get("n_recordings")
    recordings = format_counted(count, "held-out recording") if count else "held-out recordings"
    low, high = interval_of(reduction)
    interval = f"95\u202f% interval of the reduction {format_ci(low, high)}"
    if low is None or high is None:
        interval = f"its interval was {NOT_MEASURED}"
    strategy = result.split.get("strategy")
    split = f"; split by {strategy}" if strategy else ""
    return f"On {recordings} the loss {verb}{amount}{change} ({interval}{split})."


def effect_sentence(result: RunResults) -> str:
    """How much generated audio changes with the adapter, at the same seed and prompt."""
    effect = result.scores.get("adapter_effect") or {}
    tokens, latents = effect.get("token_change_rate"), effect.get("latent_change")
    distance_db = effect.get("log_mel_distance_db")
    parts = []
    if _is_number(tokens):
        parts.append(f"{format_percent(tokens)} of the tokens")
    if _is_number(latents):
        parts.append(f"the latents by {format_percent(latents)} of their norm")
    if _is_number(distance_db):
        parts.append(f"the mel spectrogram by {format_number(distance_db, 1)} dB")
    if not parts:
        return f"The change of generated audio by the adapter was {NOT_MEASURED}."
    if not any(value for value in (tokens, latents, distance_db) if _is_number(value)):
        return "With the same prompt and seed, the adapter changes nothing at all."
    return f"With the same prompt and seed, the adapter changes {' and '.join(parts)}."


def cost_sentence(result: RunResults) -> str:
    """Time, device and trained parameters."""
    cost = result.cost
    seconds, trained = cost.get("wall_seconds"), cost.get("trainable_parameters")
    fraction = trained_fraction(result)
    if not _is_number(seconds) and not _is_number(trained):
        return f"The cost of training was {NOT_MEASURED}."
    time = format_duration(seconds) if _is_number(seconds) else f"a time that was {NOT_MEASURED}"
    device = f" on {cost['device']}" if cost.get("device") else ""
    of_base = f", {format_percent(fraction)} of the base, which stayed frozen" if fraction is not None else ""
    parameters = f" and changed {format_count(trained)} parameters{of_base}" if _is_number(trained) else ""
    return f"Training took {time}{device}{parameters}."


def estimate_training_time(result: RunResults) -> TrainingTimeEstimate | None:
    """The time of the same training on the reference base and this machine; None if too little is known."""
    cost, training = result.cost, result.recipe.get("training") or {}
    shape = registry.MODELS[REFERENCE_BASE].shape
    values = (
        cost.get("device_seconds") or cost.get("wall_seconds"),
        cost.get("flops"),
        cost.get("steps"),
        training.get("batch_size"),
        training.get("crop_seconds") or result.corpus.get("clip_seconds"),
    )
    known = [value for value in values if _is_number(value) and value > 0]
    if not isinstance(shape, MusicGenShape) or len(known) < len(values):
        return None
    seconds, flops, steps, batch_size, crop_seconds = known
    weights = shape.decoder_parameters
    # Forward and backward through frozen weights: two multiply-adds, so four FLOPs per weight and position.
    needed = 4.0 * weights * steps * batch_size * crop_seconds * FRAME_RATE_HZ
    basis = (
        f"this run did {format_scientific(flops)} FLOPs in {format_duration(seconds)}; {format_count(steps)} steps of "
        f"{format_count(batch_size)} clips of {format_number(crop_seconds, 1)} s through {format_count(weights)} "
        f"weights need about {format_scientific(needed)}, assumed at the same speed; larger matrices are often faster, "
        "and a machine with too little memory is much slower"
    )
    return TrainingTimeEstimate(needed / flops * seconds / 3600, basis)


def trained_fraction(result: RunResults) -> float | None:
    """Trainable parameters as a fraction (0 to 1) of the base's."""
    trained, total = result.cost.get("trainable_parameters"), result.cost.get("total_parameters")
    return trained / total if _is_number(trained) and _is_number(total) and total else None


def interval_of(score: dict[str, Any]) -> tuple[float | None, float | None]:
    """Lower and upper end of `ci95`, or two Nones if there is no interval."""
    ends = score.get("ci95") or (None, None)
    return (ends[0], ends[1]) if len(ends) == 2 and all(_is_number(end) for end in ends) else (None, None)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
