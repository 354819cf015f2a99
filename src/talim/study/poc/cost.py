"""The first stage, cost: what each design will take, before anything is spent on it, and how many steps all get."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from talim import recipe as recipes
from talim.corpus.manifest import Corpus
from talim.errors import TalimError
from talim.recipe import Recipe
from talim.stages.pace import Pace
from talim.stages.progress import Progress
from talim.study import words
from talim.study.poc.gates import Gates, limit_bytes
from talim.study.poc.wishes import Wishes

WHOLE = "full@all"
CURVE_RUNS, CURVE_LEAST_STEPS = 2, 100  # with fewer steps a curve is not worth what the designs lose by it
RATIOS = {"memory": "memory_bytes", "operations": "flops_per_step", "storage": "file_bytes"}


def traced(
    found: Mapping[str, Recipe], corpus: Corpus, device: str, progress: Progress
) -> list[dict[str, Any]]:
    """A row for each design and for `full@all`, each training step traced on tensors without numbers.

    {"design", "parameters", "memory_bytes", "flops_per_step", "file_bytes", "ratios"}; where a base cannot be traced
    the numbers are None and "remark" says why.
    """
    from talim.stages.shelf_of_traces import Shelf, usual

    shelf = Shelf(usual(), progress)
    first = next(iter(found.values()))
    wanted = {**found, WHOLE: found.get(WHOLE, first.model_copy(update={"design": WHOLE}))}
    rows = {name: _row(name, recipe, corpus, device, shelf) for name, recipe in wanted.items()}
    whole = rows[WHOLE]
    for row in rows.values():
        pairs = {word: (row[key], whole[key]) for word, key in RATIOS.items()}
        row["ratios"] = {word: mine / all_ if mine and all_ else None for word, (mine, all_) in pairs.items()}
    return list(rows.values())


def _row(name: str, recipe: Recipe, corpus: Corpus, device: str, shelf: Any) -> dict[str, Any]:
    import torch

    from talim.backbones import precision
    from talim.backbones.load import pick_device
    from talim.stages.designs import numbers_of
    from talim.stages.machines import CONTEXT_BYTES
    from talim.stages.plan import placed
    from talim.stages.rehearsal import DTYPES, Setting

    place = pick_device(device)
    dtype, _ = precision.choose(recipe.training.precision, place)
    held = next(word for word, each in DTYPES.items() if each == dtype)
    row: dict[str, Any] = {"design": name, "remark": ""}
    try:
        base = numbers_of(recipe.base)
        long = recipe.training.clip_seconds or float(corpus.summary["clip_seconds"])
        seconds = min(long, base.window_seconds)
        known = placed(name, base, seconds)
        trace = shelf.trace(
            Setting(
                recipe.base,
                name,
                seconds,
                recipe.training.batch_size,
                held,
                recipe.training.gradient_checkpointing,
            )
        )
        context = CONTEXT_BYTES if torch.device(place).type == "cuda" else 0
        return row | {
            "parameters": known["parameters"],
            "share": known["share"],
            "file_bytes": known["file_bytes"],
            "memory_bytes": trace.peak_bytes + context,
            "flops_per_step": trace.flops,
        }
    except TalimError as error:
        unknown = dict.fromkeys(("parameters", "share", "file_bytes", "memory_bytes", "flops_per_step"))
        return row | unknown | {"remark": str(error)}


def machine_bytes(device: str) -> float | None:
    """The memory of the GPU that will train; None for a CPU, whose memory the gate asks for itself."""
    import torch

    from talim.backbones.load import pick_device

    place = torch.device(pick_device(device))
    return float(torch.cuda.get_device_properties(place).total_memory) if place.type == "cuda" else None


def planned(
    found: Mapping[str, Recipe],
    corpus: Corpus,
    wishes: Wishes,
    gates: Gates,
    progress: Progress,
    spent_seconds: float,
) -> dict[str, Any]:
    """What will be trained, decided once: {"rows", "fitting", "paces", "steps", "recipes", "stopped"}.

    With hours each fitting design is timed on some real steps, and what is left of the hours is shared out so that
    all get the same number of steps; the time for a learning curve is kept free where that leaves enough.
    """
    began = time.monotonic()
    rows = traced(found, corpus, wishes.device, progress)
    limit = limit_bytes(gates, machine_bytes(wishes.device))
    memory = {row["design"]: row["memory_bytes"] for row in rows}
    fitting = [name for name in found if memory[name] is None or memory[name] <= limit]
    plan: dict[str, Any] = {"rows": rows, "fitting": fitting, "paces": {}, "steps": None, "stopped": ""}
    chosen = {name: found[name] for name in fitting}
    if not fitting:
        plan["stopped"] = (
            f"no design fits into {words.size(limit)} of memory; try --set training.gradient_checkpointing=true or "
            "--set training.batch_size=1, or ask talim plan what would fit"
        )
    elif wishes.hours is not None:
        began -= spent_seconds
        chosen = _within(chosen, wishes, gates, progress, began, plan, curve_wanted(wishes, corpus))
    plan["recipes"] = {name: recipe.model_dump(mode="json") for name, recipe in chosen.items()}
    return plan


def curve_wanted(wishes: Wishes, corpus: Corpus) -> bool:
    """Whether a learning curve is asked for and there are recordings enough to cut in four."""
    return wishes.curve and len({clip.recording for clip in corpus.train}) >= 4


def _within(
    chosen: dict[str, Recipe],
    wishes: Wishes,
    gates: Gates,
    progress: Progress,
    began: float,
    plan: dict[str, Any],
    curve: bool,
) -> dict[str, Recipe]:
    """The recipes with the steps that fit into the hours, which began at `began` of the monotonic clock.

    `plan` is told the paces, the steps, and why none fit.
    """
    from talim.stages import pace

    paces = {name: pace.measure(recipe, progress, wishes.device) for name, recipe in chosen.items()}
    seconds = (wishes.hours or 0) * 3600 - (time.monotonic() - began)
    again = [each.again for each in paces.values()]
    training = next(iter(chosen.values())).training
    steps = pace.steps_within(training, seconds, again)
    dearest = max(again, key=lambda each: each.step_seconds)
    fewer = pace.steps_within(training, seconds, [*again, *[dearest] * CURVE_RUNS]) if curve else 0
    if fewer >= max(CURVE_LEAST_STEPS, gates.cost.least_steps):
        steps = fewer
    plan["paces"] = {name: each.step_seconds for name, each in paces.items()}
    plan["steps"] = steps
    if steps < gates.cost.least_steps:
        needed = _hours_for(gates.cost.least_steps, training, again, seconds, wishes.hours or 0)
        plan["stopped"] = (
            f"only {words.counted(steps, 'step')} of each design would fit into the {wishes.hours:g} h, and the gate "
            f"asks for {gates.cost.least_steps}; give --hours {needed:.2g}, or fewer designs (--design)"
        )
        return chosen
    progress.say(f"{steps} steps of each of {len(chosen)} designs fit into {wishes.hours:g} h")
    return {
        name: recipe.model_copy(update={"training": pace.of_steps(recipe.training, steps, paces[name])})
        for name, recipe in chosen.items()
    }


def _hours_for(steps: int, training: Any, paces: Sequence[Pace], seconds: float, hours: float) -> float:
    """Hours in which so many steps fit, a tenth more than reckoned."""
    from talim.stages import pace

    wanted = max(seconds, 1.0)
    while pace.steps_within(training, wanted, paces) < steps:
        wanted *= 1.1
    return hours + (wanted - seconds) / 3600


def told(plan: Mapping[str, Any], wishes: Wishes) -> list[str]:
    """The first stage in sentences: what the designs take, beside the whole model, and what was left out."""
    rows = {row["design"]: row for row in plan["rows"]}
    lines = []
    for name in (name for name in rows if name != WHOLE or name in plan["recipes"]):
        row = rows[name]
        if row["memory_bytes"] is None:
            lines.append(f"{name}: its memory could not be told beforehand ({row['remark']}).")
            continue
        ratios, pace = row["ratios"], plan["paces"].get(name)
        step = f", {pace:.2f} s a step" if pace else ""
        beside = ""
        if name != WHOLE and all(ratios.values()):
            beside = (
                f"; of training the whole model {words.percent(ratios['memory'])} of the memory, "
                f"{words.percent(ratios['operations'])} of the operations and {words.percent(ratios['storage'])} of "
                "the disk"
            )
        out = "" if name in plan["fitting"] else "; it does not fit and is left out"
        lines.append(
            f"{name}: {words.size(row['memory_bytes'])} of memory for its tensors{step}{beside}{out}."
        )
    if plan["stopped"]:
        return lines
    steps = max((recipe["training"]["steps"] for recipe in plan["recipes"].values()), default=0)
    each = "the design" if len(plan["recipes"]) == 1 else f"each of the {len(plan['recipes'])} designs"
    within = f" within {wishes.hours:g} h" if wishes.hours is not None else ", as the recipe says"
    return [*lines, f"{words.count(steps)} steps for {each}{within}."]


def recipes_in(plan: Mapping[str, Any], corpus: Path) -> dict[str, Recipe]:
    """The recipes as they were decided, on the corpus where it lies now."""
    return {name: recipes.build(values | {"corpus": str(corpus)}) for name, values in plan["recipes"].items()}
