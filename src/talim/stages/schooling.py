"""What the trainings of the nano family share: the learning rate's course, a log line, a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from talim.backbones import precision


def rate_at(step: int, steps: int, peak: float, warmup: int, floor: float) -> float:
    """A linear rise over `warmup` steps times half a cosine from the peak down to the share `floor` of it."""
    return float(
        peak
        * min(1.0, (step + 1) / warmup)
        * (floor + (1 - floor) * 0.5 * (1 + np.cos(np.pi * step / steps)))
    )


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Let the next step be taken at `rate`."""
    for group in optimiser.param_groups:
        group["lr"] = rate


def fast() -> torch.autocast:
    """A context in which matrix products run in bf16, where this machine has instructions for it."""
    native, _ = precision.has_bf16(torch.device("cpu"))
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=native)


def log_row(file: Path, row: dict[str, Any]) -> None:
    """Append one JSON object to a log."""
    with file.open("a") as log:
        log.write(json.dumps(row) + "\n")


def forget_after(file: Path, step: int) -> None:
    """Take the rows from `step` on out of a log: training resumes there and will write them again."""
    if file.exists():
        rows = [line for line in file.read_text().splitlines() if json.loads(line)["step"] < step]
        file.write_text("".join(f"{line}\n" for line in rows))


def keep(file: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint whole or not at all."""
    part = file.with_suffix(".part")
    torch.save(state, part)
    part.replace(file)
