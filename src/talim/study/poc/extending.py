"""Going on from finished runs: other seeds and more steps of the chosen design, or a part of the base beside it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np

from talim import recipe as recipes
from talim.backbones.sources import family_named
from talim.errors import UsageError
from talim.recipe import Recipe
from talim.run import Run, read_json
from talim.stages.intervals import interval
from talim.study import words
from talim.study.effects import crossed
from talim.study.poc import book, cost
from talim.study.poc.gates import Gates, limit_bytes
from talim.study.poc.running import Way, fall_of, judge_one, train_one
from talim.study.poc.wishes import folder_name

STAGES = ("extend", "hybrid")
MORE_SEEDS, MORE_STEPS = 2, 2  # two further seeds; one run of twice the steps
PARTS = {
    "musicgen": "full@post",
    "mustango": "full@mid",
}  # of the base: what a hybrid trains beside the adapter
SLACK = 1.1
JUDGING = 0.15  # of a run's time, for its samples and scores


def check(out: Path, folder: Path) -> None:
    """UsageError, with what to type first, where no plan in DIR has passed the quality gate."""
    first = f"type first: talim poc {shlex.quote(str(folder))} --out {shlex.quote(str(out))}"
    if not (out / book.PLAN).is_file() or not (out / book.STAGES).is_file():
        raise UsageError(f"{out}: there are no finished runs to go on from; {first}")
    met = {row["name"]: row["passed"] for row in read_json(out / book.STAGES)["stages"]}
    if not met.get("quality"):
        raise UsageError(
            f"{out}: no design has passed the quality gate yet, so there is nothing to go on from; {first}"
        )


def key_of(out: Path, core: str) -> str:
    """The key of the plan in DIR; UsageError where it is of other recordings or wishes than now."""
    plan = read_json(out / book.PLAN)
    if plan.get("core") != core:
        raise UsageError(
            f"{out}: its runs are of other recordings or wishes; give the same options as before, or first go the "
            "road with these (without --stage)"
        )
    return str(plan["key"])


def extend(way: Way, stage: str, decided: dict[str, Any], thresholds: Gates) -> dict[str, Any]:
    """Do the further stage, or what is missing of it; what stands in DIR/stages.json with its result."""
    chosen = Run(way.out / decided["chosen"]["run"])
    written = read_json(way.out / book.GATES)
    found = _extended(way, chosen, thresholds) if stage == "extend" else _hybrid(way, chosen, thresholds)
    row = {"name": stage, "gate": written[stage], **found}
    others = [each for each in decided["further"] if each["name"] != stage]
    return decided | {"further": [*others, row]}


def _extended(way: Way, chosen: Run, thresholds: Gates) -> dict[str, Any]:
    """Two further seeds of the chosen design, and one run of twice the steps."""
    recipe, name = _recipe(way, chosen), chosen.folder.name
    steps = recipe.training.steps * MORE_STEPS
    seeds = [recipe.seed + more for more in range(1, MORE_SEEDS + 1)]
    wanted = {f"{name}-seed-{seed}": recipe.model_copy(update={"seed": seed}) for seed in seeds}
    longer = f"{name}-steps-{steps}"
    wanted[longer] = _of_steps(recipe, steps)
    done, left_out = _within_hours(way, chosen, wanted)
    lines = [f"Left out, as the hours would not hold it: {', '.join(left_out)}."] if left_out else []
    runs = [chosen, *(Run(way.out / place) for place in done if place != longer)]
    passed, over_seeds = _over_seeds(runs, thresholds)
    lines.insert(0, over_seeds)
    if longer in done:
        told = f"In {words.count(steps)} steps instead of {words.count(recipe.training.steps)}"
        lines.append(_gain(told, Run(way.out / longer), chosen)[1])
    return {"passed": passed, "sentences": lines, "runs": done}


def _recipe(way: Way, run: Run) -> Recipe:
    """The run's recipe, on the corpus where it lies now."""
    return recipes.load([run.recipe_file], {"corpus": str(way.corpus.folder)})


def _of_steps(recipe: Recipe, steps: int) -> Recipe:
    training = recipe.training.model_copy(update={"steps": steps})
    return recipe.model_copy(update={"training": training})


def _within_hours(way: Way, chosen: Run, wanted: dict[str, Recipe]) -> tuple[list[str], list[str]]:
    """Train and judge one after the other while the hours hold it; what was done, and what was not."""
    spent, done, left_out = read_json(chosen.cost), [], []
    for name, recipe in wanted.items():
        run = Run(way.out / name)
        needed = spent["wall_seconds"] * recipe.training.steps / spent["steps"] * SLACK * (1 + JUDGING)
        if not run.finished and (left_out or needed > way.seconds_left()):
            left_out.append(name)
            continue
        train_one(way, recipe, run)
        judge_one(way, recipe, run)
        done.append(name)
    return done, left_out


def _over_seeds(runs: list[Run], thresholds: Gates) -> tuple[bool | None, str]:
    """The fall over seeds and recordings at once, and whether it is above the gate."""
    falls = [fall_of(run)["per_recording"] for run in runs]
    found = crossed(np.array([[row[name] for name in sorted(falls[0])] for row in falls], float))
    low, high = found.interval()
    each = ", ".join(words.number(float(np.mean(list(row.values())))) for row in falls)
    told = f"Over {words.counted(len(runs), 'seed')} the loss fell by {each}, by {words.number(found.mean)} in the mean"
    if not np.isfinite(low):
        return None, f"{told}; one number gives no interval."
    told += f" (95\u202f% interval over seeds and recordings {words.number(low)} to {words.number(high)})"
    if low > thresholds.quality.fall_above:
        return True, f"{told}: what was learned is not one seed's luck."
    return False, f"{told}: another seed may learn nothing, as far as these runs can tell."


def _gain(told: str, run: Run, chosen: Run) -> tuple[bool | None, str]:
    """By how much more the loss fell than with the chosen run, recording by recording, and whether that is sure."""
    mine, theirs = fall_of(run)["per_recording"], fall_of(chosen)["per_recording"]
    gains = {name: mine[name] - theirs[name] for name in theirs}
    gain, ends = float(np.mean(list(gains.values()))), interval(gains)
    more = f"{told} the loss fell by {words.number(abs(gain))} {'more' if gain >= 0 else 'less'}"
    if ends is None:
        return None, f"{more}; one held-out recording gives no interval."
    low, high = ends
    more += f" (95\u202f% interval of the gain {words.number(low)} to {words.number(high)})"
    said = (
        "worth its cost"
        if low > 0
        else "worse"
        if high < 0
        else "no difference that these recordings can show"
    )
    return low > 0, f"{more}: {said}."


def _hybrid(way: Way, chosen: Run, thresholds: Gates) -> dict[str, Any]:
    """The chosen design with a part of the base trained beside it, with the same steps and seed."""
    recipe = _recipe(way, chosen)
    design = f"{recipe.design}+{PARTS[family_named(recipe.base)]}"
    mixed = recipe.model_copy(update={"design": design})
    row = cost.traced({design: mixed}, way.corpus, way.wishes.device, way.progress)[0]
    limit = limit_bytes(thresholds, cost.machine_bytes(way.wishes.device))
    if row["memory_bytes"] is not None and row["memory_bytes"] > limit:
        why = f"{design} takes {words.size(row['memory_bytes'])} of memory, and {words.size(limit)} may be taken."
        return {"passed": False, "sentences": [why], "runs": []}
    name = f"{chosen.folder.name}-{folder_name(PARTS[family_named(recipe.base)])}"
    done, left_out = _within_hours(way, chosen, {name: mixed})
    if left_out:
        return {"passed": None, "sentences": [f"The hours would not hold {design}."], "runs": []}
    passed, told = _gain(f"With {design}", Run(way.out / name), chosen)
    disk = f"Its file is {words.size(row['file_bytes'])}." if row["file_bytes"] else ""
    return {"passed": passed, "sentences": [told, *([disk] if disk else [])], "runs": done}
