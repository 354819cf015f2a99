"""Byte tokenizer and construction of nano-musicgen."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from transformers import ByT5Tokenizer, MusicgenForConditionalGeneration

from research.pretraining import nano_models
from talim.backbones.nano import musicgen
from talim.backbones.nano.codec import NanoCodecConfig

TINY = {"width": 32, "layers": 2, "heads": 2, "ffn": 128, "text_width": 16, "text_layers": 1}


@given(st.text(min_size=0, max_size=60))
def test_tokenizer_decode_inverts_encode(prompt: str) -> None:
    tokenizer = musicgen.ByteTokenizer()
    assert tokenizer.decode(tokenizer.encode(prompt)) == prompt


def test_tokenizer_ids_equal_byt5() -> None:
    prompts = ["Rāga Bhūpālī, tīntāl", "Hüzzam peşrevi, 90 bpm"]
    actual, expected = (musicgen.ByteTokenizer()(prompts), ByT5Tokenizer()(prompts, padding=True, return_tensors="pt"))
    assert actual["input_ids"].tolist() == expected["input_ids"].tolist()
    assert actual["attention_mask"].tolist() == expected["attention_mask"].tolist()


def test_tokenizer_truncates_between_characters() -> None:
    tokenizer = musicgen.ByteTokenizer()
    text = tokenizer.decode(tokenizer.encode("ş" * 200))
    assert text == "ş" * (musicgen.MAX_PROMPT_BYTES // 2)


def test_build_nano_musicgen_has_a_text_projection() -> None:
    codec = NanoCodecConfig(width=16, encoder_blocks=1, decoder_blocks=1, latent=8, codebook_size=32)
    model = MusicgenForConditionalGeneration(nano_models.nano_config(codec=codec, **TINY))
    assert model.config.decoder.num_codebooks == 4
    assert model.enc_to_dec_proj.in_features == 16
    assert model.enc_to_dec_proj.out_features == 32
    assert model.config.audio_encoder.frame_rate == 50


def test_build_nano_musicgen_depends_on_the_seed() -> None:
    first, same, different = (
        nano_models.build_nano_musicgen(seed, **TINY).decoder.lm_heads[0].weight for seed in (1, 1, 2)
    )
    assert (first == same).all()
    assert not (first == different).all()
