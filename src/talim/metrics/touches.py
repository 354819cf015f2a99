"""Touches and turns: quick detours of a contour to another pitch, one or several in a row. See `ornaments`.

Conventions: a piece is float [n] in cents, unbroken, as `movement.clean` leaves it; `hop` is its frame in seconds;
onsets count from the beginning of the piece.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from talim.metrics.turnings import Turning, turnings

LEAST_DETOUR_CENTS = 60.0
LEAST_DETOUR_SECONDS = 0.02
LONGEST_DETOUR_SECONDS = 0.15  # at half its height; what lasts longer is a note
EDGE_SECONDS = 0.03
SETTLED_SECONDS = 0.06
SAME_NOTE_CENTS = 50.0
CALM_CENTS = 10.0  # a contour that moves less in a frame rests
LEAST_REST_FRAMES = 2
LONGEST_REST = 1.6  # between the detours of a turn, of their own length


@dataclass(frozen=True)
class Detour:
    """A quick turning point: first and last frame at half its height, its height above or below the nearer side."""

    point: Turning
    first: int
    last: int
    cents: float

    @property
    def frames(self) -> int:
        return self.last - self.first + 1


def detours(piece: np.ndarray, hop: float, taken: np.ndarray) -> list[list[Detour]]:
    """Quick turning points outside of what is `taken` [n], those of one turn together."""
    points = _with_opening(piece, turnings(piece, LEAST_DETOUR_CENTS), hop)
    groups: list[list[Detour]] = []
    edge = round(EDGE_SECONDS / hop)
    for before, point, after in zip([None, *points], points, [*points[1:], None], strict=False):
        if taken[point.frame] or not (point.frame == 0 or edge <= point.frame < piece.size - edge):
            continue
        one = Detour(point, *_half_height(piece, point, before, after))
        if not LEAST_DETOUR_SECONDS <= one.frames * hop <= LONGEST_DETOUR_SECONDS:
            continue
        if groups and _one_turn(piece, groups[-1][-1], one, hop):
            groups[-1].append(one)
        else:
            groups.append([one])
    return groups


def _with_opening(piece: np.ndarray, points: list[Turning], hop: float) -> list[Turning]:
    """The turning points, and the beginning of a breath that opens above its first note and drops to it.

    From below it would be a scoop, which is no ornament.
    """
    first = points[0].frame if points else piece.size
    reach = piece[: min(first + 1, round(LONGEST_DETOUR_SECONDS / hop) + 1)]
    if (points and points[0].side > 0) or piece[0] - reach.min() < LEAST_DETOUR_CENTS:
        return points
    return [Turning(0, float(piece[0]), 1), *points]


def _one_turn(piece: np.ndarray, one: Detour, two: Detour, hop: float) -> bool:
    """Whether two detours belong to one turn: what lies between is short, and the note that both come back to.

    Or the first is that note itself, touched on the way to the second.
    """
    note = note_after(piece, two.last, hop)
    rest = piece[one.last + 1 : two.first]
    if rest.size > LONGEST_REST * max(one.frames, two.frames):
        return False
    if np.count_nonzero(np.abs(rest - note) < SAME_NOTE_CENTS) >= LEAST_REST_FRAMES:
        return True
    return rest.size <= 2 and abs(one.point.cents - note) < SAME_NOTE_CENTS


def note_after(piece: np.ndarray, last: int, hop: float) -> float:
    """The pitch on which the contour settles after frame `last`."""
    start = min(last + 1 + round(0.02 / hop), piece.size - 1)
    return float(np.median(piece[start : start + max(1, round(SETTLED_SECONDS / hop))]))


def _half_height(
    piece: np.ndarray, point: Turning, before: Turning | None, after: Turning | None
) -> tuple[int, int, float]:
    """First and last frame of a detour at half its height, and its height, taken from the nearer side."""
    bound = (before.frame if before else 0, after.frame if after else piece.size - 1)
    away = point.side * (point.cents - piece)
    back, on = away[bound[0] : point.frame + 1][::-1], away[point.frame : bound[1] + 1]
    height = _way(on) if point.frame == 0 else min(_way(back), _way(on))
    first = last = point.frame
    while first > bound[0] and away[first - 1] < height / 2:
        first -= 1
    while last < bound[1] and away[last + 1] < height / 2:
        last += 1
    return first, last, height


def _way(away: np.ndarray) -> float:
    """How far it is from a turning point to where the contour first rests, or turns again, on one side of it."""
    n = int(np.argmax(away >= LEAST_DETOUR_CENTS))
    if away[n] < LEAST_DETOUR_CENTS:
        return float(away.max())
    while n + 1 < away.size and away[n + 1] - away[n] > CALM_CENTS:
        n += 1
    return float(away[n])
