"""What designs will cost before anything is spent: memory, time, energy and money of the real training step.

Every setting is traced once on tensors without numbers (`talim.planning.tracer`), kept by content, and told for any
machine. Each design stands beside `full@all`, the training of the whole model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from talim.designs import costs
from talim.designs.expression import parse
from talim.errors import UsageError
from talim.planning import fit_memory, trace_cache
from talim.planning.design_costs import BaseModelFacts, base_model_facts, design_row
from talim.planning.hardware import HardwareProfile
from talim.planning.training_step import DTYPES, StepConfig
from talim.progress import Progress

FULL_FINETUNE = "full@all"
JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True)
class TrainingWorkload:
    """How much is trained: clips of `seconds`, each heard `epochs` times, `batch` at a step."""

    seconds: float
    batch: int
    clips: int
    epochs: float

    @property
    def steps(self) -> int:
        """Optimiser steps in all."""
        return max(1, math.ceil(self.clips * self.epochs / self.batch))


@dataclass(frozen=True)
class EnergyPrices:
    """In the user's own currency; None where it is not asked."""

    per_hour: float | None = None  # of the machine
    per_kwh: float | None = None


@dataclass(frozen=True)
class PlanRequest:
    """One run of a study: which design on which base, on clips of what length, for how many steps."""

    base: str
    design: str
    seconds: float
    batch: int
    steps: int
    precision: str | None = None
    checkpointing: bool = False


def plan_designs(
    base: str,
    designs: Sequence[str],
    machine: HardwareProfile,
    *,
    seconds: float | None = None,
    batch: int = 1,
    music_hours: float = 1.0,
    epochs: float = 10.0,
    precision: str | None = None,
    checkpointing: bool = False,
    limit_bytes: float | None = None,
    prices: EnergyPrices = EnergyPrices(),
    cache: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """A row for every design and for `full@all`, with ratios between the two; clips are the base's window long.

    A design that does not fit into `limit_bytes` (else the machine's memory) gets a `remedy`: the first setting that
    does, found by tracing it. UsageError for what cannot be read or placed, TalimError for an unknown base.
    """
    found = base_model_facts(base)
    seconds = found.window_seconds if seconds is None else seconds
    _check(found, seconds, batch, music_hours, epochs)
    work = TrainingWorkload(seconds, batch, max(1, round(music_hours * 3600 / seconds)), epochs)
    chosen = precision or machine.precision
    wanted = list(dict.fromkeys([FULL_FINETUNE, *(str(parse(text)) for text in designs)]))
    for text in wanted:
        place_design(text, found, seconds)
    shelf = trace_cache.TraceCache(cache, progress or Progress())
    rows = []
    for text in wanted:
        setting = StepConfig(base, text, seconds, batch, chosen, checkpointing)
        rows.append(_row(setting, found, work, machine, limit_bytes, prices, shelf))
    for each in rows:
        each["ratios"] = _ratios(each, rows[0])
    return {
        "base": found.name,
        "machine": machine.name,
        "machine_said": machine.said,
        "limit_bytes": limit_bytes or machine.usable_bytes,
        "precision": chosen,
        "checkpointing": checkpointing,
        **asdict(work),
        "steps": work.steps,
        "prices": asdict(prices),
        "designs": rows,
    }


def plan_total(
    jobs: Sequence[PlanRequest],
    machine: HardwareProfile,
    prices: EnergyPrices = EnergyPrices(),
    cache: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """What a study takes on one machine, run after run: hours, bytes on disk, joules, money, and a row a job."""
    shelf = trace_cache.TraceCache(cache, progress or Progress())
    rows = []
    for job in jobs:
        found = base_model_facts(job.base)
        _check(found, job.seconds, job.batch)
        told = place_design(job.design, found, job.seconds)
        chosen = job.precision or machine.precision
        setting = StepConfig(job.base, job.design, job.seconds, job.batch, chosen, job.checkpointing)
        cost = _cost(setting, job.steps, machine, prices, shelf)
        rows.append({**asdict(job), **cost, "file_bytes": told["file_bytes"]})
    summed = {
        key: _sum([each[key] for each in rows]) for key in ("hours", "file_bytes", "energy_joules", "money")
    }
    most = max((each["memory_bytes"] for each in rows), default=0)
    return {"machine": machine.name, "runs": len(rows), **summed, "memory_bytes": most, "jobs": rows}


def _row(
    setting: StepConfig,
    found: BaseModelFacts,
    work: TrainingWorkload,
    machine: HardwareProfile,
    limit_bytes: float | None,
    prices: EnergyPrices,
    shelf: trace_cache.TraceCache,
) -> dict[str, Any]:
    told = place_design(setting.design, found, setting.seconds)
    cost = _cost(setting, work.steps, machine, prices, shelf)
    limit = limit_bytes or machine.usable_bytes
    fits = cost["memory_bytes"] <= limit
    remedy = None if fits else fit_memory.find_fitting_config(setting, found, machine, limit, shelf)
    named = {key: told[key] for key in ("parameters", "share", "file_bytes", "remark")}
    return {"expression": setting.design, **named, **cost, "fits": fits, "remedy": remedy}


def _cost(
    setting: StepConfig,
    steps: int,
    machine: HardwareProfile,
    prices: EnergyPrices,
    shelf: trace_cache.TraceCache,
) -> dict[str, Any]:
    trace = shelf.trace(setting)
    step_seconds = machine.seconds(trace)
    hours = step_seconds * steps / 3600
    joules = None if machine.watts is None else machine.watts * hours * 3600
    return {
        "memory_bytes": machine.needed_bytes(trace, setting.precision),
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
        parts.append(joules / JOULES_PER_KWH * prices.per_kwh)
    return sum(parts) if parts else None


def _ratios(each: dict[str, Any], whole: dict[str, Any]) -> dict[str, float | None]:
    """Of a design to the training of the whole model."""
    words = {"time": "hours", "memory": "memory_bytes", "storage": "file_bytes", "money": "money"}
    pairs = {word: (each[key], whole[key]) for word, key in words.items()}
    return {
        word: mine / theirs if mine is not None and theirs else None for word, (mine, theirs) in pairs.items()
    }


def place_design(expression: str, found: BaseModelFacts, seconds: float) -> dict[str, Any]:
    """The design's own numbers; UsageError where the base cannot have it."""
    clip = costs.sequence_shape(found.shape, max(1, round(seconds * found.frame_rate_hz)))
    told = design_row(expression, found.shape, clip, seconds)
    if told.parameters is None:
        raise UsageError(f"{expression} on {found.name}: {told.remark.removeprefix('impossible: ')}")
    return asdict(replace(told, expression=expression))


def check_options(precision: str | None, **positive: float | None) -> None:
    """UsageError for a precision that no base is trained in, or a limit, price or power that is not above 0."""
    if precision not in (None, *DTYPES):
        raise UsageError(f"--precision {precision!r} is none of {', '.join(DTYPES)}")
    for name, value in positive.items():
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UsageError(f"--{name.replace('_', '-')} is {value:g}; it must be more than 0")


def _check(
    found: BaseModelFacts, seconds: float, batch: int, music_hours: float = 1.0, epochs: float = 1.0
) -> None:
    if not 1 / found.frame_rate_hz <= seconds <= found.window_seconds:
        raise UsageError(
            f"--seconds is {seconds:g}; {found.name} hears from one frame up to {found.window_seconds:g} s at once"
        )
    if batch < 1:
        raise UsageError(f"--batch is {batch}; a step has at least one clip")
    for name, value in (("--music-hours", music_hours), ("--epochs", epochs)):
        if not (math.isfinite(value) and value > 0):
            raise UsageError(f"{name} is {value:g}; it must be more than 0")


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
