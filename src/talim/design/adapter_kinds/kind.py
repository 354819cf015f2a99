"""What every adapter kind is: a bottleneck with exact parameter and FLOP counts that need no instance."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from talim.design import layouts
from talim.design.streaming import StreamingState
from talim.errors import UsageError


class Kind(nn.Module):
    """Bottleneck adapter: hidden states [B, T, D] -> the residual to add, [B, T, D]; zero at initialisation.

    In the layout "bands" the states are [B, D, T, F]; see `talim.design.layouts`. `features` is D, `width` the
    bottleneck's channels W. Subclasses define `bottleneck_forward`, `build` for its modules and, for kinds with
    options, `default_options`. The counts below take a multiply-add as two operations.
    """

    uses_context: ClassVar[bool] = False  # True: the output depends on other frames; honour causal, state and mask

    def __init__(
        self,
        features: int,
        width: int,
        *,
        causal: bool = True,
        dropout: float = 0.0,
        layout: str = layouts.FRAMES,
        **options: Any,
    ) -> None:
        super().__init__()
        self.layout = layouts.check_layout(layout)
        self.features, self.width, self.causal, self.dropout = features, width, causal, dropout
        self.down = nn.Linear(features, width)
        self.build(width, causal, **self.default_options(width, **options))
        self.up = nn.Linear(width, features)

    @classmethod
    def default_options(cls, width: int, **given: Any) -> dict[str, Any]:
        """All options with their values at this width; UsageError for one that the kind does not have."""
        return resolve_options(cls, given, {})

    @classmethod
    def bottleneck_params(cls, width: int, **options: Any) -> int:
        """Number of parameters between `down` and `up`."""
        return 0

    @classmethod
    def bottleneck_flops(cls, width: int, frames: int, **options: Any) -> int:
        """Forward FLOPs of the matrix products between `down` and `up`."""
        return 0

    @classmethod
    def bottleneck_activations(cls, width: int, frames: int, **options: Any) -> int:
        """Values kept for the backward pass between `down` and `up`."""
        return 2 * width * frames  # input and output of GELU

    @classmethod
    def parameters_of(cls, features: int, width: int, **options: Any) -> int:
        """Exact number of trainable parameters at a site of `features` channels."""
        bottleneck = cls.bottleneck_params(width, **cls.default_options(width, **options))
        return 2 * features * width + width + features + bottleneck

    @classmethod
    def flops_of(cls, features: int, width: int, frames: int, **options: Any) -> int:
        """Forward FLOPs of all matrix products over `frames` frames."""
        bottleneck = cls.bottleneck_flops(width, frames, **cls.default_options(width, **options))
        return 4 * features * width * frames + bottleneck

    @classmethod
    def activation_values(cls, features: int, width: int, frames: int, **options: Any) -> int:
        """Approximate number of values kept for the backward pass, without dropout's mask."""
        options = cls.default_options(width, **options)
        return features * frames + cls.bottleneck_activations(width, frames, **options)

    def build(self, width: int, causal: bool, **options: Any) -> None:
        """Create the modules between `down` and `up`."""

    def bottleneck_forward(self, hidden: Tensor, state: StreamingState | None, mask: Tensor | None) -> Tensor:
        """Transformation in the bottleneck, [B, T, W] -> [B, T, W]."""
        raise NotImplementedError

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Initialise every nn.Linear from `generator`; the up-projection is zero, so the adapter starts as identity."""
        for module in self.modules():
            if isinstance(module, nn.Linear) and not module.weight.is_meta:  # torch's own range
                bound = module.in_features**-0.5
                for weights in (module.weight, module.bias):
                    if weights is not None:
                        nn.init.uniform_(weights, -bound, bound, generator)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, hidden: Tensor, state: StreamingState | None = None, mask: Tensor | None = None) -> Tensor:
        """[B, T, D] -> [B, T, D]; `state` of the previous frames, `mask` bool [B, T], False for padding."""
        frames = layouts.to_frames(hidden, self.layout)
        residual = self.up(self.bottleneck_forward(self.down(frames), state, mask))
        residual = layouts.from_frames(residual, hidden, self.layout)
        return F.dropout(residual, self.dropout, self.training) if self.dropout else residual


def resolve_options(cls: type[Kind], given: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Defaults updated with the given options, lists as tuples; UsageError for an unknown one or a value below 1."""
    if unknown := sorted(set(given) - set(defaults)):
        valid = f"it has {', '.join(defaults)}" if defaults else "it has none"
        raise UsageError(f"adapter kind {cls.__name__} has no option {', '.join(unknown)}; {valid}")
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    for name, value in options.items():
        if any(number < 1 for number in (value if isinstance(value, tuple) else (value,))):
            raise UsageError(f"adapter kind {cls.__name__}: {name} is {value}; it must be at least 1")
    return defaults | options
