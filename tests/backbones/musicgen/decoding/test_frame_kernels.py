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
    compiled.kernels("frame_kernels").linear_frame(found.numpy(), weights, np.empty((3, width), np.float32))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def caches(heads: int, size: int, width: int, pasts: list[list[torch.Tensor]]) -> list[np.ndarray]:
    """Keys and values [R, H, d, places] of pasts [H, T, d], in rings of `size`."""
    at_once = compiled.kernels("frame_kernels").PLACES_AT_ONCE
    both = torch.full((2, len(pasts), heads, width, -(-size // at_once) * at_once), 30.0)  # in places that are not seen
    for row, past in enumerate(pasts):
        for kind, frames in enumerate(past):
            for time in range(frames.shape[1]):
                both[kind, row, :, :, time % size] = frames[:, time]
    return [each.numpy() for each in both]


@pytest.mark.parametrize(("size", "frames"), [(1, (0, 3)), (12, (0, 7)), (12, (30, 5)), (150, (128, 90))])
def test_transformer_frame_attends_to_the_last_frames_of_each_row(size: int, frames: tuple[int, int]) -> None:
    """Against `scaled_dot_product_attention`."""
    rows, heads, width = 2, 3, 5
    features = heads * width
    pasts = [[normal(heads, count, width, seed=seed + count) for seed in (5, 6)] for count in frames]
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
    packed = (F.layer_norm(states, (features,)) @ qkv).view(rows, 3, heads, 1, width)
    attended = []
    for (query, key, value), (keys, values) in zip(packed, pasts, strict=True):
        seen = [torch.cat([past, own], 1)[:, -size:] for past, own in ((keys, key), (values, value))]
        attended.append(F.scaled_dot_product_attention(query, seen[0], seen[1]).flatten())
    expected = states + states + torch.stack(attended)
    shapes = (rows, features), (rows, features), (rows, 3 * features), (rows, features), (rows, 2)
    room = [np.empty(shape, np.float32) for shape in shapes]
    kept = caches(heads, size, width, pasts)
    eps = np.float32(1e-5), np.float32(1e-5)
    past = eps, *kept, size, np.array(frames), np.empty(kept[0].shape[3], np.float32)
    hidden, *room = room
    compiled.kernels("frame_kernels").transformer_frame(states.numpy(), weights.numpy(), hidden, *past, *room)
    torch.testing.assert_close(states, expected, atol=1e-4, rtol=1e-4)


def test_gelu_is_that_of_torch_and_keeps_what_is_no_number() -> None:
    numbers = torch.cat([torch.linspace(-12.0, 12.0, 99_999), torch.tensor([-1e30, 1e30, float("nan")])])[None]
    found = numbers.clone()
    compiled.kernels("frame_kernels")._gelu_all(found.numpy())
    torch.testing.assert_close(found, F.gelu(numbers.double()).float(), atol=5e-7, rtol=0.0, equal_nan=True)


def test_exponentials_are_those_of_the_differences_to_the_highest() -> None:
    scores = torch.linspace(-150.0, 40.0, 128)[torch.randperm(128, generator=torch.Generator().manual_seed(0))]
    scores[5] = -torch.inf
    found = scores.clone()
    compiled.kernels("frame_kernels")._exps(found.numpy(), np.uint64(128))
    expected = (scores.double() - 40.0).exp().float()
    torch.testing.assert_close(found, expected, atol=2e-7, rtol=0.0)
    torch.testing.assert_close(found, expected, atol=1e-37, rtol=1e-5)
    assert found[5] == 0.0
    scores[7] = torch.nan
    compiled.kernels("frame_kernels")._exps(scores.numpy(), np.uint64(128))
    assert scores[7].isnan()
