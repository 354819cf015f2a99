"""A melody's movement: its notes, and how often each interval is taken from each pitch.

Pitch is cents above the tonic, NaN where unvoiced, one value every `hop_seconds`. Octaves are folded away: an
interval is the shortest way from one pitch class to the next, so that the octave slips of melody trackers, and
instruments that double each other at the octave, change nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

STEP_CENTS = 10.0
CLASSES = 120  # pitch classes of an octave at STEP_CENTS
INTERVALS_CENTS = np.arange(-600.0, 600.0, STEP_CENTS)
NOTE_EXIT_CENTS = 60.0  # a note ends where the pitch leaves its running mean by more
GLIDE_CENTS = 20.0  # what moves on by more, from each third of its length to the next, is a slow glide
SHORTEST_SECONDS = 0.12  # shorter stretches are glides and ornaments, not notes
LONGEST_GAP_SECONDS = 1.0  # after a longer silence a new phrase begins: no movement leads there
MEMORY_SECONDS = 0.3  # of the running mean
MAX_NOTE_WEIGHT_SECONDS = 1.0  # a longer note counts no more than this


@dataclass(frozen=True)
class NoteSequence:
    """The notes of a track, in order: their pitch, length, onset and the silence before them (each [n])."""

    cents: np.ndarray
    seconds: np.ndarray
    onset_seconds: np.ndarray
    gap_seconds: np.ndarray


def transcribe_notes(cents: np.ndarray, hop_seconds: float) -> NoteSequence:
    """Cut a pitch track [frames] into the notes it rests on; glides and very short notes are left out."""
    cents = np.asarray(cents, np.float64)
    stretches = steady_regions(cents, max(1, round(MEMORY_SECONDS / hop_seconds)))
    shortest = max(1, math.ceil(SHORTEST_SECONDS / hop_seconds - 1e-6))
    kept = [
        (start, end) for start, end in stretches if end - start >= shortest and not is_glide(cents[start:end])
    ]
    starts = np.array([start for start, _ in kept], np.float64)
    ends = np.array([end for _, end in kept], np.float64)
    before = np.concatenate([[-np.inf], ends[:-1]]) if kept else ends
    return NoteSequence(
        cents=np.array([np.median(cents[start:end]) for start, end in kept], np.float64),
        seconds=(ends - starts) * hop_seconds,
        onset_seconds=starts * hop_seconds,
        gap_seconds=(starts - before) * hop_seconds,
    )


def is_glide(stretch: np.ndarray) -> bool:
    """Whether a stretch [frames] moves on one way through all its length; a swing round a note comes back."""
    third = max(1, stretch.size // 3)
    thirds = (
        stretch[:third],
        stretch[third:-third] if stretch.size > 2 * third else stretch,
        stretch[-third:],
    )
    onward, again = np.diff([np.median(part) for part in thirds])
    return bool(onward * again > 0 and min(abs(onward), abs(again)) > GLIDE_CENTS)


def steady_regions(cents: np.ndarray, memory_frames: int) -> list[tuple[int, int]]:
    """Stretches [start, end) of frames that stay near their own running mean over `memory_frames`."""
    found: list[tuple[int, int]] = []
    values = cents.tolist()
    start, total = None, 0.0
    for n, value in enumerate(values):
        if math.isnan(value):
            if start is not None:
                found.append((start, n))
            start = None
            continue
        if start is not None:
            held = min(n - start, memory_frames)
            if abs(value - total / held) > NOTE_EXIT_CENTS:
                found.append((start, n))
                start = None
        if start is None:
            start, total = n, 0.0
        total += value
        if n - start >= memory_frames:
            total -= values[n - memory_frames]
    return [*found, (start, len(values))] if start is not None else found


def interval_histogram(heard: NoteSequence) -> np.ndarray:
    """How a melody moves: [pitch class, interval], shares that sum to 1 (all 0 where nothing moves).

    Each step counts by the length of the note it leads to.
    """
    counts = np.zeros((CLASSES, INTERVALS_CENTS.size))
    if heard.cents.size < 2:
        return counts
    leap = (np.diff(heard.cents) + 600.0) % 1200.0
    weight = np.minimum(heard.seconds[1:], MAX_NOTE_WEIGHT_SECONDS) * (
        heard.gap_seconds[1:] < LONGEST_GAP_SECONDS
    )
    here = np.round(heard.cents[:-1] / STEP_CENTS).astype(int) % CLASSES
    there = np.round(leap / STEP_CENTS).astype(int) % INTERVALS_CENTS.size
    np.add.at(counts, (here, there), weight)
    return counts / max(counts.sum(), 1e-12)
