"""What nano-musicgen adds to transformers' MusicGen: a byte-level tokenizer and text encoder, and its codec."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, T5Config

from talim.backbones.nano.codec import NanoCodec, NanoCodecConfig

MAX_PROMPT_BYTES = 255
PAD, EOS, FIRST_BYTE = 0, 1, 3  # ids of ByT5 (Xue et al. 2022)


class ByteTokenizer:
    """UTF-8 bytes as token ids, for text in any language."""

    pad_token_id = PAD
    eos_token_id = EOS
    max_prompt_tokens = MAX_PROMPT_BYTES
    taught_plain_letters = True  # the text encoder: its captions were English, in ASCII

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
