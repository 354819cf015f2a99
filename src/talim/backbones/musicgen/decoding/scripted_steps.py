"""A step through several decoder layers on a CPU as one call of TorchScript: the same operations, with the same bits.

In a small base, what Python itself does between some twenty operations a layer takes a tenth of a step and more.
TorchScript is deprecated, but nothing else runs a list of operations without a compiler on the user's machine. Where it
is gone, `layer_steps` calls the operations one by one.
"""

# TorchScript knows no keywords or groups of arguments
# ruff: noqa: PLR0913

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F


@cache
def scripted_steps() -> Callable[..., Tensor] | None:
    """`_steps` as TorchScript; None where this PyTorch has none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return torch.jit.script(_steps)
        except (AttributeError, RuntimeError, OSError):  # OSError: without its source
            return None


def _steps(
    norms: list[list[Tensor]],
    weights: list[list[Tensor]],
    eps: float,
    heads: int,
    pasts: list[Tensor],
    text_keys: list[Tensor],
    text_values: list[Tensor],
    states: Tensor,
    place: int,
    start: int,
    stop: int,
    mask: Tensor | None,
    text_mask: Tensor | None,
) -> Tensor:
    """States [R, D] of one frame -> the last layer's output [R, D]; the first rows have a text.

    Of each layer: `norms`, weight and bias of three; `weights`, packed, of queries, keys and values together, of the
    output, of the text's queries and output, and of the feed-forward, with GELU; its buffers as in `LayerStep`.
    """
    rows, width = states.shape[0], states.shape[1]
    for i in range(len(weights)):
        norm, weight, past = norms[i], weights[i], pasts[i]
        normed = torch.layer_norm(states, [width], norm[0], norm[1], eps, False)
        packed = torch.ops.mkldnn._linear_pointwise(normed, weight[0], None, "none", [], "")
        packed = packed.view([rows, 3, heads, 1, width // heads])
        past.narrow(3, place, 1).copy_(packed.narrow(1, 1, 2))
        seen = past.narrow(3, start, stop - start)
        attended = F.scaled_dot_product_attention(packed.select(1, 0), seen.select(1, 0), seen.select(1, 1), mask)
        states = torch.ops.mkldnn._linear_pointwise(attended.flatten(1), states, weight[1], None, "add")
        with_text = text_keys[i].shape[0]
        own = states.narrow(0, 0, with_text)
        normed = torch.layer_norm(own, [width], norm[2], norm[3], eps, False)
        query = torch.ops.mkldnn._linear_pointwise(normed, weight[2], None, "none", [], "")
        query = query.view([with_text, heads, 1, width // heads])
        attended = F.scaled_dot_product_attention(query, text_keys[i], text_values[i], text_mask)
        own.copy_(torch.ops.mkldnn._linear_pointwise(attended.flatten(1), own, weight[3], None, "add"))
        normed = torch.layer_norm(states, [width], norm[4], norm[5], eps, False)
        hidden = torch.ops.mkldnn._linear_pointwise(normed, weight[4], None, "gelu", [], "none")
        states = torch.ops.mkldnn._linear_pointwise(hidden, states, weight[5], None, "add")
    return states
