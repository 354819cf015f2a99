"""The kinds of adapter: what each computes at a site, and what it costs in parameters."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Kind(nn.Module):
    """What sits behind a block: hidden states -> what is added to them; zero until it is trained.

    A kind states its exact cost without being built, so that budgets can be solved for models of any size.
    """

    width_step: ClassVar[int] = 1  # widths are multiples of this

    def __init__(self, features: int, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.features, self.width, self.dropout = features, width, dropout

    @classmethod
    def parameters_of(cls, features: int, width: int) -> int:
        """Exact number of trainable parameters at a site of `features` channels."""
        raise NotImplementedError

    def initialise(self, generator: torch.Generator) -> None:
        """Draw the weights anew; the last projection is zero, so that nothing changes before training."""
        raise NotImplementedError


class Linear(Kind):
    """Bottleneck on each frame alone: down, GELU, up, dropout."""

    def __init__(self, features: int, width: int, dropout: float = 0.0) -> None:
        super().__init__(features, width, dropout)
        self.down = nn.Linear(features, width)
        self.up = nn.Linear(width, features)

    @classmethod
    def parameters_of(cls, features: int, width: int) -> int:
        """Two matrices and two biases."""
        return 2 * features * width + width + features

    def initialise(self, generator: torch.Generator) -> None:
        """Down as torch draws a Linear, up and its bias zero."""
        draw_linear(self.down, generator)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, hidden: Tensor) -> Tensor:  # [B, T, D] -> [B, T, D]
        delta = self.up(F.gelu(self.down(hidden)))
        return F.dropout(delta, self.dropout, self.training)


def draw_linear(layer: nn.Linear, generator: torch.Generator) -> None:
    """torch's own initialisation of a Linear, from a generator; nothing where there is no memory yet."""
    if layer.weight.is_meta:
        return
    bound = layer.in_features**-0.5
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=generator)
        if layer.bias is not None:
            layer.bias.uniform_(-bound, bound, generator=generator)


KINDS: dict[str, type[Kind]] = {"linear": Linear}
