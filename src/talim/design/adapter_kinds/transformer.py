"""The transformer kind, and its layer over time: self-attention.

The layer takes hidden states [B, T, W], an optional state of the previous frames (cached decoding) and an optional bool
mask [B, T], False for padding, which influences no other frame. A causal layer uses no later frame.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from talim.design.adapter_kinds.kind import Kind, resolve_options
from talim.design.streaming import StreamingState
from talim.errors import UsageError


class Transformer(Kind):
    """Down, pre-norm multi-head self-attention, pre-norm GELU feed-forward, up, dropout.

    Options: `num_heads` (one per 64 channels), `ffn_dim` (2 * width).
    """

    uses_context = True

    @classmethod
    def default_options(cls, width: int, **given: Any) -> dict[str, Any]:
        options = resolve_options(cls, given, {"num_heads": max(1, width // 64), "ffn_dim": 2 * width})
        if not 1 <= options["num_heads"] <= width:
            raise UsageError(f"{options['num_heads']} heads do not fit a width of {width}")
        return options

    @classmethod
    def bottleneck_params(cls, width: int, **options: Any) -> int:
        feed_forward = 2 * width * options["ffn_dim"] + options["ffn_dim"] + width
        return TemporalAttention.parameters_of(width, options["num_heads"]) + 2 * 2 * width + feed_forward

    @classmethod
    def bottleneck_flops(cls, width: int, frames: int, **options: Any) -> int:
        inner = options["num_heads"] * (width // options["num_heads"])
        return 2 * frames * (4 * inner * width + 2 * width * options["ffn_dim"]) + 4 * frames**2 * inner

    @classmethod
    def bottleneck_activations(cls, width: int, frames: int, **options: Any) -> int:
        return frames * (8 * width + 2 * options["ffn_dim"])

    def build(self, width: int, causal: bool, **options: Any) -> None:
        self.attention_norm = nn.LayerNorm(width)
        self.attention = TemporalAttention(width, options["num_heads"], causal, "attention")
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, options["ffn_dim"])
        self.fc2 = nn.Linear(options["ffn_dim"], width)

    def bottleneck_forward(self, hidden: Tensor, state: StreamingState | None, mask: Tensor | None) -> Tensor:
        hidden = hidden + self.attention(self.attention_norm(hidden), state, mask)
        return hidden + self.fc2(F.gelu(self.fc1(self.norm(hidden))))


class TemporalAttention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017) over frames, without position embeddings of its own.

    `num_heads` heads of `width // num_heads` channels each, so any width is possible.
    """

    def __init__(self, width: int, num_heads: int, causal: bool, name: str) -> None:
        super().__init__()
        self.num_heads, self.head_width, self.causal, self.name = num_heads, width // num_heads, causal, name
        inner = num_heads * self.head_width
        self.in_proj = nn.Linear(width, 3 * inner)
        self.out_proj = nn.Linear(inner, width)

    @staticmethod
    def parameters_of(width: int, num_heads: int) -> int:
        """Query, key, value and output projections with biases."""
        inner = num_heads * (width // num_heads)
        return 3 * inner * (width + 1) + (inner + 1) * width

    def forward(self, hidden: Tensor, state: StreamingState | None = None, mask: Tensor | None = None) -> Tensor:
        batch, frames, _ = hidden.shape
        packed = self.in_proj(hidden).view(batch, frames, 3, self.num_heads, self.head_width)
        query, key, value = packed.permute(2, 0, 3, 1, 4)  # each [B, H, T, W / H]
        before: Any = 0
        if state is not None:
            before = state.frames
            if state.capacity is not None:
                visible = self._write_to_buffers(state, key, value, mask)
                keys, values = state.tensors[f"{self.name} keys"], state.tensors[f"{self.name} values"]
                attended = F.scaled_dot_product_attention(query, keys, values, visible)
                return self.out_proj(attended.transpose(1, 2).reshape(batch, frames, -1))
            key, value = self._append_to_cache(state, key, value)
            mask = self._append_mask(state, mask, batch, before, frames)
        if mask is None and (frames == 1 or before == 0 or not self.causal):
            is_causal = bool(self.causal and frames > 1 and before == 0)
            attended = F.scaled_dot_product_attention(query, key, value, is_causal=is_causal)
        else:
            visible = self._attention_mask(key, frames, before, mask)
            attended = F.scaled_dot_product_attention(query, key, value, visible)
        return self.out_proj(attended.transpose(1, 2).reshape(batch, frames, -1))

    def _write_to_buffers(self, state: StreamingState, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Write into the buffers of a static cache; the keys visible to each new frame, bool [B, 1, T, capacity]."""
        batch, heads, frames, width = key.shape
        new_index = torch.arange(frames, device=key.device) + state.frames
        for kind, new in (("keys", key), ("values", value)):
            buffer = state.tensors.get(f"{self.name} {kind}")
            if buffer is None:
                buffer = new.new_zeros(batch, heads, state.capacity, width)  # type: ignore[arg-type]
            # the past may be part of a graph: then do not write into it
            write = buffer.index_copy if new.requires_grad or buffer.requires_grad else buffer.index_copy_
            state.tensors[f"{self.name} {kind}"] = write(2, new_index, new)
        valid = state.tensors.get(f"{self.name} mask")
        if valid is None:
            valid = torch.ones(batch, state.capacity, dtype=torch.bool, device=key.device)  # type: ignore[arg-type]
        if mask is not None:
            valid = valid.index_copy(1, new_index, mask.bool())
        state.tensors[f"{self.name} mask"] = valid
        key_index = torch.arange(valid.shape[1], device=key.device)[None]
        is_own = key_index == new_index[:, None]
        return (((key_index <= new_index[:, None])[None] & valid[:, None]) | is_own[None])[:, None]

    def _attention_mask(self, key: Tensor, frames: int, before: int, mask: Tensor | None) -> Tensor:
        """Keys visible to each frame, bool [B or 1, 1, T, S]; a frame always attends to itself."""
        query_index = torch.arange(before, before + frames, device=key.device)[:, None]
        key_index = torch.arange(before + frames, device=key.device)[None]
        in_past = key_index <= query_index
        visible = in_past[None] if self.causal else torch.ones_like(in_past)[None]
        if mask is not None:
            visible = (visible & mask[:, None, :]) | (key_index == query_index)[None]
        return visible[:, None]

    def _append_to_cache(self, state: StreamingState, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values up to now; the buffers grow by doubling, so that a step does not copy the past."""
        before, end = state.frames, state.frames + key.shape[2]
        extended = []
        for kind, new in (("keys", key), ("values", value)):
            buffer = state.tensors.get(f"{self.name} {kind}")
            # the past may be part of a graph: do not write into it; nor has a compiled or traced step buffers that grow
            is_traced = torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
            if new.requires_grad or torch.compiler.is_compiling() or is_traced:
                buffer = new if buffer is None else torch.cat([buffer[:, :, :before], new], 2)
                state.tensors[f"{self.name} {kind}"] = buffer
                extended.append(buffer)
                continue
            if buffer is None or buffer.shape[2] < end:
                wider = new.new_empty(*new.shape[:2], max(2 * end, 64), new.shape[3])
                if buffer is not None:
                    wider[:, :, :before] = buffer[:, :, :before]
                buffer = state.tensors[f"{self.name} {kind}"] = wider
            buffer[:, :, before:end] = new
            extended.append(buffer[:, :, :end])
        return extended[0], extended[1]

    def _append_mask(
        self, state: StreamingState, mask: Tensor | None, batch: int, before: int, frames: int
    ) -> Tensor | None:
        """Mask of all keys up to now, bool [B, S]; None while no call has had a mask."""
        past = state.tensors.get(f"{self.name} mask")
        if mask is None and past is None:
            return None
        device = (mask if mask is not None else past).device  # type: ignore[union-attr]
        if past is None:
            past = torch.ones(batch, before, dtype=torch.bool, device=device)
        if mask is None:
            mask = torch.ones(batch, frames, dtype=torch.bool, device=device)
        state.tensors[f"{self.name} mask"] = torch.cat([past, mask.bool()], 1)
        return state.tensors[f"{self.name} mask"]
