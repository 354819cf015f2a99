"""Delay pattern against golden values of audiocraft, and properties for any codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from talim.backbones.musicgen import delay_pattern

GOLDEN = Path(__file__).parents[2] / "golden"
CASES = json.loads((GOLDEN / "delay_pattern.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / "delay_pattern.safetensors")


@pytest.mark.parametrize("case", CASES)
def test_delays_equal_the_reference(case: str) -> None:
    facts = CASES[case]
    channels = 2 if facts["codebooks"] == 8 else 1
    assert delay_pattern.delays(facts["codebooks"], channels) == tuple(facts["delays"])


@pytest.mark.parametrize("case", CASES)
def test_apply_delay_pattern_equals_the_reference(case: str, golden: dict[str, torch.Tensor]) -> None:
    facts, shifts = CASES[case], tuple(CASES[case]["delays"])
    sequence = delay_pattern.apply_delay_pattern(golden[f"{case}.codes"], facts["special_token"], shifts)
    assert torch.equal(sequence, golden[f"{case}.pattern_sequence"])
    assert torch.equal(sequence[0] != facts["special_token"], golden[f"{case}.pattern_mask"].bool())


@pytest.mark.parametrize("case", CASES)
def test_cross_entropy_equals_the_reference(case: str, golden: dict[str, torch.Tensor]) -> None:
    logits, codes = golden[f"{case}.logits"].permute(0, 2, 3, 1), golden[f"{case}.codes"] % 16
    mask = torch.ones(codes.shape[0], codes.shape[-1], dtype=torch.bool)
    losses = delay_pattern.cross_entropy(logits, codes, mask, tuple(CASES[case]["delays"]))
    torch.testing.assert_close(losses.parts, golden[f"{case}.cross_entropy_per_codebook"], atol=1e-6, rtol=0)
    torch.testing.assert_close(losses.per_item.mean(dim=0), losses.parts)
    without_last = delay_pattern.cross_entropy(logits[:, :, :-1], codes, mask, tuple(CASES[case]["delays"]))
    assert torch.equal(without_last.parts, losses.parts)  # the last step predicts nothing that counts


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_padded_clip_has_the_same_sequence_and_loss_as_alone(data: st.DataObject) -> None:
    """A short clip in a padded batch against the clip alone."""
    frames, pad = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 5))
    channels = data.draw(st.sampled_from([1, 2]))
    shifts = delay_pattern.delays(4 * channels, channels)
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    codes = torch.randint(0, 16, (1, len(shifts), frames + pad), generator=generator)
    mask = (torch.arange(frames + pad) < frames)[None]
    alone = delay_pattern.apply_delay_pattern(codes[..., :frames], 16, shifts)
    padded = delay_pattern.apply_delay_pattern(codes, 16, shifts, mask)
    assert torch.equal(padded[..., : alone.shape[-1]], alone)
    assert (padded[..., alone.shape[-1] :] == 16).all()
    logits = torch.randn(1, len(shifts), padded.shape[-1], 16, generator=generator)
    whole = delay_pattern.cross_entropy(logits, codes, mask, shifts)
    cut = delay_pattern.cross_entropy(logits, codes[..., :frames], mask[:, :frames], shifts)
    torch.testing.assert_close(whole.parts, cut.parts)
    torch.testing.assert_close(whole.per_frame[..., :frames], cut.per_frame)
    torch.testing.assert_close(cut.per_frame[0].mean(dim=-1), cut.parts)
    assert not whole.per_frame[..., frames:].any()


def test_cross_entropy_of_bf16_logits_is_float32() -> None:
    logits = torch.randn(2, 4, 8, 16, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    codes = torch.zeros(2, 4, 5, dtype=torch.int64)
    losses = delay_pattern.cross_entropy(logits, codes, torch.ones(2, 5, dtype=torch.bool), (0, 1, 2, 3))
    expected = delay_pattern.cross_entropy(logits.float(), codes, torch.ones(2, 5, dtype=torch.bool), (0, 1, 2, 3))
    assert losses.parts.dtype == torch.float32
    assert torch.equal(losses.parts, expected.parts)


def test_cross_entropy_without_valid_frames_is_zero() -> None:
    mask = torch.tensor([[True, True], [False, False]])
    logits = torch.randn(2, 4, 5, 8, generator=torch.Generator().manual_seed(1))
    losses = delay_pattern.cross_entropy(logits, torch.zeros(2, 4, 2, dtype=torch.int64), mask, (0, 1, 2, 3))
    assert torch.isfinite(losses.parts).all()
    assert torch.equal(losses.per_item[1], torch.zeros(4))
    torch.testing.assert_close(losses.per_item[0], losses.parts)
