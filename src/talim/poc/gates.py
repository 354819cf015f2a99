"""Gates of a proof of concept: what is measured at each stage and its threshold, written before the stage runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
from pydantic import Field

from talim.atomic_io import read_json, write_json
from talim.errors import UsageError
from talim.html.formatting import GB
from talim.html.languages import languages, words
from talim.reporting.catalogue import counted, duration
from talim.strict_yaml import StrictModel, build, read_yaml

FILE = "gates.json"
# The first gate is on predictions, not on what was spent, and the second on the loss alone: their names say no more.
STAGE_TITLES = {
    "cost": "Feasibility (memory and time)",
    "quality": "Learning (loss)",
    "task": "Contribution to the task",
}
USABLE_MEMORY_FRACTION = 0.9  # of the machine's memory: the rest is for the system and libraries


class CostGate(StrictModel):
    """Whether the designs can be trained on this machine."""

    min_steps: int = Field(default=20, ge=1, le=20_000)  # at most what a time budget gives: MAX_TRAINING_STEPS
    memory_gb: float | None = Field(default=None, gt=0)  # None: the machine's usable memory


class QualityGate(StrictModel):
    """Whether the selected design has learned something, and which designs are as good as the best."""

    min_loss_reduction: float = Field(default=0.0, ge=0)  # in the unit of the loss
    tolerance_fraction: float = Field(default=0.1, gt=0, lt=1)  # of the best design's loss reduction


class TaskGate(StrictModel):
    """Whether people accept the music for its task."""

    min_acceptance_fraction: float = Field(default=0.25, gt=0, le=1)  # of a brief's candidates


class GateThresholds(StrictModel):
    """The thresholds of the three stages."""

    cost: CostGate = CostGate()
    quality: QualityGate = QualityGate()
    task: TaskGate = TaskGate()


def read_gates(path: Path | None) -> GateThresholds:
    """Thresholds from a YAML file, else the defaults; UsageError for an unknown key or a value out of range."""
    if path is None:
        return GateThresholds()
    values = read_yaml(path, "give a YAML file of thresholds, or leave out --gates")
    return build(GateThresholds, values or {}, f"--gates {path}")


def memory_limit_bytes(gates: GateThresholds, machine_bytes: float | None = None) -> float:
    """The memory that training may use: the gate's, else 90 % of `machine_bytes` (None: of the RAM)."""
    if gates.cost.memory_gb is not None:
        return gates.cost.memory_gb * GB
    return USABLE_MEMORY_FRACTION * (machine_bytes or float(psutil.virtual_memory().total))


def write_gates(
    out: Path, gates: GateThresholds, hours: float | None, memory_bytes: float, decided: bool
) -> dict[str, Any]:
    """Write DIR/gates.json unless it is there already, and return its content.

    UsageError for other thresholds once a stage has been `decided`: a threshold chosen after the result tests nothing.
    """
    path, summary = out / FILE, gate_summary(gates, hours, memory_bytes)
    if path.is_file():
        before = read_json(path)
        if before == summary:
            return summary
        if decided and before.get("thresholds") != summary["thresholds"]:
            raise UsageError(
                f"{path}: these gates were written before the results that are there; for others choose another --out"
            )
    write_json(path, summary)
    return summary


def saved_gates(out: Path, given: Path | None) -> GateThresholds:
    """The thresholds written in DIR; UsageError if others are given now."""
    saved = build(GateThresholds, read_json(out / FILE)["thresholds"], str(out / FILE))
    if given is not None and read_gates(given) != saved:
        raise UsageError(
            f"--gates {given}: other gates were written before the results in {out}; leave it out, or choose another "
            "--out"
        )
    return saved


def gate_summary(gates: GateThresholds, hours: float | None, memory_bytes: float) -> dict[str, Any]:
    """{"thresholds": numbers, and for each stage as text "measured", "threshold", "reason"; with those by language}."""
    values = {"memory_gb": memory_bytes / GB, **vars(gates.quality), **vars(gates.task)}
    steps = dict.fromkeys(languages("poc"), "")
    if hours is not None:
        within, least = duration(hours * 3600), counted(gates.cost.min_steps, "step")
        steps = {code: words(code, "poc")["steps"].format(steps=least[code], within=within[code]) for code in steps}
    by_language = {
        code: {
            stage: {name: text.format(**values, steps=steps[code]) for name, text in parts.items()}
            for stage, parts in words(code, "poc")["gates"].items()
        }
        for code in steps
    }
    english = by_language.pop("en")
    texts = {
        stage: parts | {code: said[stage] for code, said in by_language.items()} for stage, parts in english.items()
    }
    return {"thresholds": gates.model_dump(mode="json"), **texts}
