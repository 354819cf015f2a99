"""The linear kind: each frame by itself."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from talim.design.adapter_kinds.kind import Kind
from talim.design.streaming import StreamingState


class Linear(Kind):
    """Frame-wise bottleneck: down, GELU, up, dropout."""

    def bottleneck_forward(self, hidden: Tensor, state: StreamingState | None, mask: Tensor | None) -> Tensor:
        return F.gelu(hidden)
