"""Interface and quantiser of nano's codec; the quality of the shipped weights is tested by the acceptance gates."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from talim.backbones.nano import codec as codec_module
from talim.backbones.nano.codec import NanoCodec, NanoCodecConfig, ResidualVectorQuantizer
from talim.backbones.streamed_pieces import StreamedCodes

SMALL = {"width": 16, "encoder_blocks": 1, "decoder_blocks": 1, "latent": 8, "codebook_size": 32}


@pytest.fixture
def codec() -> NanoCodec:
    torch.manual_seed(0)
    return NanoCodec(NanoCodecConfig(**SMALL)).eval()


def test_encode_and_decode_have_encodecs_shapes(codec: NanoCodec) -> None:
    codes = codec.encode(torch.randn(2, 1, 16000) * 0.1).audio_codes
    assert codes is not None
    assert codes.shape == (1, 2, 4, 50)
    assert codes.min() >= 0
    assert codes.max() < 32
    sound = codec.decode(codes, [None]).audio_values
    assert sound is not None
    assert sound.shape == (2, 1, 16000)


def test_quantizer_error_falls_with_each_codebook() -> None:
    torch.manual_seed(0)
    quantiser, latent = ResidualVectorQuantizer(4, 64, 8), torch.randn(2, 8, 30)
    quantiser.codebooks.data = torch.randn(4, 64, 8) * torch.tensor([1.0, 0.6, 0.4, 0.3])[:, None, None]
    quantiser.codebooks.data[:, 0] = 0.0  # "leave it": then no codebook can make it worse
    codes = quantiser.encode(latent)
    errors = [(quantiser.decode(codes[:, :k]) - latent).square().mean().item() for k in range(1, 5)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.5 * latent.square().mean().item()


def test_quantizer_encodes_codebook_entries_exactly() -> None:
    quantiser = ResidualVectorQuantizer(1, 32, 8)
    codes = torch.arange(32).view(1, 1, 32)
    torch.testing.assert_close(quantiser.encode(quantiser.decode(codes)), codes)


def test_encode_masked_samples_equals_silence(codec: NanoCodec) -> None:
    loud, mask = torch.randn(1, 1, 6400), torch.ones(1, 1, 6400, dtype=torch.bool)
    mask[..., 3200:] = False
    quiet = loud.clone()
    quiet[..., 3200:] = 0
    torch.testing.assert_close(codec.encode(loud, mask).audio_codes, codec.encode(quiet).audio_codes)


def test_codec_saved_in_bf16_is_loaded(codec: NanoCodec, tmp_path: Path) -> None:
    codec.to(torch.bfloat16).save_pretrained(tmp_path)
    loaded = NanoCodec.from_pretrained(tmp_path, dtype=torch.float32)
    for (name, one), (_, two) in zip(codec.state_dict().items(), loaded.state_dict().items(), strict=True):
        torch.testing.assert_close(one.float(), two, rtol=0, atol=0, msg=name)


@pytest.mark.parametrize("shape", [(16000,), (1, 16000), (1, 2, 16000)])
def test_encode_wrong_shape_raises_value_error(codec: NanoCodec, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\[B, 1, S\]"):
        codec.encode(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"\[1, B, K, T\]"):
        codec.decode(torch.zeros(2, 4, 50, dtype=torch.long))


@pytest.mark.parametrize("frames", [1, 16, 17, 18, 101])
@pytest.mark.parametrize("size", [17, 3])
def test_decode_in_blocks_equals_decoding_at_once(
    codec: NanoCodec, monkeypatch: pytest.MonkeyPatch, frames: int, size: int
) -> None:
    codes = torch.randint(0, 32, (1, 2, 4, frames), generator=torch.Generator().manual_seed(0))
    at_once = codec.decode(codes).audio_values
    assert at_once is not None
    assert at_once.shape == (2, 1, 320 * frames)
    monkeypatch.setattr(codec_module, "_BLOCK_FRAMES", size)
    blocks = [*codec.decode_blocks(codes[0])]
    assert len(blocks) == -(-frames // size) + 1  # the last half frame
    assert torch.is_grad_enabled()
    torch.testing.assert_close(torch.cat(blocks, 1), at_once[:, 0], rtol=1e-4, atol=1e-4)
    streamed = codec.decode_blocks(StreamedCodes(iter(codes[0].split(5, -1))))
    assert all(torch.equal(one, other) for one, other in zip(streamed, blocks, strict=True))
