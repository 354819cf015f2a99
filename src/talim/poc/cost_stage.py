"""The first stage, cost: what each design will take, before anything is spent on it, and how many steps all get."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from talim import recipe as recipes
from talim.corpus.manifest import Corpus
from talim.designs.expression import Design
from talim.errors import TalimError
from talim.html import formatting
from talim.poc.gates import GateThresholds, size_limit_bytes
from talim.poc.options import PocOptions
from talim.progress import Progress
from talim.recipe import Recipe
from talim.training.time_budget import StepTiming

FULL_FINETUNE = "full@all"
CURVE_RUNS, CURVE_MIN_STEPS = 2, 100  # with fewer steps a curve is not worth what the designs lose by it
RATIOS = {"memory": "memory_bytes", "operations": "flops_per_step", "storage": "file_bytes"}


def trace_designs(
    found: Mapping[str, Recipe], corpus: Corpus, device: str, progress: Progress
) -> list[dict[str, Any]]:
    """A row for each design and for `full@all`, each training step traced on tensors without numbers.

    {"design", "parameters", "memory_bytes", "flops_per_step", "file_bytes", "ratios"}; where a base cannot be traced
    the numbers are None and "remark" says why.
    """
    from talim.planning.trace_cache import TraceCache, default_cache_folder

    shelf = TraceCache(default_cache_folder(), progress)
    first = next(iter(found.values()))
    wanted = {
        **found,
        FULL_FINETUNE: found.get(FULL_FINETUNE, first.model_copy(update={"design": Design.parse(FULL_FINETUNE)})),
    }
    rows = {name: _row(name, recipe, corpus, device, shelf) for name, recipe in wanted.items()}
    whole = rows[FULL_FINETUNE]
    for row in rows.values():
        pairs = {word: (row[key], whole[key]) for word, key in RATIOS.items()}
        row["ratios"] = {word: mine / all_ if mine and all_ else None for word, (mine, all_) in pairs.items()}
    return list(rows.values())


def _row(name: str, recipe: Recipe, corpus: Corpus, device: str, shelf: Any) -> dict[str, Any]:
    import torch

    from talim.backbones import precision
    from talim.backbones.load import pick_device
    from talim.planning.design_costs import base_model_facts
    from talim.planning.hardware import CONTEXT_BYTES
    from talim.planning.plan import feasible_design_cost
    from talim.planning.training_step import DTYPES, StepConfig

    place = pick_device(device)
    dtype, _ = precision.choose_precision(recipe.training.precision, place)
    held = next(word for word, each in DTYPES.items() if each == dtype)
    row: dict[str, Any] = {"design": name, "remark": ""}
    try:
        base = base_model_facts(recipe.base)
        long = recipe.training.crop_seconds or float(corpus.summary["clip_seconds"])
        seconds = min(long, base.window_seconds)
        cost = feasible_design_cost(recipe.design, base, seconds)
        trace = shelf.trace(
            StepConfig(
                recipe.base,
                recipe.design,
                seconds,
                recipe.training.batch_size,
                held,
                recipe.training.gradient_checkpointing,
            )
        )
        context = CONTEXT_BYTES if torch.device(place).type == "cuda" else 0
        return row | {
            "parameters": cost.parameters,
            "parameter_fraction": cost.parameter_fraction,
            "file_bytes": cost.file_bytes,
            "memory_bytes": trace.peak_bytes + context,
            "flops_per_step": trace.flops,
        }
    except TalimError as error:
        unknown = dict.fromkeys(("parameters", "parameter_fraction", "file_bytes", "memory_bytes", "flops_per_step"))
        return row | unknown | {"remark": str(error)}


def machine_bytes(device: str) -> float | None:
    """The memory of the GPU that will train; None for a CPU, whose memory the gate asks for itself."""
    import torch

    from talim.backbones.load import pick_device

    place = torch.device(pick_device(device))
    return float(torch.cuda.get_device_properties(place).total_memory) if place.type == "cuda" else None


def fit_steps_to_budget(
    found: Mapping[str, Recipe],
    corpus: Corpus,
    wishes: PocOptions,
    gates: GateThresholds,
    progress: Progress,
    spent_seconds: float,
) -> dict[str, Any]:
    """What will be trained, decided once: {"rows", "fitting", "paces", "steps", "recipes", "stopped"}.

    With hours each fitting design is timed on some real steps, and what is left of the hours is shared out so that
    all get the same number of steps; the time for a learning curve is kept free where that leaves enough.
    """
    began = time.monotonic()
    rows = trace_designs(found, corpus, wishes.device, progress)
    limit = size_limit_bytes(gates, machine_bytes(wishes.device))
    memory = {row["design"]: row["memory_bytes"] for row in rows}
    fitting = [name for name in found if memory[name] is None or memory[name] <= limit]
    plan: dict[str, Any] = {"rows": rows, "fitting": fitting, "paces": {}, "steps": None, "stopped": ""}
    chosen = {name: found[name] for name in fitting}
    if not fitting:
        plan["stopped"] = (
            f"no design fits into {formatting.format_bytes(limit)} of memory; try --set training.gradient_checkpointing=true or "
            "--set training.batch_size=1, or ask talim plan what would fit"
        )
    elif wishes.hours is not None:
        began -= spent_seconds
        chosen = _recipes_within_hours(
            chosen, wishes, gates, progress, began, plan, include_learning_curve(wishes, corpus)
        )
    plan["recipes"] = {name: recipe.model_dump(mode="json") for name, recipe in chosen.items()}
    return plan


def include_learning_curve(wishes: PocOptions, corpus: Corpus) -> bool:
    """Whether a learning curve is asked for and there are recordings enough to cut in four."""
    return wishes.curve and len({clip.recording for clip in corpus.train}) >= 4


def _recipes_within_hours(
    chosen: dict[str, Recipe],
    wishes: PocOptions,
    gates: GateThresholds,
    progress: Progress,
    began: float,
    plan: dict[str, Any],
    curve: bool,
) -> dict[str, Recipe]:
    """The recipes with the steps that fit into the hours, which began at `began` of the monotonic clock.

    `plan` is told the paces, the steps, and why none fit.
    """
    from talim.training import time_budget

    paces = {
        name: time_budget.measure_step_timing(recipe, progress, wishes.device)
        for name, recipe in chosen.items()
    }
    seconds = (wishes.hours or 0) * 3600 - (time.monotonic() - began)
    again = [each.for_next_run for each in paces.values()]
    training = next(iter(chosen.values())).training
    steps = time_budget.steps_for_budget(training, seconds, again)
    dearest = max(again, key=lambda each: each.step_seconds)
    fewer = time_budget.steps_for_budget(training, seconds, [*again, *[dearest] * CURVE_RUNS]) if curve else 0
    if fewer >= max(CURVE_MIN_STEPS, gates.cost.least_steps):
        steps = fewer
    plan["paces"] = {name: each.step_seconds for name, each in paces.items()}
    plan["steps"] = steps
    if steps < gates.cost.least_steps:
        needed = _hours_for(gates.cost.least_steps, training, again, seconds, wishes.hours or 0)
        plan["stopped"] = (
            f"only {formatting.format_counted(steps, 'step')} of each design would fit into the {wishes.hours:g} h, and the gate "
            f"asks for {gates.cost.least_steps}; give --hours {needed:.2g}, or fewer designs (--design)"
        )
        return chosen
    progress.log(f"{steps} steps of each of {len(chosen)} designs fit into {wishes.hours:g} h")
    return {
        name: recipe.model_copy(
            update={"training": time_budget.with_steps(recipe.training, steps, paces[name])}
        )
        for name, recipe in chosen.items()
    }


def _hours_for(steps: int, training: Any, paces: Sequence[StepTiming], seconds: float, hours: float) -> float:
    """Hours in which so many steps fit, a tenth more than reckoned."""
    from talim.training import time_budget

    wanted = max(seconds, 1.0)
    while time_budget.steps_for_budget(training, wanted, paces) < steps:
        wanted *= 1.1
    return hours + (wanted - seconds) / 3600


def cost_summary(plan: Mapping[str, Any], wishes: PocOptions) -> list[str]:
    """The first stage in sentences: what the designs take, beside the whole model, and what was left out."""
    rows = {row["design"]: row for row in plan["rows"]}
    lines = []
    for name in (name for name in rows if name != FULL_FINETUNE or name in plan["recipes"]):
        row = rows[name]
        if row["memory_bytes"] is None:
            lines.append(f"{name}: its memory could not be told beforehand ({row['remark']}).")
            continue
        ratios, pace = row["ratios"], plan["paces"].get(name)
        step = f", {pace:.2f} s a step" if pace else ""
        beside = ""
        if name != FULL_FINETUNE and all(ratios.values()):
            beside = (
                f"; of training the whole model {formatting.format_percent(ratios['memory'])} of the memory, "
                f"{formatting.format_percent(ratios['operations'])} of the operations and {formatting.format_percent(ratios['storage'])} of "
                "the disk"
            )
        out = "" if name in plan["fitting"] else "; it does not fit and is left out"
        lines.append(
            f"{name}: {formatting.format_bytes(row['memory_bytes'])} of memory for its tensors{step}{beside}{out}."
        )
    if plan["stopped"]:
        return lines
    steps = max((recipe["training"]["steps"] for recipe in plan["recipes"].values()), default=0)
    each = "the design" if len(plan["recipes"]) == 1 else f"each of the {len(plan['recipes'])} designs"
    within = f" within {wishes.hours:g} h" if wishes.hours is not None else ", as the recipe says"
    return [*lines, f"{formatting.format_count(steps)} steps for {each}{within}."]


def planned_recipes(plan: Mapping[str, Any], corpus: Path) -> dict[str, Recipe]:
    """The recipes as they were decided, on the corpus where it lies now."""
    return {name: Recipe.model_validate(values | {"corpus": str(corpus)}) for name, values in plan["recipes"].items()}
