"""Targets that are used while later ones are still being made: pieces in parts, and codes that a codec waits for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


class StreamedPieces:
    """The targets of pieces that are made together, from parts: index, targets, and whether they are the piece's last.

    The first part is waited for at once, so that what is wrong with a request is told here.
    """

    def __init__(self, parts: Iterator[tuple[int, np.ndarray, bool]], pieces: int) -> None:
        self._parts = parts
        self._there: list[list[np.ndarray]] = [[] for _ in range(pieces)]
        self._ended = [False] * pieces
        self._receive()

    def ended(self, index: int) -> bool:
        """Whether all of a piece is there."""
        return self._ended[index]

    def parts_of(self, index: int) -> Iterator[np.ndarray]:
        """All parts of a piece from the first one on; those that are not there yet are waited for."""
        given = 0
        while True:
            if given < len(self._there[index]):
                yield self._there[index][given]
                given += 1
            elif self._ended[index]:
                return
            else:
                self._receive()

    def complete(self, index: int) -> None:
        """Wait until all of a piece is there."""
        while not self._ended[index]:
            self._receive()

    def each(self) -> Iterator[int]:
        """The index of every piece: of one that is there, or else of the next one."""
        left = list(range(len(self._there)))
        while left:
            index = next((index for index in left if self._ended[index]), left[0])
            left.remove(index)
            yield index

    def _receive(self) -> None:
        index, part, last = next(self._parts)
        self._there[index].append(part)
        self._ended[index] = last


class StreamedCodes:
    """Codes int64 [B, K, T] in parts, of which later ones may still be coming."""

    def __init__(self, parts: Iterator[Tensor]) -> None:
        self._parts, self._there = parts, next(parts)

    @classmethod
    def of(cls, codes: Tensor | StreamedCodes) -> StreamedCodes:
        """Codes that are there, in the same form."""
        return codes if isinstance(codes, StreamedCodes) else cls(iter([codes]))

    def until(self, frame: int) -> int:
        """Wait until all frames before this one are there; `frame`, or the number of all frames where it is smaller."""
        while self._there.shape[-1] < frame:
            part = next(self._parts, None)
            if part is None:
                return self._there.shape[-1]
            self._append(part)
        return frame

    def part(self, first: int, stop: int) -> Tensor:
        """The frames from `first` until before `stop` or the end."""
        stop = self.until(stop)
        return self._there[..., first:stop]

    def all(self) -> Tensor:
        """All frames."""
        for part in self._parts:
            self._append(part)
        return self._there

    def _append(self, part: Tensor) -> None:
        import torch

        self._there = torch.cat([self._there, part], -1)
