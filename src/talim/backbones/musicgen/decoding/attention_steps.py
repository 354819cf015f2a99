"""Self-attention of a decoder layer, a frame at a time, over the keys and values of the frames before it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from talim.backbones.musicgen.decoding import compiled
from talim.backbones.musicgen.decoding.adapter_steps import Moment
from talim.backbones.musicgen.decoding.cache_positions import Visible, write


class AttentionStep:
    """By torch, in the precision of the layer: all rows write to the same place, and a mask says what each may see."""

    def __init__(self, heads: int, head_width: int, dtype: torch.dtype) -> None:
        self.heads, self.head_width, self.dtype = heads, head_width, dtype

    @property
    def bytes_of_a_frame(self) -> int:
        """What a frame of one row takes in memory."""
        return 2 * self.heads * self.head_width * self.dtype.itemsize

    def allocate(self, rows: int, size: int, device: torch.device) -> None:
        """Keys and values of `rows` rows with at most `size` frames."""
        self.past = torch.zeros(rows, 2, self.heads, size, self.head_width, dtype=self.dtype, device=device)

    @property
    def buffers(self) -> list[Tensor]:
        """All tensors that a step changes."""
        return [self.past]

    def begin(self, rows: Tensor) -> None:
        """These rows begin without a past."""

    def prefill(self, rows: Tensor, now: int, keys: Tensor, values: Tensor) -> None:
        """Keep the keys and values [b, H, T, d] of the frames before the time `now` for some rows, that have none."""
        places = torch.arange(now - keys.shape[2], now, device=rows.device) % self.past.shape[3]
        self.past[rows[:, None], 0, :, places] = keys.transpose(1, 2)
        self.past[rows[:, None], 1, :, places] = values.transpose(1, 2)

    def keep(self, rows: list[int]) -> None:
        """Only these rows go on, in this order."""
        self.past = self.past[rows]

    def step(self, packed: Tensor, seen: Visible, moment: Moment) -> Tensor:
        """Query, key and value of one frame side by side [R, 3 * H * d] -> what is attended to [R, H * d]."""
        parts = packed.view(packed.shape[0], 3, self.heads, 1, self.head_width)
        write(self.past, 3, moment.place, parts[:, 1:])
        keys, values = seen.of(self.past)
        return F.scaled_dot_product_attention(parts[:, 0], keys, values, seen.mask).flatten(1)


class CompiledAttentionStep(AttentionStep):
    """On a CPU, over keys and values in bf16, by a compiled function with sums in float32.

    They are most of what a step reads after some seconds of music. Each row has a ring of its own, from the first place
    on, so that it has the same bits in every batch.
    """

    def __init__(self, heads: int, head_width: int) -> None:
        super().__init__(heads, head_width, torch.bfloat16)
        self.kernels = compiled.kernels("frame_kernels")

    def allocate(self, rows: int, size: int, device: torch.device) -> None:
        self.size, places = size, self.kernels.places_for(size)
        self.frames = np.zeros(rows, np.int64)  # that each row has kept
        shape = rows, self.heads, self.head_width, places
        self._use(torch.zeros(shape, dtype=self.dtype), torch.zeros(shape, dtype=self.dtype))

    def _use(self, keys: Tensor, values: Tensor) -> None:
        rows, _, _, places = keys.shape
        self.keys, self.values = keys, values
        self.arrays = [each.view(torch.uint16).numpy() for each in self.buffers]
        self.attended, self.scores = torch.zeros(rows, self.heads * self.head_width), np.zeros(places, np.float32)

    @property
    def buffers(self) -> list[Tensor]:
        return [self.keys, self.values]

    def begin(self, rows: Tensor) -> None:
        self.frames[rows.numpy()] = 0

    def prefill(self, rows: Tensor, now: int, keys: Tensor, values: Tensor) -> None:
        count = keys.shape[2]
        for kept, given in zip(self.buffers, (keys, values), strict=True):
            kept[rows, :, :, :count] = given.transpose(2, 3).to(self.dtype)
        self.frames[rows.numpy()] = count

    def keep(self, rows: list[int]) -> None:
        self.frames = self.frames[rows]
        self._use(self.keys[rows], self.values[rows])

    def step(self, packed: Tensor, seen: Visible, moment: Moment) -> Tensor:
        queries, rounded = packed.float().numpy(), packed.to(self.dtype).view(torch.uint16).numpy()
        out = self.attended.numpy()
        self.kernels.attend(queries, rounded, *self.arrays, self.size, self.frames, self.scores, out)
        self.frames += 1
        return self.attended.to(packed.dtype)
