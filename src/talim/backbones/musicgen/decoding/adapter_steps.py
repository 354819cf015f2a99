"""Adapters in decoding, a frame at a time, for rows that begin at different times; each equals its kind's full pass.

A kind with context is first run over a row's given frames with the `StreamingState` of that pass, whose content is then
written into buffers of constant shape: a ring of past frames for convolutions, sums and gates for the excitation, keys
and values for attention.
"""

# pyright: reportReturnType=false
# (the methods of a protocol have no bodies)

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from talim.backbones.musicgen.decoding.products import Norm, UnsupportedError, product_of
from talim.backbones.musicgen.decoding.slots import Place, Visible, write
from talim.design.adapter_kinds import Conv, Kind, Linear, Transformer
from talim.design.streaming import StreamingState
from talim.design.temporal_layers import TemporalConv


class Moment(Protocol):
    """The present step, as adapters need it."""

    now: int  # time; 0 in a captured graph
    place: Place  # of this step in buffers as long as the window
    music: Visible  # the past music frames of each row

    def ring(self, size: int) -> Place:
        """The place in a ring of another size."""

    def past(self, size: int, offsets: Tensor) -> Tensor:
        """The places in a ring that were written `offsets` steps ago, int64."""

    def due(self, every: int) -> bool | Tensor:
        """Whether a multiple of `every` music frames lies behind each row: one answer for all, or bool [R, 1]."""


class AdapterStep:
    """One adapter block behind a layer, with a scale; this one is for kinds that look at single frames."""

    def __init__(self, block: Kind, scale: float) -> None:
        self.block, self.scale = block, scale
        self.dtype, self.device = block.up.weight.dtype, block.up.weight.device
        self.down, self.up = product_of(block.down), product_of(block.up)

    def allocate(self, rows: int, size: int) -> None:
        """Buffers for `rows` rows of at most `size` frames; `buffers` are those with the row as first dimension."""

    @property
    def buffers(self) -> list[str]:
        """Names of the attributes that hold one entry for each row."""
        return []

    def prefill(self, states: Tensor, rows: Tensor, now: int, size: int) -> Tensor:
        """States [b, T, D] of the frames before the time `now` -> with the residual; their past is kept for `rows`."""
        return self._added(states, self.block(states.to(self.dtype)))

    def begin(self, rows: Tensor) -> None:
        """These rows begin without any past."""

    def step(self, states: Tensor, moment: Moment) -> Tensor:
        """States [R, D] of one frame -> with the residual."""
        if type(self.block) is Linear:
            return self._added(states, self.up(self.down.gelu(states.to(self.dtype))))
        return self._added(states, self.block(states[:, None].to(self.dtype))[:, 0])

    def _added(self, states: Tensor, residual: Tensor) -> Tensor:
        residual = residual.to(states.dtype)
        return states + (residual if self.scale == 1.0 else self.scale * residual)


class ConvStep(AdapterStep):
    """Convolutions over rings of past frames, and the excitation's sums, gates and counts."""

    def __init__(self, block: Conv, scale: float) -> None:
        super().__init__(block, scale)
        self.width, self.excitation = block.width, block.excitation
        self.convolutions = [layer for layer in block.convolutions if isinstance(layer, TemporalConv)]
        self.taps = [product_of(convolution.taps) for convolution in self.convolutions]
        self.reaches = [(layer.kernel_size - 1) * layer.dilation for layer in self.convolutions]
        self.offsets = [
            torch.arange(reach, 0, -layer.dilation, device=self.device)
            for layer, reach in zip(self.convolutions, self.reaches, strict=True)
        ]

    def allocate(self, rows: int, size: int) -> None:
        for index, reach in enumerate(self.reaches):
            ring = torch.zeros(rows, max(reach, 1), self.width, dtype=self.dtype, device=self.device)
            setattr(self, f"ring_{index}", ring)
        self.total = torch.zeros(rows, self.width, device=self.device)
        self.gate = torch.zeros(rows, self.width, dtype=self.dtype, device=self.device)
        self.count = torch.zeros(rows, 1, dtype=torch.long, device=self.device)

    @property
    def buffers(self) -> list[str]:
        return [*(f"ring_{index}" for index in range(len(self.reaches))), "total", "gate", "count"]

    def begin(self, rows: Tensor) -> None:
        for name in self.buffers:
            getattr(self, name)[rows] = 0

    def prefill(self, states: Tensor, rows: Tensor, now: int, size: int) -> Tensor:
        state = StreamingState()
        residual = self.block(states.to(self.dtype), state)
        for index, (layer, reach) in enumerate(zip(self.convolutions, self.reaches, strict=True)):
            if reach:
                frames = torch.cat(state.tensors[layer.name], 1)  # the last `reach`, oldest first
                places = torch.arange(now - reach, now, device=rows.device) % reach
                getattr(self, f"ring_{index}")[rows[:, None], places] = frames
        name = self.excitation.name
        self.total[rows] = state.tensors[name][0][:, 0]
        self.gate[rows] = state.tensors[f"{name} gate"][:, 0]
        self.count[rows] = states.shape[1]
        return self._added(states, residual)

    def step(self, states: Tensor, moment: Moment) -> Tensor:
        hidden = self.down(states.to(self.dtype))
        for index, (reach, product) in enumerate(zip(self.reaches, self.taps, strict=True)):
            frame = F.gelu(hidden)
            taps, ring = frame, getattr(self, f"ring_{index}")
            if reach:
                past = ring.index_select(1, moment.past(reach, self.offsets[index]))
                taps = torch.cat([past.flatten(1), frame], 1)
                write(ring, 1, moment.ring(reach), frame[:, None])
            hidden = product.add(taps, hidden)
        due = moment.due(self.excitation.update_every)
        if due is not False:
            gate = self.excitation.gate(self.total / self.count.clamp(min=1), self.dtype)
            self.gate.copy_(gate if due is True else torch.where(due, gate, self.gate))
        self.total += hidden
        self.count += 1
        return self._added(states, self.up(hidden * self.gate))


class TransformerStep(AdapterStep):
    """Self-attention over keys and values in the places that the decoder's own have."""

    def __init__(self, block: Transformer, scale: float) -> None:
        super().__init__(block, scale)
        self.attention = block.attention
        self.attention_norm, self.norm = Norm(block.attention_norm, "attention_norm"), Norm(block.norm, "norm")
        self.qkv, self.out = product_of(block.attention.in_proj), product_of(block.attention.out_proj)
        self.fc1, self.fc2 = product_of(block.fc1), product_of(block.fc2)

    def allocate(self, rows: int, size: int) -> None:
        shape = (rows, self.attention.num_heads, size, self.attention.head_width)
        self.keys, self.values = (torch.zeros(shape, dtype=self.dtype, device=self.device) for _ in range(2))

    @property
    def buffers(self) -> list[str]:
        return ["keys", "values"]

    def prefill(self, states: Tensor, rows: Tensor, now: int, size: int) -> Tensor:
        state, frames = StreamingState(), states.shape[1]
        residual = self.block(states.to(self.dtype), state)
        places = torch.arange(now - frames, now, device=rows.device) % size
        for kind in ("keys", "values"):
            past = state.tensors[f"{self.attention.name} {kind}"][:, :, :frames]
            getattr(self, kind)[rows[:, None], :, places] = past.transpose(1, 2)
        return self._added(states, residual)

    def step(self, states: Tensor, moment: Moment) -> Tensor:
        hidden = self.down(states.to(self.dtype))
        packed = self.qkv(self.attention_norm(hidden)).view(states.shape[0], 3, self.attention.num_heads, 1, -1)
        query, key, value = packed.unbind(1)
        write(self.keys, 2, moment.place, key)
        write(self.values, 2, moment.place, value)
        seen = moment.music
        attended = F.scaled_dot_product_attention(query, seen.of(self.keys), seen.of(self.values), seen.mask)
        hidden = self.out.add(attended.flatten(1), hidden)
        hidden = self.fc2.add(self.fc1.gelu(self.norm(hidden)), hidden)
        return self._added(states, self.up(hidden))


def adapter_step(block: Any, scale: float, path: str) -> AdapterStep:
    """The step of one block; UnsupportedError for a kind with context that is not talim's own."""
    if isinstance(block, Kind) and not block.uses_context:
        return AdapterStep(block, scale)
    if type(block) is Conv and block.causal:
        return ConvStep(block, scale)
    if type(block) is Transformer and block.causal:
        return TransformerStep(block, scale)
    raise UnsupportedError(f"{path}: adapters of the kind {type(block).__name__} have no step of their own")
