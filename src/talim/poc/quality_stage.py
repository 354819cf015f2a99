"""The second stage, quality: designs are compared on validation clips; the selected one's gate is on the test side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from talim.atomic_io import read_json
from talim.corpus.manifest import Corpus
from talim.evaluation.copy_scores import copies_sentence
from talim.evaluation.predictor_comparison import may_be_chance
from talim.experiments.preliminary_rules import RATE
from talim.experiments.recommend import DesignChoice, choose_design
from talim.html.formatting import format_ci, format_counted, format_number, format_setting
from talim.html.languages import languages
from talim.poc import budget
from talim.poc.gates import GateThresholds
from talim.poc.options import STEPS, PocOptions
from talim.poc.rate_search import MIN_STEPS
from talim.poc.runs import ends_below_predictors, held_out_loss_of, loss_reduction_of, validation_reduction_of
from talim.recordings_needed import GOOD_SECONDS, HELD_OUT_TO_COMPARE, too_few_for_interval
from talim.reporting.catalogue import (
    Texts,
    counted,
    either,
    in_languages,
    interval_ends,
    interval_in_languages,
    listed,
    measure_interval,
    recording_values,
)
from talim.reporting.predictor_sentences import calibration_sentence, not_shown_sentence, standing_sentences
from talim.reporting.sample_changes import can_be_held_out, hold_out_more
from talim.run import Run


def select_design(runs: Mapping[str, Run], gates: GateThresholds) -> DesignChoice:
    """The design to continue with, by reduction of the validation loss and FLOPs, of those given most steps.

    A design that was given fewer, or stopped before its last as time ran out, is not compared with them. Without
    validation clips nothing tells which is better before the test, so it is the one with the fewest FLOPs.
    """
    steps = {design: budget.steps_allowed(run) for design, run in runs.items()}
    runs = {design: run for design, run in runs.items() if steps[design] == max(steps.values())}
    flops = {design: float(read_json(run.cost)["flops"]) for design, run in runs.items()}
    reductions = {design: validation_reduction_of(run) for design, run in runs.items()}
    known = {design: values["per_recording"] for design, values in reductions.items() if values}
    if len(known) < len(runs):
        cheapest = min(flops, key=lambda design: flops[design])
        return DesignChoice(cheapest, "", 0.0, ())
    return choose_design(known, flops, gates.quality.tolerance_fraction)


def gate_passed(run: Run, gates: GateThresholds) -> bool | None:
    """Whether the interval of the loss reduction lies above the gate, and the adapted loss below the best predictor.

    None if there is no interval.
    """
    ends = loss_reduction_of(run)["ci95"]
    if ends is None:
        return None
    return bool(ends[0] > gates.quality.min_loss_reduction and ends_below_predictors(run))


def undecidable_note(corpus: Corpus) -> str:
    """What too few held-out recordings mean for the gate, to be told before anything is trained; empty for enough."""
    count = len({clip.sound_group for clip in corpus.held_out})
    if count >= HELD_OUT_TO_COMPARE:
        return ""
    if count == 2:
        return (
            "warning: this run can hardly pass the quality stage, and the stages after it will be left out: the "
            "interval over two held-out recordings lies above 0 only where their gains differ by less than 8 %; "
            f"{_hold_out_more(corpus, HELD_OUT_TO_COMPARE)['en']}"
        )
    if count > 1:
        return (
            "note: the quality gate asks for an interval over "
            f"{format_counted(count, 'held-out recording')}, which is wide: unless they "
            f"gain alike, it is not met; {HELD_OUT_TO_COMPARE} or more would decide better"
        )
    return (
        "warning: this run cannot pass the quality stage, whatever is learnt, and the stages after it will be left "
        f"out: one held-out recording gives no interval, two are the least, {HELD_OUT_TO_COMPARE} decide better; "
        f"{_hold_out_more(corpus)['en']}"
    )


def quality_summary(runs: Mapping[str, Run], failures: Mapping[str, str], choice: DesignChoice) -> list[str]:
    """The stage in sentences beside the table of designs: the selection, its loss reduction on the test side, failures,
    and warnings of the evaluation.
    """
    compared = any(validation_reduction_of(run) for run in runs.values())
    lines = [choice.sentence if compared else _unseen_sentence(runs, choice.design)]
    reduction = loss_reduction_of(runs[choice.design])
    sentence = f"on held-out recordings, which no choice has seen, {_loss_change(reduction)} with {choice.design}."
    by_chance = may_be_chance(reduction)
    lines.append(f"It may be chance that {sentence}" if by_chance else f"O{sentence[1:]}")
    lines += [f"{design} failed and was left out: {reason}" for design, reason in failures.items()]
    scores = read_json(runs[choice.design].scores)
    lines += [f"Caution: {warning}." for warning in scores.get("warnings") or []]
    copies = scores.get("copies") or {}
    lines.append(("Caution: " if copies.get("copied") else "") + copies_sentence(copies))
    losses = held_out_loss_of(runs[choice.design])
    lines += filter(None, [standing_sentences(losses).get("en")])
    note = losses["loss_reduction"].get("ci_note")
    return [*lines, f"On the interval: {note}."] if note else lines


def _loss_change(reduction: Mapping[str, Any]) -> str:
    mean, interval = reduction["mean"], measure_interval(reduction)["en"]
    if mean < 0:
        ends = f" (reduction: {interval})" if reduction["ci95"] else ""
        return f"the loss rose by {format_number(-mean)}{ends}"
    ends = f" ({interval})" if reduction["ci95"] else ""
    return f"the loss reduction is {format_number(mean)}{ends}"


def _unseen_sentence(runs: Mapping[str, Run], design: str) -> str:
    if len(runs) == 1:
        return f"{design} was the only design."
    return (
        "There are no validation clips to compare designs on, so the one that takes the fewest operations, "
        f"{design}, was selected: more recordings let the designs be compared."
    )


def stop_reason(
    run: Run, gates: GateThresholds, corpus: Corpus, options: PocOptions, *, rates_tried: bool = False
) -> Texts:
    """Why the pipeline stops if the gate is not met, and what to do next that was not done; empty if it is met."""
    if gate_passed(run, gates):
        return {}
    steps = run.recipe.training.steps
    is_short = too_short(steps, read_json(run.cost))
    longer = in_languages("stop_show_little", longer=_longer(run, options), steps=counted(steps, "step"))
    if loss_reduction_of(run)["ci95"] is None:
        more = _hold_out_more(corpus)
        return _then(in_languages("stop_no_interval"), _both(more, longer) if is_short else more)
    losses = held_out_loss_of(run)
    reduction = losses["loss_reduction"]
    low, high = reduction["ci95"]
    count, least = len(reduction["per_recording"]), gates.quality.min_loss_reduction
    is_calibration = low > least
    why = in_languages("stop_not_above", ends=interval_ends(format_ci(low, high)), least=f"{least:g}")
    if too_few_for_interval(count):
        each = interval_in_languages(low, high, recording_values(reduction), no_change=least)
        why = in_languages("stop_not_shown", each=each, least=f"{least:g}")
    if is_calibration:
        sentences = calibration_sentence(losses) or not_shown_sentence(losses)
        why = {language: _as_clause(sentences[language]) for language in languages()}
    if is_short:
        few = count < HELD_OUT_TO_COMPARE
        return _then(why, _both(_hold_out_more(corpus, HELD_OUT_TO_COMPARE), longer) if few else longer)
    if is_calibration:
        tries = [in_languages("stop_base"), *_more_steps(run, options), in_languages("stop_larger")]
        return _then(why, in_languages("stop_until", tries=either(tries)))
    if count < HELD_OUT_TO_COMPARE and reduction["mean"] > least:
        if not too_few_for_interval(count):  # else that is said already
            why = in_languages("stop_too_few", why=why, recordings=counted(count, "held-out recording"))
        return _then(why, _hold_out_more(corpus, HELD_OUT_TO_COMPARE))
    return _then(why, _to_try(run, corpus, options, rates_tried))


def _then(why: Texts, following: Texts) -> Texts:
    return in_languages("stop_next", why=why, next=following)


def _both(first: Texts, second: Texts) -> Texts:
    return in_languages("stop_both", first=first, second=second)


def _as_clause(sentence: str) -> str:
    """A sentence to go on from: without its full stop, and its first letter small."""
    return f"{sentence[0].lower()}{sentence[1:]}".rstrip(".。")


def _hold_out_more(corpus: Corpus, wanted: int = 2) -> Texts:
    """How to have that many held-out recordings: by naming them, where half are left to train on, else by adding."""
    count = len({clip.sound_group for clip in corpus.clips})
    if can_be_held_out(count, wanted):
        return hold_out_more(count, wanted)
    return in_languages("stop_hold_out", recordings=_more_recordings(corpus), wanted=wanted)


def _more_recordings(corpus: Corpus) -> Texts:
    """What to add, without what is there."""
    lacks = ["stop_hour"] if float(corpus.summary["seconds"]) < GOOD_SECONDS else []
    lacks += ["stop_performers"] if int(corpus.summary.get("performers") or 0) < 2 else []
    if not lacks:
        return in_languages("stop_recordings")
    return in_languages("stop_recordings_of", lacks=listed([in_languages(key) for key in lacks]))


def _to_try(run: Run, corpus: Corpus, options: PocOptions, rates_tried: bool) -> Texts:
    """What may lower the loss and was not done yet, most useful first, with the options to type."""
    tries = [_more_recordings(corpus), *_more_steps(run, options)]
    lower = float(f"{0.3 * run.recipe.training.peak_rate:.2g}")
    if not rates_tried:
        tries.append(in_languages("stop_rate", option=f"--set {RATE}={format_setting(lower)}"))
    return either([*tries, in_languages("stop_smaller")])


def too_short(steps: int | None, cost: Mapping[str, Any]) -> bool:
    """Whether a training of so many steps says nothing on what else would help: only more steps are advised then."""
    return steps is not None and steps < MIN_STEPS and _took_all_steps(cost)


def _took_all_steps(cost: Mapping[str, Any]) -> bool:
    """Whether there were no more steps; a training that stopped early left some, and they would not have helped."""
    return not cost.get("stopped_early") or bool(cost.get("stopped_for_time"))


def _more_steps(run: Run, options: PocOptions) -> list[Texts]:
    return [_longer(run, options)] if _took_all_steps(read_json(run.cost)) else []


def _longer(run: Run, options: PocOptions) -> Texts:
    """More steps, with the option to type: at least as many as show something."""
    steps = max(MIN_STEPS, 2 * run.recipe.training.steps)
    option: Texts | str = f"--set {STEPS}={steps}"
    if options.hours:
        option = in_languages("stop_more_hours", hours=f"{options.hours:g}")
    return in_languages("stop_steps", option=option)


def design_rows(runs: Mapping[str, Run], traced: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each evaluated design: loss reduction on validation (None without), time, memory, ratios."""
    by_design = {row["design"]: row for row in traced}
    rows = []
    for design, run in runs.items():
        reduction = validation_reduction_of(run) or {"mean": None, "ci95": None}
        cost, trace = read_json(run.cost), by_design.get(design) or {}
        values = {"design": design, "run": run.folder.name, "loss_reduction": reduction["mean"]}
        values |= {"ci95": reduction["ci95"], "per_recording": reduction.get("per_recording") or {}}
        values |= {"seconds": cost["wall_seconds"], "steps": cost["steps"]}
        rows.append(values | {"memory_bytes": trace.get("memory_bytes"), "ratios": trace.get("ratios") or {}})
    return rows
