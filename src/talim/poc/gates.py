"""The gates of the three stages: what is measured, the threshold and why, written down before a stage runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from talim.atomic_io import read_json, write_json
from talim.errors import UsageError

FILE = "gates.json"
GB = 1e9
USABLE_MEMORY_FRACTION = 0.9  # of the machine's: the system and the libraries need some themselves


class _StrictGateModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CostGate(_StrictGateModel):
    """Whether the designs can be trained here at all."""

    least_steps: int = Field(default=20, ge=1, le=10_000_000)
    memory_gb: float | None = Field(default=None, gt=0)  # None: what the machine has


class QualityGate(_StrictGateModel):
    """Whether the chosen design has learned something, and what is as good as the best."""

    fall_above: float = Field(default=0.0, ge=0)  # of the loss, in its unit
    margin_share: float = Field(default=0.1, gt=0, lt=1)  # of the best design's fall


class TaskGate(_StrictGateModel):
    """Whether people take the music for what it is wanted for."""

    acceptance_at_least: float = Field(default=0.25, gt=0, le=1)  # share of a brief's candidates


class GateThresholds(_StrictGateModel):
    """The thresholds of the three stages."""

    cost: CostGate = CostGate()
    quality: QualityGate = QualityGate()
    task: TaskGate = TaskGate()


def read_gates(path: Path | None) -> GateThresholds:
    """The user's gates from a YAML file, else the usual ones; UsageError for an unknown key or a value out of range."""
    if path is None:
        return GateThresholds()
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--gates {path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"--gates {path}: not a YAML file ({' '.join(str(error).split())})") from None
    try:
        return GateThresholds.model_validate(values or {})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        known = ", ".join(
            f"{stage}.{name}" for stage, names in GateThresholds().model_dump().items() for name in names
        )
        raise UsageError(
            f"--gates {path}: {key or 'it'}: {first['msg'].lower()}; known are {known}"
        ) from None


def size_limit_bytes(gates: GateThresholds, machine_bytes: float | None = None) -> float:
    """The memory that training may take: what the gate says, else most of what the machine has."""
    if gates.cost.memory_gb is not None:
        return gates.cost.memory_gb * GB
    return USABLE_MEMORY_FRACTION * (machine_bytes or float(psutil.virtual_memory().total))


def write_gates(
    out: Path, gates: GateThresholds, hours: float | None, memory_bytes: float, decided: bool
) -> dict[str, Any]:
    """Write DIR/gates.json, or keep it where it says the same; what it says.

    UsageError where other gates are given once a stage has been decided: a threshold chosen after the result is none.
    """
    path, said = out / FILE, gate_summary(gates, hours, memory_bytes)
    if path.is_file():
        before = read_json(path)
        if before == said:
            return said
        if decided and before.get("thresholds") != said["thresholds"]:
            raise UsageError(
                f"{path}: these gates were written before the results that are there; others need another --out"
            )
    write_json(path, said)
    return said


def saved_gates(out: Path, given: Path | None) -> GateThresholds:
    """The gates as they were written in DIR; UsageError where others are given now."""
    kept = GateThresholds.model_validate(read_json(out / FILE)["thresholds"])
    if given is not None and read_gates(given) != kept:
        raise UsageError(
            f"--gates {given}: other gates were written before the results in {out}; leave it out, or take another "
            "--out"
        )
    return kept


def gate_summary(gates: GateThresholds, hours: float | None, memory_bytes: float) -> dict[str, Any]:
    """{"thresholds": numbers, and for each stage what is measured, the threshold and why, in words}."""
    cost, quality, task = gates.cost, gates.quality, gates.task
    steps = f", and at least {cost.least_steps} steps of each within {hours:g} h" if hours is not None else ""
    return {
        "thresholds": gates.model_dump(mode="json"),
        "cost": {
            "measured": "the memory of a training step of each design, traced, and how many steps fit",
            "threshold": f"at most {memory_bytes / GB:.1f} GB{steps}",
            "why": "in fewer steps no adapter shows what it can learn; all designs get the same number",
        },
        "quality": {
            "measured": "the fall of the loss on recordings kept out of training, interval by recording",
            "threshold": f"of the chosen design the whole 95 % interval lies above {quality.fall_above:g}; chosen is "
            f"the cheapest that is not worse than the best by more than {quality.margin_share:.0%} of the "
            "best one's fall",
            "why": "what is not told from chance on recordings it never heard is not worth more money",
        },
        "task": {
            "measured": "what people accept of it for a task (talim brief), beside what they hear blind (talim listen)",
            "threshold": f"the rule of the brief, which is frozen by its first review; of the one drafted here: at "
            f"least {task.acceptance_at_least:.0%} of the candidates are accepted, by the whole interval",
            "why": "a loss does not tell whether music is of use; those who would use it do",
        },
        "extend": {
            "measured": "the fall of the loss over three seeds of the chosen design, interval by seed and recording",
            "threshold": f"the whole 95 % interval lies above {quality.fall_above:g}",
            "why": "one seed may have been lucky",
        },
        "hybrid": {
            "measured": "the fall of the loss with a part of the base trained too, less the chosen design's",
            "threshold": "the whole 95 % interval by recording lies above 0",
            "why": "training a part of the base costs more, also on disk, and has to be worth it",
        },
    }
