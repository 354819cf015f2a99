"""nano-musicgen: a small MusicgenForConditionalGeneration with a byte-level text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    GenerationConfig,
    MusicgenConfig,
    MusicgenDecoderConfig,
    MusicgenForConditionalGeneration,
    T5Config,
)

from talim.backbones.nano.codec import NanoCodec, NanoCodecConfig

WINDOW_SECONDS = 20.0
MAX_PROMPT_BYTES = 255
PAD, EOS, FIRST_BYTE = 0, 1, 3  # ids of ByT5 (Xue et al. 2022)


class ByteTokenizer:
    """UTF-8 bytes as token ids, for text in any language."""

    pad_token_id = PAD
    eos_token_id = EOS

    def __call__(
        self, prompts: str | Sequence[str], padding: bool = True, return_tensors: str = "pt", **_: Any
    ) -> dict[str, torch.Tensor]:
        """`input_ids` and `attention_mask`, int64 [B, L]; prompts beyond 255 bytes are cut between characters."""
        rows = [self.encode(prompt) for prompt in ([prompts] if isinstance(prompts, str) else prompts)]
        longest = max(len(row) for row in rows)
        ids = torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        return {"input_ids": ids, "attention_mask": mask}

    def encode(self, prompt: str) -> list[int]:
        """The ids of one prompt, ended by EOS."""
        text = prompt.encode("utf-8")[:MAX_PROMPT_BYTES].decode("utf-8", errors="ignore")
        return [FIRST_BYTE + byte for byte in text.encode("utf-8")] + [EOS]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, without special tokens."""
        return bytes(i - FIRST_BYTE for i in ids if FIRST_BYTE <= i < FIRST_BYTE + 256).decode("utf-8", errors="ignore")


def register_codec() -> None:
    """Register the codec with transformers, before a nano checkpoint is loaded; idempotent."""
    AutoConfig.register(NanoCodecConfig.model_type, NanoCodecConfig, exist_ok=True)
    AutoModel.register(NanoCodecConfig, NanoCodec, exist_ok=True)


def text_config(width: int, layers: int) -> T5Config:
    """Configuration of nano's text encoder."""
    return T5Config(
        vocab_size=FIRST_BYTE + 256,
        d_model=width,
        d_kv=width // 4,
        d_ff=3 * width,
        num_layers=layers,
        num_heads=4,
        dropout_rate=0.0,
        is_encoder_decoder=False,
        use_cache=False,
        pad_token_id=PAD,
        eos_token_id=EOS,
    )


def nano_config(
    width: int = 192,
    layers: int = 6,
    heads: int = 4,
    text_width: int = 128,
    text_layers: int = 2,
    codec: NanoCodecConfig | None = None,
) -> MusicgenConfig:
    """Configuration of a nano MusicGen, whose text encoder is narrower than its decoder, as in the released models."""
    register_codec()
    codec = codec or NanoCodecConfig()
    special = codec.codebook_size
    text = text_config(text_width, text_layers)
    decoder = MusicgenDecoderConfig(
        vocab_size=codec.codebook_size,
        max_position_embeddings=2048,
        num_hidden_layers=layers,
        ffn_dim=4 * width,
        num_attention_heads=heads,
        hidden_size=width,
        dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        num_codebooks=codec.num_codebooks,
        initializer_factor=0.05,
        audio_channels=1,
        pad_token_id=special,
        bos_token_id=special,
        eos_token_id=None,
    )
    decoder.talim_window_seconds = WINDOW_SECONDS  # read by the backbone
    return MusicgenConfig(text_encoder=text.to_dict(), audio_encoder=codec.to_dict(), decoder=decoder.to_dict())


def build_nano_musicgen(seed: int, codec: NanoCodec | None = None, **shape: int) -> MusicgenForConditionalGeneration:
    """A nano MusicGen with random weights and, if given, a trained codec."""
    torch.manual_seed(seed)
    codec_config: Any = codec.config if codec is not None else None
    model: Any = MusicgenForConditionalGeneration(nano_config(codec=codec_config, **shape))
    if codec is not None:
        model.audio_encoder.load_state_dict(codec.state_dict())
    # Code embeddings are added to sinusoidal positions of amplitude 1: with the usual std of 0.02 a small model stays
    # at the unigram loss for hundreds of steps.
    for table in model.decoder.model.decoder.embed_tokens:
        torch.nn.init.normal_(table.weight, std=0.4)
    special = model.config.decoder.vocab_size
    model.generation_config = GenerationConfig(
        bos_token_id=special,
        pad_token_id=special,
        decoder_start_token_id=special,
        do_sample=True,
        guidance_scale=3.0,
        max_length=int(WINDOW_SECONDS * 50),
    )
    model.config.decoder.decoder_start_token_id = special
    return model
