"""Padding is read from masks of every convention, or the block is asked what a mask means."""

from __future__ import annotations

import pytest
import torch
from peft import get_peft_model
from torch import nn
from torch.nn.attention.flex_attention import create_block_mask

import talim.adapters as adapters
from talim.adapters.padding_masks import PaddingMasks

FRAMES = 6
SEEN = torch.tensor([[False, False, True, True, True, True], [True] * FRAMES])  # left padding of the first row
CAUSAL = torch.ones(FRAMES, FRAMES, dtype=torch.bool).tril()
LOW = torch.finfo(torch.float32).min
PAIRS = CAUSAL[None, None] & SEEN[:, None, None]


def additive(seen: torch.Tensor) -> torch.Tensor:
    return torch.zeros(seen.shape).masked_fill(~seen, LOW)


MASKS = {
    "1 for frames": SEEN.long(),
    "1.0 for frames": SEEN.float(),
    "added to scores": additive(SEEN),
    "over pairs, True seen": PAIRS,
    "over pairs, True hidden": ~PAIRS,
    "over pairs, added": additive(PAIRS),
    "one row for all frames, added": additive(SEEN[:, None, None]),
    "per head": PAIRS.expand(2, 4, FRAMES, FRAMES).reshape(8, FRAMES, FRAMES),
    "several in a dictionary": {"pairs": PAIRS, "none": None},
    "of flex attention": create_block_mask(
        lambda b, _h, q, k: (q >= k) & SEEN[b, k], 2, None, FRAMES, FRAMES, device="cpu"
    ),
}


@pytest.mark.parametrize("name", MASKS)
def test_valid_frames_of_every_form_of_mask(name: str) -> None:
    given = {"attention_mask": MASKS[name], "encoder_attention_mask": torch.zeros(2, FRAMES), "head_mask": None}
    valid = PaddingMasks(Encoder(true_hides=False)).valid_frames(given, torch.zeros(2, FRAMES, 4), None, None)
    assert valid is not None
    assert torch.equal(valid, SEEN)


@pytest.mark.parametrize("mask", [torch.zeros(2, FRAMES), torch.ones(2, FRAMES), CAUSAL, ~CAUSAL, CAUSAL[None, None]])
def test_valid_frames_without_padding_is_none(mask: torch.Tensor) -> None:
    masks = PaddingMasks(Encoder(true_hides=False))
    assert masks.valid_frames({"attention_mask": mask}, torch.zeros(2, FRAMES, 4), None, None) is None


class Averaging(nn.Module):
    """An encoder block with a boolean mask of either meaning."""

    def __init__(self, true_hides: bool) -> None:
        super().__init__()
        self.mix, self.true_hides = nn.Linear(8, 8), true_hides
        self.hidden_size = 8

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        seen = (~mask if self.true_hides else mask)[..., None].float()
        return hidden + self.mix((hidden * seen).sum(1, keepdim=True) / seen.sum(1, keepdim=True))


class Encoder(nn.Module):
    def __init__(self, true_hides: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Averaging(true_hides), Averaging(true_hides)])

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            hidden = block(hidden, mask)
        return hidden


class TorchEncoder(nn.Module):
    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=batch_first, dropout=0.0)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=batch_first)
        self.batch_first = batch_first

    def forward(self, hidden: torch.Tensor, padding: torch.Tensor) -> torch.Tensor:
        hidden = hidden if self.batch_first else hidden.transpose(0, 1)
        output = self.encoder(hidden, src_key_padding_mask=padding)
        return output if self.batch_first else output.transpose(0, 1)


def adapted(model: nn.Module, kind: str, modules: str):
    config = adapters.AdapterConfig(kind=kind, width=4, target_modules=modules, causal=False)
    peft_model = get_peft_model(model, config)  # type: ignore[arg-type]
    with torch.no_grad():
        for weight in adapters.trainable_parameters(peft_model):
            weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)) * 0.3)
    return peft_model


@pytest.mark.parametrize("true_hides", [True, False])
@pytest.mark.parametrize("kind", ["conv", "transformer"])
def test_padding_is_inaudible_whatever_true_means(kind: str, true_hides: bool) -> None:
    torch.manual_seed(0)
    model = adapted(Encoder(true_hides), kind, r"blocks\.\d").eval()
    hidden = torch.randn(2, FRAMES, 8)
    seen = torch.tensor([[True, True, True, True, False, False], [True] * FRAMES])
    with torch.no_grad():
        together = model(hidden, ~seen if true_hides else seen)[0, :4]
        alone = model(hidden[:1, :4], torch.full((1, 4), not true_hides))[0]
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


@pytest.mark.filterwarnings("ignore:.*nested")
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("gradients", [True, False])
def test_padding_is_inaudible_in_torch_encoder(batch_first: bool, training: bool, gradients: bool) -> None:
    """In evaluation torch passes rows of unequal length as one nested tensor."""
    torch.manual_seed(0)
    model = adapted(TorchEncoder(batch_first), "conv", r"encoder\.layers\.\d").train(training)
    hidden, padding = torch.randn(2, 7, 16), torch.zeros(2, 7, dtype=torch.bool)
    padding[0, 4:] = True
    with torch.set_grad_enabled(gradients):
        together = model(hidden, padding)[0, :4]
        alone = model(hidden[:1, :4], padding[:1, :4])[0]
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
