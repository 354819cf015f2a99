"""The first stage, cost: memory and FLOPs of each design, and the number of steps that fit the time budget."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from talim.backbones.registry import is_miniature
from talim.corpus.manifest import Corpus
from talim.design.expression import Design
from talim.errors import TalimError
from talim.experiments.tuning import TunedFamily
from talim.html.formatting import format_count, format_counted, format_duration, format_memory, format_percent
from talim.planning.training_job import TrainingJob, TrainingMusic, full_training_job
from talim.poc import budget, rate_search
from talim.poc.fitting import fitting_advice, machine_profile, smaller_bases, step_config
from talim.poc.gates import GateThresholds, memory_limit_bytes
from talim.poc.options import PocOptions, hours_option
from talim.poc.runs import PocContext
from talim.progress import Progress
from talim.recipe import Recipe, Training
from talim.reporting.catalogue import Texts, counted, duration, either, in_languages
from talim.reporting.commands import REFERENCE_BASE
from talim.training.time_budget import StepTiming

FULL_FINETUNE = "full@all"
RENTED_GPU = "rtx-4090"  # of which a page tells the time beside that of this CPU
CURVE_RUNS, CURVE_MIN_STEPS = 2, 100  # with fewer steps a learning curve takes too much time from the designs
RATIOS = {"memory": "memory_bytes", "flops": "flops_per_step", "disk": "file_bytes"}
TRACED = ("parameters", "parameter_fraction", "file_bytes", "memory_bytes", "flops_per_step")


def trace_designs(
    by_design: Mapping[str, Recipe], corpus: Corpus, device: str, progress: Progress
) -> list[dict[str, Any]]:
    """A row for each design and for `full@all`: costs of a training step, traced on meta tensors.

    {"design", "parameters", "memory_bytes", "flops_per_step", "file_bytes", "ratios"}; if a base cannot be traced the
    numbers are None and "note" says why.
    """
    from talim.planning.trace_cache import TraceCache, default_cache_folder

    cache = TraceCache(default_cache_folder(), progress)
    first = next(iter(by_design.values()))
    full = first.model_copy(update={"design": Design.parse(FULL_FINETUNE)})
    rows = {
        design: _trace(recipe, corpus, device, cache, progress)
        for design, recipe in {**by_design, FULL_FINETUNE: by_design.get(FULL_FINETUNE, full)}.items()
    }
    reference = rows[FULL_FINETUNE]
    for row in rows.values():
        row["ratios"] = {
            name: row[key] / reference[key] if row[key] and reference[key] else None for name, key in RATIOS.items()
        }
    return list(rows.values())


def _trace(recipe: Recipe, corpus: Corpus, device: str, cache: Any, progress: Progress) -> dict[str, Any]:
    from talim.planning.plan import feasible_design_cost

    row: dict[str, Any] = {"design": str(recipe.design), "note": ""}
    try:
        config, base = step_config(recipe, corpus, device)
        cost = feasible_design_cost(recipe.design, base, config.crop_seconds)
        trace = cache.trace(config)
    except TalimError as error:
        return row | dict.fromkeys(TRACED) | {"note": str(error)}
    return row | {
        "parameters": cost.parameters,
        "parameter_fraction": cost.parameter_fraction,
        "file_bytes": cost.file_bytes,
        "memory_bytes": machine_profile(device, progress).needed_bytes(trace, base.family, config.precision),
        "flops_per_step": trace.flops,
    }


def larger_base_estimate(
    recipe: Recipe, corpus: Corpus, device: str, progress: Progress, base: str = REFERENCE_BASE
) -> dict[str, Any] | None:
    """What `talim plan` says of a full training of one design on a larger `base`.

    {"base", "steps", "hours", "hardware", "rough", "gpu", "gpu_hours"}; the steps are those of full passes over the
    recordings, not those of `recipe`. "rough": the machine was busy while it was timed. "gpu" is one to rent, named
    beside a CPU where the training fits into it. None for a base that is no miniature, and where no time can be
    predicted.
    """
    from talim.planning.plan import plan_total
    from talim.planning.trace_cache import default_cache_folder

    if not is_miniature(recipe.base):
        return None
    machine = machine_profile(device, progress, rates=True)
    if not machine.rates:
        return None
    music = TrainingMusic(sum(clip.seconds for clip in corpus.train), len(corpus.train))
    job = full_training_job(recipe.model_dump(mode="json"), float(corpus.summary["clip_seconds"]), base, music)
    try:
        total = plan_total([job], machine, cache=default_cache_folder(), progress=progress)
        of_gpu = {} if machine.gpu else _rented_gpu_hours(job, progress)
    except TalimError as error:
        progress.log(f"the time of {base} could not be predicted: {error}")
        return None
    estimate = {"base": base, "steps": job.steps, "hours": total["hours"], "hardware": total["hardware"]}
    return {**estimate, "rough": machine.hurried, **of_gpu}


def _rented_gpu_hours(job: TrainingJob, progress: Progress) -> dict[str, Any]:
    """The name and the hours of a GPU to rent by its published rates; empty where the job does not fit into it."""
    from talim.planning.hardware import gpu_profile
    from talim.planning.plan import plan_total
    from talim.planning.trace_cache import default_cache_folder

    gpu = gpu_profile(RENTED_GPU)
    total = plan_total([job], gpu, cache=default_cache_folder(), progress=progress)
    return {"gpu": gpu.name, "gpu_hours": total["hours"]} if total["memory_bytes"] <= gpu.usable_bytes else {}


def gpu_memory_bytes(device: str) -> float | None:
    """The memory of the GPU that is used for training; None on a CPU."""
    import torch

    from talim.backbones.devices import pick_device

    name = torch.device(pick_device(device))
    return float(torch.cuda.get_device_properties(name).total_memory) if name.type == "cuda" else None


def plan_runs(
    by_design: Mapping[str, Recipe],
    corpus: Corpus,
    options: PocOptions,
    gates: GateThresholds,
    progress: Progress,
    used_seconds: float,
) -> dict[str, Any]:
    """What will be trained: {"rows", "fitting", "step_seconds", "steps", "recipes", "stopped"}.

    "stopped" is why nothing will be, by language; empty where something is.
    Each fitting design is timed on some real steps; with a time budget the rest of it is divided so that
    all designs get the same number of steps; time for a learning curve is reserved if enough steps are left. "timings",
    "evaluation_seconds" and "estimate" (of the whole, in words) are measured too, before anything is trained.
    """
    start = time.monotonic()
    rows = trace_designs(by_design, corpus, options.device, progress)
    limit = memory_limit_bytes(gates, gpu_memory_bytes(options.device))
    memory = {row["design"]: row["memory_bytes"] for row in rows}
    fitting = [design for design in by_design if memory[design] is None or memory[design] <= limit]
    plan: dict[str, Any] = {"rows": rows, "fitting": fitting, "step_seconds": {}, "steps": None, "stopped": {}}
    planned = {design: by_design[design] for design in fitting}
    training = next(iter(by_design.values())).training
    plan["rates_untried"] = rate_search.objection(options, corpus, training)
    if options.hours is None and not plan["rates_untried"]:
        plan["short_steps"] = int(training.steps * rate_search.STEPS_FRACTION)
    if not fitting:
        advice = fitting_advice(by_design, rows, corpus, options, limit, progress)
        joined = {
            language: mark.join(each[language] for each in advice) for language, mark in in_languages("advice").items()
        }
        plan["stopped"] = in_languages("stop_memory", memory=format_memory(limit), advice=joined)
    else:
        try:
            planned = _fit_to_budget(planned, corpus, options, gates, progress, start - used_seconds, plan)
        except TalimError as error:
            if options.hours is not None:
                raise
            progress.log(f"how long it will take could not be estimated: {error}")
    plan["recipes"] = {design: recipe.model_dump(mode="json") for design, recipe in planned.items()}
    return plan


def _fit_to_budget(
    by_design: dict[str, Recipe],
    corpus: Corpus,
    options: PocOptions,
    gates: GateThresholds,
    progress: Progress,
    start: float,
    plan: dict[str, Any],
) -> dict[str, Recipe]:
    """The recipes with the steps that fit into the time budget, which started at `start` of the monotonic clock.

    Sets "step_seconds", "steps", those of trainings that try learning rates ("short_steps", or why there are none,
    "rates_untried") and, if too few fit, "stopped" of the plan.
    """
    from talim.training import time_budget

    progress.log(f"timing training steps of {format_counted(len(by_design), 'design')}")
    timings = {
        design: time_budget.measure_step_timing(recipe, progress, options.device)
        for design, recipe in by_design.items()
    }
    later = {design: timing.for_next_run for design, timing in timings.items()}
    slowest = max(later, key=lambda design: later[design].step_seconds)
    progress.log(f"timing the generation of {budget.NUM_PROMPTS} pieces of {budget.TIMED_MUSIC_SECONDS:g} s")
    evaluation, generating = budget.measure_evaluation(by_design[slowest], corpus, options, later[slowest])
    plan["step_seconds"] = {design: timing.step_seconds for design, timing in timings.items()}
    plan["timings"] = {design: vars(each) for design, each in later.items()}
    plan |= {"evaluation_seconds": evaluation, "generation_seconds": generating}
    plan["closing_seconds"] = budget.closing_seconds(options)
    wants_curve = include_learning_curve(options, corpus)
    if options.hours is None:
        _tell_estimate(plan, by_design, later, corpus, CURVE_RUNS if wants_curve else 0, progress, None)
        return by_design
    seconds = options.hours * 3600 - (time.monotonic() - start)
    division, min_steps = _division(by_design, later, evaluation, corpus, wants_curve), gates.cost.min_steps
    if not plan["rates_untried"] and division.steps(seconds, short=True) < rate_search.least_steps(min_steps):
        given = options.hours * 3600
        plan["rates_untried"] = rate_search.too_little_time(division, min_steps, seconds, given)
        progress.log(f"no other learning rates are tried: {plan['rates_untried']}")
    with_rates = not plan["rates_untried"]
    steps, plan["curve_reserved"] = _divide(division, seconds, min_steps, with_rates)
    if with_rates:
        plan["short_steps"] = int(steps * rate_search.STEPS_FRACTION)
    if wants_curve and not plan["curve_reserved"]:
        with_curve = division.steps(seconds, short=with_rates, curve=True)
        progress.log(
            f"no time for a learning curve: it would leave {format_counted(with_curve, 'step')} for each design, and "
            f"{_curve_steps(min_steps, with_rates)} are needed; it is trained if time is left, or with more --hours"
        )
    plan["steps"] = steps
    if steps < min_steps:
        least = next(iter(by_design.values())).training.model_copy(update={"steps": min_steps})
        needed = budget.least_seconds(lambda left: division.steps(left) >= min_steps, seconds)
        enough = (options.hours * 3600 + needed - seconds) * budget.RETRY_FACTOR
        fixed = len(by_design) * evaluation + sum(timing.startup_seconds for timing in later.values())
        less = _less_work(options, least, len(by_design), shorter_steps_help=fixed < seconds)
        plan["stopped"] = in_languages(
            "stop_few_steps",
            steps=counted(steps, "step"),
            time=duration(options.hours * 3600),
            least=min_steps,
            begun=duration(options.hours * 3600 - seconds),
            training=duration(sum(budget.run_seconds(least, timing, 0.0) for timing in later.values())),
            evaluation=duration(len(by_design) * evaluation),
            generation=duration(len(by_design) * generating),
            hours=hours_option(enough, options.price_per_hour),
            less=in_languages("stop_or_less", less=either(less)) if less else "",
        )
        return by_design
    planned = _with_steps(by_design, steps, timings, options, progress)
    _tell_estimate(plan, planned, later, corpus, CURVE_RUNS if plan["curve_reserved"] else 0, progress, seconds)
    return planned


def _less_work(options: PocOptions, training: Training, designs: int, *, shorter_steps_help: bool) -> list[Texts]:
    """What would make the parts of a proof of concept shorter, with the options to type; nothing where nothing would.

    Shorter training steps do not help where loading and evaluation alone take longer than there is.
    """
    bases = [] if is_miniature(options.base) else smaller_bases(options)
    smaller_batch = shorter_steps_help and training.batch_size > 1
    less = [
        *([in_languages("less_designs")] if designs > 1 else []),
        *([in_languages("less_batch", size=training.batch_size // 2)] if smaller_batch else []),
        *([in_languages("less_base", base=bases[0])] if bases else []),
    ]
    return less or ([in_languages("less_clips")] if shorter_steps_help else [])


def plan_with_rates(
    context: PocContext,
    plan: Mapping[str, Any],
    by_design: Mapping[str, Recipe],
    families: Sequence[TunedFamily],
    gates: GateThresholds,
) -> dict[str, Any]:
    """The plan with the rates that were chosen, and with what they left of the time budget as equal steps.

    The short trainings have shown how fast the machine is, so "timings" become what they measured.
    """
    options, corpus = context.options, context.corpus
    tuned = rate_search.tuned_recipes(by_design, families)
    plan = {**plan, "tuned": True}
    if options.hours is not None and (timings := budget.timings_of(plan)):
        short = rate_search.short_runs(context.out, by_design)
        slowdown = budget.slowdown_of(timings, short, short[0][1].recipe.training) if short else 1.0
        timings = {design: replace(each, step_seconds=each.step_seconds * slowdown) for design, each in timings.items()}
        wants_curve = include_learning_curve(options, corpus)
        division = _division(tuned, timings, plan["evaluation_seconds"], corpus, wants_curve)
        steps, curve = _divide(division, context.seconds_left(), gates.cost.min_steps, with_rates=False)
        tuned = _with_steps(tuned, max(1, steps), timings, options, context.progress)
        plan["timings"] = {design: vars(each) for design, each in timings.items()}
        plan |= {"steps": steps, "curve_reserved": curve}
    return plan | {"recipes": {design: recipe.model_dump(mode="json") for design, recipe in tuned.items()}}


def _division(
    by_design: Mapping[str, Recipe],
    timings: Mapping[str, StepTiming],
    evaluation_seconds: float,
    corpus: Corpus,
    wants_curve: bool,
) -> budget.Division:
    training, slowest = next(iter(by_design.values())).training, max(timings.values(), key=lambda t: t.step_seconds)
    return budget.Division(
        training,
        [*timings.values()],
        evaluation_seconds,
        rate_search.short_timings(by_design, timings),
        rate_search.evaluation_seconds(corpus, training, slowest),
        [slowest] * CURVE_RUNS if wants_curve else (),
    )


def _curve_steps(min_steps: int, with_rates: bool) -> int:
    """The least steps of each design beside a learning curve; what tries rates comes before it."""
    return rate_search.least_steps(min_steps) if with_rates else max(CURVE_MIN_STEPS, min_steps)


def _divide(division: budget.Division, seconds: float, min_steps: int, with_rates: bool) -> tuple[int, bool]:
    """The steps of each design in `seconds`, and whether time for a learning curve is kept."""
    with_curve = division.steps(seconds, short=with_rates, curve=True) if division.curve else 0
    if with_curve >= _curve_steps(min_steps, with_rates):
        return with_curve, True
    return division.steps(seconds, short=with_rates), False


def _with_steps(
    by_design: Mapping[str, Recipe],
    steps: int,
    timings: Mapping[str, StepTiming],
    options: PocOptions,
    progress: Progress,
) -> dict[str, Recipe]:
    """The recipes with these steps, which is told, and what else changes with them."""
    from talim.training import time_budget

    of_each = "the design" if len(by_design) == 1 else f"each of {len(by_design)} designs"
    hours = options.hours or 0.0
    progress.log(f"{format_counted(steps, 'step')} of {of_each} fit into the budget of {format_duration(hours * 3600)}")
    planned = {
        design: recipe.model_copy(update={"training": time_budget.with_steps(recipe.training, steps, timings[design])})
        for design, recipe in by_design.items()
    }
    for line in changed_settings(options, next(iter(planned.values())).training.model_dump()):
        progress.log(line)
    return planned


def changed_settings(options: PocOptions, training: Mapping[str, Any]) -> list[str]:
    """A line for each given training setting that the number of steps has changed."""
    return [
        f"--set {key}={value}: {training[name]} is used instead, because of the number of steps"
        for key, value in options.settings
        if (name := key.removeprefix("training.")) != key and name in training and training[name] != value
    ]


def _tell_estimate(
    plan: dict[str, Any],
    planned: Mapping[str, Recipe],
    timings: Mapping[str, StepTiming],
    corpus: Corpus,
    curve_runs: int,
    progress: Progress,
    left_seconds: float | None,
) -> None:
    """Log and store how long everything will take, of what is left of a time budget."""
    evaluation = plan["evaluation_seconds"]
    runs = [budget.run_seconds(recipe.training, timings[design], evaluation) for design, recipe in planned.items()]
    training_only = [budget.run_seconds(recipe.training, timings[design], 0.0) for design, recipe in planned.items()]
    first = next(iter(planned.values())).training
    curve_loss = max(rate_search.evaluation_seconds(corpus, first, timings[design]) for design in planned)
    seconds, short = sum(runs) + curve_runs * (max(training_only) + curve_loss) + plan["closing_seconds"], ""
    steps = [budget.steps_seconds(recipe.training, timings[design]) for design, recipe in planned.items()]
    in_steps = sum(steps) + curve_runs * max(steps)
    evaluating, generating = (len(runs) * plan[f"{name}_seconds"] for name in ("evaluation", "generation"))
    if "short_steps" in plan:
        short = rate_search.count_of_trainings(planned)
        for timing in rate_search.short_timings(planned, timings):
            evaluation = rate_search.evaluation_seconds(corpus, first, timing) / rate_search.STEPS_FRACTION
            seconds += budget.run_seconds(first, timing, evaluation)
            in_steps += budget.steps_seconds(first, timing)
    plan["estimated_seconds"] = seconds
    plan["curve_seconds"] = curve_runs * max(training_only)
    plan["estimate"] = budget.estimate_text(
        seconds, (in_steps, evaluating, generating), len(runs), curve_runs, short, left_seconds
    )
    progress.log(plan["estimate"])


def include_learning_curve(options: PocOptions, corpus: Corpus) -> bool:
    """Whether a learning curve is requested and there are enough recordings to divide by four."""
    recordings = len({clip.sound_group for clip in corpus.train})
    return options.learning_curve and recordings >= 4 and bool(corpus.validation)


def cost_summary(plan: Mapping[str, Any], options: PocOptions) -> list[str]:
    """The stage in sentences: the costs of each design relative to full fine-tuning, and what does not fit."""
    lines = []
    for row in plan["rows"]:
        design = row["design"]
        if design == FULL_FINETUNE and design not in plan["recipes"]:
            continue
        if row["memory_bytes"] is None:
            lines.append(f"{design}: its memory could not be predicted ({row['note']}).")
            continue
        ratios, seconds = row["ratios"], plan["step_seconds"].get(design)
        step = f", {seconds:.2f} s per step" if seconds else ""
        relative = ""
        if design != FULL_FINETUNE and all(ratios.values()):
            relative = (
                f"; of full fine-tuning {format_percent(ratios['memory'])} of the memory, "
                f"{format_percent(ratios['flops'])} of the computation (FLOPs) and "
                f"{format_percent(ratios['disk'])} of the disk space"
            )
        excluded = "" if design in plan["fitting"] else "; it does not fit and is left out"
        lines.append(f"{design}: {format_memory(row['memory_bytes'])} of memory{step}{relative}{excluded}.")
    if plan["stopped"]:
        return lines
    steps = max((recipe["training"]["steps"] for recipe in plan["recipes"].values()), default=0)
    designs = "the design" if len(plan["recipes"]) == 1 else f"each of the {len(plan['recipes'])} designs"
    within = f" within {format_duration(options.hours * 3600)}" if options.hours is not None else ", as in the recipe"
    estimate = f" Estimated before training: {plan['estimate']}." if plan.get("estimate") else ""
    return [*lines, f"{format_count(steps)} steps for {designs}{within}.{estimate}"]


def planned_recipes(plan: Mapping[str, Any], corpus: Path) -> dict[str, Recipe]:
    """The recipes of the plan, by design, on the corpus in its present folder."""
    return {
        design: Recipe.model_validate(values | {"corpus": str(corpus)}) for design, values in plan["recipes"].items()
    }
