"""What the trainings of the nano family share: steps that resume, the learning rate's course, a log, a checkpoint."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from talim.backbones import precision


@dataclass(frozen=True)
class TrainSchedule:
    """How long a training is and how often it writes: `steps` in all, between two log rows, between checkpoints."""

    steps: int
    log_every: int
    checkpoint_every: int


def train_loop(
    out: Path,
    term: TrainSchedule,
    parts: Mapping[str, nn.Module],
    optimiser: torch.optim.Optimizer,
    lesson: Callable[[int], tuple[Tensor, dict[str, Any]]],
    rate: Callable[[int], float],
    look: Callable[[int], dict[str, Any]] = lambda step: {},
) -> None:
    """Take the steps that are still missing; log to OUT/log.jsonl, keep OUT/state.pt and resume from it.

    `lesson(step)` gives the loss and what to log beside it, and must depend on the step alone; `rate(step)` the
    learning rate; `look(step)` more to log after a step that is logged. `parts` are the modules to keep.
    """
    state_file, log = out / "state.pt", out / "log.jsonl"
    first = 0
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(state["parts"][name])
        optimiser.load_state_dict(state["optimiser"])
        first = state["step"]
    discard_after(log, first)
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    began = time.time()
    for step in range(first, term.steps):
        set_lr(optimiser, rate(step))
        loss, told = lesson(step)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        last = step == term.steps - 1
        if step % term.log_every == 0 or last:
            row = {"step": step, "seconds": round(time.time() - began, 1)}
            log_row(log, row | {name: _plain(value) for name, value in (told | look(step)).items()})
        if (step + 1) % term.checkpoint_every == 0 or last:
            kept = {name: part.state_dict() for name, part in parts.items()}
            save_atomic(state_file, {"parts": kept, "optimiser": optimiser.state_dict(), "step": step + 1})


def _plain(value: Any) -> Any:
    """Tensors as numbers, rounded."""
    if isinstance(value, Tensor):
        value = value.tolist()
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return round(value, 5) if isinstance(value, float) else value


def lr_at(step: int, steps: int, peak: float, warmup: int, floor: float) -> float:
    """A linear rise over `warmup` steps times half a cosine from the peak down to the share `floor` of it."""
    return float(
        peak
        * min(1.0, (step + 1) / warmup)
        * (floor + (1 - floor) * 0.5 * (1 + np.cos(np.pi * step / steps)))
    )


def set_lr(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Let the next step be taken at `rate`."""
    for group in optimiser.param_groups:
        group["lr"] = rate


def bf16_autocast() -> torch.autocast:
    """A context in which matrix products run in bf16, where this machine has instructions for it."""
    native, _ = precision.has_bf16(torch.device("cpu"))
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=native)


def log_row(file: Path, row: dict[str, Any]) -> None:
    """Append one JSON object to a log."""
    with file.open("a") as log:
        log.write(json.dumps(row) + "\n")


def discard_after(file: Path, step: int) -> None:
    """Take the rows from `step` on out of a log: training resumes there and will write them again."""
    if file.exists():
        rows = [line for line in file.read_text().splitlines() if json.loads(line)["step"] < step]
        file.write_text("".join(f"{line}\n" for line in rows))


def save_atomic(file: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint whole or not at all."""
    part = file.with_suffix(".part")
    torch.save(state, part)
    part.replace(file)
