"""Compiled functions of one frame against torch's own layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from talim.backbones.musicgen.decoding import compiled


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("inputs", "width"), [(1, 1), (6, 5), (256, 36), (33, 130)])
def test_linear_frame_is_down_gelu_up(inputs: int, width: int) -> None:
    states, down, up = normal(3, inputs), normal(inputs, width, seed=1), normal(width, inputs, seed=2)
    biases = normal(width, seed=3), normal(inputs, seed=4)
    weights = torch.cat([down.flatten(), biases[0], up.flatten(), biases[1]]).numpy()
    expected = states + F.gelu(states @ down + biases[0]) @ up + biases[1]
    found = states.clone()
    compiled.kernels("adapter_kernels").linear_frame(found.numpy(), weights, np.empty((3, width), np.float32))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("start", "stop", "masked"), [(0, 1, False), (3, 9, False), (0, 12, True)])
def test_transformer_frame_attends_to_the_places_that_are_seen(start: int, stop: int, masked: bool) -> None:
    """Against `scaled_dot_product_attention`; what is not seen holds what is no number."""
    rows, heads, width, size, place = 2, 3, 4, 12, stop - 1
    features = heads * width
    mask = torch.ones(rows, stop - start, dtype=torch.bool)
    if masked:
        mask[0, 2:5] = mask[1, :7] = False
    keys, values = normal(rows, heads, size, width, seed=5), normal(rows, heads, size, width, seed=6)
    hidden_places = torch.ones(rows, size, dtype=torch.bool)
    hidden_places[:, start:stop] = ~mask
    for past in (keys, values):
        past.transpose(1, 2)[hidden_places] = float("nan")
    states, eye, zeros, ones = normal(rows, features), torch.eye(features), torch.zeros(features), torch.ones(features)
    qkv = normal(features, 3 * features, seed=7)
    weights = torch.cat(
        [
            *(eye.flatten(), zeros),  # down
            *(ones, zeros, qkv.flatten(), torch.zeros(3 * features)),
            *(eye.flatten(), zeros),  # output
            *(ones, zeros, torch.zeros(2 * features), torch.zeros(2), torch.zeros(2 * features), zeros),  # feed-forward
            *(eye.flatten(), zeros),  # up
        ]
    )
    packed = F.layer_norm(states, (features,)) @ qkv
    query, key, value = packed.view(rows, 3, heads, 1, width).unbind(1)
    keys[:, :, place : place + 1], values[:, :, place : place + 1] = key, value
    given = [past[:, :, start:stop].masked_fill(~mask[:, None, :, None], 0.0) for past in (keys, values)]
    attended = F.scaled_dot_product_attention(query, *given, mask[:, None, None])
    expected = states + states + attended.flatten(1)
    shapes = (rows, features), (rows, features), (rows, 3 * features), (rows, features), (rows, 2)
    room = [np.empty(shape, np.float32) for shape in shapes]
    caches = keys.numpy(), values.numpy()
    seen = mask.numpy() if masked else np.zeros((0, 0), np.bool_)
    eps = np.float32(1e-5), np.float32(1e-5)
    where = place, (start, stop), seen, np.empty(size, np.float32)
    compiled.kernels("adapter_kernels").transformer_frame(states.numpy(), weights.numpy(), eps, *caches, *where, *room)
    torch.testing.assert_close(states, expected, atol=1e-4, rtol=1e-4)
