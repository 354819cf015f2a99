"""Ornaments in a melody's pitch: glides, shakes, vibrato, swings, touches and turns; how many, how far, how fast.

Conventions: `cents` is float [n] above any fixed pitch, NaN where unvoiced, one value every `hop_seconds` (10 ms is
meant: at 20 ms the quickest touches are lost). Kinds are shapes of the contour, as the traditions' tables have them:

- glide: a slow direct way from one held note to another (meend, sut, glissando), 0.1 s or more between 10 and 90 %;
- shake: three or more quick swings of 80 cents or more, round ones (gamak, zamzama, tril); vibrato: two or more quick
  periods of a sine, narrower;
- swing: slow turns round a held note at 1 to 3.6 Hz, 40 to 130 cents wide (andolan, perde kaymasi);
- touch: one quick visit to another pitch beside the way (kan, carpma, mordent); turn: several in a row that come back
  to one note (murki, khatka, krintan, gruppetto). What lies on the way from note to note is the same curve as a passing
  note, and is neither; so is what lasts longer than 0.15 s at half its height.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from talim.metrics import pitch_contour

MIN_SHAKE_CENTS = 80.0

SMOOTHING_SECONDS = 0.12

MIN_SHAKE_HZ, MAX_SHAKE_HZ = 3.8, 12.0

MAX_FIT_ERROR = (0.12, 0.16, 0.2)  # of rows of three, four, and more turning points

MIN_GLIDE_SECONDS = 0.1

MAX_GLIDE_SECONDS = 2.0

MAX_GLIDE_RESIDUAL = 0.08  # off a raised cosine: a run of notes moves in steps


@dataclass(frozen=True)
class OrnamentEvent:
    """One found: its `kind`, where, how far it goes, its rate of swings or 0.

    How far: peak to peak of swings, the way of a glide, the height of a touch (the highest of a turn) over the nearer
    of what is before and after.
    """

    kind: str
    onset_seconds: float
    seconds: float
    extent_cents: float
    rate_hz: float = 0.0


def ornaments_in_segment(piece: np.ndarray, hop: float) -> list[OrnamentEvent]:
    """The ornaments of an unbroken piece: oscillations first, touches and turns beside them, glides beside both."""
    found = oscillations(piece, hop)
    taken = np.zeros(piece.size, bool)
    for one in found:
        if one.kind != "swing":
            taken[_frames(one, hop, margin=1)] = True
    quick = _find_touches(piece, hop, taken)
    for one in quick:
        taken[_frames(one, hop, margin=0)] = True
    return found + quick + _find_glides(piece, hop, taken)


def _frames(one: OrnamentEvent, hop: float, margin: int) -> slice:
    start = round(one.onset_seconds / hop)
    return slice(max(0, start - margin), start + round(one.seconds / hop) + margin)


def oscillations(piece: np.ndarray, hop: float) -> list[OrnamentEvent]:
    """Shakes, vibrato and swings of an unbroken piece: three or more half swings, alike in length and extent."""
    found = [
        OrnamentEvent("shake", *where, extent, rate)
        for where, extent, rate in _oscillating_regions(piece, hop)
        if extent >= MIN_SHAKE_CENTS
    ]
    calm = ndimage.uniform_filter1d(piece, max(1, round(SMOOTHING_SECONDS / hop)), mode="nearest")
    for kind, line, band in (("swing", calm, SWING), ("vibrato", piece, VIBRATO)):
        for wave in find_sinusoidal_oscillations(line, hop, band):
            seconds = (wave.stop - wave.start) * hop
            one = OrnamentEvent(kind, wave.start * hop, seconds, wave.extent_cents, wave.rate_hz)
            if not any(_overlap(one, other) > 0.3 for other in found):
                found.append(one)
    return found


def _oscillating_regions(piece: np.ndarray, hop: float) -> list[tuple[tuple[float, float], float, float]]:
    """Stretches of two or more quick half swings in a row: (onset, seconds), extent, rate."""
    shortest, longest = 0.5 / MAX_SHAKE_HZ, 0.5 / MIN_SHAKE_HZ
    rows: list[list[PitchExtremum]] = []
    for point in find_pitch_extrema(piece, MIN_SHAKE_CENTS / 2):
        if rows and _continues_oscillation(rows[-1], point, hop, shortest, longest):
            rows[-1].append(point)
        elif rows and shortest <= (point.frame - rows[-1][-1].frame) * hop <= longest:
            rows.append([rows[-1][-1], point])
        else:
            rows.append([point])
    found = []
    for row in rows:
        if len(row) > 2 and _returns_to_start(row) and _is_raised_cosine(piece, row):
            half = (row[-1].frame - row[0].frame) * hop / (len(row) - 1)
            begun, ended = max(0.0, row[0].frame * hop - half / 2), row[-1].frame * hop + half / 2
            extent = float(np.median(np.abs(np.diff([point.cents for point in row]))))
            found.append(((begun, ended - begun), extent, 0.5 / half))
    return found


def _returns_to_start(row: Sequence[PitchExtremum]) -> bool:
    """Whether three turning points end where they began, as swings do and turns do not; four in a row are enough."""
    gap, extent = abs(row[2].cents - row[0].cents), abs(row[1].cents - row[0].cents)
    return len(row) > 3 or gap < 0.4 * extent


def _is_raised_cosine(piece: np.ndarray, row: Sequence[PitchExtremum]) -> bool:
    """Whether the ways between turning points are raised cosines, as swings are, and not steps, as turns are.

    The distance is the root mean square over a way, in shares of it.
    """
    squares = []
    for one, two in itertools.pairwise(row):
        way = (piece[one.frame : two.frame + 1] - one.cents) / (two.cents - one.cents)
        squares.append(float(np.mean((way - 0.5 + 0.5 * np.cos(np.linspace(0, np.pi, way.size))) ** 2)))
    return float(np.sqrt(np.mean(squares))) < MAX_FIT_ERROR[min(len(row), 5) - 3]


def _continues_oscillation(
    row: Sequence[PitchExtremum], point: PitchExtremum, hop: float, shortest: float, longest: float
) -> bool:
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


def _overlap(one: OrnamentEvent, other: OrnamentEvent) -> float:
    """Shared time over the shorter one's."""
    shared = min(one.onset_seconds + one.seconds, other.onset_seconds + other.seconds) - max(
        one.onset_seconds, other.onset_seconds
    )
    return max(0.0, shared) / max(min(one.seconds, other.seconds), 1e-9)


def _find_touches(piece: np.ndarray, hop: float, taken: np.ndarray) -> list[OrnamentEvent]:
    """Touches, and turns of two or more detours."""
    found = []
    for group in find_neighbour_notes(piece, hop, taken):
        first, last = group[0].first, group[-1].last
        kind = "touch" if len(group) == 1 else "turn"
        extent = max(one.cents for one in group)
        found.append(OrnamentEvent(kind, first * hop, max(1, last - first) * hop, extent))
    return found


def _find_glides(piece: np.ndarray, hop: float, taken: np.ndarray) -> list[OrnamentEvent]:
    """Slow direct ways between held notes, clear of other ornaments."""
    found = []
    notes = pitch_contour.steady_notes(piece, hop)
    for one, two in itertools.pairwise(notes):
        move = two.cents - one.cents
        span = piece[one.start : two.stop]
        if abs(move) < pitch_contour.MIN_MOVE_CENTS or (two.start - one.stop) * hop > MAX_GLIDE_SECONDS:
            continue
        way = (span - one.cents) / move
        middle = (one.stop + two.start) // 2 - one.start
        left = right = min(max(middle, 0), span.size - 1)
        while left > 0 and way[left] > 0.1:
            left -= 1
        while right < span.size - 1 and way[right] < 0.9:
            right += 1
        smooth = _glide_deviation(way[left : right + 1])
        seconds = (right - left) * hop
        clear = not taken[one.start + left : one.start + right].any()
        if MIN_GLIDE_SECONDS <= seconds <= MAX_GLIDE_SECONDS and smooth < MAX_GLIDE_RESIDUAL and clear:
            found.append(OrnamentEvent("glide", (one.start + left) * hop, seconds, abs(move)))
    return found


def _glide_deviation(way: np.ndarray) -> float:
    """How far a way [n] from about 0.1 to 0.9 lies off the middle of a raised cosine, root mean square."""
    cosine = 0.5 - 0.5 * np.cos(np.linspace(np.arccos(0.8), np.arccos(-0.8), way.size))
    return float(np.sqrt(np.mean((way - cosine) ** 2)))


MIN_NEIGHBOUR_CENTS = 60.0

MIN_NEIGHBOUR_SECONDS = 0.02

MAX_NEIGHBOUR_SECONDS = 0.15  # at half its height; what lasts longer is a note

EDGE_SECONDS = 0.03

SETTLED_SECONDS = 0.06

SAME_NOTE_CENTS = 50.0

REST_SLOPE_CENTS = 10.0  # a contour that moves less in a frame rests

MIN_REST_FRAMES = 2

MAX_REST_RATIO = 1.6  # between the detours of a turn, of their own length


@dataclass(frozen=True)
class NeighbourNote:
    """A quick turning point: first and last frame at half its height, its height above or below the nearer side."""

    point: PitchExtremum
    first: int
    last: int
    cents: float

    @property
    def frames(self) -> int:
        return self.last - self.first + 1


def find_neighbour_notes(piece: np.ndarray, hop: float, taken: np.ndarray) -> list[list[NeighbourNote]]:
    """Quick turning points outside of what is `taken` [n], those of one turn together."""
    points = _with_opening(piece, find_pitch_extrema(piece, MIN_NEIGHBOUR_CENTS), hop)
    groups: list[list[NeighbourNote]] = []
    edge = round(EDGE_SECONDS / hop)
    for before, point, after in zip([None, *points], points, [*points[1:], None], strict=False):
        if taken[point.frame] or not (point.frame == 0 or edge <= point.frame < piece.size - edge):
            continue
        one = NeighbourNote(point, *_half_height(piece, point, before, after))
        if not MIN_NEIGHBOUR_SECONDS <= one.frames * hop <= MAX_NEIGHBOUR_SECONDS:
            continue
        if groups and _one_turn(piece, groups[-1][-1], one, hop):
            groups[-1].append(one)
        else:
            groups.append([one])
    return groups


def _with_opening(piece: np.ndarray, points: list[PitchExtremum], hop: float) -> list[PitchExtremum]:
    """The turning points, and the beginning of a breath that opens above its first note and drops to it.

    From below it would be a scoop, which is no ornament.
    """
    first = points[0].frame if points else piece.size
    reach = piece[: min(first + 1, round(MAX_NEIGHBOUR_SECONDS / hop) + 1)]
    if (points and points[0].side > 0) or piece[0] - reach.min() < MIN_NEIGHBOUR_CENTS:
        return points
    return [PitchExtremum(0, float(piece[0]), 1), *points]


def _one_turn(piece: np.ndarray, one: NeighbourNote, two: NeighbourNote, hop: float) -> bool:
    """Whether two detours belong to one turn: what lies between is short, and the note that both come back to.

    Or the first is that note itself, touched on the way to the second.
    """
    note = note_after(piece, two.last, hop)
    rest = piece[one.last + 1 : two.first]
    if rest.size > MAX_REST_RATIO * max(one.frames, two.frames):
        return False
    if np.count_nonzero(np.abs(rest - note) < SAME_NOTE_CENTS) >= MIN_REST_FRAMES:
        return True
    return rest.size <= 2 and abs(one.point.cents - note) < SAME_NOTE_CENTS


def note_after(piece: np.ndarray, last: int, hop: float) -> float:
    """The pitch on which the contour settles after frame `last`."""
    start = min(last + 1 + round(0.02 / hop), piece.size - 1)
    return float(np.median(piece[start : start + max(1, round(SETTLED_SECONDS / hop))]))


def _half_height(
    piece: np.ndarray, point: PitchExtremum, before: PitchExtremum | None, after: PitchExtremum | None
) -> tuple[int, int, float]:
    """First and last frame of a detour at half its height, and its height, taken from the nearer side."""
    bound = (before.frame if before else 0, after.frame if after else piece.size - 1)
    away = point.side * (point.cents - piece)
    back, on = away[bound[0] : point.frame + 1][::-1], away[point.frame : bound[1] + 1]
    height = _settling_frames(on) if point.frame == 0 else min(_settling_frames(back), _settling_frames(on))
    first = last = point.frame
    while first > bound[0] and away[first - 1] < height / 2:
        first -= 1
    while last < bound[1] and away[last + 1] < height / 2:
        last += 1
    return first, last, height


def _settling_frames(away: np.ndarray) -> float:
    """How far it is from a turning point to where the contour first rests, or turns again, on one side of it."""
    n = int(np.argmax(away >= MIN_NEIGHBOUR_CENTS))
    if away[n] < MIN_NEIGHBOUR_CENTS:
        return float(away.max())
    while n + 1 < away.size and away[n + 1] - away[n] > REST_SLOPE_CENTS:
        n += 1
    return float(away[n])


@dataclass(frozen=True)
class PitchExtremum:
    """A turning point of the contour: the frame in its middle, its cents, +1 for a top and -1 for a dip."""

    frame: int
    cents: float
    side: int


def find_pitch_extrema(piece: np.ndarray, least_cents: float) -> list[PitchExtremum]:
    """The turning points of a piece [n] whose ways to both neighbours are `least_cents` or more (a zigzag)."""
    found: list[PitchExtremum] = []
    low = high = 0
    side = 0
    for n in range(1, piece.size):
        if piece[n] > piece[high]:
            high = n
        if piece[n] < piece[low]:
            low = n
        if side <= 0 and piece[n] - piece[low] >= least_cents:
            if side < 0 or low > 0:
                found.append(PitchExtremum(low, float(piece[low]), -1))
            side, high = 1, n
        elif side >= 0 and piece[high] - piece[n] >= least_cents:
            if side > 0 or high > 0:
                found.append(PitchExtremum(high, float(piece[high]), 1))
            side, low = -1, n
        if side > 0 and piece[n] >= piece[high]:
            high, low = n, n
        if side < 0 and piece[n] <= piece[low]:
            low, high = n, n
    return [PitchExtremum(_plateau_middle(piece, point), point.cents, point.side) for point in found]


def _plateau_middle(piece: np.ndarray, point: PitchExtremum) -> int:
    """The middle of the flat top or dip at a turning point."""
    first = last = point.frame
    while first > 0 and abs(piece[first - 1] - point.cents) < 15:
        first -= 1
    while last < piece.size - 1 and abs(piece[last + 1] - point.cents) < 15:
        last += 1
    return (first + last) // 2


@dataclass(frozen=True)
class OscillationBand:
    """What counts as a wave: rates, periods in a window, extent peak to peak, least share told, steepest line.

    `tilt` is how far the line under the wave may rise or fall within a window, in shares of the extent.
    """

    rates_hz: tuple[float, float]
    periods: float
    extent_cents: tuple[float, float]
    told: float
    tilt: float


VIBRATO = OscillationBand((4.0, 8.0), 2.0, (27.0, 80.0), 0.87, 1.0)

SWING = OscillationBand((1.0, 3.6), 1.5, (40.0, 130.0), 0.95, 0.3)


@dataclass(frozen=True)
class PitchOscillation:
    """A stretch of one wave: first and one-past-last frame, extent peak to peak in cents, rate in Hz."""

    start: int
    stop: int
    extent_cents: float
    rate_hz: float


def find_sinusoidal_oscillations(
    piece: np.ndarray, hop: float, band: OscillationBand
) -> list[PitchOscillation]:
    """The waves of a band in a piece, the clearest first taken, none over another."""
    low, high = band.rates_hz
    rates = low * (high / low) ** (np.arange(12) / 11)
    found: list[tuple[float, PitchOscillation]] = []
    for rate in rates:
        size = round(band.periods / rate / hop)
        if size > piece.size or size < 8:
            continue
        extent, told, rise = _fit_sinusoids(piece, hop, rate, size)
        good = (told >= band.told) & (extent >= band.extent_cents[0]) & (extent < band.extent_cents[1])
        good &= rise <= band.tilt * extent
        found += [
            (told[n], PitchOscillation(int(n), int(n) + size, float(extent[n]), rate))
            for n in np.flatnonzero(good)
        ]
    return _merge_overlapping([wave for _, wave in sorted(found, key=lambda one: -one[0])])


def _fit_sinusoids(
    piece: np.ndarray, hop: float, rate: float, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """In every window of `size` frames: the extent of the sine, the share of what the line leaves that it tells, and
    how far the line rises or falls: [n - size + 1] each."""
    at = (np.arange(size) - (size - 1) / 2) * hop
    angle = 2 * np.pi * rate * at
    # Orthonormal columns: the sum of squares that each one tells is the square of what it is correlated with.
    axes, mixing = np.linalg.qr(np.stack([np.ones(size), at, np.cos(angle), np.sin(angle)], axis=1))
    level = piece - piece.mean()
    told = np.stack([np.correlate(level, axis, "valid") for axis in axes.T])
    squares = np.correlate(level**2, np.ones(size), "valid")
    before = np.maximum(squares - (told[:2] ** 2).sum(0), 1e-9)
    _, slope, cosine, sine = np.linalg.solve(mixing, told)
    return 2 * np.hypot(cosine, sine), (told[2:] ** 2).sum(0) / before, np.abs(slope) * size * hop


def _merge_overlapping(ranked: list[PitchOscillation]) -> list[PitchOscillation]:
    """Overlapping windows as one wave, of the extent and rate of the clearest."""
    found: list[PitchOscillation] = []
    for wave in ranked:
        shared = [one for one in found if wave.start < one.stop and wave.stop > one.start]
        found = [one for one in found if one not in shared]
        clearest = (shared or [wave])[0]
        start, stop = min(one.start for one in [wave, *shared]), max(one.stop for one in [wave, *shared])
        found.append(PitchOscillation(start, stop, clearest.extent_cents, clearest.rate_hz))
    return sorted(found, key=lambda one: one.start)


KINDS = ("glide", "shake", "vibrato", "swing", "touch", "turn")

ROUGHNESS_SCALE_CENTS = 6.0

JITTER_FACTOR = 50.0

GRAIN_CENTS, MAX_JITTER_CENTS = 2.5, 8.0


def find_ornaments(cents: np.ndarray, hop_seconds: float = 0.01) -> list[OrnamentEvent]:
    """All ornaments of a pitch track, in order of their onsets."""
    track = pitch_contour.clean_f0(cents, hop_seconds)
    found: list[OrnamentEvent] = []
    for start, stop in pitch_contour.true_runs(np.isfinite(track)):
        if (stop - start) * hop_seconds >= 0.15:
            for one in ornaments_in_segment(track[start:stop], hop_seconds):
                onset = one.onset_seconds + start * hop_seconds
                found.append(OrnamentEvent(one.kind, onset, one.seconds, one.extent_cents, one.rate_hz))
    return sorted(found, key=lambda one: one.onset_seconds)


def ornament_score(cents: np.ndarray, hop_seconds: float = 0.01) -> float:
    """Ornaments other than glides a voiced second, each counted by how smoothly it is drawn and how far it stands out.

    Range 0 up, higher is richer, 0 for a melody without any; NaN for less than a voiced second. An ornament of extent E
    counts 1 / (1 + (r / 6 cents)^2) / (1 + (50 t / E)^4): r is how far its contour lies off its own running mean over
    50 ms (root mean square), t how much the pitch trembles where it is calmest (`tremble_cents`). Random movement makes
    new shapes, but raises t for all of them, so that it earns nothing. Glides are left out: whatever smooths a contour
    makes more of them. Source: own definition; constants chosen on real tracks, flattened and jittered
    (docs/reports/metric-sensitivity.md).
    """
    noise = JITTER_FACTOR * pitch_jitter_cents(cents, hop_seconds)
    counts = (
        _smoothness(cents, one, hop_seconds) / (1 + (noise / max(one.extent_cents, 1.0)) ** 4)
        for one in find_ornaments(cents, hop_seconds)
        if one.kind != "glide"
    )
    return sum(counts) / _voiced_seconds(cents, hop_seconds)


def pitch_jitter_cents(cents: np.ndarray, hop_seconds: float) -> float:
    """How much the pitch trembles where it is calmest: the lower tenth of its distances from its running mean of 0.3 s.

    In cents, 8 at most, and softly held above 2.5, the grain of a tracker. The track is taken as it is, not cleaned,
    so that even five cents of jitter are seen.
    """
    track, width = np.asarray(cents, float), round(0.3 / hop_seconds) | 1
    apart = [
        np.abs(track[a:b] - ndimage.uniform_filter1d(track[a:b], width, mode="nearest"))
        for a, b in pitch_contour.true_runs(np.isfinite(track))
        if b - a >= width
    ]
    calm = float(np.quantile(np.concatenate(apart), 0.1)) if apart else 0.0
    return min((calm**4 + GRAIN_CENTS**4) ** 0.25, MAX_JITTER_CENTS)


def ornament_profile(cents: np.ndarray, hop_seconds: float = 0.01) -> dict[str, dict[str, float]]:
    """By kind: `per_second` (a voiced second), and the medians of `seconds`, `extent_cents`, `rate_hz`, `speed`.

    `speed` is in cents a second: of a glide its way over its time, of an oscillation twice its extent times its rate,
    of a touch or turn its extent over half its time. NaN where nothing was found.
    """
    found, voiced = find_ornaments(cents, hop_seconds), _voiced_seconds(cents, hop_seconds)
    told = {}
    for kind in KINDS:
        mine = [one for one in found if one.kind == kind]
        told[kind] = {
            "per_second": len(mine) / voiced,
            "seconds": _median([one.seconds for one in mine]),
            "extent_cents": _median([one.extent_cents for one in mine]),
            "rate_hz": _median([one.rate_hz for one in mine if one.rate_hz]),
            "speed": _median([_speed(one) for one in mine]),
        }
    return told


def _speed(one: OrnamentEvent) -> float:
    if one.rate_hz:
        return 2 * one.extent_cents * one.rate_hz
    return one.extent_cents / (one.seconds * (1.0 if one.kind == "glide" else 0.5))


def _smoothness(cents: np.ndarray, one: OrnamentEvent, hop: float) -> float:
    """How much an ornament counts, 0 to 1."""
    start = round(one.onset_seconds / hop)
    piece = np.asarray(cents, float)[start : start + max(5, round(one.seconds / hop))]
    piece = piece[np.isfinite(piece)]
    if piece.size < 5:
        return 1.0
    off = np.clip(
        piece - ndimage.uniform_filter1d(piece, max(3, round(0.05 / hop) | 1), mode="nearest"), -60, 60
    )
    # A jump inside is no tremor: the quieter three quarters of the frames say how smooth the rest is.
    calm = np.sort(off**2)[: max(3, 3 * off.size // 4)]
    return float(1 / (1 + calm.mean() / ROUGHNESS_SCALE_CENTS**2))


def _voiced_seconds(cents: np.ndarray, hop: float) -> float:
    seconds = float(np.isfinite(cents).sum() * hop)
    return seconds if seconds >= 1 else float("nan")


def _median(values: Sequence[float]) -> float:
    return float(np.median(values)) if len(values) else float("nan")
