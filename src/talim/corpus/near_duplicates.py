"""Near-duplicate recordings: the same audio at another rate, gain or codec, or a part of it.

Landmarks after Wang, "An industrial-strength audio search algorithm" (ISMIR 2003): pairs of spectral peaks, which
survive coding and gain. Two recordings share audio where many of their pairs are equal at one time offset. A single
gliding tone has few, and where they lie depends on how the frames fall, which another codec shifts: recordings with too
few are compared by their waveforms, which survive coding.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from talim.audio import Audio, read
from talim.audio.audio import Resampler
from talim.corpus.split_groups import SplitGroups

RATE_HZ = 8000
HOP_SECONDS = 0.032
MIN_SHARED_SECONDS = 4.0
MIN_SHARED_FRACTION = 0.1  # of the landmarks in the common stretch; see docs/reports/corpora.md
MIN_VOTES = 16
MIN_COPY_FRACTION = 0.9  # of a recording that another one must hold for the first to be a copy
_SIZE, _HOP = 1024, 256
_BLOCK_FRAMES = 4096  # spectra that are held at a time
_NEIGHBOUR_BINS, _NEIGHBOUR_FRAMES = 25, 13
_PAIRS, _MOST_FRAMES, _MOST_BINS = 4, 63, 63
_MAX_LANDMARK_COUNT = 64  # of more frequent ones only those are compared that are rare in each recording,
_MAX_PER_RECORDING = 4  # so that a drone or a metronome counts for nothing, and a hundred copies do,
_CROWD_NEIGHBOURS = 8  # each with its next few, which connects all of them
_OFFSET_RANGE_FRAMES = 1 << 20  # more than nine hours
_FRAME_BITS = 24
_MIN_STRETCH_HITS = 3  # equal landmarks at one offset in 4 s: unrelated sounds have none
MIN_DENSITY = 40.0  # landmarks in a second; music has more
MIN_CORRELATION = 0.8  # of clips; copies have 0.87 and more
PARTIAL_RANGE_DB, SOUND_RANGE_DB = 30.0, 45.0  # of partials below the loudest of their frame, and of all frames
LEVEL_TOLERANCE_DB = 6.0
MIN_PARTIALS_FOUND = 0.95  # of those in a second,
STRAY_PARTIALS = 2  # or all but two, which coding may add to a tone
MAX_LENGTH_DIFFERENCE = 0.5  # seconds, of copies that hold nothing else
MAX_LAG_SECONDS = 0.15  # by which coding shifts a clip
WINDOW_SECONDS = 10.0  # that are compared at a time
_CACHED_WINDOWS = 64
_CLICK_FRAMES = 6


@dataclass(frozen=True)
class NearDuplicate:
    """Two recordings that share a stretch of audio."""

    first: str
    second: str
    seconds: float  # length of the common stretch
    offset_seconds: float  # start of the second in the time of the first
    shared_fraction: float  # of the landmarks in that stretch, 0 to 1
    first_covered: float = 0.0  # how much of the first is in the second, 0 to 1
    second_covered: float = 0.0  # how much of the second is in the first, 0 to 1


def fingerprint_landmarks(audio: Audio) -> np.ndarray:
    """Landmarks of a recording, uint32 [n, 2]: hash of two peaks, frame (32 ms) of the first."""
    meter = LandmarkFinder(audio.rate_hz)
    meter.add(audio)
    return meter.landmarks()


class LandmarkFinder:
    """`fingerprint_landmarks` of a sound that comes in blocks; memory does not follow the length of the samples."""

    def __init__(self, rate_hz: int) -> None:
        self._resampler = Resampler(rate_hz, RATE_HZ, 1)
        self._samples = np.zeros(0, np.float32)  # from the first frame that is still to come
        self._levels = np.zeros((0, _SIZE // 2), np.float32)  # log spectra, with the context of the next ones
        self._first = 0  # frame of the first row of `_levels`
        self._done = 0  # frames that were searched for peaks
        self._peaks: list[np.ndarray] = []  # [n, 3]: frame, bin, level
        self._highest = -np.inf

    def add(self, audio: Audio) -> None:
        """A further block."""
        self._add(self._resampler.add(audio.to_channels(1).samples)[0])

    def _add(self, samples: np.ndarray) -> None:
        self._samples = np.concatenate([self._samples, samples])
        while len(self._samples) >= _SIZE + _HOP * (_BLOCK_FRAMES - 1):
            self._transform(_BLOCK_FRAMES)

    def _transform(self, frames: int) -> None:
        """Spectra of the next `frames`, and the peaks in all frames whose neighbours are known."""
        level = _magnitudes(self._samples, slice(frames))[:, 1:].astype(np.float32)
        self._samples = self._samples[len(level) * _HOP :]
        self._levels = np.concatenate([self._levels, np.log(level + np.float32(1e-9))])
        self._search(self._first + len(self._levels) - _NEIGHBOUR_FRAMES // 2)

    def _search(self, stop: int) -> None:
        """Peaks in the frames from the last search to `stop`: larger than all around, and near the frame's loudest."""
        from scipy.ndimage import maximum_filter

        if stop <= self._done:
            return
        crest = maximum_filter(self._levels, (_NEIGHBOUR_FRAMES, _NEIGHBOUR_BINS), mode="nearest")
        loudest = self._levels.max(axis=1, keepdims=True)
        frames, bins = np.nonzero((self._levels == crest) & (self._levels > loudest - 5.0))
        new = (frames + self._first >= self._done) & (frames + self._first < stop)
        frames, bins = frames[new], bins[new]
        self._peaks.append(np.stack([frames + self._first, bins, self._levels[frames, bins]], axis=1))
        self._highest = max(self._highest, float(loudest.max()))
        self._done = stop
        keep = max(self._first, stop - _NEIGHBOUR_FRAMES // 2) - self._first
        self._levels, self._first = self._levels[keep:], self._first + keep

    def landmarks(self) -> np.ndarray:
        """The landmarks; call it once, at the end."""
        self._add(self._resampler.finish()[0])
        if len(self._samples) >= _SIZE:
            self._transform(_BLOCK_FRAMES)
        self._search(self._first + len(self._levels))
        if not self._peaks:
            return np.empty((0, 2), np.uint32)
        peaks = np.concatenate(self._peaks)
        peaks = peaks[peaks[:, 2] > self._highest - 9.0]
        return _pairs(peaks[:, 0].astype(np.int64), peaks[:, 1].astype(np.int64))


def _magnitudes(samples: np.ndarray, frames: slice) -> np.ndarray:
    """Magnitudes [frames, bins] of the spectra of these frames of a sound [n]."""
    windows = np.lib.stride_tricks.sliding_window_view(samples, _SIZE)[::_HOP][frames]
    return np.abs(np.fft.rfft(windows * np.hanning(_SIZE).astype(np.float32), axis=1))


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
    changes = np.concatenate([[0], np.cumsum(np.diff(owners) != 0)])  # owners are sorted within a group
    sharers = changes[stops - 1] - changes[starts] + 1
    crowded = size > _MAX_LANDMARK_COUNT
    keep = np.repeat((sharers > 1) & (~crowded | (size <= _MAX_PER_RECORDING * sharers)), size)
    group = np.repeat(np.arange(len(size)), size)[keep]
    crowded = np.repeat(crowded, size)[keep]
    times, owners = times[keep], owners[keep]
    keys: list[np.ndarray] = []
    for ahead in range(1, min(_MAX_LANDMARK_COUNT, len(group))):
        same = (group[ahead:] == group[:-ahead]) & (owners[ahead:] != owners[:-ahead])
        if ahead > _CROWD_NEIGHBOURS:
            same &= ~crowded[:-ahead]
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
    keys = [
        landmarks[name][:, 0].astype(np.int64) << _FRAME_BITS | frames - min(0, offset)
        for name, frames in ((first, first_frames), (second, second_frames))
    ]
    return NearDuplicate(
        first,
        second,
        round(seconds, 1),
        round(offset * HOP_SECONDS, 1),
        round(fraction, 3),
        _covered(keys[0], first_frames, keys[1]),
        _covered(keys[1], second_frames, keys[0]),
    )


def _covered(keys: np.ndarray, frames: np.ndarray, others: np.ndarray) -> float:
    """Fraction of the stretches of 4 s with landmarks in which enough of them are in the other recording."""
    shared = np.isin(keys, np.concatenate([others - 1, others, others + 1]))
    stretch = (frames - frames[0]) // round(MIN_SHARED_SECONDS / HOP_SECONDS)
    counts, hits = np.bincount(stretch), np.bincount(stretch, weights=shared)
    full = counts >= MIN_VOTES
    if not full.any():
        return 0.0
    needed = np.maximum(_MIN_STRETCH_HITS, MIN_SHARED_FRACTION / 2 * counts[full])
    return round(float((hits[full] >= needed).mean()), 3)


def find_waveform_copies(
    clips: Mapping[str, Sequence[tuple[Path, float, float]]], landmark_counts: Mapping[str, int]
) -> list[NearDuplicate]:
    """Pairs of recordings of one length, both with few landmarks, whose clips have one waveform; ordered by name.

    `clips` are the files of each recording, with the start in it and the length of each in seconds.
    """
    seconds = {name: sum(length for _, _, length in parts) for name, parts in clips.items()}
    sparse = [name for name in clips if seconds[name] and landmark_counts[name] / seconds[name] < MIN_DENSITY]
    by_length = sorted(sparse, key=lambda name: (seconds[name], name))

    @lru_cache(_CACHED_WINDOWS)
    def beginning(name: str) -> np.ndarray:
        return next(_windows(clips[name]))

    found = []
    for place, name in enumerate(by_length):
        for other in by_length[place + 1 :]:
            if seconds[other] - seconds[name] > MAX_LENGTH_DIFFERENCE:
                break
            first, second = sorted((name, other))
            if same_waveform(beginning(first), beginning(second)) and all(
                same_waveform(*pair) for pair in zip(_windows(clips[first]), _windows(clips[second]), strict=False)
            ):
                offset = round(clips[first][0][1] - clips[second][0][1], 1)
                found.append(NearDuplicate(first, second, round(seconds[name], 1), offset, 1.0, 1.0, 1.0))
    return sorted(found, key=lambda pair: (pair.first, pair.second))


def _windows(clips: Sequence[tuple[Path, float, float]]) -> Iterator[np.ndarray]:
    """The sound of clips that follow one another, in pieces float32 [n] of 10 s at `RATE_HZ`; the last is shorter."""
    size, rest = round(WINDOW_SECONDS * RATE_HZ), np.zeros(0, np.float32)
    for path, _, _ in clips:
        sound = read(path).to_channels(1)
        resampler = Resampler(sound.rate_hz, RATE_HZ, 1)
        rest = np.concatenate([rest, resampler.add(sound.samples)[0], resampler.finish()[0]])
        while len(rest) >= size + RATE_HZ:  # so that the last one is no shorter than a second
            yield rest[:size]
            rest = rest[size:]
    yield rest


def same_waveform(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two sounds [n] at `RATE_HZ` are one, coded twice: one waveform, and in every second the same partials.

    The waveform alone does not tell, where a loud drone lies under different melodies.
    """
    correlation, lag = waveform_correlation(first, second)
    if correlation < MIN_CORRELATION:
        return False
    first, second = first[max(0, lag) :], second[max(0, -lag) :]
    size = min(len(first), len(second))
    levels = [_levels_db(sound[:size]) for sound in (first, second)]
    return all(_partials_found(one, other) for one, other in (levels, levels[::-1]))


def waveform_correlation(first: np.ndarray, second: np.ndarray) -> tuple[float, int]:
    """The largest normalised cross-correlation of two sounds [n] at `RATE_HZ`, 0 to 1, and by how many samples (at most
    0.15 s) the second begins later in the first.
    """
    from scipy.fft import next_fast_len

    norm = float(np.linalg.norm(first)) * float(np.linalg.norm(second))
    if not norm:
        return 0.0, 0
    size = next_fast_len(len(first) + len(second), real=True)
    products = np.fft.irfft(np.fft.rfft(first, size) * np.conj(np.fft.rfft(second, size)), size)
    longest = round(MAX_LAG_SECONDS * RATE_HZ)
    near = np.abs(np.concatenate([products[-longest:], products[: longest + 1]]))
    return float(near.max() / norm), int(near.argmax()) - longest


def _levels_db(sound: np.ndarray) -> np.ndarray:
    """Levels of a spectrogram [frames, bins], its loudest cell at 0 dB; without the ends, where a cut sound clicks."""
    power = _magnitudes(sound, slice(_CLICK_FRAMES, -_CLICK_FRAMES)) ** 2
    return 10 * np.log10(np.maximum(power / power.max(initial=1e-12), 1e-12))


def _partials_found(levels: np.ndarray, others: np.ndarray) -> bool:
    """Whether the partials of a spectrogram are in the other one too, in every second."""
    from scipy.ndimage import maximum_filter

    loud = levels > np.maximum(levels.max(axis=1, keepdims=True) - PARTIAL_RANGE_DB, -SOUND_RANGE_DB)
    partial = loud & (levels == maximum_filter(levels, (1, 3)))
    found = partial & (maximum_filter(others, (1, 3)) > levels - LEVEL_TOLERANCE_DB)
    second = np.arange(len(levels)) // round(RATE_HZ / _HOP)
    counts, hits = np.bincount(second, partial.sum(axis=1)), np.bincount(second, found.sum(axis=1))
    return bool((hits >= MIN_PARTIALS_FOUND * counts - STRAY_PARTIALS).all())


def copies_of(duplicates: Sequence[NearDuplicate], order: Sequence[str]) -> dict[str, str]:
    """Recordings that hold nothing but what an earlier one in `order` holds, and that one: {copy: original}."""
    alike = SplitGroups()
    holders: dict[str, set[str]] = defaultdict(set)
    for pair in duplicates:
        first, second = pair.first_covered >= MIN_COPY_FRACTION, pair.second_covered >= MIN_COPY_FRACTION
        if first and second:
            alike.union(pair.first, pair.second)
        elif first:
            holders[pair.first].add(pair.second)
        elif second:
            holders[pair.second].add(pair.first)
    originals: dict[str, str] = {}  # by group of recordings that hold the same
    copies: dict[str, str] = {}
    for name in order:
        group = alike.find(name)
        held_by = sorted(originals[alike.find(other)] for other in holders[name] if alike.find(other) in originals)
        if group in originals:
            copies[name] = originals[group]
        elif held_by:
            copies[name] = originals[group] = held_by[0]
        else:
            originals[group] = name
    return copies


def pack_landmarks(landmarks: np.ndarray) -> bytes:
    """Landmarks as the bytes of an .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, landmarks, allow_pickle=False)
    return buffer.getvalue()


def unpack_landmarks(data: bytes) -> np.ndarray:
    """Landmarks from the bytes of an .npy file; ValueError where they are damaged."""
    return np.load(io.BytesIO(data), allow_pickle=False)
