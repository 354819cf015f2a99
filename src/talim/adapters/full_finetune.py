"""`full`: a site itself is trained, as a float32 copy beside the frozen original (partial or whole fine-tuning)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Float32Wrapper(nn.Module):
    """A copy of a module that computes in float32, in a model that may not: same arguments, same kinds of results."""

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        self.module = copy.deepcopy(original).float()
        self.comes_out = next(
            original.parameters()
        ).dtype  # what enters may be float32 in a bf16 model: text states

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What comes out is in the precision of the original."""
        args, kwargs = _as_type(args, torch.float32), _as_type(kwargs, torch.float32)
        return _as_type(self.module(*args, **kwargs), self.comes_out)


class FullFineTuneLayer(Float32Wrapper):
    """A trainable float32 copy of a module, called in its place."""

    def reset_parameters(self, generator: torch.Generator) -> None:
        """It starts as the original."""


def blend_copies(original: nn.Module, copies: Sequence[tuple[FullFineTuneLayer, float]]) -> Float32Wrapper:
    """The original moved towards several copies, each by its strength: W + sum of s (W' - W), frozen."""
    mixed = Float32Wrapper(original).requires_grad_(False)
    with torch.no_grad():
        for name, weight in mixed.module.named_parameters():
            start = weight.clone()
            for other, strength in copies:
                weight.add_(strength * (other.module.get_parameter(name).float() - start))
    return mixed


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _as_type(value: Any, dtype: torch.dtype) -> Any:
    """Real tensors in another precision; all else (caches, masks of truth values, flags) as it is."""
    if isinstance(value, tuple):
        return tuple(_as_type(each, dtype) for each in value)
    if isinstance(value, dict):
        return {name: _as_type(each, dtype) for name, each in value.items()}
    return value.to(dtype) if _is_float(value) else value
