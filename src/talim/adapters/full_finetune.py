"""Full fine-tuning of a site: a trainable float32 copy beside the frozen original."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Float32Wrapper(nn.Module):
    """A float32 copy of a module inside a model of another dtype; floating-point outputs are cast to that dtype."""

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        self.module = copy.deepcopy(original).float()
        # from the weights: inputs may be float32 in a bf16 model (text states)
        self.output_dtype = next(original.parameters()).dtype

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = _cast(args, torch.float32), _cast(kwargs, torch.float32)
        return _cast(self.module(*args, **kwargs), self.output_dtype)


class FullFineTuneLayer(Float32Wrapper):
    """A trainable float32 copy of a module, called instead of it."""

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Initialised with the base weights."""


def blend_copies(original: nn.Module, copies: Sequence[tuple[FullFineTuneLayer, float]]) -> Float32Wrapper:
    """Frozen interpolation of trained copies with scales s: W + sum of s (W' - W)."""
    blended = Float32Wrapper(original).requires_grad_(False)
    with torch.no_grad():
        for name, weight in blended.module.named_parameters():
            base = weight.clone()
            for layer, scale in copies:
                weight.add_(scale * (layer.module.get_parameter(name).float() - base))
    return blended


def _cast(value: Any, dtype: torch.dtype) -> Any:
    """Floating-point tensors in another dtype; everything else (caches, boolean masks, flags) unchanged."""
    if isinstance(value, tuple):
        return tuple(_cast(item, dtype) for item in value)
    if isinstance(value, dict):
        return {name: _cast(item, dtype) for name, item in value.items()}
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
