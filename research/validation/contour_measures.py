"""Statistics of pitch contours, with which synthetic melodies are compared with real ones.

Conventions: those of `talim.metrics.pitch_contour`; "voiced" times are those of the cleaned track, durations are in
seconds, rates per voiced second.
"""

from __future__ import annotations

import itertools

import numpy as np
from scipy import ndimage, signal

from talim.metrics.pitch_contour import MIN_MOVE_CENTS, SteadyRegion, clean_f0, steady_notes, true_runs

PAUSE_SECONDS = 0.2
MIN_OSCILLATION_CENTS = 30.0  # peak to peak
WIDE_OSCILLATION_CENTS = 150.0
OSCILLATION_HZ = (3.0, 12.0)


def contour_measures(cents: np.ndarray, hop_seconds: float = 0.01) -> dict[str, float]:
    """All measures of one track [n]; NaN where there was nothing to measure. Raises ValueError if nothing is voiced.

    Keys and units are those of METRIC_DESCRIPTIONS.
    """
    track = clean_f0(cents, hop_seconds)
    voiced = np.isfinite(track)
    if voiced.sum() * hop_seconds < 1.0:
        raise ValueError("a pitch track needs at least one voiced second to be measured")
    seconds = float(voiced.sum() * hop_seconds)
    notes = steady_notes(track, hop_seconds)
    lengths = np.array([(n.stop - n.start) * hop_seconds for n in notes])
    phrases = phrase_seconds(track, hop_seconds)
    found = {
        "voiced_share": float(voiced.mean()),
        "phrase_seconds": _median(phrases),
        "note_seconds": _median(lengths),
        "long_note_seconds": float(np.percentile(lengths, 90)) if lengths.size else float("nan"),
        "notes_per_second": lengths.size / seconds,
        "steady_share": float(lengths.sum() / seconds),
        "range_cents": float(np.subtract(*np.nanpercentile(track, [95, 5]))),
        "sharpness": pitch_class_concentration(track),
    }
    return found | _transitions(track, notes, hop_seconds, seconds) | _oscillations(track, hop_seconds, seconds)


METRIC_DESCRIPTIONS = {
    "voiced_share": "share of frames with a pitch",
    "phrase_seconds": "median length between pauses of 0.2 s or more (s)",
    "note_seconds": "median length of a steady note (s)",
    "long_note_seconds": "90th percentile of the lengths of steady notes (s)",
    "notes_per_second": "steady notes a voiced second",
    "steady_share": "share of voiced time in steady notes",
    "range_cents": "5th to 95th percentile of pitch (cents)",
    "sharpness": "share of voiced time in the fullest fifth of the pitch-class histogram",
    "step_share": "moves between steady notes that are 250 cents or less, of those of 80 or more",
    "glides_per_second": "direct moves from steady note to steady note, a voiced second",
    "glide_seconds": "median time of a direct move (s)",
    "glide_speed": "median speed of a direct move (cents/s)",
    "touches_per_second": "moves with a detour of 50 cents or more within 0.35 s, a voiced second",
    "oscillating_share": "share of voiced time in oscillations of 3 to 12 Hz",
    "oscillation_hz": "median rate of oscillations (Hz)",
    "oscillation_cents": "median extent of oscillations, peak to peak (cents)",
    "wide_oscillating_share": "share of voiced time in oscillations of 150 cents or more",
}


def _transitions(track: np.ndarray, notes: list[SteadyRegion], hop_seconds: float, seconds: float) -> dict[str, float]:
    """Moves between neighbouring steady notes: direct ones (glides), and those with a detour (touches)."""
    times, speeds, steps, detours = [], [], [], 0
    for one, two in itertools.pairwise(notes):
        between = track[one.stop - 1 : two.start + 1]
        if not np.isfinite(between).all() or between.size * hop_seconds > 1.5:
            continue
        move = abs(two.cents - one.cents)
        low, high = min(one.cents, two.cents), max(one.cents, two.cents)
        detour = max(0.0, float(between.max()) - high, low - float(between.min())) if between.size else 0.0
        if detour >= 50 and between.size * hop_seconds <= 0.35:
            detours += 1
        if move < MIN_MOVE_CENTS:
            continue
        steps.append(move <= 250)
        if detour < 50:
            # Where the move begins and ends: 10 % and 90 % of its way, so that rounding of its ends does not count.
            span = track[one.start : two.stop]
            way = (span - one.cents) / (two.cents - one.cents)
            centre = int(np.argmin(np.abs(np.arange(span.size) - (one.stop + two.start) / 2 + one.start)))
            left = centre
            while left > 0 and way[left] > 0.1:
                left -= 1
            right = centre
            while right < span.size - 1 and way[right] < 0.9:
                right += 1
            taken = max(1, right - left) * hop_seconds
            times.append(taken)
            speeds.append(0.8 * move / taken)
    return {
        "step_share": float(np.mean(steps)) if steps else float("nan"),
        "glides_per_second": len(times) / seconds,
        "glide_seconds": _median(np.array(times)),
        "glide_speed": _median(np.array(speeds)),
        "touches_per_second": detours / seconds,
    }


def _oscillations(track: np.ndarray, hop_seconds: float, seconds: float) -> dict[str, float]:
    """Stretches of four or more half swings in a row, each 3 to 12 Hz and alike in extent within a factor of three."""
    frames, wide_frames = 0, 0
    rates: list[float] = []
    extents: list[float] = []
    for start, stop in true_runs(np.isfinite(track)):
        if (stop - start) * hop_seconds < 0.3:
            continue
        for begin, end, half_swings in oscillations(track[start:stop], hop_seconds):
            extent = float(np.median(half_swings))
            frames += end - begin
            wide_frames += (end - begin) * (extent >= WIDE_OSCILLATION_CENTS)
            rates.append(half_swings.size / 2 / ((end - begin) * hop_seconds))
            extents.append(extent)
    return {
        "oscillating_share": frames * hop_seconds / seconds,
        "oscillation_hz": _median(np.array(rates)),
        "oscillation_cents": _median(np.array(extents)),
        "wide_oscillating_share": wide_frames * hop_seconds / seconds,
    }


def oscillations(piece: np.ndarray, hop_seconds: float) -> list[tuple[int, int, np.ndarray]]:
    """Oscillating stretches of an unbroken piece [n]: first frame, last frame, extents of their half swings."""
    floating = piece - ndimage.uniform_filter1d(piece, max(3, round(0.3 / hop_seconds)), mode="nearest")
    tops, _ = signal.find_peaks(floating, prominence=MIN_OSCILLATION_CENTS)
    dips, _ = signal.find_peaks(-floating, prominence=MIN_OSCILLATION_CENTS)
    turns = np.sort(np.concatenate([tops, dips]))
    if turns.size < 5:
        return []
    halves, extents = np.diff(turns) * hop_seconds, np.abs(np.diff(piece[turns]))
    shortest, longest = 0.5 / OSCILLATION_HZ[1], 0.5 / OSCILLATION_HZ[0]
    good = (halves >= shortest - 1e-9) & (halves <= longest + 1e-9) & (extents >= 0.6 * MIN_OSCILLATION_CENTS)
    alike = np.abs(np.log(np.maximum(extents[1:], 1) / np.maximum(extents[:-1], 1))) < np.log(3)
    found: list[tuple[int, int, np.ndarray]] = []
    first: int | None = None
    for index in range(good.size + 1):
        goes_on = index < good.size and good[index] and (first is None or index == first or alike[index - 1])
        if goes_on:
            first = index if first is None else first
            continue
        if first is not None and index - first >= 4:
            found.append((int(turns[first]), int(turns[index]), extents[first:index]))
        first = index if index < good.size and good[index] else None
    return found


def phrase_seconds(track: np.ndarray, hop_seconds: float) -> np.ndarray:
    """Lengths of the phrases: voiced stretches of 0.1 s or more, pauses below 0.2 s bridged."""
    sounding = np.isfinite(track)
    for start, stop in true_runs(~sounding):
        if start > 0 and stop < track.size and (stop - start) * hop_seconds < PAUSE_SECONDS:
            sounding[start:stop] = True
    lengths = np.array([(b - a) * hop_seconds for a, b in true_runs(sounding)])
    return lengths[lengths >= 0.1]


def pitch_class_concentration(track: np.ndarray) -> float:
    """Share of voiced time in the fullest 24 of 120 ten-cent pitch classes: 0.2 for no scale at all, at most 1."""
    voiced = track[np.isfinite(track)]
    counts = np.bincount(np.round(voiced / 10).astype(int) % 120, minlength=120)
    return float(np.sort(counts)[-24:].sum() / voiced.size)


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if values.size else float("nan")
