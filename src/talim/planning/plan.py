"""Memory, time, energy and money of training designs, predicted by tracing the real training step.

Every design is compared with `full@all`, the training of the whole model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from talim.backbones.resolve import absolute_name
from talim.design.expression import Design
from talim.errors import TalimError, UsageError
from talim.planning import cpu_calibration, design_costs, fit_memory
from talim.planning.design_costs import BaseModelFacts, DesignCost, base_model_facts
from talim.planning.hardware import HardwareProfile
from talim.planning.trace_cache import TraceCache
from talim.planning.training_job import FULL_PASSES, TrainingJob, TrainingMusic, default_training, prepared_music
from talim.planning.training_step import DTYPES, StepConfig
from talim.progress import Progress, counted
from talim.recipe import CLIP_SECONDS
from talim.strict_yaml import shown_value

MAX_BATCH_SIZE, MAX_STEPS = 4096, 10_000_000  # as in a recipe
MAX_PRICE = 1_000_000_000  # and watts, and GB of memory


@dataclass(frozen=True)
class EnergyPrices:
    """Prices in the user's own currency; None where none is given."""

    per_hour: float | None = None  # of the machine
    per_kwh: float | None = None


def plan_designs(  # noqa: PLR0913
    base: str,
    designs: Sequence[str | Design],
    hardware: HardwareProfile,
    *,
    crop_seconds: float | None = None,
    batch_size: int | None = None,
    steps: int | None = None,
    precision: str | None = None,
    gradient_checkpointing: bool = False,
    memory_limit_bytes: float | None = None,
    music: TrainingMusic | None = None,
    prices: EnergyPrices = EnergyPrices(),
    cache: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """A row for `full@all` and for every design, with the ratios between the two.

    `crop_seconds`, `batch_size` and `steps` None are as in `default_training`, `memory_limit_bytes` None is the
    hardware's memory. With `music` to train on, "music" has its "hours", the "passes" that the steps are over it, and
    the passes and steps of a full training ("full_passes", "full_steps"), and each row the "full_hours" of that. One of
    `designs` that does not fit gets a `suggestion`: the first change that makes it fit, verified by tracing. UsageError
    for designs that the base cannot have and values out of range, TalimError for an unknown base.
    """
    facts = base_model_facts(base)
    training = _training(facts, crop_seconds, batch_size, steps)
    seconds, per_step = training["crop_seconds"], training["batch_size"]
    asked_precision, precision = precision, precision or hardware.precision
    limit = memory_limit_bytes or hardware.usable_bytes
    asked = [*map(Design.parse, designs)]
    planned = list(dict.fromkeys([design_costs.FULL_FINETUNE, *asked]))
    costs = [feasible_design_cost(design, facts, seconds) for design in planned]
    traces = TraceCache(cache, progress or Progress())
    rows = []
    for design, cost in counted(zip(planned, costs, strict=True), len(planned), traces.progress, "designs planned"):
        config = StepConfig(base, design, seconds, per_step, precision, gradient_checkpointing)
        row = _training_cost(config, training["steps"], facts.family, hardware, prices, traces)
        fits = row["memory_bytes"] <= limit
        wanted = not fits and design in asked
        suggestion = fit_memory.find_fitting_config(config, facts, hardware, limit, traces) if wanted else None
        sizes = {name: getattr(cost, name) for name in ("parameters", "parameter_fraction", "file_bytes", "note")}
        rows.append({"design": str(design), **sizes, **row, "fits": fits, "suggestion": suggestion})
    passes = _passes(music, training)
    for row in rows:
        row["ratios"] = _ratios(row, rows[0])
        if passes:
            row["full_hours"] = row["hours"] * passes["full_steps"] / training["steps"]
    return {
        "base": facts.name,
        "base_option": absolute_name(base),
        "hardware": hardware.name,
        "hardware_note": hardware.note,
        "memory_limit_bytes": limit,
        "precision": precision,
        "asked_precision": asked_precision,
        "gradient_checkpointing": gradient_checkpointing,
        **training,
        "default_training": default_training(facts),
        "music": passes,
        "prices": asdict(prices),
        "designs": rows,
    }


def music_to_train_on(
    base: str, hours: float | None, corpus: Path | str | None, crop_seconds: float | None
) -> tuple[TrainingMusic | None, float | None]:
    """The music that a plan is for, of so many hours or a prepared corpus, and the clip length, which a corpus has too.

    UsageError for both at once, TalimError for a folder that holds no corpus.
    """
    if corpus is None:
        return None if hours is None else TrainingMusic(hours * 3600), crop_seconds
    if hours is not None:
        raise UsageError("--hours-of-music and --corpus both say how much music there is; give one of them")
    music = prepared_music(Path(corpus))
    clip_seconds = min(music.clip_seconds or CLIP_SECONDS, base_model_facts(base).window_seconds)
    return music, clip_seconds if crop_seconds is None else crop_seconds


def _passes(music: TrainingMusic | None, training: dict[str, Any]) -> dict[str, Any] | None:
    if music is None:
        return None
    step = (training["batch_size"], training["crop_seconds"])
    passes = training["steps"] / music.steps_per_pass(*step)
    full = {"full_passes": FULL_PASSES, "full_steps": music.full_steps(*step)}
    return {"hours": music.seconds / 3600, "passes": passes, **full}


def plan_total(
    jobs: Sequence[TrainingJob],
    hardware: HardwareProfile,
    prices: EnergyPrices = EnergyPrices(),
    cache: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Hours, disk space, energy and money of several runs, one after the other, and a row for each."""
    traces = TraceCache(cache, progress or Progress())
    rows = []
    for job in counted(jobs, len(jobs), traces.progress, "trainings planned"):
        facts = base_model_facts(job.base)
        _training(facts, job.crop_seconds, job.batch_size, job.steps)
        file_bytes = feasible_design_cost(job.design, facts, job.crop_seconds).file_bytes
        config = step_config(job, hardware.precision)
        cost = _training_cost(config, job.steps, facts.family, hardware, prices, traces)
        rows.append({**vars(job), "design": str(job.design), **cost, "file_bytes": file_bytes})
    columns = {key: [row[key] for row in rows] for key in ("hours", "file_bytes", "energy_joules", "money")}
    totals = {key: None if None in values else sum(values) for key, values in columns.items()}
    largest = max((row["memory_bytes"] for row in rows), default=0)
    return {"hardware": hardware.name, "num_runs": len(rows), **totals, "memory_bytes": largest, "runs": rows}


def step_config(job: TrainingJob, precision: str) -> StepConfig:
    """A step of a job, in `precision` where the job names none."""
    steps = {"precision": job.precision or precision, "gradient_checkpointing": job.gradient_checkpointing}
    return StepConfig(job.base, job.design, job.crop_seconds, job.batch_size, **steps)


def known_cost(job: TrainingJob, device: str, cache: Path) -> dict[str, Any] | None:
    """The row that `plan_total` has for a job on this device; None where it would have to measure or trace first."""
    hardware = cpu_calibration.measured_profile(device, cache)
    if hardware is None:
        return None
    try:
        config = step_config(job, hardware.precision)
        if not TraceCache(cache, Progress()).is_traced(config):
            return None
        if (
            not hardware.gpu
            and cpu_calibration.stored_overhead(cache, base_model_facts(job.base).family, config.precision) is None
        ):
            return None
        return plan_total([job], hardware, cache=cache)["runs"][0]
    except TalimError:
        return None


def _training_cost(
    config: StepConfig, steps: int, family: str, hardware: HardwareProfile, prices: EnergyPrices, traces: TraceCache
) -> dict[str, Any]:
    trace = traces.trace(config)
    step_seconds = hardware.seconds(trace)
    hours = step_seconds * steps / 3600
    joules = None if hardware.watts is None else hardware.watts * hours * 3600
    return {
        "memory_bytes": hardware.needed_bytes(trace, family, config.precision),
        "tensor_bytes": trace.peak_bytes,
        "flops_per_step": trace.flops,
        "step_seconds": step_seconds,
        "hours": hours,
        "energy_joules": joules,
        "money": _money(hours, joules, prices),
    }


def _money(hours: float, joules: float | None, prices: EnergyPrices) -> float | None:
    parts = []
    if prices.per_hour is not None:
        parts.append(hours * prices.per_hour)
    if prices.per_kwh is not None:
        if joules is None:
            raise UsageError("a price per kWh needs the machine's power; give --watts")
        parts.append(joules / design_costs.JOULES_PER_KWH * prices.per_kwh)
    return sum(parts) if parts else None


def _ratios(row: dict[str, Any], full: dict[str, Any]) -> dict[str, float | None]:
    """A design's costs relative to training the whole model."""
    keys = {"time": "hours", "memory": "memory_bytes", "storage": "file_bytes", "money": "money"}
    return {name: row[key] / full[key] if row[key] is not None and full[key] else None for name, key in keys.items()}


def feasible_design_cost(design: Design, base: BaseModelFacts, crop_seconds: float) -> DesignCost:
    """The design's own costs; UsageError where the base cannot have it."""
    cost = design_costs.design_cost(design, base, crop_seconds)
    if cost.parameters is None:
        raise UsageError(f"{design} on {base.name}: {cost.note.removeprefix('impossible: ')}")
    return cost


def check_request(
    base: str, designs: Sequence[str | Design], crop_seconds: float | None, batch_size: int | None, steps: int | None
) -> None:
    """UsageError or TalimError for what `plan_designs` would refuse, before this CPU is timed."""
    facts = base_model_facts(base)
    seconds = _training(facts, crop_seconds, batch_size, steps)["crop_seconds"]
    for design in designs:
        feasible_design_cost(Design.parse(design), facts, seconds)


def check_options(precision: str | None, **positive: float | None) -> None:
    """UsageError for an unsupported precision, or a limit, price or power that is not above 0."""
    if precision not in (None, *DTYPES):
        raise UsageError(f"--precision {precision!r} is none of {', '.join(DTYPES)}")
    for name, value in positive.items():
        if value is not None and not 0 < value <= MAX_PRICE:
            limits = f"more than 0 and at most {MAX_PRICE:,}"
            raise UsageError(f"--{name.replace('_', '-')} is {value:g}; it must be {limits}")


def _training(
    base: BaseModelFacts, crop_seconds: float | None, batch_size: int | None, steps: int | None
) -> dict[str, Any]:
    """The values given, else those of `default_training`. UsageError for values out of range."""
    given = {"crop_seconds": crop_seconds, "batch_size": batch_size, "steps": steps}
    training = default_training(base) | {name: value for name, value in given.items() if value is not None}
    seconds, per_step, count = (training[name] for name in given)
    if not 1 / base.frame_rate_hz <= seconds <= base.window_seconds:
        raise UsageError(f"--clip-seconds is {seconds:g}; {base.name} takes one frame up to {base.window_seconds:g} s")
    if not 1 <= per_step <= MAX_BATCH_SIZE:
        raise UsageError(f"--batch-size is {shown_value(per_step)}; a step has 1 to {MAX_BATCH_SIZE:,} clips")
    if not 1 <= count <= MAX_STEPS:
        raise UsageError(f"--steps is {shown_value(count)}; a training has 1 to {MAX_STEPS:,} steps")
    return training
