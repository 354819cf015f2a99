"""The training loop of the miniature models: resumable steps, learning-rate schedule, log and checkpoint."""

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
    """Number of steps, and the steps between log rows and between checkpoints."""

    steps: int
    log_every: int
    checkpoint_every: int


def train_loop(
    out: Path,
    schedule: TrainSchedule,
    modules: Mapping[str, nn.Module],
    optimiser: torch.optim.Optimizer,
    compute_loss: Callable[[int], tuple[Tensor, dict[str, Any]]],
    learning_rate: Callable[[int], float],
    validate: Callable[[int], dict[str, Any]] = lambda step: {},
) -> None:
    """Take the remaining steps, log to OUT/log.jsonl, and keep OUT/state.pt, from which it resumes.

    `compute_loss(step)` gives the loss and values to log, and must depend on the step alone; `validate(step)` gives
    further values for steps that are logged. `modules` are stored in the checkpoint.
    """
    state_file, log = out / "state.pt", out / "log.jsonl"
    first = 0
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        for name, module in modules.items():
            module.load_state_dict(state["parts"][name])
        optimiser.load_state_dict(state["optimiser"])
        first = state["step"]
    discard_after(log, first)
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    began = time.time()
    for step in range(first, schedule.steps):
        set_lr(optimiser, learning_rate(step))
        loss, values = compute_loss(step)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        last = step == schedule.steps - 1
        if step % schedule.log_every == 0 or last:
            row = {"step": step, "seconds": round(time.time() - began, 1)}
            log_row(log, row | {name: _to_plain(value) for name, value in (values | validate(step)).items()})
        if (step + 1) % schedule.checkpoint_every == 0 or last:
            parts = {name: module.state_dict() for name, module in modules.items()}
            save_atomic(state_file, {"parts": parts, "optimiser": optimiser.state_dict(), "step": step + 1})


def _to_plain(value: Any) -> Any:
    """Tensors as numbers; floats rounded to five decimals."""
    if isinstance(value, Tensor):
        value = value.tolist()
    if isinstance(value, list):
        return [_to_plain(each) for each in value]
    return round(value, 5) if isinstance(value, float) else value


def lr_at(step: int, steps: int, peak: float, warmup: int, floor: float) -> float:
    """Linear warm-up over `warmup` steps times a cosine decay from the peak to the fraction `floor` of it."""
    return float(
        peak * min(1.0, (step + 1) / warmup) * (floor + (1 - floor) * 0.5 * (1 + np.cos(np.pi * step / steps)))
    )


def set_lr(optimiser: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the learning rate of all parameter groups."""
    for group in optimiser.param_groups:
        group["lr"] = learning_rate


def bf16_autocast() -> torch.autocast:
    """A context in which matrix products run in bf16, if this CPU has instructions for it."""
    native, _ = precision.has_bf16(torch.device("cpu"))
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=native)


def log_row(file: Path, row: dict[str, Any]) -> None:
    """Append one JSON object to a log."""
    with file.open("a") as log:
        log.write(json.dumps(row) + "\n")


def discard_after(file: Path, step: int) -> None:
    """Remove the rows from `step` on, which a resumed training writes again."""
    if file.exists():
        rows = [line for line in file.read_text().splitlines() if json.loads(line)["step"] < step]
        file.write_text("".join(f"{line}\n" for line in rows))


def save_atomic(file: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint atomically."""
    part = file.with_suffix(".part")
    torch.save(state, part)
    part.replace(file)
