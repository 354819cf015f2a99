"""Fingerprints of weights: cheap to compute, and different as soon as the weights differ."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

PROBE_PROMPT = "Tempo 90, raga Bhūpālī"
SAMPLES = 256  # values per tensor: any training step changes them


def hash_weights(module: nn.Module, facts: dict[str, Any], exact: bool = False) -> str:
    """SHA-256 (hex) over facts, every weight's name and shape, and evenly spread values of each.

    Values are rounded to bf16 first, so that a file loaded in bf16 and in fp32 has one fingerprint; `exact` skips that,
    for modules that are always fp32. An empty string for weights on the meta device.
    """
    if any(tensor.is_meta for tensor in stored_tensors(module).values()):
        return ""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    for name, tensor in sorted(stored_tensors(module).items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(sample_values(tensor, exact).numpy().tobytes())
    return digest.hexdigest()


def probe_tokens(tokenizer: Callable[..., Any]) -> list[int]:
    """Token ids of a probe prompt on which tokenizers differ."""
    tokens = tokenizer([PROBE_PROMPT], padding=True, return_tensors="pt")
    return tokens["input_ids"][0].tolist()


def sample_values(tensor: Tensor, exact: bool) -> Tensor:
    """Up to SAMPLES evenly spaced values of a tensor, float32 on the CPU."""
    flat = tensor.detach().reshape(-1)
    if flat.numel() > SAMPLES:
        # float64: a float32 linspace misses integers beyond 16 million
        indices = torch.linspace(0, flat.numel() - 1, SAMPLES, dtype=torch.float64).long()
        flat = flat[indices.to(flat.device)]
    values = flat.to("cpu", torch.float32)
    return values if exact else values.to(torch.bfloat16).float()


def count_values(module: nn.Module) -> int:
    """Number of values in all stored weights; tied weights count once."""
    return sum(tensor.numel() for tensor in stored_tensors(module).values())


def stored_tensors(module: nn.Module) -> dict[str, Tensor]:
    """All weights that a checkpoint would hold, tied ones once, under their released names."""
    stored = module.state_dict(keep_vars=True)
    tensors: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in stored.items():
        if id(tensor) in seen or name.endswith("embed_positions.weights"):
            continue  # computed sinusoids
        seen.add(id(tensor))
        name = name.replace("parametrizations.weight.original0", "weight_g")
        tensors[name.replace("parametrizations.weight.original1", "weight_v")] = tensor
    return tensors
