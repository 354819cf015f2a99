"""Near-duplicate recordings: the same sound at another rate, gain or codec, or a part of it.

Landmarks after Wang, "An industrial-strength audio search algorithm" (ISMIR 2003): pairs of spectral peaks,
which survive coding and gain; a common sound is many equal pairs at one difference of time.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from talim.audio import Audio

RATE_HZ = 8000
HOP_SECONDS = 0.032
MIN_SHARED_SECONDS = 4.0
MIN_SHARE = 0.1  # of the landmarks in the common stretch; measured on real recordings, see docs/corpora.md
MIN_VOTES = 16
_SIZE, _HOP = 1024, 256
_NEIGHBOUR_BINS, _NEIGHBOUR_FRAMES = 25, 13
_PAIRS, _MOST_FRAMES, _MOST_BINS = 4, 63, 63
_MAX_LANDMARK_COUNT = 64  # a landmark found this often says nothing: a drone, a metronome
_OFFSET_RANGE_FRAMES = 1 << 20  # frames; more than nine hours


@dataclass(frozen=True)
class NearDuplicate:
    """Two recordings that share a stretch of sound."""

    first: str
    second: str
    seconds: float  # how long the common stretch is
    later_seconds: float  # where the second begins in the time of the first
    share: float  # of the landmarks in that stretch that both have


def fingerprint_landmarks(audio: Audio) -> np.ndarray:
    """Landmarks of a sound, uint32 [n, 2]: hash of two peaks, frame of the first (32 ms each)."""
    from scipy.ndimage import maximum_filter

    mono = audio.to_channels(1).resample(RATE_HZ).samples[0]
    if mono.size < _SIZE:
        return np.empty((0, 2), np.uint32)
    windows = np.lib.stride_tricks.sliding_window_view(mono, _SIZE)[::_HOP]
    level = np.empty((len(windows), _SIZE // 2), np.float32)
    for start in range(0, len(windows), 4096):  # blocks, so that an hour needs no gigabyte
        block = windows[start : start + 4096] * np.hanning(_SIZE).astype(np.float32)
        level[start : start + 4096] = np.abs(np.fft.rfft(block, axis=1))[:, 1:]
    level = np.log(level + 1e-9)
    crest = maximum_filter(level, (_NEIGHBOUR_FRAMES, _NEIGHBOUR_BINS), mode="nearest")
    loud = np.maximum(level.max(axis=1, keepdims=True) - 5.0, level.max() - 9.0)
    frames, bins = np.nonzero((level == crest) & (level > loud))
    return _pairs(frames.astype(np.int64), bins.astype(np.int64))


def _pairs(frames: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """Each peak with a few that follow it: hash of (bin, step in bins, step in frames) and its frame."""
    found = []
    for ahead in range(1, 4 * _PAIRS):
        step_frames = frames[ahead:] - frames[:-ahead]
        step_bins = bins[ahead:] - bins[:-ahead]
        good = (step_frames > 0) & (step_frames <= _MOST_FRAMES) & (np.abs(step_bins) <= _MOST_BINS)
        code = (bins[:-ahead] << 13) | ((step_bins + 64) << 6) | step_frames
        found.append(np.stack([code, frames[:-ahead], np.full(code.shape, ahead)], axis=1)[good])
    rows = np.concatenate(found) if found else np.empty((0, 3), np.int64)
    order = np.lexsort((rows[:, 2], rows[:, 0] >> 13, rows[:, 1]))
    rows = rows[order]
    _, starts, counts = np.unique(rows[:, 1] << 9 | rows[:, 0] >> 13, return_index=True, return_counts=True)
    rank = np.arange(len(rows)) - np.repeat(starts, counts)
    return rows[rank < _PAIRS, :2].astype(np.uint32)


def find_near_duplicates(marks: Mapping[str, np.ndarray]) -> list[NearDuplicate]:
    """All pairs of recordings that share at least 4 s of sound, by their landmarks; ordered by name."""
    names = sorted(name for name in marks if len(marks[name]))
    if len(names) < 2:
        return []
    codes = np.concatenate([marks[name][:, 0].astype(np.int64) for name in names])
    times = np.concatenate([marks[name][:, 1].astype(np.int64) for name in names])
    owners = np.repeat(np.arange(len(names)), [len(marks[name]) for name in names])
    order = np.lexsort((times, owners, codes))
    codes, times, owners = codes[order], times[order], owners[order]
    votes = _votes(codes, times, owners, len(names))
    best: dict[tuple[int, int], tuple[int, int]] = {}
    for (first, second, shift), count in votes.items():
        if count > best.get((first, second), (0, 0))[0]:
            best[first, second] = (count, shift)
    found = [_compare_pair(names, marks, pair, count, shift) for pair, (count, shift) in sorted(best.items())]
    return [twins for twins in found if twins]


def _votes(
    codes: np.ndarray, times: np.ndarray, owners: np.ndarray, count: int
) -> dict[tuple[int, int, int], int]:
    """How many equal landmarks two recordings have at each difference of time, in pairs of frames."""
    edges = np.flatnonzero(np.diff(codes)) + 1
    starts, stops = np.concatenate([[0], edges]), np.concatenate([edges, [len(codes)]])
    size = stops - starts
    keep = np.repeat((size > 1) & (size <= _MAX_LANDMARK_COUNT), size)
    group = np.repeat(np.arange(len(size)), size)[keep]
    times, owners = times[keep], owners[keep]
    keys: list[np.ndarray] = []
    for ahead in range(1, _MAX_LANDMARK_COUNT):
        if ahead >= len(group):
            break
        same = (group[ahead:] == group[:-ahead]) & (owners[ahead:] != owners[:-ahead])
        first, second = owners[:-ahead][same], owners[ahead:][same]
        shift = times[:-ahead][same] - times[ahead:][same] + _OFFSET_RANGE_FRAMES
        keys.append((first * count + second) * (2 * _OFFSET_RANGE_FRAMES) + shift)
        if not (group[ahead:] == group[:-ahead]).any():
            break
    if not keys:
        return {}
    found, number = np.unique(np.concatenate(keys), return_counts=True)
    beside = np.zeros_like(number)
    near = np.flatnonzero(np.diff(found) == 1)
    beside[near] += number[near + 1]  # a trim moves sounds by part of a frame: two differences share them
    total = number + beside
    strong = total >= MIN_VOTES
    return {
        (
            int(key // (2 * _OFFSET_RANGE_FRAMES) // count),
            int(key // (2 * _OFFSET_RANGE_FRAMES) % count),
            int(key % (2 * _OFFSET_RANGE_FRAMES) - _OFFSET_RANGE_FRAMES),
        ): int(n)
        for key, n in zip(found[strong], total[strong], strict=True)
    }


def _compare_pair(
    names: list[str], marks: Mapping[str, np.ndarray], pair: tuple[int, int], count: int, shift: int
) -> NearDuplicate | None:
    """The pair, where enough of the landmarks in the stretch that they would share are equal."""
    first, second = (marks[names[at]][:, 1].astype(np.int64) for at in pair)
    low, high = max(first[0], second[0] + shift), min(first[-1], second[-1] + shift)
    here = int(((first >= low) & (first <= high)).sum())
    there = int(((second + shift >= low) & (second + shift <= high)).sum())
    seconds = float(high - low) * HOP_SECONDS
    share = count / max(1, min(here, there))
    if seconds < MIN_SHARED_SECONDS or share < MIN_SHARE:
        return None
    return NearDuplicate(
        names[pair[0]],
        names[pair[1]],
        round(seconds, 1),
        round(shift * HOP_SECONDS, 1),
        round(min(1.0, share), 3),
    )


def pack_landmarks(marks: np.ndarray) -> bytes:
    """Landmarks as the bytes of an .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, marks, allow_pickle=False)
    return buffer.getvalue()


def unpack_landmarks(data: bytes) -> np.ndarray:
    """Landmarks from such bytes; ValueError where they are damaged."""
    return np.load(io.BytesIO(data), allow_pickle=False)
