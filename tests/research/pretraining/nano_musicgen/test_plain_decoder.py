"""The decoder in plain torch: causality, unconditioned rows, and the logits of transformers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from research.pretraining import nano_models
from research.pretraining.nano_musicgen import plain_decoder
from talim.backbones.nano.codec import NanoCodec, NanoCodecConfig


@pytest.fixture
def model() -> plain_decoder.PlainDecoder:
    model = plain_decoder.PlainDecoder(plain_decoder.DecoderShape(width=32, layers=2, heads=2, ffn=48))
    model.initialise(0)
    return model


def test_forward_is_causal(model: plain_decoder.PlainDecoder) -> None:
    codes = torch.randint(1024, (1, 4, 30))
    changed = codes.clone()
    changed[..., 12:] = 7
    states, mask = torch.randn(1, 5, 128), torch.ones(1, 5, dtype=torch.bool)
    with torch.no_grad():
        hidden, other = (model(plain_decoder.delayed(c, 1024), states, mask)[0] for c in (codes, changed))
    differs = (hidden - other).abs().amax(-1)[0] > 1e-6
    assert int(differs.nonzero()[0]) == 13  # code 12 of the first codebook is read at step 13


def test_forward_unconditioned_ignores_the_text(model: plain_decoder.PlainDecoder) -> None:
    sequence = plain_decoder.delayed(torch.randint(1024, (1, 4, 9)), 1024)
    nothing = torch.zeros(1, 5, dtype=torch.bool)
    with torch.no_grad():
        hidden, other = (model(sequence, torch.randn(1, 5, 128), nothing)[0] for _ in range(2))
    assert torch.equal(hidden, other)
    assert torch.isfinite(hidden).all()


def test_losses_weight_selects_frames(model: plain_decoder.PlainDecoder) -> None:
    codes = torch.randint(1024, (2, 4, 9))
    states, mask = torch.randn(2, 5, 128), torch.ones(2, 5, dtype=torch.bool)
    with torch.no_grad():
        hidden, _ = model(plain_decoder.delayed(codes, 1024), states, mask)
        first_row = torch.tensor([[1.0] * 9, [0.0] * 9])
        weighted = plain_decoder.losses(model, hidden, codes, first_row)
        torch.testing.assert_close(weighted, plain_decoder.losses(model, hidden[:1], codes[:1]))
        assert not torch.allclose(weighted, plain_decoder.losses(model, hidden, codes))


def test_logits_equal_those_of_transformers(tmp_path: Path) -> None:
    codec = NanoCodec(NanoCodecConfig(width=16, encoder_blocks=1, decoder_blocks=1))
    shape = {"width": 32, "layers": 3, "heads": 2, "ffn": 48}
    nano_models.build_nano_musicgen(0, codec, **shape).save_pretrained(tmp_path)
    assert plain_decoder.max_logit_difference(tmp_path) < 1e-4
