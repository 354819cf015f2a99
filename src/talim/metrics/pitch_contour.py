"""Pitch contours: cleaning a pitch track and finding its steady notes.

Conventions: a track is float [n] in cents above any reference, NaN where unvoiced, one value every `hop_seconds`.
Cleaned tracks have one resolution (ten cents), no octave jumps or single outliers, and no gaps of up to 50 ms, so that
tracks of noisy recordings and of clean synthesis can be compared.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

RESOLUTION_CENTS = 10.0
STEADY_CENTS = 50.0  # a steady note moves less than this in a tenth of a second
SHORTEST_NOTE_SECONDS = 0.09
BRIDGE_SECONDS = 0.05
MIN_MOVE_CENTS = 80.0


@dataclass(frozen=True)
class SteadyRegion:
    """A steady stretch: first and one-past-last frame, and its median in cents."""

    start: int
    stop: int
    cents: float


def clean_f0(cents: np.ndarray, hop_seconds: float) -> np.ndarray:
    """The track [n] at one resolution, without octave jumps shorter than 0.3 s, single outliers and tiny gaps."""
    track = np.round(np.asarray(cents, float) / RESOLUTION_CENTS) * RESOLUTION_CENTS
    if track.ndim != 1:
        raise ValueError(f"a pitch track has one dimension, not the shape {track.shape}")
    for start, stop in true_runs(np.isfinite(track)):
        if (stop - start) * hop_seconds < 0.03:
            track[start:stop] = np.nan
    track = _without_jumps(track, hop_seconds)
    track = _bridge_gaps(track, hop_seconds)
    for start, stop in true_runs(np.isfinite(track)):
        piece = ndimage.median_filter(track[start:stop], 3, mode="nearest")
        track[start:stop] = ndimage.convolve1d(piece, [0.25, 0.5, 0.25], mode="nearest")
    return track


def _without_jumps(track: np.ndarray, hop_seconds: float) -> np.ndarray:
    """Bring short pieces that stand an octave off both neighbours back, where that closes both jumps."""
    voiced = np.flatnonzero(np.isfinite(track))
    values = track[voiced]
    cuts = np.flatnonzero(np.abs(np.diff(values)) > 900)
    edges = np.concatenate([[0], cuts + 1, [values.size]])
    for left, right in itertools.pairwise(edges[1:-1]):
        before, after = values[left - 1], values[right]
        if (right - left) * hop_seconds > 0.3 or abs(before - after) > 400:
            continue
        off = np.round((np.median(values[left:right]) - (before + after) / 2) / 1200) * 1200
        values[left:right] -= off
    out = track.copy()
    out[voiced] = values
    return out


def _bridge_gaps(track: np.ndarray, hop_seconds: float) -> np.ndarray:
    """Gaps of at most 50 ms between pitches less than 300 cents apart, filled on a straight line."""
    out = track.copy()
    for start, stop in true_runs(~np.isfinite(track)):
        inside = start > 0 and stop < track.size
        short = (stop - start) * hop_seconds <= BRIDGE_SECONDS + 1e-9
        if inside and short and abs(track[stop] - track[start - 1]) < 300:
            out[start:stop] = np.interp(np.arange(start, stop), [start - 1, stop], track[[start - 1, stop]])
    return out


def true_runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """First and one-past-last index of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def steady_notes(track: np.ndarray, hop_seconds: float) -> list[SteadyRegion]:
    """Stretches of a cleaned track where the pitch moves less than 50 cents in any tenth of a second."""
    width = max(3, round(0.1 / hop_seconds) | 1)
    notes: list[SteadyRegion] = []
    for start, stop in true_runs(np.isfinite(track)):
        piece = track[start:stop]
        highest = ndimage.maximum_filter1d(piece, width, mode="nearest")
        reach = highest - ndimage.minimum_filter1d(piece, width, mode="nearest")
        for a, b in true_runs(reach <= STEADY_CENTS):
            # A window that touches the movement beside a note is not steady: the note reaches half a window further.
            first, last = start + max(0, a - width // 2), start + min(stop - start, b + width // 2)
            level = float(np.median(track[first:last]))
            if notes and first <= notes[-1].stop + 3 and abs(level - notes[-1].cents) < STEADY_CENTS:
                whole = track[notes[-1].start : last]
                notes[-1] = SteadyRegion(notes[-1].start, last, float(np.nanmedian(whole)))
            elif (last - first) * hop_seconds >= SHORTEST_NOTE_SECONDS:
                notes.append(SteadyRegion(max(first, notes[-1].stop) if notes else first, last, level))
    return notes
