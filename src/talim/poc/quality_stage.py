"""The second stage, quality: designs are compared on validation clips; the selected one's gate is on the test side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from talim.atomic_io import read_json
from talim.corpus.manifest import Corpus
from talim.evaluation.copy_scores import copies_sentence
from talim.evaluation.intervals import FEW_RECORDINGS
from talim.evaluation.predictor_comparison import KEY
from talim.experiments.preliminary_rules import RATE
from talim.experiments.recommend import DesignChoice, choose_design
from talim.html.formatting import format_ci, format_number, format_setting
from talim.poc import budget
from talim.poc.gates import GateThresholds
from talim.poc.options import STEPS, PocOptions
from talim.poc.runs import ends_below_predictors, held_out_loss_of, loss_reduction_of, validation_reduction_of
from talim.reporting.catalogue import words
from talim.reporting.predictor_sentences import calibration_sentence, not_shown_sentence, standing_sentences
from talim.run import Run

ENOUGH_SECONDS = 3600.0  # of music, from which on nobody is told to record an hour


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

    None if there is no interval, or the scores hold no losses of predictors that need no model.
    """
    losses = held_out_loss_of(run)
    ends = losses["loss_reduction"]["ci95"]
    if ends is None or KEY not in losses:
        return None
    return bool(ends[0] > gates.quality.min_loss_reduction and ends_below_predictors(run))


def undecidable_note(corpus: Corpus) -> str:
    """What too few held-out recordings mean for the gate, to be told before anything is trained; empty for enough."""
    count = len({clip.sound_group for clip in corpus.held_out})
    if count >= FEW_RECORDINGS:
        return ""
    if count > 1:
        return (
            f"note: the quality gate asks for an interval over {count} held-out recordings, which is wide: unless they "
            f"gain alike, it is not met; {FEW_RECORDINGS} or more would decide better"
        )
    return (
        "warning: the quality gate cannot be decided here, whatever is learnt, and the stages after it will be left "
        f"out: one held-out recording gives no interval, two are the least, {FEW_RECORDINGS} decide better; "
        f"{_hold_out_more(corpus)}"
    )


def quality_summary(runs: Mapping[str, Run], failures: Mapping[str, str], choice: DesignChoice) -> list[str]:
    """The stage in sentences beside the table of designs: the selection, its loss reduction on the test side, failures,
    and warnings of the evaluation.
    """
    compared = any(validation_reduction_of(run) for run in runs.values())
    lines = [choice.sentence if compared else _unseen_sentence(runs, choice.design)]
    test = _value(loss_reduction_of(runs[choice.design]))
    lines.append(
        f"On held-out recordings, which no choice has seen, the loss reduction is {test} with {choice.design}."
    )
    lines += [f"{design} failed and was left out: {reason}" for design, reason in failures.items()]
    scores = read_json(runs[choice.design].scores)
    lines += [f"Caution: {warning}." for warning in scores.get("warnings") or []]
    copies = scores.get("copies") or {}
    lines.append(("Caution: " if copies.get("copied") else "") + copies_sentence(copies))
    losses = held_out_loss_of(runs[choice.design])
    lines += filter(None, [standing_sentences(losses).get("en")])
    note = losses["loss_reduction"].get("ci_note")
    return [*lines, f"On the interval: {note}."] if note else lines


def _value(reduction: Mapping[str, Any]) -> str:
    ends = f" ({format_ci(*reduction['ci95'])})" if reduction["ci95"] else ""
    return f"{format_number(reduction['mean'])}{ends}"


def _unseen_sentence(runs: Mapping[str, Run], design: str) -> str:
    if len(runs) == 1:
        return f"{design} was the only design."
    return (
        "There are no validation clips to compare designs on, so the one that takes the fewest operations, "
        f"{design}, was selected: more recordings let the designs be compared."
    )


def stop_reason(
    run: Run, gates: GateThresholds, corpus: Corpus, options: PocOptions, *, rates_tried: bool = False
) -> str:
    """Why the pipeline stops if the gate is not met, and what to do next that was not done; empty if it is met."""
    passed = gate_passed(run, gates)
    if passed:
        return ""
    if loss_reduction_of(run)["ci95"] is None:
        text = "one held-out recording gives no interval, so the loss reduction may be chance"
        return f"{text}; next: {_hold_out_more(corpus)}"
    losses = held_out_loss_of(run)
    reduction = losses["loss_reduction"]
    low, high = reduction["ci95"]
    if KEY not in losses:
        return f"its scores are older than the predictors that the loss has to end below: talim evaluate {run.folder}"
    if low > gates.quality.min_loss_reduction:
        text = (calibration_sentence(losses) or not_shown_sentence(losses))["en"].rstrip(".")
        return f"{text[0].lower()}{text[1:]}; next: {words('poc')['next_steps']['calibration']}"
    count, least = len(reduction["per_recording"]), gates.quality.min_loss_reduction
    text = f"the interval of the loss reduction, {format_ci(low, high)}, is not above {least:g}"
    if count < FEW_RECORDINGS and reduction["mean"] > least:
        return f"{text}: {count} held-out recordings are too few to tell; next: {_hold_out_more(corpus, count + 1)}"
    return f"{text}; next: {_to_try(run, corpus, options, rates_tried)}"


def _hold_out_more(corpus: Corpus, wanted: int = 2) -> str:
    """How to have that many held-out recordings: by naming them, where half are left to train on, else by adding."""
    count = len({clip.sound_group for clip in corpus.clips})
    if count > wanted and 2 * wanted <= count + 1:
        return f"name {wanted} or more of the {count} recordings with --held-out, or add recordings"
    return f"{_more_recordings(corpus)}, so that {wanted} or more can be held out"


def _more_recordings(corpus: Corpus) -> str:
    """What to add, without what is there."""
    lacks = ["an hour"] if float(corpus.summary["seconds"]) < ENOUGH_SECONDS else []
    lacks += ["several performers"] if int(corpus.summary.get("performers") or 0) < 2 else []
    return f"more recordings ({', '.join(lacks)})" if lacks else "more recordings"


def _to_try(run: Run, corpus: Corpus, options: PocOptions, rates_tried: bool) -> str:
    """What may lower the loss and was not done yet, most useful first, with the options to type."""
    training, cost = run.recipe.training, read_json(run.cost)
    tries = [_more_recordings(corpus)]
    if not cost.get("stopped_early") or cost.get("stopped_for_time"):  # else more steps were there and did not help
        longer = f"more than --hours {options.hours:g}" if options.hours else f"--set {STEPS}={2 * training.steps}"
        tries.append(f"more steps ({longer})")
    lower = float(f"{0.3 * training.learning_rate:.2g}")
    if not rates_tried:
        tries.append(f"a lower learning rate (--set {RATE}={format_setting(lower)})")
    return f"{', '.join(tries)} or a smaller design"


def design_rows(runs: Mapping[str, Run], traced: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each evaluated design: loss reduction on validation (None without), time, memory, ratios."""
    by_design = {row["design"]: row for row in traced}
    rows = []
    for design, run in runs.items():
        reduction = validation_reduction_of(run) or {"mean": None, "ci95": None}
        cost, trace = read_json(run.cost), by_design.get(design) or {}
        values = {"design": design, "run": run.folder.name, "loss_reduction": reduction["mean"]}
        values |= {"ci95": reduction["ci95"], "seconds": cost["wall_seconds"], "steps": cost["steps"]}
        rows.append(values | {"memory_bytes": trace.get("memory_bytes"), "ratios": trace.get("ratios") or {}})
    return rows
