"""Adapter kinds: the bottleneck modules, with exact parameter and FLOP counts that need no instance.

To add a kind, subclass `Kind` and pass it to `register`; designs, budgets, streaming and files then support it.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from talim.design import expression, layouts
from talim.design.streaming import StreamingState
from talim.design.temporal_layers import SqueezeExcitation, TemporalAttention, TemporalConv
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
        return _resolve_options(cls, given, {})

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


class Linear(Kind):
    """Frame-wise bottleneck: down, GELU, up, dropout."""

    def bottleneck_forward(self, hidden: Tensor, state: StreamingState | None, mask: Tensor | None) -> Tensor:
        return F.gelu(hidden)


class Conv(Kind):
    """Down, dilated residual convolutions over time, squeeze-and-excitation, up, dropout.

    Options: `kernel_size` (5) and `dilations`, one per convolution ((1, 4): a receptive field of 21 frames, 0.42 s at
    50 frames per second, about an ornament); `se_channels` of the excitation (width / 8, at least 4), whose gate is
    updated every `se_update_every` (8) frames.
    """

    uses_context = True

    @classmethod
    def default_options(cls, width: int, **given: Any) -> dict[str, Any]:
        defaults = {"kernel_size": 5, "dilations": (1, 4), "se_channels": max(4, width // 8), "se_update_every": 8}
        return _resolve_options(cls, given, defaults)

    @classmethod
    def bottleneck_params(cls, width: int, **options: Any) -> int:
        convolution = TemporalConv.parameters_of(width, options["kernel_size"])
        excitation = SqueezeExcitation.parameters_of(width, options["se_channels"])
        return len(options["dilations"]) * convolution + excitation

    @classmethod
    def bottleneck_flops(cls, width: int, frames: int, **options: Any) -> int:
        taps = len(options["dilations"]) * options["kernel_size"] * width * width
        gates = -(-frames // options["se_update_every"])
        return 2 * (frames * taps + gates * 2 * width * options["se_channels"])

    @classmethod
    def bottleneck_activations(cls, width: int, frames: int, **options: Any) -> int:
        convolutions = len(options["dilations"]) * (options["kernel_size"] + 1) * width
        gates = -(-frames // options["se_update_every"])
        return frames * (convolutions + 3 * width) + gates * (width + 2 * options["se_channels"])

    def build(self, width: int, causal: bool, **options: Any) -> None:
        self.convolutions = nn.ModuleList(
            TemporalConv(width, options["kernel_size"], dilation, causal, f"convolution {index}")
            for index, dilation in enumerate(options["dilations"])
        )
        self.excitation = SqueezeExcitation(
            width, options["se_channels"], causal, "excitation", options["se_update_every"]
        )

    def bottleneck_forward(self, hidden: Tensor, state: StreamingState | None, mask: Tensor | None) -> Tensor:
        for convolution in self.convolutions:
            hidden = hidden + convolution(F.gelu(hidden), state, mask)
        return self.excitation(hidden, state, mask)


class Transformer(Kind):
    """Down, pre-norm multi-head self-attention, pre-norm GELU feed-forward, up, dropout.

    Options: `num_heads` (one per 64 channels), `ffn_dim` (2 * width).
    """

    uses_context = True

    @classmethod
    def default_options(cls, width: int, **given: Any) -> dict[str, Any]:
        options = _resolve_options(cls, given, {"num_heads": max(1, width // 64), "ffn_dim": 2 * width})
        if not 1 <= options["num_heads"] <= width:
            raise UsageError(f"{options['num_heads']} heads do not fit a width of {width}")
        return options

    @classmethod
    def bottleneck_params(cls, width: int, **options: Any) -> int:
        feed_forward = 2 * width * options["ffn_dim"] + options["ffn_dim"] + width
        return TemporalAttention.parameters_of(width, options["num_heads"]) + 2 * 2 * width + feed_forward

    @classmethod
    def bottleneck_flops(cls, width: int, frames: int, **options: Any) -> int:
        inner = options["num_heads"] * (width // options["num_heads"])
        return 2 * frames * (4 * inner * width + 2 * width * options["ffn_dim"]) + 4 * frames**2 * inner

    @classmethod
    def bottleneck_activations(cls, width: int, frames: int, **options: Any) -> int:
        return frames * (8 * width + 2 * options["ffn_dim"])

    def build(self, width: int, causal: bool, **options: Any) -> None:
        self.attention_norm = nn.LayerNorm(width)
        self.attention = TemporalAttention(width, options["num_heads"], causal, "attention")
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, options["ffn_dim"])
        self.fc2 = nn.Linear(options["ffn_dim"], width)

    def bottleneck_forward(self, hidden: Tensor, state: StreamingState | None, mask: Tensor | None) -> Tensor:
        hidden = hidden + self.attention(self.attention_norm(hidden), state, mask)
        return hidden + self.fc2(F.gelu(self.fc1(self.norm(hidden))))


def _resolve_options(cls: type[Kind], given: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Defaults updated with the given options, lists as tuples; UsageError for an unknown one or a value below 1."""
    if unknown := sorted(set(given) - set(defaults)):
        valid = f"it has {', '.join(defaults)}" if defaults else "it has none"
        raise UsageError(f"adapter kind {cls.__name__} has no option {', '.join(unknown)}; {valid}")
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    for name, value in options.items():
        if any(number < 1 for number in (value if isinstance(value, tuple) else (value,))):
            raise UsageError(f"adapter kind {cls.__name__}: {name} is {value}; it must be at least 1")
    return defaults | options


KINDS: dict[str, type[Kind]] = {"linear": Linear, "conv": Conv, "transformer": Transformer}


def register(name: str, kind: type[Kind]) -> None:
    """Make a custom kind available under a name, in design expressions and stored adapters."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UsageError(f"{name!r} cannot stand in a design; use small letters, digits and _, such as my_kind")
    if name in expression.kind_names() and KINDS.get(name) is not kind:
        raise UsageError(f"{name!r} is already the name of an adapter kind")
    KINDS[name] = kind
    if name not in expression.BOTTLENECK_KINDS:
        expression.BOTTLENECK_KINDS.append(name)
