"""Shapes in the contour of one breath: oscillations, touches and turns, glides. See `ornaments` for the kinds.

Conventions: a piece is float [n] in cents, unbroken, as `movement.clean` leaves it; `hop` is its frame in seconds;
onsets count from the beginning of the piece.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from talim.metrics import movement, touches, waves
from talim.metrics.turnings import Turning, turnings

LEAST_SHAKE_CENTS = 80.0
CALM_SECONDS = 0.12
SLOWEST_SHAKE_HZ, FASTEST_SHAKE_HZ = 3.8, 12.0
MOST_MISFIT = (0.12, 0.16, 0.2)  # of rows of three, four, and more turning points
LEAST_GLIDE_SECONDS = 0.1
LONGEST_GLIDE_SECONDS = 2.0
GLIDE_BUMP = 0.08  # off a raised cosine: a run of notes moves in steps


@dataclass(frozen=True)
class Ornament:
    """One found: its `kind`, where, how far it goes, its rate of swings or 0.

    How far: peak to peak of swings, the way of a glide, the height of a touch (the highest of a turn) over the nearer
    of what is before and after.
    """

    kind: str
    onset_seconds: float
    seconds: float
    extent_cents: float
    rate_hz: float = 0.0


def of_breath(piece: np.ndarray, hop: float) -> list[Ornament]:
    """The ornaments of an unbroken piece: oscillations first, touches and turns beside them, glides beside both."""
    found = oscillations(piece, hop)
    taken = np.zeros(piece.size, bool)
    for one in found:
        if one.kind != "swing":
            taken[_frames(one, hop, margin=1)] = True
    quick = _touches(piece, hop, taken)
    for one in quick:
        taken[_frames(one, hop, margin=0)] = True
    return found + quick + _glides(piece, hop, taken)


def _frames(one: Ornament, hop: float, margin: int) -> slice:
    start = round(one.onset_seconds / hop)
    return slice(max(0, start - margin), start + round(one.seconds / hop) + margin)


def oscillations(piece: np.ndarray, hop: float) -> list[Ornament]:
    """Shakes, vibrato and swings of an unbroken piece: three or more half swings, alike in length and extent."""
    found = [
        Ornament("shake", *where, extent, rate)
        for where, extent, rate in _swinging(piece, hop)
        if extent >= LEAST_SHAKE_CENTS
    ]
    calm = ndimage.uniform_filter1d(piece, max(1, round(CALM_SECONDS / hop)), mode="nearest")
    for kind, line, band in (("swing", calm, waves.SWING), ("vibrato", piece, waves.VIBRATO)):
        for wave in waves.waves(line, hop, band):
            seconds = (wave.stop - wave.start) * hop
            one = Ornament(kind, wave.start * hop, seconds, wave.extent_cents, wave.rate_hz)
            if not any(_overlap(one, other) > 0.3 for other in found):
                found.append(one)
    return found


def _swinging(piece: np.ndarray, hop: float) -> list[tuple[tuple[float, float], float, float]]:
    """Stretches of two or more quick half swings in a row: (onset, seconds), extent, rate."""
    shortest, longest = 0.5 / FASTEST_SHAKE_HZ, 0.5 / SLOWEST_SHAKE_HZ
    rows: list[list[Turning]] = []
    for point in turnings(piece, LEAST_SHAKE_CENTS / 2):
        if rows and _goes_on(rows[-1], point, hop, shortest, longest):
            rows[-1].append(point)
        elif rows and shortest <= (point.frame - rows[-1][-1].frame) * hop <= longest:
            rows.append([rows[-1][-1], point])
        else:
            rows.append([point])
    found = []
    for row in rows:
        if len(row) > 2 and _comes_back(row) and _is_round(piece, row):
            half = (row[-1].frame - row[0].frame) * hop / (len(row) - 1)
            begun, ended = max(0.0, row[0].frame * hop - half / 2), row[-1].frame * hop + half / 2
            extent = float(np.median(np.abs(np.diff([point.cents for point in row]))))
            found.append(((begun, ended - begun), extent, 0.5 / half))
    return found


def _comes_back(row: Sequence[Turning]) -> bool:
    """Whether three turning points end where they began, as swings do and turns do not; four in a row are enough."""
    gap, extent = abs(row[2].cents - row[0].cents), abs(row[1].cents - row[0].cents)
    return len(row) > 3 or gap < 0.4 * extent


def _is_round(piece: np.ndarray, row: Sequence[Turning]) -> bool:
    """Whether the ways between turning points are raised cosines, as swings are, and not steps, as turns are.

    The distance is the root mean square over a way, in shares of it.
    """
    squares = []
    for one, two in itertools.pairwise(row):
        way = (piece[one.frame : two.frame + 1] - one.cents) / (two.cents - one.cents)
        squares.append(float(np.mean((way - 0.5 + 0.5 * np.cos(np.linspace(0, np.pi, way.size))) ** 2)))
    return float(np.sqrt(np.mean(squares))) < MOST_MISFIT[min(len(row), 5) - 3]


def _goes_on(row: Sequence[Turning], point: Turning, hop: float, shortest: float, longest: float) -> bool:
    """Whether the next half swing is as quick as allowed, and like the ones before in length and extent."""
    half = (point.frame - row[-1].frame) * hop
    if not shortest <= half <= longest:
        return False
    if len(row) < 2:
        return True
    before = np.diff([p.frame for p in row[-3:]]) * hop
    extents = np.abs(np.diff([p.cents for p in row[-3:]]))
    extent = abs(point.cents - row[-1].cents)
    return bool(
        max(half, before.mean()) <= 1.9 * min(half, before.mean())
        and max(extent, extents.mean()) <= 2.2 * min(extent, extents.mean())
    )


def _overlap(one: Ornament, other: Ornament) -> float:
    """Shared time over the shorter one's."""
    shared = min(one.onset_seconds + one.seconds, other.onset_seconds + other.seconds) - max(
        one.onset_seconds, other.onset_seconds
    )
    return max(0.0, shared) / max(min(one.seconds, other.seconds), 1e-9)


def _touches(piece: np.ndarray, hop: float, taken: np.ndarray) -> list[Ornament]:
    """Touches, and turns of two or more detours."""
    found = []
    for group in touches.detours(piece, hop, taken):
        first, last = group[0].first, group[-1].last
        kind = "touch" if len(group) == 1 else "turn"
        extent = max(one.cents for one in group)
        found.append(Ornament(kind, first * hop, max(1, last - first) * hop, extent))
    return found


def _glides(piece: np.ndarray, hop: float, taken: np.ndarray) -> list[Ornament]:
    """Slow direct ways between held notes, clear of other ornaments."""
    found = []
    notes = movement.steady_notes(piece, hop)
    for one, two in itertools.pairwise(notes):
        move = two.cents - one.cents
        span = piece[one.start : two.stop]
        if abs(move) < movement.LEAST_MOVE_CENTS or (two.start - one.stop) * hop > LONGEST_GLIDE_SECONDS:
            continue
        way = (span - one.cents) / move
        middle = (one.stop + two.start) // 2 - one.start
        left = right = min(max(middle, 0), span.size - 1)
        while left > 0 and way[left] > 0.1:
            left -= 1
        while right < span.size - 1 and way[right] < 0.9:
            right += 1
        smooth = _likeness_to_glide(way[left : right + 1])
        seconds = (right - left) * hop
        clear = not taken[one.start + left : one.start + right].any()
        if LEAST_GLIDE_SECONDS <= seconds <= LONGEST_GLIDE_SECONDS and smooth < GLIDE_BUMP and clear:
            found.append(Ornament("glide", (one.start + left) * hop, seconds, abs(move)))
    return found


def _likeness_to_glide(way: np.ndarray) -> float:
    """How far a way [n] from about 0.1 to 0.9 lies off the middle of a raised cosine, root mean square."""
    cosine = 0.5 - 0.5 * np.cos(np.linspace(np.arccos(0.8), np.arccos(-0.8), way.size))
    return float(np.sqrt(np.mean((way - cosine) ** 2)))
