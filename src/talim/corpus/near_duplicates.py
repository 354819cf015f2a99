"""Near-duplicate recordings: the same audio at another rate, gain or codec, or a part of it.

Landmarks after Wang, "An industrial-strength audio search algorithm" (ISMIR 2003): pairs of spectral peaks, which
survive coding and gain. Two recordings share audio where many of their pairs are equal at one time offset.
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
MIN_SHARED_FRACTION = 0.1  # of the landmarks in the common stretch; see docs/reports/corpora.md
MIN_VOTES = 16
_SIZE, _HOP = 1024, 256
_NEIGHBOUR_BINS, _NEIGHBOUR_FRAMES = 25, 13
_PAIRS, _MOST_FRAMES, _MOST_BINS = 4, 63, 63
_MAX_LANDMARK_COUNT = 64  # more frequent landmarks (a drone, a metronome) are ignored
_OFFSET_RANGE_FRAMES = 1 << 20  # more than nine hours


@dataclass(frozen=True)
class NearDuplicate:
    """Two recordings that share a stretch of audio."""

    first: str
    second: str
    seconds: float  # length of the common stretch
    offset_seconds: float  # start of the second in the time of the first
    shared_fraction: float  # of the landmarks in that stretch, 0 to 1


def fingerprint_landmarks(audio: Audio) -> np.ndarray:
    """Landmarks of a recording, uint32 [n, 2]: hash of two peaks, frame (32 ms) of the first."""
    from scipy.ndimage import maximum_filter

    mono = audio.to_channels(1).resample(RATE_HZ).samples[0]
    if mono.size < _SIZE:
        return np.empty((0, 2), np.uint32)
    windows = np.lib.stride_tricks.sliding_window_view(mono, _SIZE)[::_HOP]
    level = np.empty((len(windows), _SIZE // 2), np.float32)
    for start in range(0, len(windows), 4096):  # in blocks, to bound the memory
        block = windows[start : start + 4096] * np.hanning(_SIZE).astype(np.float32)
        level[start : start + 4096] = np.abs(np.fft.rfft(block, axis=1))[:, 1:]
    level = np.log(level + 1e-9)
    crest = maximum_filter(level, (_NEIGHBOUR_FRAMES, _NEIGHBOUR_BINS), mode="nearest")
    loud = np.maximum(level.max(axis=1, keepdims=True) - 5.0, level.max() - 9.0)
    frames, bins = np.nonzero((level == crest) & (level > loud))
    return _pairs(frames.astype(np.int64), bins.astype(np.int64))


def _pairs(frames: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """Each peak paired with a few later ones: hash of (bin, step in bins, step in frames), and its frame."""
    pairs = []
    for ahead in range(1, 4 * _PAIRS):
        step_frames = frames[ahead:] - frames[:-ahead]
        step_bins = bins[ahead:] - bins[:-ahead]
        good = (step_frames > 0) & (step_frames <= _MOST_FRAMES) & (np.abs(step_bins) <= _MOST_BINS)
        code = (bins[:-ahead] << 13) | ((step_bins + 64) << 6) | step_frames
        pairs.append(np.stack([code, frames[:-ahead], np.full(code.shape, ahead)], axis=1)[good])
    rows = np.concatenate(pairs) if pairs else np.empty((0, 3), np.int64)
    rows = rows[np.lexsort((rows[:, 2], rows[:, 0] >> 13, rows[:, 1]))]
    _, starts, counts = np.unique(rows[:, 1] << 9 | rows[:, 0] >> 13, return_index=True, return_counts=True)
    rank = np.arange(len(rows)) - np.repeat(starts, counts)
    return rows[rank < _PAIRS, :2].astype(np.uint32)


def find_near_duplicates(landmarks: Mapping[str, np.ndarray]) -> list[NearDuplicate]:
    """All pairs of recordings that share at least 4 s of audio, by their landmarks; ordered by name."""
    names = sorted(name for name in landmarks if len(landmarks[name]))
    if len(names) < 2:
        return []
    codes = np.concatenate([landmarks[name][:, 0].astype(np.int64) for name in names])
    times = np.concatenate([landmarks[name][:, 1].astype(np.int64) for name in names])
    owners = np.repeat(np.arange(len(names)), [len(landmarks[name]) for name in names])
    order = np.lexsort((times, owners, codes))
    votes = _votes(codes[order], times[order], owners[order], len(names))
    best: dict[tuple[int, int], tuple[int, int]] = {}
    for (first, second, offset), count in votes.items():
        if count > best.get((first, second), (0, 0))[0]:
            best[first, second] = (count, offset)
    pairs = (
        _compare_pair(names[first], names[second], landmarks, count, offset)
        for (first, second), (count, offset) in sorted(best.items())
    )
    return [pair for pair in pairs if pair]


def _votes(codes: np.ndarray, times: np.ndarray, owners: np.ndarray, count: int) -> dict[tuple[int, int, int], int]:
    """Equal landmarks by (first recording, second recording, offset in frames), two adjacent offsets together."""
    edges = np.flatnonzero(np.diff(codes)) + 1
    starts, stops = np.concatenate([[0], edges]), np.concatenate([edges, [len(codes)]])
    size = stops - starts
    keep = np.repeat((size > 1) & (size <= _MAX_LANDMARK_COUNT), size)
    group = np.repeat(np.arange(len(size)), size)[keep]
    times, owners = times[keep], owners[keep]
    keys: list[np.ndarray] = []
    for ahead in range(1, min(_MAX_LANDMARK_COUNT, len(group))):
        same = (group[ahead:] == group[:-ahead]) & (owners[ahead:] != owners[:-ahead])
        first, second = owners[:-ahead][same], owners[ahead:][same]
        shift = times[:-ahead][same] - times[ahead:][same] + _OFFSET_RANGE_FRAMES
        keys.append((first * count + second) * (2 * _OFFSET_RANGE_FRAMES) + shift)
        if not (group[ahead:] == group[:-ahead]).any():
            break
    if not keys:
        return {}
    offsets, counts = np.unique(np.concatenate(keys), return_counts=True)
    adjacent = np.zeros_like(counts)
    near = np.flatnonzero(np.diff(offsets) == 1)
    adjacent[near] += counts[near + 1]  # an offset by part of a frame divides its votes between two frames
    total = counts + adjacent
    strong = total >= MIN_VOTES
    pairs, shifts = np.divmod(offsets[strong], 2 * _OFFSET_RANGE_FRAMES)
    columns = (pairs // count, pairs % count, shifts - _OFFSET_RANGE_FRAMES, total[strong])
    return {(first, second, offset): votes for first, second, offset, votes in np.stack(columns, axis=1).tolist()}


def _compare_pair(
    first: str, second: str, landmarks: Mapping[str, np.ndarray], count: int, offset: int
) -> NearDuplicate | None:
    """The pair, if enough of the landmarks in their common stretch are equal."""
    first_frames = landmarks[first][:, 1].astype(np.int64)
    second_frames = landmarks[second][:, 1].astype(np.int64) + offset
    low, high = max(first_frames[0], second_frames[0]), min(first_frames[-1], second_frames[-1])
    fewest = min(int(((frames >= low) & (frames <= high)).sum()) for frames in (first_frames, second_frames))
    seconds = float(high - low) * HOP_SECONDS
    fraction = min(1.0, count / max(1, fewest))
    if seconds < MIN_SHARED_SECONDS or fraction < MIN_SHARED_FRACTION:
        return None
    return NearDuplicate(first, second, round(seconds, 1), round(offset * HOP_SECONDS, 1), round(fraction, 3))


def pack_landmarks(landmarks: np.ndarray) -> bytes:
    """Landmarks as the bytes of an .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, landmarks, allow_pickle=False)
    return buffer.getvalue()


def unpack_landmarks(data: bytes) -> np.ndarray:
    """Landmarks from the bytes of an .npy file; ValueError where they are damaged."""
    return np.load(io.BytesIO(data), allow_pickle=False)
