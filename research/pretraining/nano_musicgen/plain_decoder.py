"""MusicGen's decoder in plain torch, with the parameter names of transformers: faster to train, with equal logits.

Its state dict loads into a MusicgenForConditionalGeneration.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

PREFIXES = ("decoder.", "enc_to_dec_proj.")  # of the checkpoint's weights that are in this module


@dataclass(frozen=True)
class DecoderShape:
    """Widths and counts; `text_width` is the text encoder's."""

    width: int = 256
    layers: int = 6
    heads: int = 4
    ffn: int = 832
    text_width: int = 128
    codebooks: int = 4
    codes: int = 1024

    @classmethod
    def of(cls, folder: Path) -> DecoderShape:
        """The shape of a stored checkpoint."""
        config = json.loads((folder / "config.json").read_text())
        decoder = config["decoder"]
        return cls(
            decoder["hidden_size"], decoder["num_hidden_layers"], decoder["num_attention_heads"],
            decoder["ffn_dim"], config["text_encoder"]["d_model"], decoder["num_codebooks"], decoder["vocab_size"],
        )  # fmt: skip


class Attention(nn.Module):
    """Multi-head attention without biases: causal self-attention, or cross-attention to other states."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
            setattr(self, name, nn.Linear(width, width, bias=False))

    def split(self, rows: Tensor) -> Tensor:
        """[B, S, D] as [B, heads, S, D / heads]."""
        return rows.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, hidden: Tensor, others: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """[B, S, D] from `hidden` [B, S, D]; attends to `others` [B, L, D] under `mask` bool [B, 1, 1, L], if given."""
        source = hidden if others is None else others
        query, key, value = (
            self.split(self.q_proj(hidden)),
            self.split(self.k_proj(source)),
            self.split(self.v_proj(source)),
        )
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=others is None)
        return self.out_proj(attended.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """Self-attention, cross-attention to the text and feed-forward, each with pre-norm and residual."""

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        self.self_attn = Attention(shape.width, shape.heads)
        self.self_attn_layer_norm = nn.LayerNorm(shape.width)
        self.encoder_attn = Attention(shape.width, shape.heads)
        self.encoder_attn_layer_norm = nn.LayerNorm(shape.width)
        self.fc1 = nn.Linear(shape.width, shape.ffn, bias=False)
        self.fc2 = nn.Linear(shape.ffn, shape.width, bias=False)
        self.final_layer_norm = nn.LayerNorm(shape.width)

    def forward(self, hidden: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        hidden = hidden + self.self_attn(self.self_attn_layer_norm(hidden))
        hidden = hidden + self.encoder_attn(self.encoder_attn_layer_norm(hidden), text, mask)
        return hidden + self.fc2(F.gelu(self.fc1(self.final_layer_norm(hidden))))


class Stack(nn.Module):
    """Embeddings, sinusoidal positions, layers and a final norm."""

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        self.embed_tokens = nn.ModuleList(nn.Embedding(shape.codes + 1, shape.width) for _ in range(shape.codebooks))
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.layer_norm = nn.LayerNorm(shape.width)
        half = shape.width // 2
        frequencies = torch.exp(torch.arange(half).float() * -(math.log(10000) / (half - 1)))
        angles = torch.arange(2048).float()[:, None] * frequencies
        self.positions: Tensor
        self.register_buffer("positions", torch.cat([angles.cos(), angles.sin()], 1), persistent=False)


class PlainDecoder(nn.Module):
    """Hidden states from delayed codes and text states; `decoder.lm_heads` give the logits."""

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        self.shape = shape
        self.decoder = nn.Module()
        self.decoder.model = nn.Module()
        self.decoder.model.decoder = Stack(shape)
        self.decoder.lm_heads = nn.ModuleList(
            nn.Linear(shape.width, shape.codes, bias=False) for _ in range(shape.codebooks)
        )
        self.enc_to_dec_proj = nn.Linear(shape.text_width, shape.width)

    def initialise(self, seed: int) -> None:
        """Random weights: std 0.05, and 0.4 for embeddings, which are added to sinusoids of amplitude 1."""
        torch.manual_seed(seed)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.05)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.4)

    def forward(self, steps: Tensor, states: Tensor, mask: Tensor, middle_layer: int = 0) -> tuple[Tensor, Tensor]:
        """Hidden states [B, S, D] after the last norm and those after layer `middle_layer`, if that is not 0.

        `steps` are delayed codes [B, K, S], `states` text states [B, L, text width], `mask` bool [B, L]; a row without
        a True is unconditioned.
        """
        stack: Any = self.decoder.model.decoder
        hidden = sum(table(steps[:, k]) for k, table in enumerate(stack.embed_tokens))
        hidden = hidden + stack.positions[: steps.shape[-1]]
        text = self.enc_to_dec_proj(states) * mask[..., None]
        # the states of unconditioned rows are zero, so any attention gives zero; without a key it would give NaN
        attendable = (mask | ~mask.any(1, keepdim=True))[:, None, None]
        middle = hidden
        for index, layer in enumerate(stack.layers, start=1):
            hidden = layer(hidden, text, attendable)
            middle = hidden if index == middle_layer else middle
        return stack.layer_norm(hidden), middle


def delayed(codes: Tensor, special: int) -> Tensor:
    """The decoder's input [B, K, T + K - 1] of `codes` [B, K, T]: codebook k is delayed by k + 1 steps."""
    batch, books, frames = codes.shape
    steps = codes.new_full((batch, books, frames + books), special)
    for k in range(books):
        steps[:, k, k + 1 : k + 1 + frames] = codes[:, k]
    return steps[..., :-1]


def losses(model: PlainDecoder, hidden: Tensor, codes: Tensor, weight: Tensor | None = None) -> Tensor:
    """Cross-entropy per codebook [K], the mean over all frames, or weighted by `weight` [B, T]."""
    frames, parts = codes.shape[-1], []
    for k, head in enumerate(model.decoder.lm_heads):
        logits = head(hidden[:, k : k + frames]).flatten(0, 1)
        nats = F.cross_entropy(
            logits.float(), codes[:, k].flatten(), reduction="none" if weight is not None else "mean"
        )
        parts.append(nats if weight is None else (nats * weight.flatten()).sum() / weight.sum())
    return torch.stack(parts)


def restore(folder: Path) -> PlainDecoder:
    """The decoder of a stored checkpoint, float32."""
    model = PlainDecoder(DecoderShape.of(folder))
    weights = {n: w.float() for n, w in load_file(folder / "model.safetensors").items() if n.startswith(PREFIXES)}
    model.load_state_dict(weights)
    return model


@torch.no_grad()
def max_logit_difference(folder: Path) -> float:
    """The largest difference of the logits from those of transformers, on random codes and text states."""
    from transformers import MusicgenForConditionalGeneration

    from talim.backbones.musicgen import delay_pattern
    from talim.backbones.nano import musicgen

    musicgen.register_codec()
    reference: Any = MusicgenForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    plain = restore(folder).eval()
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(plain.shape.codes, (3, plain.shape.codebooks, 40), generator=generator)
    states = torch.randn(3, 9, plain.shape.text_width, generator=generator)
    mask = torch.tensor([[1] * 9, [1] * 5 + [0] * 4, [0] * 9])
    shifts = delay_pattern.delays(plain.shape.codebooks)
    steps = delay_pattern.apply_delay_pattern(codes, plain.shape.codes, shifts)[..., :-1]
    logits = reference(
        encoder_outputs=(states,), attention_mask=mask, decoder_input_ids=steps.reshape(-1, steps.shape[-1]),
        use_cache=False,
    ).logits.view(*steps.shape, -1)  # fmt: skip
    hidden, _ = plain(steps, states, mask.bool())
    plain_logits = torch.stack([head(hidden) for head in plain.decoder.lm_heads], 1)
    return float((plain_logits - logits).abs().max())
