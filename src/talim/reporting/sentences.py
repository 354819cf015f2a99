"""What a result says in plain sentences, and how its numbers are written out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeGuard

from talim.backbones import registry
from talim.designs.musicgen_sites import MusicGenShape
from talim.html.formatting import (
    format_count,
    format_counted,
    format_duration,
    format_number,
    format_percent,
    format_scientific,
)
from talim.reporting.run_results import RunResults

NOT_MEASURED = "not measured"

REFERENCE_BASE = "musicgen-small"

FRAME_RATE_HZ = 50

# What a loss says, and what its parts are, by its unit.
MEANINGS = {
    "nats": (
        "The loss says how surprised the model is by the next 20 milliseconds of music, on average over its codebooks.",
        "Held-out loss in nats, codebook by codebook: the first carries the melody and the broad sound, the later "
        "ones ever finer detail.",
    ),
    "squared error": (
        "The loss says how far the model is from the music when it is asked to take noise away from it, on average "
        "over fixed amounts of noise.",
        "Held-out loss at fixed noise levels, each with the same noise for every look: at high ones the model decides "
        "what is played, at low ones how it sounds.",
    ),
}

StatedVerdict = tuple[
    str, str
]  # how it went (better, unclear, worse, unknown), and the headline that says so


@dataclass(frozen=True)
class TrainingTimeEstimate:
    """Training time of the usable base on this machine, and what it was worked out from."""

    hours: float
    basis: str


def sentences(result: RunResults) -> list[str]:
    """The result in three sentences: what became of the loss, what the adapter does, what it cost."""
    return [loss_sentence(result), effect_sentence(result), cost_sentence(result)]


def loss_verdict(result: RunResults) -> StatedVerdict:
    """Better or worse only where the whole interval says so."""
    fall = result.losses.get("fall") or {}
    low, high = interval_of(fall)
    if not _is_number(fall.get("mean")):
        return "unknown", "Trained, but not judged yet."
    if low is None or high is None:
        word = "fell" if fall["mean"] > 0 else "did not fall"
        return "unclear", f"The held-out loss {word}, but how surely was {NOT_MEASURED}."
    if low > 0:
        return "better", "The adapter learned something that carries over to recordings it never heard."
    if high < 0:
        return "worse", "The adapter made the model worse on recordings it never heard."
    return "unclear", "No improvement is shown: the difference may be chance."


def loss_meaning(result: RunResults) -> tuple[str, str]:
    """What the loss of this base says, and what its parts are."""
    unknown = (f"The loss is in {result.loss_unit}.", f"Held-out loss in {result.loss_unit}, part by part.")
    return MEANINGS.get(result.loss_unit, unknown)


def loss_sentence(result: RunResults) -> str:
    """The fall of the held-out loss, its interval, how many recordings it rests on, the split's step."""
    losses = result.losses
    fall = losses.get("fall") or {}
    mean = fall.get("mean")
    if not _is_number(mean):
        return f"The held-out loss before and after training was {NOT_MEASURED}: talim evaluate does that."
    moved = "fell" if mean > 0 else "rose" if mean < 0 else "stayed the same"
    unit = f" {result.loss_unit}" if result.loss_unit == "nats" else f" ({result.loss_unit})"
    amount = f" by {format_number(abs(mean))}{unit}" if mean else ""
    before, after = ((losses.get(key) or {}).get("mean") for key in ("before", "after"))
    ends = (
        f", from {format_number(before)} to {format_number(after)}"
        if _is_number(before) and _is_number(after)
        else ""
    )
    n_recordings = (losses.get("after") or {}).get("n_recordings")
    rests_on = format_counted(n_recordings, "recording") if n_recordings else "recordings"
    low, high = interval_of(fall)
    if low is None or high is None:
        sure = f"its interval was {NOT_MEASURED}"
    else:
        sure = f"95\u202f% interval of the fall {format_number(low)} to {format_number(high)}"
    step = result.split.get("step")
    by = f", split by {step}" if step else ""
    return f"On {rests_on} kept out of training the loss {moved}{amount}{ends} ({sure}{by})."


def effect_sentence(result: RunResults) -> str:
    """What switching the adapter off changes at the same seed and prompt."""
    effect = result.scores.get("adapter_effect") or {}
    share, moved = effect.get("same_seed_token_change"), effect.get("same_seed_latent_change")
    distance_db = effect.get("log_mel_distance_db")
    parts = []
    if _is_number(share):
        parts.append(f"{format_percent(share)} of the tokens")
    if _is_number(moved):
        parts.append(f"the latents by {format_percent(moved)} of their size")
    if _is_number(distance_db):
        parts.append(f"the mel spectrogram by {format_number(distance_db, 1)} dB")
    if not parts:
        return f"What switching the adapter off changes at the same seed was {NOT_MEASURED}."
    if not any(value for value in (share, moved, distance_db) if _is_number(value)):
        return "With the same prompt and seed, switching the adapter off changes nothing at all."
    return f"With the same prompt and seed, switching the adapter on changes {' and '.join(parts)}."


def cost_sentence(result: RunResults) -> str:
    """Time, device and trained share."""
    cost = result.cost
    seconds, trained, share = (
        cost.get("wall_seconds"),
        cost.get("trainable_parameters"),
        trained_share(result),
    )
    if not _is_number(seconds) and not _is_number(trained):
        return f"What the training cost was {NOT_MEASURED}."
    time = (
        f"took {format_duration(seconds)}" if _is_number(seconds) else f"took a time that was {NOT_MEASURED}"
    )
    on = f" on {cost['device']}" if cost.get("device") else ""
    of = (
        f" ({format_percent(share)} of the base; the base itself stayed as it was)"
        if share is not None
        else ""
    )
    what = f" and changed {format_count(trained)} parameters{of}" if _is_number(trained) else ""
    return f"Training {time}{on}{what}."


def estimate_training_time(result: RunResults) -> TrainingTimeEstimate | None:
    """How long the same training takes the usable base on this machine; None where too little is known."""
    cost, training = result.cost, result.recipe.get("training") or {}
    shape = registry.MODELS[REFERENCE_BASE].shape
    seconds, flops = cost.get("device_seconds") or cost.get("wall_seconds"), cost.get("flops")
    steps, batch = cost.get("steps"), training.get("batch_size")
    clip_seconds = training.get("clip_seconds") or result.corpus.get("clip_seconds")
    known = [
        value for value in (seconds, flops, steps, batch, clip_seconds) if _is_number(value) and value > 0
    ]
    if not isinstance(shape, MusicGenShape) or len(known) < 5:
        return None
    seconds, flops, steps, batch, clip_seconds = known
    weights = shape.decoder_parameters
    # Forward and back through frozen weights: two multiply-adds, so four operations, a weight and a position.
    needed = 4.0 * weights * steps * batch * clip_seconds * FRAME_RATE_HZ
    basis = (
        f"this run did {format_scientific(flops)} floating-point operations in {format_duration(seconds)}; {format_count(steps)} "
        f"steps of {format_count(batch)} clips of {format_number(clip_seconds, 1)} s through {format_count(weights)} weights "
        f"need about {format_scientific(needed)}, taken here at the same speed; larger matrices often run faster, "
        f"a machine with too little memory runs far slower"
    )
    return TrainingTimeEstimate(needed / flops * seconds / 3600, basis)


def trained_share(result: RunResults) -> float | None:
    """Trainable parameters as a share of the base, 0..1."""
    trained, total = result.cost.get("trainable_parameters"), result.cost.get("total_parameters")
    return trained / total if _is_number(trained) and _is_number(total) and total else None


def interval_of(score: dict[str, Any]) -> tuple[float | None, float | None]:
    """Lower and upper end, or two Nones where no interval was measured."""
    ends = score.get("interval") or (None, None)
    return (ends[0], ends[1]) if len(ends) == 2 and all(_is_number(end) for end in ends) else (None, None)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
