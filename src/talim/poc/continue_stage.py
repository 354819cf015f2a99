"""Continues from finished runs: more seeds and steps of the selected design, or a part of the base trained with it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np

from talim import recipe as recipes
from talim.atomic_io import read_json
from talim.backbones.resolve import family_by_name
from talim.design.expression import Design
from talim.errors import UsageError
from talim.evaluation.intervals import mean_interval, two_way_effect
from talim.evaluation.predictor_comparison import may_be_chance
from talim.html.formatting import (
    format_bytes,
    format_ci,
    format_count,
    format_counted,
    format_duration,
    format_memory,
    format_number,
)
from talim.poc import cost_stage, state
from talim.poc.gates import GateThresholds, memory_limit_bytes
from talim.poc.options import folder_name
from talim.poc.runs import PocContext, ends_below_predictors, loss_reduction_of, run_one, validation_reduction_of
from talim.recipe import Recipe
from talim.reporting.catalogue import interval_in_languages
from talim.run import Run

CONTINUATIONS = ("extend", "hybrid")
MORE_SEEDS, STEPS_FACTOR = 2, 2  # two further seeds; one run with twice the steps
PARTIAL_FINETUNE = {"musicgen": "full@post", "mustango": "full@mid"}  # what a hybrid trains, by family
TIME_SAFETY_FACTOR = 1.1


def check_continuable(out: Path, folder: Path) -> None:
    """UsageError, with the command to run first, if no plan in DIR has passed the quality gate."""
    first = f"run first: talim poc {shlex.quote(str(folder))} --out {shlex.quote(str(out))}"
    if not (out / state.PLAN).is_file() or not (out / state.STAGES).is_file():
        raise UsageError(f"{out}: there are no finished runs to continue from; {first}")
    passed = {row["name"]: row["passed"] for row in state.read_stages(out / state.STAGES)["stages"]}
    if not passed.get("quality"):
        raise UsageError(f"{out}: no design has passed the quality gate, so there is nothing to continue from; {first}")


def plan_key(out: Path, core: str) -> str:
    """The key of the plan in DIR; UsageError if it belongs to other recordings or options."""
    plan = read_json(out / state.PLAN)
    if plan.get("core") != core:
        raise UsageError(
            f"{out}: its runs belong to other recordings or options; give the same options as before, or first run "
            "the pipeline with these (without --continue)"
        )
    return str(plan["key"])


def continue_training(
    context: PocContext, continuation: str, decided: dict[str, Any], thresholds: GateThresholds
) -> dict[str, Any]:
    """Run the continuation, or what is missing of it; returns the content of DIR/stages.json with its result."""
    selected = Run(context.out / decided["chosen"]["run"])
    run = _extend if continuation == "extend" else _hybrid
    gate = read_json(context.out / state.GATES)[continuation]
    row = {"name": continuation, "gate": gate, **run(context, selected, thresholds)}
    others = [each for each in decided["continuations"] if each["name"] != continuation]
    return decided | {"continuations": [*others, row]}


def _extend(context: PocContext, selected: Run, thresholds: GateThresholds) -> dict[str, Any]:
    """Two further seeds of the selected design, and one run with twice the steps."""
    recipe, name = _recipe(context, selected), selected.folder.name
    by_name = {
        f"{name}-seed-{seed}": recipe.model_copy(update={"seed": seed})
        for seed in range(recipe.seed + 1, recipe.seed + 1 + MORE_SEEDS)
    }
    steps = recipe.training.steps * STEPS_FACTOR
    longer = f"{name}-steps-{steps}"
    training = recipe.training.model_copy(update={"steps": steps})
    by_name[longer] = recipe.model_copy(update={"training": training})
    done, skipped, why = _run_within_budget(context, selected, by_name)
    runs = [selected, *(Run(context.out / each) for each in done if each != longer)]
    passed, sentence = _over_seeds(runs, thresholds)
    lines = [sentence]
    if skipped:
        lines.append(f"Skipped, as the time budget is too small: {', '.join(skipped)}; {why}.")
    if longer in done:
        label = f"In {format_count(steps)} steps instead of {format_count(recipe.training.steps)}"
        lines.append(_compare(label, Run(context.out / longer), selected)[1])
    return {"passed": passed, "sentences": lines, "runs": done}


def _recipe(context: PocContext, run: Run) -> Recipe:
    """The run's recipe, on the corpus in its present folder."""
    return recipes.load([run.recipe_file], {"corpus": str(context.corpus.folder)})


def _run_within_budget(
    context: PocContext, selected: Run, by_name: dict[str, Recipe]
) -> tuple[list[str], list[str], str]:
    """Train and evaluate one after the other while the time budget allows; names of finished and skipped runs.

    With them what the first skipped one would take.
    """
    cost, done, skipped, why = read_json(selected.cost), [], [], ""
    step_seconds = cost["wall_seconds"] / cost["steps"]
    for name, recipe in by_name.items():
        run = Run(context.out / name)
        training_seconds = step_seconds * recipe.training.steps * TIME_SAFETY_FACTOR
        evaluation_seconds, left = selected.evaluation_seconds or 0.0, context.seconds_left()
        if not run.finished and (skipped or training_seconds + evaluation_seconds > left):
            skipped.append(name)
            why = why or (
                f"{name} takes about {format_duration(training_seconds)} of training and "
                f"{format_duration(evaluation_seconds)} of evaluation, and {format_duration(max(0.0, left))} are left; "
                "give more --hours, or none"
            )
            continue
        run_one(context, recipe, run)
        done.append(name)
    return done, skipped, why


def _over_seeds(runs: list[Run], thresholds: GateThresholds) -> tuple[bool | None, str]:
    """The loss reduction over seeds and recordings, and whether its interval lies above the gate."""
    reductions = [loss_reduction_of(run)["per_recording"] for run in runs]
    names = sorted(reductions[0])
    effect = two_way_effect(np.array([[row[name] for name in names] for row in reductions], float))
    low, high = effect.interval()
    by_seed = ", ".join(format_number(float(np.mean(list(row.values())))) for row in reductions)
    ends = (low, high) if np.isfinite(low) else None
    over = "It may be chance that over" if may_be_chance({"mean": effect.mean, "ci95": ends}) else "Over"
    if effect.mean < 0:
        change = f"the loss rose in the mean by {format_number(-effect.mean)}: the reduction was {by_seed}"
    else:
        change = f"the loss reduction was {by_seed}, in the mean {format_number(effect.mean)}"
    text = f"{over} {format_counted(len(runs), 'seed')} {change}"
    if not np.isfinite(low):
        return None, f"{text}; one number gives no interval."
    text += f" (95\u202f% interval of the reduction over seeds and recordings {format_ci(low, high)})"
    if low <= thresholds.quality.min_loss_reduction:
        return False, f"{text}: with another seed there may be no reduction."
    above = [run for run in runs if not ends_below_predictors(run)]
    if above:
        counted = format_counted(len(above), "seed")
        return False, f"{text}, but {counted} of these did not end below the best predictor that needs no model."
    return True, f"{text}: the result does not depend on one seed."


def _compare(label: str, run: Run, selected: Run) -> tuple[bool | None, str]:
    """The difference of two runs' reductions of the validation loss, and whether its interval lies above 0."""
    known = [validation_reduction_of(each) for each in (run, selected)]
    if None in known:
        return None, f"{label}: there are no validation clips to compare on."
    values, reference = (each["per_recording"] for each in known if each)
    gains = {name: values[name] - reference[name] for name in reference}
    gain, ends = float(np.mean(list(gains.values()))), mean_interval(gains)
    side = "larger" if gain >= 0 else "smaller"
    chance = "It may be chance that " if may_be_chance({"mean": gain, "ci95": ends}) else ""
    label = f"{label[0].lower()}{label[1:]}" if chance else label
    text = f"{chance}{label} the loss reduction on validation was {format_number(abs(gain))} {side}"
    if ends is None:
        return None, f"{text}; one validation recording gives no interval."
    low, high = ends
    interval = f"the gain, {interval_in_languages(low, high, gains.values())['en']}"
    verdict = "worth its cost" if low > 0 else "worse" if high < 0 else "no difference detected"
    if low > 0 and not ends_below_predictors(run):
        return False, (f"{text} ({interval}), but it does not end below the best predictor that needs no model.")
    return low > 0, f"{text} ({interval}): {verdict}."


def _hybrid(context: PocContext, selected: Run, thresholds: GateThresholds) -> dict[str, Any]:
    """The selected design with a part of the base trained with it, with the same steps and seed."""
    recipe, device = _recipe(context, selected), context.options.device
    partial = PARTIAL_FINETUNE[family_by_name(recipe.base)]
    design = Design(recipe.design.parts + Design.parse(partial).parts)
    hybrid = recipe.model_copy(update={"design": design})
    row = cost_stage.trace_designs({str(design): hybrid}, context.corpus, device, context.progress)[0]
    limit = memory_limit_bytes(thresholds, cost_stage.gpu_memory_bytes(device))
    if row["memory_bytes"] is not None and row["memory_bytes"] > limit:
        needed = format_memory(row["memory_bytes"])
        sentence = f"{design} needs {needed} of memory; the limit is {format_memory(limit)}."
        return {"passed": False, "sentences": [sentence], "runs": []}
    name = f"{selected.folder.name}-{folder_name(partial)}"
    done, skipped, why = _run_within_budget(context, selected, {name: hybrid})
    if skipped:
        return {"passed": None, "sentences": [f"The time budget is too small for {design}: {why}."], "runs": []}
    passed, sentence = _compare(f"With {design}", Run(context.out / name), selected)
    disk = [f"Its file has {format_bytes(row['file_bytes'])}."] if row["file_bytes"] else []
    return {"passed": passed, "sentences": [sentence, *disk], "runs": done}
