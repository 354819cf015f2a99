"""Decoding in blocks equals transformers' decoding at once, for EnCodec of either padding, at any cut."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import EncodecConfig, EncodecModel

from talim.backbones.musicgen import codec_blocks
from talim.backbones.streamed_pieces import StreamedCodes


def encodec(**changes: Any) -> EncodecModel:
    """A small codec with the structure of the released ones, and weights that let every layer be heard."""
    torch.manual_seed(0)
    settings = {
        "target_bandwidths": [1.0],
        "sampling_rate": 600,
        "num_filters": 4,
        "hidden_size": 16,
        "upsampling_ratios": [5, 3, 2],
        "codebook_size": 32,
        "codebook_dim": 16,
        "use_causal_conv": False,
    }
    codec = EncodecModel(EncodecConfig(**settings | changes)).eval()
    for layer in codec.quantizer.layers:
        layer.codebook.embed.normal_()
    for name, weight in codec.named_parameters():
        if "lstm" in name:
            weight.data.mul_(2.0)  # its state reaches far
    return codec


@pytest.mark.parametrize("changes", [
    {},
    {"use_causal_conv": True},
    {"use_causal_conv": True, "trim_right_ratio": 0.5},
    {"pad_mode": "constant"},
    {"num_residual_layers": 3, "dilation_growth_rate": 3},
    {"upsampling_ratios": [2, 2], "kernel_size": 3, "last_kernel_size": 9, "use_conv_shortcut": False},
    {"num_lstm_layers": 1},
])  # fmt: skip
@pytest.mark.parametrize("frames", [1, 7, 8, 9, 40])
def test_blocks_of_encodec_equal_decoding_at_once(
    changes: dict[str, Any], frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = encodec(**changes)
    codebooks = codec.config.num_quantizers
    codes = torch.randint(0, 32, (2, codebooks, frames), generator=torch.Generator().manual_seed(frames))
    with torch.no_grad():
        expected = codec.decode(codes[None], [None]).audio_values[:, 0]
    monkeypatch.setattr(codec_blocks, "_BLOCK_FRAMES", 8)
    blocks = [*codec_blocks.decode_blocks(codec, codes)]
    assert len(blocks) == -(-frames // 8)
    found = torch.cat(blocks, 1)
    assert found.shape == expected.shape
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    assert torch.is_grad_enabled()


def test_state_of_the_recurrent_layer_is_heard_beyond_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, blocks would differ from the whole: the test above would find that."""
    codec = encodec()
    codes = torch.randint(0, 32, (1, codec.config.num_quantizers, 40), generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(codec_blocks, "_BLOCK_FRAMES", 8)
    whole = torch.cat([*codec_blocks.decode_blocks(codec, codes)], 1)
    late = torch.cat([*codec_blocks.decode_blocks(codec, codes[..., 16:])], 1)
    hop = whole.shape[1] // 40
    difference = (whole[:, 24 * hop :] - late[:, 8 * hop :]).abs().max()
    assert difference > 1e-3 * whole.abs().max()


@pytest.mark.parametrize("changes", [{"norm_type": "time_group_norm"}, {"chunk_length_s": 1.0, "overlap": 0.1}])
def test_codec_whose_layers_see_everything_is_decoded_at_once(changes: dict[str, Any]) -> None:
    codec = encodec(**changes)
    codes = torch.zeros(1, codec.config.num_quantizers, 30, dtype=torch.long)
    with torch.no_grad():
        expected = codec.decode(codes[None], [None]).audio_values[:, 0]
    (block,) = codec_blocks.decode_blocks(codec, codes)
    torch.testing.assert_close(block, expected, rtol=0, atol=0)


def test_codec_of_another_kind_is_decoded_at_once_or_in_its_own_blocks() -> None:
    codes = torch.zeros(1, 4, 3, dtype=torch.long)
    other = SimpleNamespace(decode=lambda codes, scales: SimpleNamespace(audio_values=codes[0, :, :1].float()))
    assert [block.shape for block in codec_blocks.decode_blocks(other, codes)] == [(1, 3)]
    own = SimpleNamespace(decode_blocks=lambda codes: iter([codes[:, 0], codes[:, 1]]))
    assert [block.shape for block in codec_blocks.decode_blocks(own, codes)] == [(1, 3), (1, 3)]


def test_blocks_come_as_soon_as_their_codes_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """And are the same numbers as with all codes at once."""
    codec = encodec()
    codes = torch.randint(0, 32, (1, codec.config.num_quantizers, 61), generator=torch.Generator().manual_seed(2))
    monkeypatch.setattr(codec_blocks, "_BLOCK_FRAMES", 8)
    expected = [*codec_blocks.decode_blocks(codec, codes)]
    asked = 0

    def parts() -> Iterator[torch.Tensor]:
        nonlocal asked
        for part in codes.split(5, -1):
            asked += part.shape[-1]
            yield part

    needed = []
    for block, whole in zip(codec_blocks.decode_blocks(codec, StreamedCodes(parts())), expected, strict=True):
        needed.append(asked)
        assert torch.equal(block, whole)
    assert needed[0] < 61
    assert needed == sorted(needed)
    assert needed[-1] == 61
