"""Temporal layers: causality, streaming equal to one pass, padding, and agreement with torch's own layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from talim.design.adapter_kinds.conv import SqueezeExcitation, TemporalConv
from talim.design.adapter_kinds.transformer import TemporalAttention
from talim.design.streaming import StreamingState

WIDTH = 6
LAYERS: dict[str, Callable[[bool], nn.Module]] = {
    "convolution": lambda causal: TemporalConv(WIDTH, 3, 2, causal, "a"),
    "even convolution": lambda causal: TemporalConv(WIDTH, 4, 1, causal, "a"),
    "one tap": lambda causal: TemporalConv(WIDTH, 1, 3, causal, "a"),
    "excitation": lambda causal: SqueezeExcitation(WIDTH, 2, causal, "a", update_every=3),
    "excitation at every frame": lambda causal: SqueezeExcitation(WIDTH, 2, causal, "a", update_every=1),
    "attention": lambda causal: TemporalAttention(WIDTH, 2, causal, "a"),
    "attention of odd heads": lambda causal: TemporalAttention(WIDTH, 4, causal, "a"),  # 6 // 4: one channel a head
}
seeds = st.integers(0, 2**31 - 1)
piece_lengths = st.lists(st.integers(1, 7), min_size=1, max_size=6)


def make_layer(name: str, causal: bool, seed: int = 0) -> nn.Module:
    module = LAYERS[name](causal)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.7)
    return module.requires_grad_(False)


def noise(seed: int, batch: int, frames: int) -> Tensor:
    return torch.randn(batch, frames, WIDTH, generator=torch.Generator().manual_seed(seed))


def run_in_pieces(module: nn.Module, hidden: Tensor, pieces: list[int], mask: Tensor | None = None) -> Tensor:
    state, outputs, start = StreamingState(), [], 0
    for length in pieces:
        now = slice(start, start + length)
        outputs.append(module(hidden[:, now], state, None if mask is None else mask[:, now]))
        state.frames += length
        start += length
    return torch.cat(outputs, 1)


def assert_near(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
@given(seed=seeds, frames=st.integers(2, 20), data=st.data())
def test_causal_layer_ignores_later_frames(name: str, seed: int, frames: int, data: Any) -> None:
    module, hidden = make_layer(name, causal=True, seed=seed), noise(seed, 2, frames)
    first = data.draw(st.integers(1, frames - 1))
    changed = hidden.clone()
    changed[:, first:] = noise(seed + 1, 2, frames - first)
    assert_near(module(hidden)[:, :first], module(changed)[:, :first])


@pytest.mark.parametrize("name", [name for name in LAYERS if name != "one tap"])
def test_non_causal_layer_depends_on_later_frames(name: str) -> None:
    hidden, changed = noise(0, 1, 9), noise(0, 1, 9)
    changed[:, 5:] += 1.0
    module = make_layer(name, causal=False)
    assert (module(hidden)[:, 4] - module(changed)[:, 4]).abs().max() > 1e-3


@pytest.mark.parametrize("name", LAYERS)
@given(seed=seeds, pieces=piece_lengths)
def test_streaming_in_pieces_equals_one_pass(name: str, seed: int, pieces: list[int]) -> None:
    module, hidden = make_layer(name, causal=True, seed=seed), noise(seed, 2, sum(pieces))
    assert_near(run_in_pieces(module, hidden, pieces), module(hidden))


@pytest.mark.parametrize("name", LAYERS)
def test_streaming_single_frames_beyond_the_first_buffer_equals_one_pass(name: str) -> None:
    """More frames than the first key buffer of an attention holds."""
    module, hidden = make_layer(name, causal=True), noise(0, 3, 150)
    assert_near(run_in_pieces(module, hidden, [7] + [1] * 143), module(hidden))


@pytest.mark.parametrize("name", LAYERS)
@given(seed=seeds, pieces=piece_lengths, data=st.data())
def test_streaming_padded_pieces_equals_one_pass(name: str, seed: int, pieces: list[int], data: Any) -> None:
    """Left padding of unequal length; a piece without padding may come without a mask."""
    module, hidden = make_layer(name, causal=True, seed=seed), noise(seed, 2, sum(pieces))
    pads = torch.tensor(data.draw(st.lists(st.integers(0, sum(pieces) - 1), min_size=2, max_size=2)))
    mask = torch.arange(sum(pieces))[None] >= pads[:, None]
    whole = module(hidden, None, mask)
    chunked = run_in_pieces(module, hidden, pieces, mask)
    assert_near(chunked[mask], whole[mask])
    state, outputs, start = StreamingState(), [], 0
    for length in pieces:
        now = mask[:, start : start + length]
        outputs.append(module(hidden[:, start : start + length], state, None if now.all() else now))
        state.frames += length
        start += length
    assert_near(torch.cat(outputs, 1)[mask], whole[mask])


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("causal", [True, False])
@given(seed=seeds, frames=st.integers(1, 12), padding=st.integers(1, 9))
def test_padding_does_not_change_valid_frames(name: str, causal: bool, seed: int, frames: int, padding: int) -> None:
    """Left padding for causal layers (decoders), right padding otherwise (encoders)."""
    module, hidden = make_layer(name, causal, seed), noise(seed, 1, frames)
    junk = 50 * noise(seed + 1, 1, padding)
    real, pad = torch.ones(1, frames, dtype=torch.bool), torch.zeros(1, padding, dtype=torch.bool)
    if causal:
        padded, mask = torch.cat([junk, hidden], 1), torch.cat([pad, real], 1)
    else:
        padded, mask = torch.cat([hidden, junk], 1), torch.cat([real, pad], 1)
    assert_near(module(padded, None, mask)[mask], module(hidden)[0])


@pytest.mark.parametrize("name", LAYERS)
def test_row_of_padding_only_gives_finite_output(name: str) -> None:
    mask = torch.tensor([[False] * 5, [True] * 5])
    for causal in (True, False):
        module, hidden = make_layer(name, causal), noise(0, 2, 5)
        output = module(hidden, None, mask)
        assert output.isfinite().all()
        assert_near(output[1], module(hidden[1:])[0])


@pytest.mark.parametrize("causal", [True, False])
@given(kernel_size=st.integers(1, 6), dilation=st.integers(1, 5), frames=st.integers(1, 20), seed=seeds)
def test_temporal_conv_equals_torch_conv1d(
    causal: bool, kernel_size: int, dilation: int, frames: int, seed: int
) -> None:
    module = TemporalConv(WIDTH, kernel_size, dilation, causal, "a").requires_grad_(False)
    hidden = noise(seed, 2, frames)
    reach = (kernel_size - 1) * dilation
    left = reach if causal else reach // 2
    weight = module.taps.weight.view(WIDTH, kernel_size, WIDTH).transpose(1, 2)  # [out, in, tap]
    padded = F.pad(hidden.transpose(1, 2), (left, reach - left))
    golden = F.conv1d(padded, weight, module.taps.bias, dilation=dilation).transpose(1, 2)
    assert_near(module(hidden), golden)
    assert sum(w.numel() for w in module.parameters()) == TemporalConv.parameters_of(WIDTH, kernel_size)


@pytest.mark.parametrize("causal", [True, False])
@given(num_heads=st.sampled_from([1, 2, 3, 6]), frames=st.integers(1, 12), padding=st.integers(0, 4), seed=seeds)
def test_temporal_attention_equals_torch_multihead_attention(
    causal: bool, num_heads: int, frames: int, padding: int, seed: int
) -> None:
    module = TemporalAttention(WIDTH, num_heads, causal, "a").requires_grad_(False)
    hidden = noise(seed, 2, frames + padding)
    golden = nn.MultiheadAttention(WIDTH, num_heads, batch_first=True).requires_grad_(False)
    golden.load_state_dict(
        {
            "in_proj_weight": module.in_proj.weight,
            "in_proj_bias": module.in_proj.bias,
            "out_proj.weight": module.out_proj.weight,
            "out_proj.bias": module.out_proj.bias,
        }
    )
    length = frames + padding
    mask = torch.ones(2, length, dtype=torch.bool)
    mask[1, : padding if causal else 0] = False
    mask[1, frames if not causal else length :] = False
    later = torch.ones(length, length, dtype=torch.bool).triu(1) if causal else None
    expected, _ = golden(hidden, hidden, hidden, key_padding_mask=~mask, attn_mask=later, need_weights=False)
    assert_near(module(hidden, None, mask)[mask], expected[mask])
    if mask.all():
        assert_near(module(hidden), expected)
    assert sum(w.numel() for w in module.parameters()) == TemporalAttention.parameters_of(WIDTH, num_heads)


@pytest.mark.parametrize("causal", [True, False])
@given(frames=st.integers(1, 12), update_every=st.integers(1, 5), seed=seeds)
def test_squeeze_excitation_gates_by_the_mean_of_past_blocks(
    causal: bool, frames: int, update_every: int, seed: int
) -> None:
    module = SqueezeExcitation(WIDTH, 3, causal, "a", update_every).requires_grad_(False)
    hidden = noise(seed, 2, frames)
    for frame in range(frames):
        before = frame // update_every * update_every  # start of the present block
        output = hidden[:, : before if causal else frames]
        mean = output.sum(1) / max(1, output.shape[1])
        gate = torch.sigmoid(module.excite(F.gelu(module.squeeze(mean))))
        assert_near(module(hidden)[:, frame], hidden[:, frame] * gate)
    assert sum(w.numel() for w in module.parameters()) == SqueezeExcitation.parameters_of(WIDTH, 3)


def test_squeeze_excitation_in_bf16_keeps_an_exact_running_mean() -> None:
    """Two thousand single steps; a sum in bf16 would have stopped growing after 256."""
    module = make_layer("excitation", causal=True).to(torch.bfloat16)
    hidden = torch.ones(1, 2000, WIDTH, dtype=torch.bfloat16)
    stepped = run_in_pieces(module, hidden, [1] * 2000)
    torch.testing.assert_close(stepped[:, -1], stepped[:, 3], atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("name", LAYERS)
def test_backward_through_streamed_pieces_equals_one_pass(name: str) -> None:
    gradients = []
    for pieces in ([8], [3, 1, 1, 3]):
        module = make_layer(name, causal=True).requires_grad_(True)
        run_in_pieces(module, noise(0, 2, 8), pieces).square().sum().backward()
        gradients.append([weight.grad for weight in module.parameters()])
    for whole, chunked in zip(*gradients, strict=True):
        torch.testing.assert_close(chunked, whole, atol=1e-3, rtol=1e-4)
