"""Layers that mix frames inside an adapter: dilated convolution, squeeze-and-excitation, self-attention.

All take hidden states [B, T, W], an optional state of the previous frames (cached decoding) and an optional bool mask
[B, T], False for padding, which influences no other frame. Causal layers use no later frame.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from talim.design.streaming import StreamingState


class TemporalConv(nn.Module):
    """Dilated convolution over time, [B, T, W] -> [B, T, W], computed as one matrix product over the gathered taps.

    The same product serves training and single decoding steps, so both give the same numbers. Causal: padded on the
    left; otherwise on both sides.
    """

    def __init__(self, width: int, kernel_size: int, dilation: int, causal: bool, name: str) -> None:
        super().__init__()
        if kernel_size < 1 or dilation < 1:
            raise ValueError(f"kernel_size {kernel_size} and dilation {dilation} must be at least 1")
        self.kernel_size, self.dilation, self.causal, self.name = kernel_size, dilation, causal, name
        self.taps = nn.Linear(kernel_size * width, width)

    @staticmethod
    def parameters_of(width: int, kernel_size: int) -> int:
        """One matrix per tap and a bias."""
        return kernel_size * width * width + width

    def forward(self, hidden: Tensor, state: StreamingState | None = None, mask: Tensor | None = None) -> Tensor:
        if mask is not None:
            hidden = hidden * mask[..., None].to(hidden.dtype)
        reach, frames = (self.kernel_size - 1) * self.dilation, hidden.shape[1]
        if state is not None and reach:
            past = state.tensors.get(self.name)  # the last `reach` frames, oldest first
            if past is None:
                past = list(hidden.new_zeros(hidden.shape[0], reach, hidden.shape[2]).split(1, 1))
            if frames == 1:
                taps = torch.cat([*past[:: self.dilation], hidden], -1)
                state.tensors[self.name] = [*past[1:], hidden]
                return self.taps(taps)
            padded = torch.cat([*past, hidden], 1)
            state.tensors[self.name] = list(padded[:, -reach:].contiguous().split(1, 1))
        else:
            left = reach if self.causal else reach // 2
            padded = F.pad(hidden, (0, 0, left, reach - left))
        starts = range(0, reach + 1, self.dilation)
        return self.taps(torch.cat([padded[:, start : start + frames] for start in starts], -1))


class SqueezeExcitation(nn.Module):
    """Squeeze-and-excitation (Hu et al. 2018): scales each channel by a gate computed from the mean over frames.

    Causal: the gate is updated every `update_every` frames from the mean of all frames before that block of frames
    (zeros for the first block). Padding does not count. Sums are always float32.
    """

    def __init__(self, width: int, se_channels: int, causal: bool, name: str, update_every: int) -> None:
        super().__init__()
        self.causal, self.name, self.update_every = causal, name, update_every
        self.squeeze = nn.Linear(width, se_channels)
        self.excite = nn.Linear(se_channels, width)

    @staticmethod
    def parameters_of(width: int, se_channels: int) -> int:
        """Two matrices and two biases."""
        return 2 * width * se_channels + se_channels + width

    def forward(self, hidden: Tensor, state: StreamingState | None = None, mask: Tensor | None = None) -> Tensor:
        if not self.causal:
            return hidden * self.gate(_masked_mean(hidden.float(), mask), hidden.dtype)
        state = StreamingState() if state is None else state
        if self.name not in state.tensors:
            zeros = hidden.new_zeros(hidden.shape[0], 1, hidden.shape[2], dtype=torch.float32)
            state.tensors[self.name] = [zeros, zeros]  # sum of all frames, mean at the last update
        fixed_shapes = state.capacity is not None or torch.compiler.is_compiling()  # no branch on a number of frames
        if mask is None and self._frame_counts not in state.tensors and not fixed_shapes:
            return hidden * self._gates_unpadded(hidden, state)
        return hidden * self._gates_masked(hidden, state, mask)

    @property
    def _frame_counts(self) -> str:
        return f"{self.name} counts"

    def gate(self, mean: Tensor, dtype: torch.dtype) -> Tensor:
        return torch.sigmoid(self.excite(F.gelu(self.squeeze(mean.to(dtype)))))

    def _gates_unpadded(self, hidden: Tensor, state: StreamingState) -> Tensor:
        """Gates [B, T or 1, W] without padding in any row: one per block, cached until the next update."""
        before, frames = state.frames, hidden.shape[1]
        total, mean = state.tensors[self.name]
        gate_key = f"{self.name} gate"
        if frames == 1:
            if before % self.update_every == 0:
                mean = total / max(before, 1)
                state.tensors[gate_key] = self.gate(mean, hidden.dtype)
            state.tensors[self.name] = [total + hidden, mean]
            return state.tensors[gate_key]
        sums = torch.cat([total, total + hidden.float().cumsum(1)], 1)  # over the frames before each frame
        first_update = -(-before // self.update_every) * self.update_every
        updates = range(first_update, before + frames, self.update_every)
        counts = torch.tensor([max(frame, 1) for frame in updates], device=hidden.device)
        means = sums[:, [frame - before for frame in updates]] / counts[:, None]
        gates = self.gate(means, hidden.dtype)
        if before % self.update_every:
            means, gates = torch.cat([mean, means], 1), torch.cat([state.tensors[gate_key], gates], 1)
        state.tensors[self.name], state.tensors[gate_key] = [sums[:, -1:], means[:, -1:]], gates[:, -1:]
        block = torch.arange(before, before + frames, device=hidden.device) // self.update_every
        return gates[:, block - before // self.update_every]

    def _gates_masked(self, hidden: Tensor, state: StreamingState, mask: Tensor | None) -> Tensor:
        """Gates [B, T, W] where each row counts its own valid frames."""
        rows, frames, width = hidden.shape
        total, mean = state.tensors[self.name]
        valid = torch.ones(rows, frames, dtype=torch.long, device=hidden.device) if mask is None else mask.long()
        count = state.tensors.get(self._frame_counts)  # [B, 1]
        if count is None:
            count = torch.zeros_like(valid[:, :1]) + state.frames
        counts = torch.cat([count, count + valid.cumsum(1)], 1)  # [B, 1 + T]
        sums = torch.cat([total, total + (hidden.float() * valid[..., None]).cumsum(1)], 1)
        updates = (counts[:, 1:] - 1).clamp(min=0) // self.update_every * self.update_every  # [B, T]
        if frames == 1:  # an update is due at the frames before this one, or not at all
            chosen = total
        else:
            chosen = sums.gather(1, torch.searchsorted(counts, updates)[..., None].expand(-1, -1, width))
        new_means = chosen / updates.clamp(min=1)[..., None]
        means = torch.where((updates < count)[..., None], mean, new_means)
        state.tensors[self.name] = [sums[:, -1:], means[:, -1:]]
        state.tensors[self._frame_counts] = counts[:, -1:]
        return self.gate(means, hidden.dtype)


def _masked_mean(hidden: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over all valid frames, [B, T, W] -> [B, 1, W]."""
    if mask is None:
        return hidden.mean(1, keepdim=True)
    valid = mask[..., None].float()
    return (hidden * valid).sum(1, keepdim=True) / valid.sum(1, keepdim=True).clamp(min=1)


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
            if new.requires_grad or torch.compiler.is_compiling() or torch.jit.is_tracing():
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
