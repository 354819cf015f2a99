"""Where each step's values lie in buffers that are written round and round, and which of them a row may see.

All rows share one clock: the step at time t writes place t mod `size` in every buffer. A row that begins later has its
past in the places before the present one, so rows of unequal length stand in one batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Place = int | Tensor  # of one step in a buffer: a number, or int64 [1] inside a captured graph


def read(buffer: Tensor, dim: int, place: Place) -> Tensor:
    """One step of a buffer; the dimension is kept with size 1."""
    return buffer.narrow(dim, place, 1) if isinstance(place, int) else buffer.index_select(dim, place)


def write(buffer: Tensor, dim: int, place: Place, values: Tensor) -> None:
    """Write one step; `values` has size 1 in the dimension."""
    if isinstance(place, int):
        buffer.narrow(dim, place, 1).copy_(values)
    else:
        buffer.index_copy_(dim, place, values.to(buffer.dtype))


@dataclass(frozen=True)
class Visible:
    """What the present step attends to: places `start` to `stop`, and of those only where `mask` is true."""

    start: int
    stop: int
    mask: Tensor | None = None  # bool [R, 1, 1, stop - start]

    def of(self, past: Tensor) -> Sequence[Tensor]:
        """The visible keys and values [R, H, stop - start, d] of a past [R, 2, H, size, d]."""
        return past.narrow(3, self.start, self.stop - self.start).unbind(1)


class History:
    """Which places hold a row's own past, for `rows` rows that begin at different times."""

    def __init__(self, rows: int, size: int, device: torch.device) -> None:
        self.size = size
        self.valid = torch.zeros(rows, size, dtype=torch.bool, device=device)
        self.first: list[int] = [0] * rows  # time of the first place of each row

    def begin(self, row: int, first: int, now: int) -> None:
        """A row's past is what was written from the time `first` until before `now`."""
        self.first[row] = first
        self.valid[row] = False
        self.valid[row, torch.arange(first, now, device=self.valid.device) % self.size] = True

    def step(self, place: Place) -> None:
        """The present step becomes visible to every row."""
        if isinstance(place, int):
            self.valid.select(1, place).fill_(True)
        else:
            self.valid.index_fill_(1, place, True)

    def visible(self, now: int, copies: int) -> Visible:
        """What each row sees at the time `now`; the mask is repeated `copies` times. No mask where rows agree."""
        place, first = now % self.size, self.first[0]
        if all(other == first for other in self.first) and first // self.size == now // self.size:
            return Visible(first % self.size, place + 1)
        stop = place + 1 if now < self.size else self.size
        return Visible(0, stop, self.valid[:, None, None, :stop].repeat(copies, 1, 1, 1))

    def all_places(self, copies: int) -> Visible:
        """As `visible`, with the same shapes at any time: for a captured graph."""
        return Visible(0, self.size, self.valid[:, None, None, :].repeat(copies, 1, 1, 1))

    def keep(self, rows: list[int]) -> None:
        """Only these rows remain, in this order."""
        self.valid = self.valid[rows]
        self.first = [self.first[row] for row in rows]
