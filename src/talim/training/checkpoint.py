"""The checkpoint of an unfinished training run: weights, optimiser state, best weights and counters in one file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from talim import atomic_io
from talim.errors import TalimError

Weights = dict[str, nn.Parameter]


@dataclass
class TrainerState:
    """Everything besides tensors that the next step depends on."""

    run_id: str
    step: int = 0
    best_step: int = 0
    best_loss: float | None = None  # validation, in the base's loss unit
    last_loss: float | None = None  # likewise, when it was last measured
    evals_without_improvement: int = 0
    stopped_early: bool = False
    stopped_for_time: bool = False
    log_bytes: int = 0  # the log is truncated to this length on resumption
    usage: dict[str, float] = field(default_factory=dict)  # of the meter and the frozen-layer cache


def write(path: Path, state: TrainerState, weights: Weights, optimiser: Optimizer, best: dict[str, Tensor]) -> None:
    """Write everything to one file, atomically, with a checksum. Random states need not be stored: draws follow
    from the step.
    """
    tensors = {f"weights/{name}": tensor.detach() for name, tensor in weights.items()}
    tensors |= {f"best/{name}": tensor for name, tensor in best.items()}
    for name, parameter in weights.items():
        for key, value in optimiser.state.get(parameter, {}).items():
            tensors[f"optimiser/{name}/{key}"] = torch.as_tensor(value)
    tensors = {key: value.cpu().contiguous() for key, value in tensors.items()}
    text = json.dumps(asdict(state))
    with atomic_io.new_file(path) as temporary:
        save_file(tensors, temporary, {"state": text, "sha256": _checksum(text, tensors)})


def read(path: Path, weights: Weights, optimiser: Optimizer, run_id: str) -> tuple[TrainerState, dict[str, Tensor]]:
    """Restore weights and optimiser state in place; return the counters and the best weights.

    TalimError if the file is damaged or belongs to another run or design.
    """
    state, tensors = _open(path)
    if state.run_id != run_id:
        raise TalimError(f"{path}: belongs to run {state.run_id}, not {run_id}; choose another --out")
    stored = {key.removeprefix("weights/") for key in tensors if key.startswith("weights/")}
    if stored != set(weights):
        raise TalimError(f"{path}: its adapter weights do not fit this design; delete it to start anew")
    for name, parameter in weights.items():
        with torch.no_grad():
            parameter.copy_(tensors[f"weights/{name}"])
        prefix = f"optimiser/{name}/"
        values = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if values:
            optimiser.state[parameter] = {key: value.to(parameter.device) for key, value in values.items()}
    best = {key.removeprefix("best/"): value for key, value in tensors.items() if key.startswith("best/")}
    return state, best


def _open(path: Path) -> tuple[TrainerState, dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        if metadata["sha256"] != _checksum(metadata["state"], tensors):
            raise ValueError("its checksum does not match its content")
        return TrainerState(**json.loads(metadata["state"])), tensors
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise TalimError(f"{path}: damaged checkpoint ({reason}); delete it to start the run anew") from None


def _checksum(state: str, tensors: Mapping[str, Tensor]) -> str:
    """Sha256 (hex) of the state and of every tensor's name, type, shape and bytes."""
    digest = hashlib.sha256(state.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
