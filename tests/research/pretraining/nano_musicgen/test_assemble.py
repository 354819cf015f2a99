"""Assembly of the checkpoint from codec, text encoder and decoder weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file, save_model

from research.pretraining import nano_models
from research.pretraining.nano_musicgen import assemble, plain_decoder
from talim.backbones.nano.codec import NanoCodec, NanoCodecConfig

SHAPE = {"width": 32, "layers": 1, "heads": 2, "ffn": 48, "text_width": 16, "text_layers": 1}


@pytest.fixture
def parts(tmp_path: Path) -> tuple[NanoCodec, dict[str, torch.Tensor]]:
    save_model(nano_models.build_nano_musicgen(3, **SHAPE).text_encoder, str(tmp_path / "text_encoder.safetensors"))
    shape = plain_decoder.DecoderShape(width=32, layers=1, heads=2, ffn=48, text_width=16)
    decoder = plain_decoder.PlainDecoder(shape)
    decoder.initialise(4)
    return NanoCodec(NanoCodecConfig(width=16, encoder_blocks=1, decoder_blocks=1)), dict(decoder.state_dict())


def test_assemble_contains_all_three_parts(parts: tuple[NanoCodec, dict[str, torch.Tensor]], tmp_path: Path) -> None:
    codec, weights = parts
    save_file(weights, tmp_path / "weights.safetensors")
    state = assemble.assemble(codec, tmp_path, tmp_path / "weights.safetensors", **SHAPE).state_dict()
    assert all(torch.equal(state[name], weight) for name, weight in weights.items())
    assert all(torch.equal(state[f"audio_encoder.{name}"], weight) for name, weight in codec.state_dict().items())
    text = nano_models.build_nano_musicgen(3, **SHAPE).text_encoder.state_dict()
    assert all(torch.equal(state[f"text_encoder.{name}"], weight) for name, weight in text.items())


@pytest.mark.parametrize("change", ["missing", "unexpected"])
def test_assemble_incomplete_weights_raises(
    parts: tuple[NanoCodec, dict[str, torch.Tensor]], tmp_path: Path, change: str
) -> None:
    codec, weights = parts
    if change == "missing":
        del weights["decoder.lm_heads.2.weight"]
    else:
        weights["decoder.extra"] = torch.zeros(1)
    save_file(weights, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match=f"{change} weights .*decoder"):
        assemble.assemble(codec, tmp_path, tmp_path / "weights.safetensors", **SHAPE)
