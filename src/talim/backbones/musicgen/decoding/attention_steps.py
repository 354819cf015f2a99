"""Self-attention of a decoder layer, a frame at a time, over the keys and values of the frames before it."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from talim.backbones.musicgen.decoding import compiled
from talim.backbones.musicgen.decoding.adapter_steps import Moment
from talim.backbones.musicgen.decoding.cache_positions import Visible, write

LEAST_NUMBERS_OF_A_THREAD = 2**20  # of keys and values; another thread begins after some 50 µs


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
        self.used: set[int] = set()  # rows in which a piece began

    def state(self) -> list[Tensor]:
        """All tensors that a step changes; the row is the first dimension."""
        return [self.past]

    def begin(self, rows: Tensor) -> None:
        """These rows begin without a past. What an earlier piece left is multiplied by 0, so it must be a number."""
        begun = rows.tolist()
        again = [row for row in begun if row in self.used]
        for tensor in self.state() if again else ():
            tensor[again] = 0
        self.used.update(begun)

    def prefill(self, rows: Tensor, now: int, keys: Tensor, values: Tensor) -> None:
        """Keep the keys and values [b, H, T, d] of the frames before the time `now` for some rows, that have none."""
        places = torch.arange(now - keys.shape[2], now, device=rows.device) % self.past.shape[3]
        self.past[rows[:, None], 0, :, places] = keys.transpose(1, 2)
        self.past[rows[:, None], 1, :, places] = values.transpose(1, 2)

    def keep(self, rows: list[int]) -> None:
        """Only these rows go on, in this order."""
        self.past, self.used = self.past[rows], set(range(len(rows)))

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
        self.size, self.used = size, set()
        shape = rows, self.heads, self.head_width, self.kernels.places_for(size, self.dtype.itemsize)
        keys, values = (torch.zeros(shape, dtype=self.dtype) for _ in range(2))
        self._use(keys, values, torch.zeros(rows, dtype=torch.long))

    def _use(self, keys: Tensor, values: Tensor, written: Tensor) -> None:
        """Take these as the state; `written` [R] counts the frames of each row."""
        rows, _, _, places = keys.shape
        self.keys, self.values, self.written = keys, values, written
        self.attended = torch.zeros(rows, self.heads * self.head_width)
        caches = [each.view(torch.uint16).numpy() for each in (keys, values)]
        self.arrays = *caches, self.size, written.numpy(), self.attended.numpy()
        # room of each thread: one less than torch has, whose own wait in a loop for work
        self.scores = np.zeros((max(1, torch.get_num_threads() - 1), places), np.float32)

    def state(self) -> list[Tensor]:
        return [self.keys, self.values, self.written]

    def begin(self, rows: Tensor) -> None:
        super().begin(rows)
        self.written[rows] = 0  # a row without a piece goes along with the others

    def prefill(self, rows: Tensor, now: int, keys: Tensor, values: Tensor) -> None:
        count = keys.shape[2]
        for kept, given in ((self.keys, keys), (self.values, values)):
            kept[rows, :, :, :count] = given.transpose(2, 3).to(self.dtype)
        self.written[rows] = count

    def keep(self, rows: list[int]) -> None:
        self._use(self.keys[rows], self.values[rows], self.written[rows])
        self.used = set(range(len(rows)))

    def step(self, packed: Tensor, seen: Visible, moment: Moment) -> Tensor:
        queries, rounded = packed.float().numpy(), packed.to(self.dtype).view(torch.uint16).numpy()
        pairs = packed.shape[0] * self.heads
        frames = min(int(self.written.max()) + 1, self.size)
        parts = min(len(self.scores), pairs, max(1, 2 * pairs * frames * self.head_width // LEAST_NUMBERS_OF_A_THREAD))

        def attend(part: int) -> None:
            of_part = pairs * part // parts, pairs * (part + 1) // parts
            self.kernels.attend(queries, rounded, *self.arrays, self.scores[part], *of_part)

        in_threads(attend, parts)
        self.written += 1
        return self.attended.to(packed.dtype)


def in_threads(function: Callable[[int], Any], parts: int) -> None:
    """Call a function, during which other threads of Python run, with 0 to `parts` - 1 at once; with the last here."""
    others = [_threads(os.getpid()).submit(function, part) for part in range(parts - 1)]
    try:
        function(parts - 1)
    finally:
        for other in others:
            other.result()


@cache
def _threads(process: int) -> ThreadPoolExecutor:
    """Threads of a process, which begin when they are first needed; a fork has none of its parent's."""
    return ThreadPoolExecutor(os.cpu_count(), "attention")
