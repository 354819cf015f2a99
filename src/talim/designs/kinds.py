"""The kinds of adapter: what each computes at a site, and what it costs.

A kind is one class: what it adds to the hidden states, and its exact cost without being built. To add one, subclass
`Kind` and pass it to `register`; places, budgets, streaming, files and tests know it from then on.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from talim.designs import expression, layouts
from talim.designs.streaming import StreamingState
from talim.designs.temporal_layers import SqueezeExcitation, TemporalAttention, TemporalConv
from talim.errors import UsageError


class Kind(nn.Module):
    """What sits behind a block: hidden states [B, T, D] -> what is added to them; zero until it is trained.

    In the layout "bands" the states are a U-Net's, [B, D, T, F]; see `talim.designs.layouts`.

    `features` is D, `width` the channels of the bottleneck. Subclasses build `down` (D -> W) and `up` (W -> D),
    and say in between what happens: `inside`. Settings have defaults that follow from the width.
    """

    uses_context: ClassVar[bool] = False  # then it must honour `causal`, `memory` and `mask`

    def __init__(
        self,
        features: int,
        width: int,
        *,
        causal: bool = True,
        dropout: float = 0.0,
        layout: str = layouts.FRAMES,
        **settings: Any,
    ) -> None:
        super().__init__()
        self.layout = layouts.check_layout(layout)
        self.features, self.width, self.causal, self.dropout = features, width, causal, dropout
        self.down = nn.Linear(features, width)
        self.build(width, causal, **self.default_options(width, **settings))
        self.up = nn.Linear(width, features)

    @classmethod
    def default_options(cls, width: int, **given: Any) -> dict[str, Any]:
        """Every setting with its value at a width; UsageError for one that the kind does not have."""
        if given:
            raise UsageError(f"adapter kind {cls.__name__} has no setting {', '.join(sorted(given))}")
        return {}

    @classmethod
    def bottleneck_params(cls, width: int, **settings: Any) -> int:
        """Exact number of parameters between `down` and `up`."""
        return 0

    @classmethod
    def bottleneck_flops(cls, width: int, frames: int, **settings: Any) -> int:
        """Operations of the matrix products between `down` and `up` over `frames` frames, forward."""
        return 0

    @classmethod
    def bottleneck_activations(cls, width: int, frames: int, **settings: Any) -> int:
        """Numbers that training keeps for the way back between `down` and `up`, over `frames` frames."""
        return 2 * width * frames  # what enters GELU and what leaves it

    @classmethod
    def parameters_of(cls, features: int, width: int, **settings: Any) -> int:
        """Exact number of trainable parameters at a site of `features` channels."""
        inside = cls.bottleneck_params(width, **cls.default_options(width, **settings))
        return 2 * features * width + width + features + inside

    @classmethod
    def flops_of(cls, features: int, width: int, frames: int, **settings: Any) -> int:
        """Operations of all matrix products over `frames` frames, forward; a multiply-add counts as two."""
        inside = cls.bottleneck_flops(width, frames, **cls.default_options(width, **settings))
        return 4 * features * width * frames + inside

    @classmethod
    def activation_values(cls, features: int, width: int, frames: int, **settings: Any) -> int:
        """About how many numbers training keeps for the way back over `frames` frames; dropout's mask not counted."""
        return features * frames + cls.bottleneck_activations(
            width, frames, **cls.default_options(width, **settings)
        )

    def build(self, width: int, causal: bool, **settings: Any) -> None:
        """Make the modules between `down` and `up`."""

    def inside(self, hidden: Tensor, memory: StreamingState | None, mask: Tensor | None) -> Tensor:
        """What happens in the bottleneck, [B, T, W] -> [B, T, W]."""
        raise NotImplementedError

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Draw the weights anew; the last projection is zero, so that nothing changes before training."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                init_linear(module, generator)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(
        self, hidden: Tensor, memory: StreamingState | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """[B, T, D] -> [B, T, D]; `memory` of the frames before, `mask` [B, T] False for padding."""
        frames = layouts.to_frames(hidden, self.layout)
        delta = self.up(self.inside(self.down(frames), memory, mask))
        delta = layouts.from_frames(delta, hidden, self.layout)
        return F.dropout(delta, self.dropout, self.training) if self.dropout else delta


class Linear(Kind):
    """Bottleneck on each frame alone: down, GELU, up, dropout."""

    def inside(self, hidden: Tensor, memory: StreamingState | None, mask: Tensor | None) -> Tensor:
        return F.gelu(hidden)


class Conv(Kind):
    """Down, dilated residual convolutions, squeeze-and-excitation, up, dropout.

    Settings: `kernel` taps, one `dilations` entry per convolution (5 and (1, 4) reach over 21 frames, 0.42 s at 50
    frames a second: an ornament), `squeezed` channels of the excitation (an eighth of the width, at least four), which
    is asked anew every `hold` frames.
    """

    uses_context = True

    @classmethod
    def default_options(cls, width: int, **given: Any) -> dict[str, Any]:
        known = {"kernel": 5, "dilations": (1, 4), "squeezed": max(4, width // 8), "hold": 8}
        return known | _resolve_settings(cls, given, known)

    @classmethod
    def bottleneck_params(cls, width: int, **settings: Any) -> int:
        convolution = TemporalConv.parameters_of(width, settings["kernel"])
        return len(settings["dilations"]) * convolution + SqueezeExcitation.parameters_of(
            width, settings["squeezed"]
        )

    @classmethod
    def bottleneck_flops(cls, width: int, frames: int, **settings: Any) -> int:
        taps = len(settings["dilations"]) * settings["kernel"] * width * width
        gates = -(-frames // settings["hold"])
        return 2 * (frames * taps + gates * 2 * width * settings["squeezed"])

    @classmethod
    def bottleneck_activations(cls, width: int, frames: int, **settings: Any) -> int:
        stack = len(settings["dilations"]) * (settings["kernel"] + 1) * width
        gates = -(-frames // settings["hold"])
        return frames * (stack + 3 * width) + gates * (width + 2 * settings["squeezed"])

    def build(self, width: int, causal: bool, **settings: Any) -> None:
        rows = enumerate(settings["dilations"])
        self.stack = nn.ModuleList(
            TemporalConv(width, settings["kernel"], dilation, causal, f"convolution {index}")
            for index, dilation in rows
        )
        self.excitation = SqueezeExcitation(
            width, settings["squeezed"], causal, "excitation", settings["hold"]
        )

    def inside(self, hidden: Tensor, memory: StreamingState | None, mask: Tensor | None) -> Tensor:
        for convolution in self.stack:
            hidden = hidden + convolution(F.gelu(hidden), memory, mask)
        return self.excitation(hidden, memory, mask)


class Transformer(Kind):
    """Down, LayerNorm, multi-head self-attention, LayerNorm, GELU feed-forward, up, dropout.

    Settings: `heads` (one for every 64 channels), `feed_forward` channels (twice the width).
    """

    uses_context = True

    @classmethod
    def default_options(cls, width: int, **given: Any) -> dict[str, Any]:
        known = {"heads": max(1, width // 64), "feed_forward": 2 * width}
        settings = known | _resolve_settings(cls, given, known)
        if not 1 <= settings["heads"] <= width:
            raise UsageError(f"{settings['heads']} heads do not fit a width of {width}")
        return settings

    @classmethod
    def bottleneck_params(cls, width: int, **settings: Any) -> int:
        wide = settings["feed_forward"]
        return (
            TemporalAttention.parameters_of(width, settings["heads"])
            + 2 * 2 * width
            + 2 * width * wide
            + wide
            + width
        )

    @classmethod
    def bottleneck_flops(cls, width: int, frames: int, **settings: Any) -> int:
        inner = settings["heads"] * (width // settings["heads"])
        return 2 * frames * (4 * inner * width + 2 * width * settings["feed_forward"]) + 4 * frames**2 * inner

    @classmethod
    def bottleneck_activations(cls, width: int, frames: int, **settings: Any) -> int:
        return frames * (8 * width + 2 * settings["feed_forward"])

    def build(self, width: int, causal: bool, **settings: Any) -> None:
        self.attention_norm = nn.LayerNorm(width)
        self.attention = TemporalAttention(width, settings["heads"], causal, "attention")
        self.norm = nn.LayerNorm(width)
        self.wide = nn.Linear(width, settings["feed_forward"])
        self.narrow = nn.Linear(settings["feed_forward"], width)

    def inside(self, hidden: Tensor, memory: StreamingState | None, mask: Tensor | None) -> Tensor:
        hidden = hidden + self.attention(self.attention_norm(hidden), memory, mask)
        return hidden + self.narrow(F.gelu(self.wide(self.norm(hidden))))


def init_linear(layer: nn.Linear, generator: torch.Generator) -> None:
    """torch's own initialisation of a Linear, from a generator; nothing where there is no memory yet."""
    if layer.weight.is_meta:
        return
    bound = layer.in_features**-0.5
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=generator)
        if layer.bias is not None:
            layer.bias.uniform_(-bound, bound, generator=generator)


def _resolve_settings(cls: type[Kind], given: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """The given settings, lists as tuples; UsageError for one that the kind does not have, or that is below 1."""
    if unknown := sorted(set(given) - set(known)):
        raise UsageError(
            f"adapter kind {cls.__name__} has no setting {', '.join(unknown)}; it has {', '.join(known)}"
        )
    settings = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    for name, value in settings.items():
        if any(number < 1 for number in (value if isinstance(value, tuple) else (value,))):
            raise UsageError(f"adapter kind {cls.__name__}: {name} is {value}; it must be at least 1")
    return settings


KINDS: dict[str, type[Kind]] = {"linear": Linear, "conv": Conv, "transformer": Transformer}


def register(word: str, kind: type[Kind]) -> None:
    """Make a kind of one's own known under a word, in expressions and stored adapters alike."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", word):
        raise UsageError(
            f"{word!r} cannot stand in an expression; use small letters, digits and _, such as my_kind"
        )
    if word in expression.kind_names() and KINDS.get(word) is not kind:
        raise UsageError(f"{word!r} is already the name of an adapter kind")
    KINDS[word] = kind
    if word not in expression.BOTTLENECK_KINDS:
        expression.BOTTLENECK_KINDS.append(word)
