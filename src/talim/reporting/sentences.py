"""The results of a run in sentences."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from typing import Any, TypeGuard

from talim.evaluation.copy_scores import checked_clips, is_rate_uncertain
from talim.evaluation.predictor_comparison import is_calibration, may_be_chance
from talim.html.formatting import format_change, format_ci, format_count, format_counted, format_number, format_percent
from talim.html.languages import words
from talim.recordings_needed import too_few_for_interval
from talim.reporting.catalogue import Texts, counted, in_languages, measure_interval, recording_values
from talim.reporting.run_results import RunResults
from talim.reporting.sample_changes import got_worse
from talim.run import Run

NOT_MEASURED = "not measured"
FEW_STEPS = 200  # fewer say nothing on how good a trained model is
MAX_STEPS_NAMED = 4  # at which the validation loss was measured

# "better", "calibration", "unclear", "worse" or "unknown", and a headline
StatedVerdict = tuple[str, str]


def stage_of(result: RunResults) -> str:
    """How far training has come: "200 steps", "140 of 200 steps, stopped early", "80 of 200 steps, not finished"."""
    done, asked = result.steps_done, result.steps_asked
    of_asked = f" of {format_count(asked)}" if asked and (asked != done or not result.finished) else ""
    steps = f"{format_count(done)}{of_asked} step{'' if (asked or done) == 1 else 's'}"
    if not result.finished:
        return f"{steps}, not finished"
    return f"{steps}, stopped early" if result.cost.get("stopped_early") else steps


def unfinished_sentence(result: RunResults) -> str:
    """What is missing of a training that is not finished, and how to go on; empty for a finished one."""
    if result.finished:
        return ""
    resume = Run(result.folder.resolve()).resume_command
    asked = result.steps_asked
    of_asked = f" of {format_counted(asked, 'step')}" if asked else " steps"
    done = f"{format_count(result.steps_done)}{of_asked}"
    return f"{done} are done, so there is no result yet. Unless it is still running, go on with: {resume}"


def carry_over_sentence(result: RunResults, larger: str) -> Texts:
    """What a run of a miniature does and does not say about a larger base; nothing where it took too few steps."""
    steps = result.steps_done
    key = "miniature_few_steps" if 0 < steps < FEW_STEPS else "miniature_learns"
    return in_languages(key, steps=counted(steps, "training step"), larger=larger)


def unchanged_sentence(result: RunResults) -> str:
    """That the validation loss never was below that of step 0, so that an untrained adapter is stored; else empty."""
    if result.cost.get("stored_step") != 0:
        return ""
    what = f"it is {result.start.get('name')}, which it began from" if result.start else "it changes nothing"
    measured, steps = result.validated_steps, format_counted(result.steps_done, "training step")
    where = f"after {measured[0]} of {steps}" if len(measured) == 1 else f"{len(measured)} times in {steps}"
    if 1 < len(measured) <= MAX_STEPS_NAMED:
        where = f"after {', '.join(map(str, measured[:-1]))} and {measured[-1]} of {steps}"
    was = f"measured {where}, never lower than before training" if measured else "not measured during training"
    return f"The validation loss was {was}, so the stored adapter is that of step 0: {what}."


def loss_verdict(result: RunResults) -> StatedVerdict:
    """Better or worse only if the whole interval is on that side of 0, "calibration" where a fall shows no more.

    That is a fall to no lower loss than a predictor that needs no model reaches.
    """
    reduction = result.losses.get("loss_reduction") or {}
    low, high = interval_of(reduction)
    if not result.finished:
        return "unknown", f"Training {'is not finished' if result.steps_done else 'has not begun'}."
    if unchanged := unchanged_sentence(result):
        return "unclear", unchanged
    if not is_number(reduction.get("mean")):
        return "unknown", "Trained, but not evaluated yet."
    if low is None or high is None:
        return "unclear", "Too few held-out recordings to tell whether it predicts new music better."
    if low > 0 and is_calibration(result.losses):
        return "calibration", "Its loss fell, but not below that of a guess that needs no model (calibration)."
    if low > 0:
        return "better", _better(result)
    if high < 0:
        return "worse", "The adapter made the model worse on held-out recordings."
    return "unclear", "No improvement is shown: the difference may be chance."


def _better(result: RunResults) -> str:
    """The headline of a lower loss: it says so where the generated audio got worse, or was not measured."""
    seen = (result.scores.get("seen_in_training") or {}).get("answer", "no")
    text = "It predicts unheard music better"
    if seen != "no":
        state = "were in its training" if seen == "yes" else "may have been in its training"
        text = f"It predicts these recordings better, some of which {state}"
    if worse := got_worse(result.scores):
        names = " and ".join(change.name for change in worse[:2])
        more = f" and {format_counted(len(worse) - 2, 'other score')}" if len(worse) > 2 else ""
        return f"{text}, but its own music got worse than the untrained base: {names}{more}."
    return f"{text}. Whether its own music is better, listeners decide."


def plain_change(result: RunResults) -> float | None:
    """What the adapter changes on held-out recordings, as a fraction of the untrained base's; above 0 is better.

    Of a base that predicts tokens, how much more chance it gives what really comes next; of another, how much smaller
    the error is. None where that was not measured.
    """
    mean = (result.losses.get("loss_reduction") or {}).get("mean")
    if not is_number(mean):
        return None
    if result.loss_unit == "nats":
        return math.expm1(min(mean, 100.0))
    base = (result.losses.get("base_loss") or {}).get("mean")
    return mean / base if is_number(base) and base else None


def plain_percent(change: float) -> str:
    """The size of a `plain_change` in per cent, with as many decimals as a small one needs."""
    size = abs(change)
    return format_percent(size) if size >= 0.001 or not size else f"{format_number(100 * size, 1)}\u202f%"


def loss_meaning(result: RunResults) -> tuple[str, str]:
    """The meaning of this base's loss, and of its parts."""
    meanings = words("en", "run")["loss_meanings"]
    loss, parts = meanings.get(result.loss_unit, meanings["other"])
    return loss.format(unit=result.loss_unit), parts.format(unit=result.loss_unit)


def loss_sentence(result: RunResults) -> str:
    """The change of the held-out loss, its interval, the number of recordings, and how the corpus was split."""
    losses = result.losses
    reduction = losses.get("loss_reduction") or {}
    mean = reduction.get("mean")
    if not result.finished:
        return unfinished_sentence(result)
    if not is_number(mean):
        run = shlex.quote(str(result.folder.resolve()))
        return f"The held-out loss without and with the adapter was {NOT_MEASURED}: talim evaluate {run}"
    verb = "fell" if mean > 0 else "rose" if mean < 0 else "stayed the same"
    unit = f" {result.loss_unit}" if result.loss_unit == "nats" else f" ({result.loss_unit})"
    base, adapted = ((losses.get(key) or {}).get("mean") for key in ("base_loss", "adapted_loss"))
    amount, change = format_number(abs(mean)), ""
    if is_number(base) and is_number(adapted):
        before, after, amount = format_change(base, adapted)
        change = f", from {before} to {after}"
    amount = f" by {amount.lstrip('−')}{unit}" if mean else ""
    count = (losses.get("adapted_loss") or {}).get("n_recordings")
    recordings = format_counted(count, "held-out recording") if count else "held-out recordings"
    interval = (
        f"its interval was {NOT_MEASURED}" if interval_of(reduction)[0] is None else _reduction_interval(reduction)
    )
    strategy = result.split.get("strategy")
    split = f"; split by {strategy}" if strategy else ""
    chance = "It may be chance that on" if may_be_chance(reduction) else "On"
    return f"{chance} {recordings} the loss {verb}{amount}{change} ({interval}{split})."


def _reduction_interval(reduction: dict[str, Any]) -> str:
    """The interval of a loss reduction, which is below 0 where the loss rose; of few recordings the values."""
    if too_few_for_interval(len(recording_values(reduction))):
        return f"reduction in {measure_interval(reduction)['en']}"
    return f"95\u202f% interval of the reduction {format_ci(*interval_of(reduction))}"


def start_sentence(result: RunResults) -> str:
    """The validation loss during training as it began from an adapter, and at its best; empty for others."""
    first = next(
        (row.get("loss") for row in result.log if row.get("split") == "validation" and row.get("step") == 0), None
    )
    best = result.cost.get("best_validation_loss")
    if not (result.start and is_number(first) and is_number(best)):
        return ""
    return (
        f"Training began from the adapter {result.start.get('name')}: on the validation clips, the "
        f"loss was {format_number(first)} then and {format_number(best)} at its best."
    )


def melody_sentence(result: RunResults) -> str:
    """The change of the loss without the melodies of the clips, for a base that is given them; empty for others."""
    losses = result.scores.get("held_out_loss_without_melody") or {}
    mean = (losses.get("loss_reduction") or {}).get("mean")
    base, adapted = ((losses.get(key) or {}).get("mean") for key in ("base_loss", "adapted_loss"))
    if not (is_number(mean) and is_number(base) and is_number(adapted)):
        return ""
    verb = "fell" if mean > 0 else "rose" if mean < 0 else "stayed the same"
    known = interval_of(losses["loss_reduction"])[0] is not None
    interval = f"; {_reduction_interval(losses['loss_reduction'])}" if known else ""
    before, after, _ = format_change(base, adapted)
    change = f"{verb} from {before} to {after}{interval}" if mean else verb
    without = "It may be chance that without it" if may_be_chance(losses["loss_reduction"]) else "Without it"
    return (
        f"There the model was given the melody of each clip. {without} the loss {change}: what the adapter knows of "
        "the music beyond its melody."
    )


def effect_sentence(result: RunResults) -> str:
    """How much generated audio changes with the adapter, at the same seed and prompt."""
    effect = result.scores.get("adapter_effect") or {}
    tokens, latents = effect.get("token_change_rate"), effect.get("latent_change")
    distance_db = effect.get("log_mel_distance_db")
    parts = []
    if is_number(tokens):
        parts.append(f"{format_percent(tokens)} of the tokens")
    if is_number(latents):
        parts.append(f"the latents (the numbers that sound is decoded from) by {format_percent(latents)} of their norm")
    if is_number(distance_db):
        loudness = "the mel spectrogram (how loud each range of pitch is over time)"
        parts.append(f"{loudness} by {format_number(distance_db, 1)} dB")
    if not parts:
        return f"The change of generated audio by the adapter was {NOT_MEASURED}."
    if not any(value for value in (tokens, latents, distance_db) if is_number(value)):
        return "With the same prompt and seed, the adapter changes nothing at all."
    return f"With the same prompt and seed, the adapter changes {' and '.join(parts)}."


def trained_fraction(result: RunResults) -> float | None:
    """Trainable parameters as a fraction (0 to 1) of the base's."""
    trained, total = result.cost.get("trainable_parameters"), result.cost.get("total_parameters")
    return trained / total if is_number(trained) and is_number(total) and total else None


def interval_of(score: dict[str, Any]) -> tuple[float | None, float | None]:
    """Lower and upper end of `ci95`, or two Nones if there is no interval."""
    ends = score.get("ci95") or (None, None)
    return (ends[0], ends[1]) if len(ends) == 2 and all(is_number(end) for end in ends) else (None, None)


def is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def copies_texts(scores: Mapping[str, Any]) -> Texts:
    """What was found of copied passages, by language; reasons in English alone. Empty where nothing was looked for."""
    copies = scores.get("copies") or {}
    if not copies.get("sentence"):
        return {}
    clips, checked = copies.get("clips") or [], checked_clips(copies)
    if not checked:
        return in_languages("copies_none_checked", sources="", reasons="") | {"en": copies["sentence"]}
    copied, among = sum(row["copied"] for row in checked), counted(len(checked), "generated clip")
    parts = [in_languages("copies_found" if copied else "copies_none", copied=copied, clips=among, have="", source="")]
    if len(clips) > len(checked):
        unchecked = counted(len(clips) - len(checked), "generated clip")
        parts.append(in_languages("copies_unchecked", clips=unchecked, reasons=""))
    if is_rate_uncertain(copies):
        parts.append(in_languages("copies_uncertain", clips=counted(copies["null_clips"], "generated clip")))
    if copies.get("not_compared_with"):
        parts.append(in_languages("copies_elsewhere", what=""))
    parts.append(in_languages("sentence_end"))
    return {language: "".join(part[language] for part in parts) for language in parts[0]} | {"en": copies["sentence"]}
