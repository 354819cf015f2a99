"""Attention of single frames over pasts in bf16, against torch's own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from talim.backbones.musicgen.decoding import attention_steps
from talim.backbones.musicgen.decoding import compiled as compiled_modules
from talim.backbones.musicgen.decoding.attention_steps import AttentionStep, CompiledAttentionStep
from talim.backbones.musicgen.decoding.cache_positions import Visible

CPU = torch.device("cpu")
UNUSED: Any = None


def frames(rows: int, count: int, features: int, seed: int) -> Tensor:
    """Queries, keys and values side by side, [count, R, 3 * H * d]."""
    return torch.randn(count, rows, 3 * features, generator=torch.Generator().manual_seed(seed))


def exact(packed: Tensor, heads: int) -> Tensor:
    """Packed frames [T, 3 * H * d] of one row -> what the last one attends to [H * d], of keys and values in bf16."""
    query, keys, values = packed.view(len(packed), 3, heads, -1).permute(1, 2, 0, 3)
    keys, values = (each.bfloat16().double() for each in (keys, values))
    return F.scaled_dot_product_attention(query[:, -1:].double(), keys, values).flatten().float()


@settings(max_examples=25)
@given(
    st.integers(0, 10_000),
    st.integers(1, 4),
    st.integers(1, 40),
    st.lists(st.integers(0, 40), min_size=1, max_size=4),
    st.integers(1, 8),
)
def test_a_row_attends_to_its_own_frames(seed: int, heads: int, width: int, given_: list[int], steps: int) -> None:
    """However many were given to each row at first; the same bits alone and in a batch."""
    rows, features = len(given_), heads * width
    packed = frames(rows, 48, features, seed)
    together = CompiledAttentionStep(heads, width)
    together.allocate(rows, 48, CPU)
    alone = [CompiledAttentionStep(heads, width) for _ in given_]
    for row, count in enumerate(given_):
        past = packed[:count, row].view(1, count, 3, heads, width).permute(2, 0, 3, 1, 4)
        alone[row].allocate(1, 48, CPU)
        for step, index in ((together, row), (alone[row], 0)):
            step.begin(torch.tensor([index]))
            if count:
                step.prefill(torch.tensor([index]), 1000, past[1], past[2])
    for number in range(steps):
        now = torch.stack([packed[count + number, row] for row, count in enumerate(given_)])
        found = together.step(now, UNUSED, UNUSED).clone()
        for row, count in enumerate(given_):
            seen = packed[: count + number + 1, row]
            torch.testing.assert_close(found[row], exact(seen, heads), atol=2e-5, rtol=2e-5)
            assert torch.equal(alone[row].step(now[row : row + 1], UNUSED, UNUSED)[0], found[row])


def test_it_is_as_near_to_float32_as_bf16_allows() -> None:
    """Keys and values have 8 bits, and nothing is lost in the sums."""
    heads, width, count = 2, 16, 40
    packed = frames(3, count, heads * width, 1)
    steps = CompiledAttentionStep(heads, width), AttentionStep(heads, width, torch.float32)
    for step in steps:
        step.allocate(3, count, CPU)
    for time in range(count):
        moment: Any = SimpleNamespace(place=time)
        rounded, full = (step.step(packed[time], Visible(0, time + 1), moment) for step in steps)
    error = float((rounded - full).abs().max())
    assert 1e-5 < error < 2**-8 * float(packed.abs().max())


def test_rows_that_go_on_keep_their_frames_and_a_new_piece_in_a_row_begins_without() -> None:
    heads, width = 2, 4
    packed = frames(3, 6, heads * width, 2)
    step = CompiledAttentionStep(heads, width)
    step.allocate(3, 8, CPU)
    for time in range(4):
        step.step(packed[time], UNUSED, UNUSED)
    step.keep([2, 0])
    step.begin(torch.tensor([1]))
    found = step.step(packed[4, [2, 0]], UNUSED, UNUSED)
    torch.testing.assert_close(found[0], exact(packed[:5, 2], heads), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[1], exact(packed[4:5, 0], heads), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(found[1], exact(packed[:5, 0], heads), atol=1e-3)


def test_a_row_that_went_along_without_a_piece_begins_without_a_past() -> None:
    step = CompiledAttentionStep(2, 4)
    step.allocate(2, 8, CPU)
    packed = frames(2, 4, 8, 6)
    step.begin(torch.tensor([0]))
    for time in range(3):
        step.step(packed[time], UNUSED, UNUSED)
    step.begin(torch.tensor([1]))
    found = step.step(packed[3], UNUSED, UNUSED)
    torch.testing.assert_close(found[1], exact(packed[3:4, 1], 2), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[0], exact(packed[:4, 0], 2), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_piece_of_broken_numbers_does_not_break_the_next_one_in_its_row(compiled: bool) -> None:
    step = CompiledAttentionStep(2, 4) if compiled else AttentionStep(2, 4, torch.float32)
    step.allocate(2, 8, CPU)
    packed = frames(2, 3, 8, 4)
    rows = torch.tensor([0, 1])
    step.begin(rows)
    broken = packed[:2].clone()
    broken[:, 1] = torch.nan
    mask = torch.ones(2, 1, 1, 3, dtype=torch.bool)
    for time in range(2):
        moment: Any = SimpleNamespace(place=time)
        assert step.step(broken[time], Visible(0, time + 1), moment)[1].isnan().all()
    step.begin(rows[1:])
    mask[1, ..., :2] = False
    found = step.step(packed[2], Visible(0, 3, mask), SimpleNamespace(place=2))  # type: ignore[arg-type]
    torch.testing.assert_close(found[1], packed[2, 1, 16:].bfloat16().float() if compiled else packed[2, 1, 16:])
    assert not found[0].isnan().any()


def test_several_threads_compute_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    packed, found = frames(3, 20, 32, 5), []
    for threads, least in ((1, 1), (4, 1), (4, 2**40)):
        monkeypatch.setattr(attention_steps, "LEAST_NUMBERS_OF_A_THREAD", least)
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        step = CompiledAttentionStep(4, 8)
        step.allocate(3, 12, CPU)  # fewer than there are frames
        found.append(torch.stack([step.step(frame, UNUSED, UNUSED).clone() for frame in packed]))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    torch.testing.assert_close(found[0][-1, 2], exact(packed[-12:, 2], 4), atol=1e-5, rtol=1e-5)


def test_an_error_in_any_thread_is_raised() -> None:
    def fail(part: int) -> None:
        if part == 0:
            raise ValueError("part 0")

    with pytest.raises(ValueError, match="part 0"):
        attention_steps.in_threads(fail, 2)


@pytest.mark.parametrize("size", [1, 500, 1004, 1504])
@pytest.mark.parametrize("item_bytes", [2, 4])
def test_numbers_of_one_place_are_spread_over_the_cache(size: int, item_bytes: int) -> None:
    kernels = compiled_modules.kernels("frame_kernels")
    places = kernels.places_for(size, item_bytes)
    assert size <= places < size + 2 * 64 // item_bytes
    assert places % kernels.PLACES_AT_ONCE == 0
    assert places * item_bytes % 128 == 64


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_numbers_keep_their_precision_and_nan_is_seen(dtype: torch.dtype) -> None:
    step = CompiledAttentionStep(1, 8)
    step.allocate(2, 8, CPU)
    packed = frames(2, 1, 8, 3)[0].to(dtype)
    packed[1, 12] = torch.nan  # a key
    found = step.step(packed, UNUSED, UNUSED)
    assert found.dtype == dtype
    assert found[1].isnan().all()
    assert not found[0].isnan().any()


def test_a_frame_takes_half_of_what_it_takes_in_float32() -> None:
    assert CompiledAttentionStep(4, 64).bytes_of_a_frame * 2 == AttentionStep(4, 64, torch.float32).bytes_of_a_frame
