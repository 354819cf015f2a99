"""Ornaments in a melody's pitch contour: glides, shakes, vibrato, swings, touches and turns; number, extent, rate.

Conventions: `cents` is float [n] above any fixed pitch, NaN where unvoiced, one value every `hop_seconds` (10 ms: at
20 ms the quickest touches are lost). Kinds are shapes of the contour, as in the traditions' tables:

- glide: a slow direct move from one held note to another (meend, sut, glissando), 0.1 s or more from 10 to 90 % of it;
- shake: three or more quick rounded oscillations of 80 cents or more (gamak, zamzama, tril); vibrato: two or more quick
  periods of a narrower sine;
- swing: a slow oscillation about a held note at 1 to 3.6 Hz, 40 to 130 cents wide (andolan, perde kaymasi);
- touch: one quick excursion to another pitch (kan, carpma, mordent); turn: several in a row that return to one note
  (murki, khatka, krintan, gruppetto). A pitch between the notes before and after has the contour of a passing note and
  is neither; nor is one that lasts longer than 0.15 s at half its height.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from talim.metrics import pitch_contour

KINDS = ("glide", "shake", "vibrato", "swing", "touch", "turn")
MIN_SHAKE_CENTS = 80.0
SMOOTHING_SECONDS = 0.12
MIN_SHAKE_HZ, MAX_SHAKE_HZ = 3.8, 12.0
MAX_FIT_ERROR = (0.12, 0.16, 0.2)  # of rows of three, four, and more extrema
MIN_GLIDE_SECONDS = 0.1
MAX_GLIDE_SECONDS = 2.0
MAX_GLIDE_RESIDUAL = 0.08  # from a raised cosine; a run of notes moves in steps
MIN_NEIGHBOUR_CENTS = 60.0
MIN_NEIGHBOUR_SECONDS = 0.02
MAX_NEIGHBOUR_SECONDS = 0.15  # at half its height; what lasts longer is a note
EDGE_SECONDS = 0.03
SETTLED_SECONDS = 0.06
SAME_NOTE_CENTS = 50.0
REST_SLOPE_CENTS = 10.0  # per frame; a contour that moves less is at rest
MIN_REST_FRAMES = 2
MAX_REST_RATIO = 1.6  # of the rest between the neighbour notes of a turn to their length
ROUGHNESS_SCALE_CENTS = 6.0
JITTER_FACTOR = 50.0
GRAIN_CENTS, MAX_JITTER_CENTS = 2.5, 8.0


@dataclass(frozen=True)
class OrnamentEvent:
    """One ornament: kind, onset, duration, extent, and rate of oscillation or 0.

    The extent is peak to peak for oscillations, the interval of a glide, and the height of a touch (the highest of a
    turn) above the nearer of the pitches before and after.
    """

    kind: str
    onset_seconds: float
    seconds: float
    extent_cents: float
    rate_hz: float = 0.0


def ornaments_in_segment(piece: np.ndarray, hop: float) -> list[OrnamentEvent]:
    """The ornaments of an unbroken segment: oscillations first, then touches and turns, then glides outside of both."""
    events = oscillations(piece, hop)
    taken = np.zeros(piece.size, bool)
    for event in events:
        if event.kind != "swing":
            taken[_frames(event, hop, margin=1)] = True
    touches = _find_touches(piece, hop, taken)
    for event in touches:
        taken[_frames(event, hop, margin=0)] = True
    return events + touches + _find_glides(piece, hop, taken)


def _frames(event: OrnamentEvent, hop: float, margin: int) -> slice:
    start = round(event.onset_seconds / hop)
    return slice(max(0, start - margin), start + round(event.seconds / hop) + margin)


def oscillations(piece: np.ndarray, hop: float) -> list[OrnamentEvent]:
    """Shakes, vibrato and swings of an unbroken segment: three or more half periods of similar length and extent."""
    events = [
        OrnamentEvent("shake", *where, extent, rate)
        for where, extent, rate in _oscillating_regions(piece, hop)
        if extent >= MIN_SHAKE_CENTS
    ]
    smoothed = ndimage.uniform_filter1d(piece, max(1, round(SMOOTHING_SECONDS / hop)), mode="nearest")
    for kind, contour, band in (("swing", smoothed, SWING), ("vibrato", piece, VIBRATO)):
        for oscillation in find_sinusoidal_oscillations(contour, hop, band):
            seconds = (oscillation.stop - oscillation.start) * hop
            event = OrnamentEvent(kind, oscillation.start * hop, seconds, oscillation.extent_cents, oscillation.rate_hz)
            if not any(_overlap(event, other) > 0.3 for other in events):
                events.append(event)
    return events


def _oscillating_regions(piece: np.ndarray, hop: float) -> list[tuple[tuple[float, float], float, float]]:
    """Regions of two or more quick half_period periods in a row: (onset, seconds), extent, rate."""
    shortest, longest = 0.5 / MAX_SHAKE_HZ, 0.5 / MIN_SHAKE_HZ
    rows: list[list[PitchExtremum]] = []
    for point in find_pitch_extrema(piece, MIN_SHAKE_CENTS / 2):
        if rows and _continues_oscillation(rows[-1], point, hop, shortest, longest):
            rows[-1].append(point)
        elif rows and shortest <= (point.frame - rows[-1][-1].frame) * hop <= longest:
            rows.append([rows[-1][-1], point])
        else:
            rows.append([point])
    regions = []
    for row in rows:
        if len(row) > 2 and _returns_to_start(row) and _is_raised_cosine(piece, row):
            half_period = (row[-1].frame - row[0].frame) * hop / (len(row) - 1)
            start, end = max(0.0, row[0].frame * hop - half_period / 2), row[-1].frame * hop + half_period / 2
            extent = float(np.median(np.abs(np.diff([point.cents for point in row]))))
            regions.append(((start, end - start), extent, 0.5 / half_period))
    return regions


def _returns_to_start(row: Sequence[PitchExtremum]) -> bool:
    """Whether three extrema end where they began, as oscillations do and turns do not; true for four or more."""
    gap, extent = abs(row[2].cents - row[0].cents), abs(row[1].cents - row[0].cents)
    return len(row) > 3 or gap < 0.4 * extent


def _is_raised_cosine(piece: np.ndarray, row: Sequence[PitchExtremum]) -> bool:
    """Whether the moves between extrema are nearly raised cosines (by RMS), as in oscillations; turns have steps."""
    squares = []
    for start, end in itertools.pairwise(row):
        move = (piece[start.frame : end.frame + 1] - start.cents) / (end.cents - start.cents)
        squares.append(float(np.mean((move - 0.5 + 0.5 * np.cos(np.linspace(0, np.pi, move.size))) ** 2)))
    return float(np.sqrt(np.mean(squares))) < MAX_FIT_ERROR[min(len(row), 5) - 3]


def _continues_oscillation(
    row: Sequence[PitchExtremum], point: PitchExtremum, hop: float, shortest: float, longest: float
) -> bool:
    """Whether the next half period is as quick as allowed, and like the previous ones in length and extent."""
    half_period = (point.frame - row[-1].frame) * hop
    if not shortest <= half_period <= longest:
        return False
    if len(row) < 2:
        return True
    previous = np.diff([p.frame for p in row[-3:]]) * hop
    extents = np.abs(np.diff([p.cents for p in row[-3:]]))
    extent = abs(point.cents - row[-1].cents)
    return bool(
        max(half_period, previous.mean()) <= 1.9 * min(half_period, previous.mean())
        and max(extent, extents.mean()) <= 2.2 * min(extent, extents.mean())
    )


def _overlap(first: OrnamentEvent, second: OrnamentEvent) -> float:
    """Overlap in time as a fraction of the shorter ornament."""
    shared = min(first.onset_seconds + first.seconds, second.onset_seconds + second.seconds) - max(
        first.onset_seconds, second.onset_seconds
    )
    return max(0.0, shared) / max(min(first.seconds, second.seconds), 1e-9)


def _find_touches(piece: np.ndarray, hop: float, taken: np.ndarray) -> list[OrnamentEvent]:
    """Touches, and turns of two or more neighbour notes."""
    events = []
    for group in find_neighbour_notes(piece, hop, taken):
        first, last = group[0].first, group[-1].last
        kind = "touch" if len(group) == 1 else "turn"
        extent = max(neighbour.cents for neighbour in group)
        events.append(OrnamentEvent(kind, first * hop, max(1, last - first) * hop, extent))
    return events


def _find_glides(piece: np.ndarray, hop: float, taken: np.ndarray) -> list[OrnamentEvent]:
    """Slow direct moves between held notes, outside of other ornaments."""
    events = []
    notes = pitch_contour.steady_notes(piece, hop)
    for note, following in itertools.pairwise(notes):
        move = following.cents - note.cents
        span = piece[note.start : following.stop]
        if abs(move) < pitch_contour.MIN_MOVE_CENTS or (following.start - note.stop) * hop > MAX_GLIDE_SECONDS:
            continue
        progress = (span - note.cents) / move
        middle = (note.stop + following.start) // 2 - note.start
        left = right = min(max(middle, 0), span.size - 1)
        while left > 0 and progress[left] > 0.1:
            left -= 1
        while right < span.size - 1 and progress[right] < 0.9:
            right += 1
        part = progress[left : right + 1]
        raised_cosine = 0.5 - 0.5 * np.cos(np.linspace(np.arccos(0.8), np.arccos(-0.8), part.size))
        residual = float(np.sqrt(np.mean((part - raised_cosine) ** 2)))
        seconds = (right - left) * hop
        clear = not taken[note.start + left : note.start + right].any()
        if MIN_GLIDE_SECONDS <= seconds <= MAX_GLIDE_SECONDS and residual < MAX_GLIDE_RESIDUAL and clear:
            events.append(OrnamentEvent("glide", (note.start + left) * hop, seconds, abs(move)))
    return events


@dataclass(frozen=True)
class NeighbourNote:
    """A quick extremum: first and last frame at half its height, its height above or below the nearer side."""

    point: PitchExtremum
    first: int
    last: int
    cents: float

    @property
    def frames(self) -> int:
        return self.last - self.first + 1


def find_neighbour_notes(piece: np.ndarray, hop: float, taken: np.ndarray) -> list[list[NeighbourNote]]:
    """Quick extrema outside of what is `taken` [n], those of one turn grouped."""
    points = _with_initial_drop(piece, find_pitch_extrema(piece, MIN_NEIGHBOUR_CENTS), hop)
    groups: list[list[NeighbourNote]] = []
    edge = round(EDGE_SECONDS / hop)
    for before, point, after in zip([None, *points], points, [*points[1:], None], strict=False):
        if taken[point.frame] or not (point.frame == 0 or edge <= point.frame < piece.size - edge):
            continue
        neighbour = NeighbourNote(point, *_half_height(piece, point, before, after))
        if not MIN_NEIGHBOUR_SECONDS <= neighbour.frames * hop <= MAX_NEIGHBOUR_SECONDS:
            continue
        if groups and _same_turn(piece, groups[-1][-1], neighbour, hop):
            groups[-1].append(neighbour)
        else:
            groups.append([neighbour])
    return groups


def _with_initial_drop(piece: np.ndarray, points: list[PitchExtremum], hop: float) -> list[PitchExtremum]:
    """The extrema, and the start of a segment that drops to its first note; from below it is a scoop, no ornament."""
    first = points[0].frame if points else piece.size
    reach = piece[: min(first + 1, round(MAX_NEIGHBOUR_SECONDS / hop) + 1)]
    if (points and points[0].side > 0) or piece[0] - reach.min() < MIN_NEIGHBOUR_CENTS:
        return points
    return [PitchExtremum(0, float(piece[0]), 1), *points]


def _same_turn(piece: np.ndarray, first: NeighbourNote, second: NeighbourNote, hop: float) -> bool:
    """Whether a short rest between the two is on the note that both return to, or the first is that note itself."""
    note = note_after(piece, second.last, hop)
    rest = piece[first.last + 1 : second.first]
    if rest.size > MAX_REST_RATIO * max(first.frames, second.frames):
        return False
    if np.count_nonzero(np.abs(rest - note) < SAME_NOTE_CENTS) >= MIN_REST_FRAMES:
        return True
    return rest.size <= 2 and abs(first.point.cents - note) < SAME_NOTE_CENTS


def note_after(piece: np.ndarray, last: int, hop: float) -> float:
    """The pitch at which the contour settles after frame `last`."""
    start = min(last + 1 + round(0.02 / hop), piece.size - 1)
    return float(np.median(piece[start : start + max(1, round(SETTLED_SECONDS / hop))]))


def _half_height(
    piece: np.ndarray, point: PitchExtremum, before: PitchExtremum | None, after: PitchExtremum | None
) -> tuple[int, int, float]:
    """First and last frame of a neighbour note at half its height, and its height above the nearer side."""
    bound = (before.frame if before else 0, after.frame if after else piece.size - 1)
    distance = point.side * (point.cents - piece)
    distance_before, distance_after = (distance[bound[0] : point.frame + 1][::-1], distance[point.frame : bound[1] + 1])
    height = _settled_distance(distance_after)
    if point.frame > 0:
        height = min(height, _settled_distance(distance_before))
    first = last = point.frame
    while first > bound[0] and distance[first - 1] < height / 2:
        first -= 1
    while last < bound[1] and distance[last + 1] < height / 2:
        last += 1
    return first, last, height


def _settled_distance(distance: np.ndarray) -> float:
    """Distance from an extremum to where the contour first rests, or turns again, on one side of it."""
    n = int(np.argmax(distance >= MIN_NEIGHBOUR_CENTS))
    if distance[n] < MIN_NEIGHBOUR_CENTS:
        return float(distance.max())
    while n + 1 < distance.size and distance[n + 1] - distance[n] > REST_SLOPE_CENTS:
        n += 1
    return float(distance[n])


@dataclass(frozen=True)
class PitchExtremum:
    """A local extremum of the contour: its middle frame, its cents, +1 for a maximum and -1 for a minimum."""

    frame: int
    cents: float
    side: int


def find_pitch_extrema(piece: np.ndarray, min_cents: float) -> list[PitchExtremum]:
    """The extrema of a segment [n] that differ from both neighbouring ones by `min_cents` or more (zigzag)."""
    extrema: list[PitchExtremum] = []
    low = high = 0
    side = 0
    for n in range(1, piece.size):
        if piece[n] > piece[high]:
            high = n
        if piece[n] < piece[low]:
            low = n
        if side <= 0 and piece[n] - piece[low] >= min_cents:
            if side < 0 or low > 0:
                extrema.append(PitchExtremum(low, float(piece[low]), -1))
            side, high = 1, n
        elif side >= 0 and piece[high] - piece[n] >= min_cents:
            if side > 0 or high > 0:
                extrema.append(PitchExtremum(high, float(piece[high]), 1))
            side, low = -1, n
        if side > 0 and piece[n] >= piece[high]:
            high, low = n, n
        if side < 0 and piece[n] <= piece[low]:
            low, high = n, n
    return [PitchExtremum(_plateau_middle(piece, point), point.cents, point.side) for point in extrema]


def _plateau_middle(piece: np.ndarray, point: PitchExtremum) -> int:
    """The middle of the plateau at an extremum."""
    first = last = point.frame
    while first > 0 and abs(piece[first - 1] - point.cents) < 15:
        first -= 1
    while last < piece.size - 1 and abs(piece[last + 1] - point.cents) < 15:
        last += 1
    return (first + last) // 2


@dataclass(frozen=True)
class OscillationBand:
    """What counts as an oscillation: rates, periods per window, extent peak to peak, least explained variance.

    `max_tilt` is how far the line under the oscillation may rise or fall within a window, as a fraction of the extent.
    """

    rates_hz: tuple[float, float]
    periods: float
    extent_cents: tuple[float, float]
    min_explained: float
    max_tilt: float


VIBRATO = OscillationBand((4.0, 8.0), 2.0, (27.0, 80.0), 0.87, 1.0)
SWING = OscillationBand((1.0, 3.6), 1.5, (40.0, 130.0), 0.95, 0.3)


@dataclass(frozen=True)
class PitchOscillation:
    """One oscillation: first and one-past-last frame, extent peak to peak in cents, rate in Hz."""

    start: int
    stop: int
    extent_cents: float
    rate_hz: float


def find_sinusoidal_oscillations(piece: np.ndarray, hop: float, band: OscillationBand) -> list[PitchOscillation]:
    """The oscillations of a band in a segment, the clearest first, without overlaps."""
    low, high = band.rates_hz
    rates = low * (high / low) ** (np.arange(12) / 11)
    candidates: list[tuple[float, PitchOscillation]] = []
    for rate in rates:
        size = round(band.periods / rate / hop)
        if size > piece.size or size < 8:
            continue
        extent, explained, rise = _fit_sinusoids(piece, hop, rate, size)
        accepted = (explained >= band.min_explained) & (rise <= band.max_tilt * extent)
        accepted &= (extent >= band.extent_cents[0]) & (extent < band.extent_cents[1])
        candidates += [
            (explained[n], PitchOscillation(int(n), int(n) + size, float(extent[n]), rate))
            for n in np.flatnonzero(accepted)
        ]
    candidates.sort(key=lambda candidate: -candidate[0])
    return _merge_overlapping([oscillation for _, oscillation in candidates])


def _fit_sinusoids(piece: np.ndarray, hop: float, rate: float, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fits a line and a sine in every window of `size` frames: extent of the sine, fraction of the line's residual
    variance that it explains, and rise of the line: [n - size + 1] each.
    """
    times = (np.arange(size) - (size - 1) / 2) * hop
    phase = 2 * np.pi * rate * times
    # Orthonormal columns: the sum of squares that each one explains is the square of its projection.
    axes, mixing = np.linalg.qr(np.stack([np.ones(size), times, np.cos(phase), np.sin(phase)], axis=1))
    centred = piece - piece.mean()
    projections = np.stack([np.correlate(centred, axis, "valid") for axis in axes.T])
    squares = np.correlate(centred**2, np.ones(size), "valid")
    residual = np.maximum(squares - (projections[:2] ** 2).sum(0), 1e-9)
    _, slope, cosine, sine = np.linalg.solve(mixing, projections)
    return 2 * np.hypot(cosine, sine), (projections[2:] ** 2).sum(0) / residual, np.abs(slope) * size * hop


def _merge_overlapping(ranked: list[PitchOscillation]) -> list[PitchOscillation]:
    """Overlapping windows as one oscillation, of the extent and rate of the clearest."""
    merged: list[PitchOscillation] = []
    for oscillation in ranked:
        overlapping = [other for other in merged if oscillation.start < other.stop and oscillation.stop > other.start]
        merged = [other for other in merged if other not in overlapping]
        clearest = (overlapping or [oscillation])[0]
        group = [oscillation, *overlapping]
        start, stop = min(other.start for other in group), max(other.stop for other in group)
        merged.append(PitchOscillation(start, stop, clearest.extent_cents, clearest.rate_hz))
    return sorted(merged, key=lambda other: other.start)


def find_ornaments(cents: np.ndarray, hop_seconds: float = 0.01) -> list[OrnamentEvent]:
    """All ornaments of a pitch track, by onset."""
    track = pitch_contour.clean_f0(cents, hop_seconds)
    events: list[OrnamentEvent] = []
    for start, stop in pitch_contour.true_runs(np.isfinite(track)):
        if (stop - start) * hop_seconds >= 0.15:
            for event in ornaments_in_segment(track[start:stop], hop_seconds):
                onset = event.onset_seconds + start * hop_seconds
                events.append(OrnamentEvent(event.kind, onset, event.seconds, event.extent_cents, event.rate_hz))
    return sorted(events, key=lambda event: event.onset_seconds)


def ornament_score(cents: np.ndarray, hop_seconds: float = 0.01) -> float:
    """Ornaments other than glides per voiced second, each weighted by its smoothness and its extent above the jitter.

    Range 0 up, higher is richer, 0 for a melody without any; NaN for less than a voiced second. An ornament of extent E
    has weight 1 / (1 + (r / 6 cents)^2) / (1 + (50 t / E)^4): r is the root mean square deviation of its contour from
    its running mean over 50 ms, t the pitch jitter where the pitch is steadiest (`pitch_jitter_cents`). Random movement
    makes new shapes, but raises t for all of them, so that it does not raise the score. Glides are left out: whatever
    smooths a contour makes more of them. Source: own definition; constants chosen on real tracks, flattened and
    jittered (docs/reports/metric-sensitivity.md).
    """
    jitter = JITTER_FACTOR * pitch_jitter_cents(cents, hop_seconds)
    weights = (
        _smoothness(cents, event, hop_seconds) / (1 + (jitter / max(event.extent_cents, 1.0)) ** 4)
        for event in find_ornaments(cents, hop_seconds)
        if event.kind != "glide"
    )
    return sum(weights) / _voiced_seconds(cents, hop_seconds)


def pitch_jitter_cents(cents: np.ndarray, hop_seconds: float) -> float:
    """Pitch jitter where the pitch is steadiest: 10th percentile of its deviations from its running mean of 0.3 s.

    In cents, at most 8, with a soft minimum of 2.5, the resolution of a pitch tracker. The track is not cleaned first,
    so that even five cents of jitter count.
    """
    track, width = np.asarray(cents, float), round(0.3 / hop_seconds) | 1
    deviations = [
        np.abs(track[a:b] - ndimage.uniform_filter1d(track[a:b], width, mode="nearest"))
        for a, b in pitch_contour.true_runs(np.isfinite(track))
        if b - a >= width
    ]
    jitter = float(np.quantile(np.concatenate(deviations), 0.1)) if deviations else 0.0
    return min((jitter**4 + GRAIN_CENTS**4) ** 0.25, MAX_JITTER_CENTS)


def ornament_profile(cents: np.ndarray, hop_seconds: float = 0.01) -> dict[str, dict[str, float]]:
    """By kind: `per_second` (voiced second), and the medians of `seconds`, `extent_cents`, `rate_hz`, `speed`.

    `speed` is in cents per second: extent over duration for a glide, twice the extent times the rate for an
    oscillation, extent over half the duration for a touch or turn. NaN for kinds that do not occur.
    """
    events, voiced = find_ornaments(cents, hop_seconds), _voiced_seconds(cents, hop_seconds)
    profile = {}
    for kind in KINDS:
        of_kind = [event for event in events if event.kind == kind]
        profile[kind] = {
            "per_second": len(of_kind) / voiced,
            "seconds": _median([event.seconds for event in of_kind]),
            "extent_cents": _median([event.extent_cents for event in of_kind]),
            "rate_hz": _median([event.rate_hz for event in of_kind if event.rate_hz]),
            "speed": _median([_speed(event) for event in of_kind]),
        }
    return profile


def _speed(event: OrnamentEvent) -> float:
    if event.rate_hz:
        return 2 * event.extent_cents * event.rate_hz
    return event.extent_cents / (event.seconds * (1.0 if event.kind == "glide" else 0.5))


def _smoothness(cents: np.ndarray, event: OrnamentEvent, hop: float) -> float:
    """Weight of an ornament by the smoothness of its contour, 0 to 1."""
    start = round(event.onset_seconds / hop)
    piece = np.asarray(cents, float)[start : start + max(5, round(event.seconds / hop))]
    piece = piece[np.isfinite(piece)]
    if piece.size < 5:
        return 1.0
    deviation = np.clip(piece - ndimage.uniform_filter1d(piece, max(3, round(0.05 / hop) | 1), mode="nearest"), -60, 60)
    # A jump inside is no jitter: only the smoother three quarters of the frames count.
    smoothest = np.sort(deviation**2)[: max(3, 3 * deviation.size // 4)]
    return float(1 / (1 + smoothest.mean() / ROUGHNESS_SCALE_CENTS**2))


def _voiced_seconds(cents: np.ndarray, hop: float) -> float:
    seconds = float(np.isfinite(cents).sum() * hop)
    return seconds if seconds >= 1 else float("nan")


def _median(values: Sequence[float]) -> float:
    return float(np.median(values)) if len(values) else float("nan")
