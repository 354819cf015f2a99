"""Notes of a pitch track, and the histogram of intervals by pitch class.

Pitch is cents above the tonic, NaN where unvoiced, one value every `hop_seconds`. Intervals are folded to the nearest
octave, so that octave errors of pitch trackers and doubling at the octave do not matter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

STEP_CENTS = 10.0
CLASSES = 120  # pitch classes of an octave at STEP_CENTS
INTERVALS_CENTS = np.arange(-600.0, 600.0, STEP_CENTS)
NOTE_EXIT_CENTS = 60.0  # a note ends where the pitch leaves its running mean by more
GLIDE_CENTS = 20.0  # a region whose median moves by more in the same direction from third to third is a slow glide
SHORTEST_SECONDS = 0.12  # shorter regions are glides and ornaments, not notes
LONGEST_GAP_SECONDS = 1.0  # a longer silence begins a new phrase; no interval is counted across it
MEMORY_SECONDS = 0.3  # window of the running mean
DEGREE_SPREAD_CENTS = 25.0  # standard deviation of notes around a degree
MAX_NOTE_WEIGHT_SECONDS = 1.0  # a longer note counts no more than this


@dataclass(frozen=True)
class NoteSequence:
    """The notes of a track in order: pitch, length, onset, and the silence before each ([n])."""

    cents: np.ndarray
    seconds: np.ndarray
    onset_seconds: np.ndarray
    gap_seconds: np.ndarray


def transcribe_notes(cents: np.ndarray, hop_seconds: float) -> NoteSequence:
    """The steady notes of a pitch track [frames], without glides and very short notes."""
    cents = np.asarray(cents, np.float64)
    regions = steady_regions(cents, max(1, round(MEMORY_SECONDS / hop_seconds)))
    shortest = max(1, math.ceil(SHORTEST_SECONDS / hop_seconds - 1e-6))
    notes = [(start, end) for start, end in regions if end - start >= shortest and not is_glide(cents[start:end])]
    starts = np.array([start for start, _ in notes], np.float64)
    ends = np.array([end for _, end in notes], np.float64)
    previous_ends = np.concatenate([[-np.inf], ends[:-1]]) if notes else ends
    return NoteSequence(
        cents=np.array([np.median(cents[start:end]) for start, end in notes], np.float64),
        seconds=(ends - starts) * hop_seconds,
        onset_seconds=starts * hop_seconds,
        gap_seconds=(starts - previous_ends) * hop_seconds,
    )


def is_glide(cents: np.ndarray) -> bool:
    """Whether a region [frames] moves in one direction over its whole length; an oscillation comes back."""
    third = max(1, cents.size // 3)
    middle = cents[third:-third] if cents.size > 2 * third else cents
    first_step, second_step = np.diff([np.median(part) for part in (cents[:third], middle, cents[-third:])])
    smallest = min(abs(first_step), abs(second_step))
    return bool(first_step * second_step > 0 and smallest > GLIDE_CENTS)


def steady_regions(cents: np.ndarray, memory_frames: int) -> list[tuple[int, int]]:
    """Regions [start, end) of frames that stay near their own running mean over `memory_frames`."""
    regions: list[tuple[int, int]] = []
    values = cents.tolist()
    start, total = None, 0.0
    for frame, value in enumerate(values):
        if math.isnan(value):
            if start is not None:
                regions.append((start, frame))
            start = None
            continue
        if start is not None:
            length = min(frame - start, memory_frames)
            if abs(value - total / length) > NOTE_EXIT_CENTS:
                regions.append((start, frame))
                start = None
        if start is None:
            start, total = frame, 0.0
        total += value
        if frame - start >= memory_frames:
            total -= values[frame - memory_frames]
    return [*regions, (start, len(values))] if start is not None else regions


def interval_histogram(notes: NoteSequence) -> np.ndarray:
    """The distribution of intervals by the pitch class that they start from: [pitch class, interval].

    It sums to 1 (0 without intervals). Each interval is weighted by the length of the note it leads to.
    """
    counts = np.zeros((CLASSES, INTERVALS_CENTS.size))
    if notes.cents.size < 2:
        return counts
    interval = (np.diff(notes.cents) + 600.0) % 1200.0
    weights = np.minimum(notes.seconds[1:], MAX_NOTE_WEIGHT_SECONDS)
    weights = weights * (notes.gap_seconds[1:] < LONGEST_GAP_SECONDS)
    classes = np.round(notes.cents[:-1] / STEP_CENTS).astype(int) % CLASSES
    intervals = np.round(interval / STEP_CENTS).astype(int) % INTERVALS_CENTS.size
    np.add.at(counts, (classes, intervals), weights)
    return counts / max(counts.sum(), 1e-12)


def degree_histograms(notes: NoteSequence, parts: int) -> np.ndarray:
    """The time on each pitch class in `parts` (beginning to end) of equal length: [parts, pitch class].

    Smoothed by DEGREE_SPREAD_CENTS; each row sums to 1. A row without notes, as in a melody with fewer notes than
    parts, is uniform.
    """
    seconds = np.minimum(notes.seconds, MAX_NOTE_WEIGHT_SECONDS)
    before = np.cumsum(seconds) - seconds
    part = np.minimum((parts * (before + seconds / 2) / max(float(seconds.sum()), 1e-12)).astype(int), parts - 1)
    classes = np.round(notes.cents / STEP_CENTS).astype(int) % CLASSES
    counts = np.zeros((parts, CLASSES))
    np.add.at(counts, (part, classes), seconds)
    counts = gaussian_filter1d(counts, DEGREE_SPREAD_CENTS / STEP_CENTS, axis=1, mode="wrap")
    totals = counts.sum(1, keepdims=True)
    return np.where(totals > 0, counts / np.maximum(totals, 1e-12), 1.0 / CLASSES)
