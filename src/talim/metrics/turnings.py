"""Turning points of a pitch contour: tops and dips, in the middle of what is flat.

Conventions: a piece is float [n] in cents, unbroken.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Turning:
    """A turning point of the contour: the frame in its middle, its cents, +1 for a top and -1 for a dip."""

    frame: int
    cents: float
    side: int


def turnings(piece: np.ndarray, least_cents: float) -> list[Turning]:
    """The turning points of a piece [n] whose ways to both neighbours are `least_cents` or more (a zigzag)."""
    found: list[Turning] = []
    low = high = 0
    side = 0
    for n in range(1, piece.size):
        if piece[n] > piece[high]:
            high = n
        if piece[n] < piece[low]:
            low = n
        if side <= 0 and piece[n] - piece[low] >= least_cents:
            if side < 0 or low > 0:
                found.append(Turning(low, float(piece[low]), -1))
            side, high = 1, n
        elif side >= 0 and piece[high] - piece[n] >= least_cents:
            if side > 0 or high > 0:
                found.append(Turning(high, float(piece[high]), 1))
            side, low = -1, n
        if side > 0 and piece[n] >= piece[high]:
            high, low = n, n
        if side < 0 and piece[n] <= piece[low]:
            low, high = n, n
    return [Turning(_middle(piece, point), point.cents, point.side) for point in found]


def _middle(piece: np.ndarray, point: Turning) -> int:
    """The middle of the flat top or dip at a turning point."""
    first = last = point.frame
    while first > 0 and abs(piece[first - 1] - point.cents) < 15:
        first -= 1
    while last < piece.size - 1 and abs(piece[last + 1] - point.cents) < 15:
        last += 1
    return (first + last) // 2
