"""Adapters in decoding, a frame at a time, for rows that begin at different times; each equals its kind's full pass.

A kind with context is first run over a row's given frames with the `StreamingState` of that pass, whose content is then
written into buffers of constant shape: a ring of past frames for convolutions, sums and gates for the excitation, keys
and values for attention. Those of few weights on a CPU are in `fused_steps`.
"""

# pyright: reportReturnType=false
# (the methods of a protocol have no bodies)

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from talim.backbones.musicgen.decoding.cache_positions import Place, Visible, write
from talim.backbones.musicgen.decoding.linear_products import Norm, elementwise, product_of
from talim.design.adapter_kinds import Conv, Kind, Transformer
from talim.design.adapter_kinds.conv import TemporalConv
from talim.design.streaming import StreamingState

ROWS_OF_ONE_THREAD = 8  # that one thread has through as soon as several, which must wait for each other


class Moment(Protocol):
    """The present step, as adapters need it."""

    now: int  # time; 0 in a captured graph
    place: Place  # of this step in buffers as long as the window
    music: Visible  # the past music frames of each row

    def ring(self, size: int) -> Place:
        """The place in a ring of another size."""

    def due(self, every: int) -> bool | Tensor:
        """Whether a multiple of `every` music frames lies behind each row: one answer for all, or bool [R, 1]."""

    def behind(self) -> Tensor:
        """Music frames behind each row, int64 [R, 1]."""

    def numbers(self) -> tuple[int, np.ndarray]:
        """The time, and the music frames behind each row, int64 [R], for what is computed without torch."""


class AdapterStep:
    """One adapter block behind a layer, with a scale; this one is for kinds that look at single frames."""

    def __init__(self, block: Kind, scale: float) -> None:
        self.block, self.scale = block, scale
        self.dtype, self.device = block.up.weight.dtype, block.up.weight.device
        self.down, self.up = product_of(block.down), product_of(block.up, scale)

    def allocate(self, rows: int, size: int) -> None:
        """Buffers for `rows` rows of at most `size` frames; `buffers` are those with the row as first dimension."""
        self.rows, self.size = rows, size
        few = rows <= ROWS_OF_ONE_THREAD and self.dtype == torch.float32
        self.one_thread = self.device.type == "cpu" and few

    def keep(self, rows: list[int]) -> None:
        """Only these rows go on, in this order."""
        kept = {name: getattr(self, name)[rows] for name in self.buffers}
        self.allocate(len(rows), self.size)
        for name, values in kept.items():
            getattr(self, name)[: len(rows)] = values

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
        """States [R, D] of one frame -> with the residual; the given ones may be written to."""
        if states.dtype != self.dtype:
            return states + self.up(self._hidden(states.to(self.dtype), moment)).to(states.dtype)
        return self.up.add(self._hidden(states, moment), states)

    def _hidden(self, states: Tensor, moment: Moment) -> Tensor:
        """States [R, D] -> what the up-projection is given."""
        return self.down.gelu(states)

    def _added(self, states: Tensor, residual: Tensor) -> Tensor:
        residual = residual.to(states.dtype)
        return states + (residual if self.scale == 1.0 else self.scale * residual)


class OtherStep(AdapterStep):
    """Any kind that looks at single frames, by its own pass."""

    def step(self, states: Tensor, moment: Moment) -> Tensor:
        return self._added(states, self.block(states[:, None].to(self.dtype))[:, 0])


class ConvStep(AdapterStep):
    """Convolutions over rings of past frames, and the excitation's sums and gates.

    Each frame stands twice in a ring, `reach` + 1 places apart, so that the last frames always stand in a row.
    """

    def __init__(self, block: Conv, scale: float) -> None:
        super().__init__(block, scale)
        self.width, self.excitation = block.width, block.excitation
        self.squeeze, self.excite = product_of(block.excitation.squeeze), product_of(block.excitation.excite)
        self.convolutions = [layer for layer in block.convolutions if isinstance(layer, TemporalConv)]
        self.taps = [product_of(convolution.taps) for convolution in self.convolutions]
        self.reaches = [(layer.kernel_size - 1) * layer.dilation for layer in self.convolutions]
        self.offsets = [
            torch.arange(1, reach + 2, layer.dilation, device=self.device)
            for layer, reach in zip(self.convolutions, self.reaches, strict=True)
        ]

    def allocate(self, rows: int, size: int) -> None:
        super().allocate(rows, size)
        self.written: list[list[Tensor]] = []  # both places of a frame, by time modulo the ring's size
        self.windows: list[list[Tensor]] = []  # its taps
        for index, (layer, reach) in enumerate(zip(self.convolutions, self.reaches, strict=True)):
            length = reach + 1
            ring = torch.zeros(rows, 2 * length, self.width, dtype=self.dtype, device=self.device)
            setattr(self, f"ring_{index}", ring)
            both = ring.view(rows, 2, length, self.width).transpose(0, 1)
            self.written.append([both[:, :, place] for place in range(length)])
            self.windows.append([ring[:, place + 1 : place + 1 + length : layer.dilation] for place in range(length)])
        self.total = torch.zeros(rows, self.width, device=self.device)
        self.gate = torch.zeros(rows, self.width, dtype=self.dtype, device=self.device)

    @property
    def buffers(self) -> list[str]:
        return [*(f"ring_{index}" for index in range(len(self.reaches))), "total", "gate"]

    def begin(self, rows: Tensor) -> None:
        for name in self.buffers:
            getattr(self, name)[rows] = 0

    def prefill(self, states: Tensor, rows: Tensor, now: int, size: int) -> Tensor:
        state = StreamingState()
        residual = self.block(states.to(self.dtype), state)
        for index, (layer, reach) in enumerate(zip(self.convolutions, self.reaches, strict=True)):
            if reach:
                frames = torch.cat(state.tensors[layer.name], 1)  # the last `reach`, oldest first
                places = torch.arange(now - reach, now, device=rows.device) % (reach + 1)
                for copy in (0, reach + 1):
                    getattr(self, f"ring_{index}")[rows[:, None], places + copy] = frames
        name = self.excitation.name
        self.total[rows] = state.tensors[name][0][:, 0]
        self.gate[rows] = state.tensors[f"{name} gate"][:, 0]
        return self._added(states, residual)

    def _hidden(self, states: Tensor, moment: Moment) -> Tensor:
        hidden = self.down(states)
        for index, product in enumerate(self.taps):
            hidden = product.add(self._tapped(index, elementwise(F.gelu, hidden), moment), hidden)
        due = moment.due(self.excitation.update_every)
        if due is not False:
            self._update_gate(due, moment)
        self.total += hidden
        return hidden * self.gate

    def _tapped(self, index: int, frame: Tensor, moment: Moment) -> Tensor:
        """Keep a frame [R, W] -> it and the past ones that a convolution sees, oldest first [R, k * W]."""
        length = self.reaches[index] + 1
        place = moment.ring(length)
        if isinstance(place, int):
            self.written[index][place].copy_(frame)
            return self.windows[index][place].flatten(1)
        ring = getattr(self, f"ring_{index}")
        ring.index_copy_(1, torch.cat([place, place + length]), frame[:, None].expand(-1, 2, -1))
        return ring.index_select(1, place + self.offsets[index]).flatten(1)

    def _update_gate(self, due: bool | Tensor, moment: Moment) -> None:
        """New gates from the means of all frames before this one, for the rows where they are due."""
        hidden = self.squeeze.gelu((self.total / moment.behind().clamp(min=1)).to(self.dtype))
        gate = elementwise(torch.sigmoid, self.excite(hidden))
        if isinstance(due, Tensor):
            gate = torch.where(due, gate, self.gate)
        self.gate.copy_(gate)


class TransformerStep(AdapterStep):
    """Self-attention over keys and values in the places that the decoder's own have."""

    def __init__(self, block: Transformer, scale: float) -> None:
        super().__init__(block, scale)
        self.attention = block.attention
        self.attention_norm, self.norm = Norm(block.attention_norm, "attention_norm"), Norm(block.norm, "norm")
        self.qkv, self.out = product_of(block.attention.in_proj), product_of(block.attention.out_proj)
        self.fc1, self.fc2 = product_of(block.fc1), product_of(block.fc2)

    def allocate(self, rows: int, size: int) -> None:
        super().allocate(rows, size)
        heads, width = self.attention.num_heads, self.attention.head_width
        self.past = torch.zeros(rows, 2, heads, size, width, dtype=self.dtype, device=self.device)
        self.keys, self.values = self.past.unbind(1)

    @property
    def buffers(self) -> list[str]:
        return ["keys", "values"]

    def begin(self, rows: Tensor) -> None:
        for past in (self.keys, self.values):  # what is not seen is multiplied by 0, and must be a number
            past[rows] = 0.0

    def prefill(self, states: Tensor, rows: Tensor, now: int, size: int) -> Tensor:
        state, frames = StreamingState(), states.shape[1]
        residual = self.block(states.to(self.dtype), state)
        places = torch.arange(now - frames, now, device=rows.device) % size
        for kind in ("keys", "values"):
            past = state.tensors[f"{self.attention.name} {kind}"][:, :, :frames]
            getattr(self, kind)[rows[:, None], :, places] = past.transpose(1, 2)
        return self._added(states, residual)

    def _hidden(self, states: Tensor, moment: Moment) -> Tensor:
        hidden, rows = self.down(states), self.rows
        packed = self.qkv(self.attention_norm(hidden))
        packed = packed.view(rows, 3, self.attention.num_heads, 1, self.attention.head_width)
        write(self.past, 3, moment.place, packed[:, 1:])
        keys, values = moment.music.of(self.past)
        attended = F.scaled_dot_product_attention(packed[:, 0], keys, values, moment.music.mask).flatten(1)
        hidden = self.out.add(attended, hidden)
        return self.fc2.add(self.fc1.gelu(self.norm(hidden)), hidden)
