"""What looks across frames: causal, the same in pieces as at once, blind to padding, and equal to torch's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from talim.designs.streaming import StreamingState
from talim.designs.temporal_layers import SqueezeExcitation, TemporalAttention, TemporalConv

WIDTH = 6
MIXERS: dict[str, Callable[[bool], nn.Module]] = {
    "convolution": lambda causal: TemporalConv(WIDTH, 3, 2, causal, "a"),
    "even convolution": lambda causal: TemporalConv(WIDTH, 4, 1, causal, "a"),
    "one tap": lambda causal: TemporalConv(WIDTH, 1, 3, causal, "a"),
    "excitation": lambda causal: SqueezeExcitation(WIDTH, 2, causal, "a", hold=3),
    "restless excitation": lambda causal: SqueezeExcitation(WIDTH, 2, causal, "a", hold=1),
    "attention": lambda causal: TemporalAttention(WIDTH, 2, causal, "a"),
    "attention of odd heads": lambda causal: TemporalAttention(
        WIDTH, 4, causal, "a"
    ),  # 6 // 4: one channel a head
}
seeds = st.integers(0, 2**31 - 1)
cuts = st.lists(st.integers(1, 7), min_size=1, max_size=6)  # lengths of the pieces


def made(name: str, causal: bool, seed: int = 0) -> nn.Module:
    module = MIXERS[name](causal)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.7)
    return module.requires_grad_(False)


def noise(seed: int, batch: int, frames: int) -> Tensor:
    return torch.randn(batch, frames, WIDTH, generator=torch.Generator().manual_seed(seed))


def in_pieces(module: nn.Module, hidden: Tensor, pieces: list[int], mask: Tensor | None = None) -> Tensor:
    memory, heard, start = StreamingState(), [], 0
    for length in pieces:
        now = slice(start, start + length)
        heard.append(module(hidden[:, now], memory, None if mask is None else mask[:, now]))
        memory.frames += length
        start += length
    return torch.cat(heard, 1)


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("name", MIXERS)
@given(seed=seeds, frames=st.integers(2, 20), data=st.data())
def test_later_frames_change_nothing_earlier(name: str, seed: int, frames: int, data: Any) -> None:
    module, hidden = made(name, causal=True, seed=seed), noise(seed, 2, frames)
    first = data.draw(st.integers(1, frames - 1))
    other = hidden.clone()
    other[:, first:] = noise(seed + 1, 2, frames - first)
    close(module(hidden)[:, :first], module(other)[:, :first])


@pytest.mark.parametrize("name", [name for name in MIXERS if name != "one tap"])
def test_what_is_not_causal_looks_ahead(name: str) -> None:
    hidden, other = noise(0, 1, 9), noise(0, 1, 9)
    other[:, 5:] += 1.0
    module = made(name, causal=False)
    assert (module(hidden)[:, 4] - module(other)[:, 4]).abs().max() > 1e-3


@pytest.mark.parametrize("name", MIXERS)
@given(seed=seeds, pieces=cuts)
def test_pieces_with_a_memory_equal_all_at_once(name: str, seed: int, pieces: list[int]) -> None:
    module, hidden = made(name, causal=True, seed=seed), noise(seed, 2, sum(pieces))
    close(in_pieces(module, hidden, pieces), module(hidden))


@pytest.mark.parametrize("name", MIXERS)
def test_many_single_frames_after_a_piece(name: str) -> None:
    """Past the room that an attention first makes for its keys."""
    module, hidden = made(name, causal=True), noise(0, 3, 150)
    close(in_pieces(module, hidden, [7] + [1] * 143), module(hidden))


@pytest.mark.parametrize("name", MIXERS)
@given(seed=seeds, pieces=cuts, data=st.data())
def test_pieces_of_padded_frames(name: str, seed: int, pieces: list[int], data: Any) -> None:
    """Left padding of unequal length; a piece without padding may come without a mask."""
    module, hidden = made(name, causal=True, seed=seed), noise(seed, 2, sum(pieces))
    pads = torch.tensor(data.draw(st.lists(st.integers(0, sum(pieces) - 1), min_size=2, max_size=2)))
    mask = torch.arange(sum(pieces))[None] >= pads[:, None]
    whole = module(hidden, None, mask)
    chunked = in_pieces(module, hidden, pieces, mask)
    close(chunked[mask], whole[mask])
    memory, said, start = StreamingState(), [], 0
    for length in pieces:
        now = mask[:, start : start + length]
        said.append(module(hidden[:, start : start + length], memory, None if now.all() else now))
        memory.frames += length
        start += length
    close(torch.cat(said, 1)[mask], whole[mask])


@pytest.mark.parametrize("name", MIXERS)
@pytest.mark.parametrize("causal", [True, False])
@given(seed=seeds, frames=st.integers(1, 12), padding=st.integers(1, 9))
def test_padding_changes_no_frame(name: str, causal: bool, seed: int, frames: int, padding: int) -> None:
    """On the left where it is causal, as decoders pad; on the right elsewhere, as encoders do."""
    module, hidden = made(name, causal, seed), noise(seed, 1, frames)
    junk = 50 * noise(seed + 1, 1, padding)
    real, pad = torch.ones(1, frames, dtype=torch.bool), torch.zeros(1, padding, dtype=torch.bool)
    if causal:
        padded, mask = torch.cat([junk, hidden], 1), torch.cat([pad, real], 1)
    else:
        padded, mask = torch.cat([hidden, junk], 1), torch.cat([real, pad], 1)
    close(module(padded, None, mask)[mask], module(hidden)[0])


@pytest.mark.parametrize("name", MIXERS)
def test_a_row_of_nothing_but_padding_is_finite(name: str) -> None:
    mask = torch.tensor([[False] * 5, [True] * 5])
    for causal in (True, False):
        module, hidden = made(name, causal), noise(0, 2, 5)
        heard = module(hidden, None, mask)
        assert heard.isfinite().all()
        close(heard[1], module(hidden[1:])[0])


@pytest.mark.parametrize("causal", [True, False])
@given(kernel=st.integers(1, 6), dilation=st.integers(1, 5), frames=st.integers(1, 20), seed=seeds)
def test_convolution_is_torchs_own(causal: bool, kernel: int, dilation: int, frames: int, seed: int) -> None:
    module, hidden = (
        TemporalConv(WIDTH, kernel, dilation, causal, "a").requires_grad_(False),
        noise(seed, 2, frames),
    )
    reach = (kernel - 1) * dilation
    left = reach if causal else reach // 2
    weight = module.taps.weight.view(WIDTH, kernel, WIDTH).transpose(1, 2)  # [out, in, tap]
    padded = F.pad(hidden.transpose(1, 2), (left, reach - left))
    golden = F.conv1d(padded, weight, module.taps.bias, dilation=dilation).transpose(1, 2)
    close(module(hidden), golden)
    assert sum(w.numel() for w in module.parameters()) == TemporalConv.parameters_of(WIDTH, kernel)


@pytest.mark.parametrize("causal", [True, False])
@given(heads=st.sampled_from([1, 2, 3, 6]), frames=st.integers(1, 12), padding=st.integers(0, 4), seed=seeds)
def test_attention_is_torchs_own(causal: bool, heads: int, frames: int, padding: int, seed: int) -> None:
    module, hidden = (
        TemporalAttention(WIDTH, heads, causal, "a").requires_grad_(False),
        noise(seed, 2, frames + padding),
    )
    golden = nn.MultiheadAttention(WIDTH, heads, batch_first=True).requires_grad_(False)
    golden.load_state_dict(
        {
            "in_proj_weight": module.inward.weight,
            "in_proj_bias": module.inward.bias,
            "out_proj.weight": module.outward.weight,
            "out_proj.bias": module.outward.bias,
        }
    )
    length = frames + padding
    mask = torch.ones(2, length, dtype=torch.bool)
    mask[1, : padding if causal else 0] = False
    mask[1, frames if not causal else length :] = False
    later = torch.ones(length, length, dtype=torch.bool).triu(1) if causal else None
    expected, _ = golden(hidden, hidden, hidden, key_padding_mask=~mask, attn_mask=later, need_weights=False)
    close(module(hidden, None, mask)[mask], expected[mask])
    if mask.all():
        close(module(hidden), expected)
    assert sum(w.numel() for w in module.parameters()) == TemporalAttention.parameters_of(WIDTH, heads)


@pytest.mark.parametrize("causal", [True, False])
@given(frames=st.integers(1, 12), hold=st.integers(1, 5), seed=seeds)
def test_excitation_scales_by_the_mean(causal: bool, frames: int, hold: int, seed: int) -> None:
    module, hidden = (
        SqueezeExcitation(WIDTH, 3, causal, "a", hold).requires_grad_(False),
        noise(seed, 2, frames),
    )
    for frame in range(frames):
        before = frame // hold * hold  # where the present stretch began
        heard = hidden[:, : before if causal else frames]
        mean = heard.sum(1) / max(1, heard.shape[1])
        gate = torch.sigmoid(module.excite(F.gelu(module.squeeze(mean))))
        close(module(hidden)[:, frame], hidden[:, frame] * gate)
    assert sum(w.numel() for w in module.parameters()) == SqueezeExcitation.parameters_of(WIDTH, 3)


def test_the_running_mean_does_not_tire_in_bf16() -> None:
    """Two thousand single steps; a sum in bf16 would have stopped growing after 256."""
    module = made("excitation", causal=True).to(torch.bfloat16)
    hidden = torch.ones(1, 2000, WIDTH, dtype=torch.bfloat16)
    stepped = in_pieces(module, hidden, [1] * 2000)
    torch.testing.assert_close(stepped[:, -1], stepped[:, 3], atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("name", MIXERS)
def test_a_memory_may_carry_a_graph(name: str) -> None:
    """Training through pieces: the gradient is that of the whole."""
    found = []
    for pieces in ([8], [3, 1, 1, 3]):
        module = made(name, causal=True).requires_grad_(True)
        in_pieces(module, noise(0, 2, 8), pieces).square().sum().backward()
        found.append([weight.grad for weight in module.parameters()])
    for whole, chunked in zip(*found, strict=True):
        torch.testing.assert_close(chunked, whole, atol=1e-3, rtol=1e-4)
