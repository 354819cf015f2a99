"""Going on from finished runs: other seeds and more steps of the chosen design, or a part of the base beside it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np

from talim import recipe as recipes
from talim.atomic_io import read_json
from talim.backbones.resolve import family_by_name
from talim.designs.expression import Design
from talim.errors import UsageError
from talim.evaluation.bootstrap import bootstrap_ci
from talim.experiments.effects import two_way_effect
from talim.html import formatting
from talim.poc import cost_stage, state
from talim.poc.gates import GateThresholds, size_limit_bytes
from talim.poc.options import folder_name
from talim.poc.runs import PocContext, evaluate_one, loss_reduction_of, train_one
from talim.recipe import Recipe
from talim.run import Run

STAGES = ("extend", "hybrid")
MORE_SEEDS, MORE_STEPS = 2, 2  # two further seeds; one run of twice the steps
PARTIAL_FINETUNE = {
    "musicgen": "full@post",
    "mustango": "full@mid",
}  # of the base: what a hybrid trains beside the adapter
TIME_SAFETY_FACTOR = 1.1
EVALUATION_TIME_FRACTION = 0.15  # of a run's time, for its samples and scores


def check_continuable(out: Path, folder: Path) -> None:
    """UsageError, with what to type first, where no plan in DIR has passed the quality gate."""
    first = f"type first: talim poc {shlex.quote(str(folder))} --out {shlex.quote(str(out))}"
    if not (out / state.PLAN).is_file() or not (out / state.STAGES).is_file():
        raise UsageError(f"{out}: there are no finished runs to go on from; {first}")
    met = {row["name"]: row["passed"] for row in read_json(out / state.STAGES)["stages"]}
    if not met.get("quality"):
        raise UsageError(
            f"{out}: no design has passed the quality gate yet, so there is nothing to go on from; {first}"
        )


def plan_key(out: Path, core: str) -> str:
    """The key of the plan in DIR; UsageError where it is of other recordings or wishes than now."""
    plan = read_json(out / state.PLAN)
    if plan.get("core") != core:
        raise UsageError(
            f"{out}: its runs are of other recordings or wishes; give the same options as before, or first go the "
            "road with these (without --stage)"
        )
    return str(plan["key"])


def continue_training(
    way: PocContext, stage: str, decided: dict[str, Any], thresholds: GateThresholds
) -> dict[str, Any]:
    """Do the further stage, or what is missing of it; what stands in DIR/stages.json with its result."""
    chosen = Run(way.out / decided["chosen"]["run"])
    written = read_json(way.out / state.GATES)
    found = _extended(way, chosen, thresholds) if stage == "extend" else _hybrid(way, chosen, thresholds)
    row = {"name": stage, "gate": written[stage], **found}
    others = [each for each in decided["further"] if each["name"] != stage]
    return decided | {"further": [*others, row]}


def _extended(way: PocContext, chosen: Run, thresholds: GateThresholds) -> dict[str, Any]:
    """Two further seeds of the chosen design, and one run of twice the steps."""
    recipe, name = _recipe(way, chosen), chosen.folder.name
    steps = recipe.training.steps * MORE_STEPS
    seeds = [recipe.seed + more for more in range(1, MORE_SEEDS + 1)]
    wanted = {f"{name}-seed-{seed}": recipe.model_copy(update={"seed": seed}) for seed in seeds}
    longer = f"{name}-steps-{steps}"
    wanted[longer] = _with_steps(recipe, steps)
    done, left_out = _within_hours(way, chosen, wanted)
    lines = [f"Left out, as the hours would not hold it: {', '.join(left_out)}."] if left_out else []
    runs = [chosen, *(Run(way.out / place) for place in done if place != longer)]
    passed, over_seeds = _over_seeds(runs, thresholds)
    lines.insert(0, over_seeds)
    if longer in done:
        told = f"In {formatting.format_count(steps)} steps instead of {formatting.format_count(recipe.training.steps)}"
        lines.append(_gain(told, Run(way.out / longer), chosen)[1])
    return {"passed": passed, "sentences": lines, "runs": done}


def _recipe(way: PocContext, run: Run) -> Recipe:
    """The run's recipe, on the corpus where it lies now."""
    return recipes.load([run.recipe_file], {"corpus": str(way.corpus.folder)})


def _with_steps(recipe: Recipe, steps: int) -> Recipe:
    training = recipe.training.model_copy(update={"steps": steps})
    return recipe.model_copy(update={"training": training})


def _within_hours(way: PocContext, chosen: Run, wanted: dict[str, Recipe]) -> tuple[list[str], list[str]]:
    """Train and judge one after the other while the hours hold it; what was done, and what was not."""
    spent, done, left_out = read_json(chosen.cost), [], []
    for name, recipe in wanted.items():
        run = Run(way.out / name)
        needed = (
            spent["wall_seconds"]
            * recipe.training.steps
            / spent["steps"]
            * TIME_SAFETY_FACTOR
            * (1 + EVALUATION_TIME_FRACTION)
        )
        if not run.finished and (left_out or needed > way.seconds_left()):
            left_out.append(name)
            continue
        train_one(way, recipe, run)
        evaluate_one(way, recipe, run)
        done.append(name)
    return done, left_out


def _over_seeds(runs: list[Run], thresholds: GateThresholds) -> tuple[bool | None, str]:
    """The fall over seeds and recordings at once, and whether it is above the gate."""
    falls = [loss_reduction_of(run)["per_recording"] for run in runs]
    found = two_way_effect(np.array([[row[name] for name in sorted(falls[0])] for row in falls], float))
    low, high = found.interval()
    each = ", ".join(formatting.format_number(float(np.mean(list(row.values())))) for row in falls)
    told = f"Over {formatting.format_counted(len(runs), 'seed')} the loss fell by {each}, by {formatting.format_number(found.mean)} in the mean"
    if not np.isfinite(low):
        return None, f"{told}; one number gives no interval."
    told += f" (95\u202f% interval over seeds and recordings {formatting.format_number(low)} to {formatting.format_number(high)})"
    if low > thresholds.quality.fall_above:
        return True, f"{told}: what was learned is not one seed's luck."
    return False, f"{told}: another seed may learn nothing, as far as these runs can tell."


def _gain(told: str, run: Run, chosen: Run) -> tuple[bool | None, str]:
    """By how much more the loss fell than with the chosen run, recording by recording, and whether that is sure."""
    mine, theirs = loss_reduction_of(run)["per_recording"], loss_reduction_of(chosen)["per_recording"]
    gains = {name: mine[name] - theirs[name] for name in theirs}
    gain, ends = float(np.mean(list(gains.values()))), bootstrap_ci(gains)
    more = f"{told} the loss fell by {formatting.format_number(abs(gain))} {'more' if gain >= 0 else 'less'}"
    if ends is None:
        return None, f"{more}; one held-out recording gives no interval."
    low, high = ends
    more += f" (95\u202f% interval of the gain {formatting.format_number(low)} to {formatting.format_number(high)})"
    said = (
        "worth its cost"
        if low > 0
        else "worse"
        if high < 0
        else "no difference that these recordings can show"
    )
    return low > 0, f"{more}: {said}."


def _hybrid(way: PocContext, chosen: Run, thresholds: GateThresholds) -> dict[str, Any]:
    """The chosen design with a part of the base trained beside it, with the same steps and seed."""
    recipe = _recipe(way, chosen)
    design = f"{recipe.design}+{PARTIAL_FINETUNE[family_by_name(recipe.base)]}"
    mixed = recipe.model_copy(update={"design": Design.parse(design)})
    row = cost_stage.trace_designs({design: mixed}, way.corpus, way.wishes.device, way.progress)[0]
    limit = size_limit_bytes(thresholds, cost_stage.machine_bytes(way.wishes.device))
    if row["memory_bytes"] is not None and row["memory_bytes"] > limit:
        why = f"{design} takes {formatting.format_bytes(row['memory_bytes'])} of memory, and {formatting.format_bytes(limit)} may be taken."
        return {"passed": False, "sentences": [why], "runs": []}
    name = f"{chosen.folder.name}-{folder_name(PARTIAL_FINETUNE[family_by_name(recipe.base)])}"
    done, left_out = _within_hours(way, chosen, {name: mixed})
    if left_out:
        return {"passed": None, "sentences": [f"The hours would not hold {design}."], "runs": []}
    passed, told = _gain(f"With {design}", Run(way.out / name), chosen)
    disk = f"Its file is {formatting.format_bytes(row['file_bytes'])}." if row["file_bytes"] else ""
    return {"passed": passed, "sentences": [told, *([disk] if disk else [])], "runs": done}
