"""The second stage, quality: designs are compared on validation clips; the selected one's gate is on the test side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from talim.atomic_io import read_json
from talim.evaluation.copy_scores import copies_sentence
from talim.evaluation.intervals import FEW_RECORDINGS
from talim.evaluation.loss_standing import KEY
from talim.experiments.recommend import DesignChoice, choose_design
from talim.html.formatting import format_ci, format_number
from talim.poc import budget
from talim.poc.gates import GateThresholds
from talim.poc.runs import ends_below_predictors, held_out_loss_of, loss_reduction_of, validation_reduction_of
from talim.reporting.predictor_sentences import calibration_sentence, not_shown_sentence, standing_sentences
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

    None if there is no interval, or the scores hold no losses of predictors that need no model.
    """
    losses = held_out_loss_of(run)
    ends = losses["loss_reduction"]["ci95"]
    if ends is None or KEY not in losses:
        return None
    return bool(ends[0] > gates.quality.min_loss_reduction and ends_below_predictors(run))


def quality_summary(runs: Mapping[str, Run], failures: Mapping[str, str], choice: DesignChoice) -> list[str]:
    """The stage in sentences: each loss reduction, the selection, failures, and warnings of the evaluation."""
    compared = [
        f"with {design} {_value(reduction)}"
        for design, run in runs.items()
        if (reduction := validation_reduction_of(run))
    ]
    lines = [f"Reduction of the prediction error (loss) on validation clips: {', '.join(compared)}."] * bool(compared)
    lines.append(choice.sentence if compared else _unseen_sentence(runs, choice.design))
    test = _value(loss_reduction_of(runs[choice.design]))
    lines.append(f"On held-out recordings, which no choice has seen, it is {test} with {choice.design}.")
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


def stop_reason(run: Run, gates: GateThresholds, *, rates_tried: bool = False) -> str:
    """Why the pipeline stops if the gate is not met; empty if it is.

    What to do does not name a lower learning rate if `rates_tried`.
    """
    passed = gate_passed(run, gates)
    if passed:
        return ""
    if loss_reduction_of(run)["ci95"] is None:
        return "one held-out recording gives no interval, so the loss reduction may be chance; add recordings"
    losses = held_out_loss_of(run)
    reduction = losses["loss_reduction"]
    low, high = reduction["ci95"]
    if KEY not in losses:
        return f"its scores are older than the predictors that the loss has to end below: talim evaluate {run.folder}"
    if low > gates.quality.min_loss_reduction:
        text = (calibration_sentence(losses) or not_shown_sentence(losses))["en"]
        return f"{text[0].lower()}{text[1:]}".rstrip(".")
    count, least = len(reduction["per_recording"]), gates.quality.min_loss_reduction
    text = f"the interval of the loss reduction, {format_ci(low, high)}, is not above {least:g}"
    if count < FEW_RECORDINGS and reduction["mean"] > least:
        return f"{text}: {count} held-out recordings are too few to tell; give more recordings first"
    if rates_tried:
        return f"{text}; try more recordings or more steps first"
    return (
        f"{text}; try more recordings, more steps or a lower learning rate (--set training.learning_rate=0.0003) first"
    )


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
