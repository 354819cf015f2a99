"""Coded copies of sounds with too few landmarks, such as one gliding tone, by their waveforms.

Landmarks are spectral peaks. A single tone has few, and where they lie depends on how the frames fall, which another
codec shifts. Its waveform survives coding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from talim.audio import read
from talim.audio.audio import Resampler
from talim.corpus.near_duplicates import RATE_HZ, NearDuplicate
from talim.corpus.segment import Segment

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
_SIZE, _HOP = 1024, 256
_CLICK_FRAMES = 6


def find_waveform_copies(
    folder: Path, clips: Mapping[str, Sequence[Segment]], landmark_counts: Mapping[str, int]
) -> list[NearDuplicate]:
    """Pairs of recordings of one length, both with few landmarks, whose clips have one waveform; ordered by name.

    `clips` are the files of each recording in the corpus `folder`.
    """
    seconds = {name: sum(clip.seconds for clip in parts) for name, parts in clips.items()}
    sparse = [name for name in clips if seconds[name] and landmark_counts[name] / seconds[name] < MIN_DENSITY]
    by_length = sorted(sparse, key=lambda name: (seconds[name], name))

    @lru_cache(_CACHED_WINDOWS)
    def beginning(name: str) -> np.ndarray:
        return next(_windows(folder, clips[name]))

    found = []
    for place, name in enumerate(by_length):
        for other in by_length[place + 1 :]:
            if seconds[other] - seconds[name] > MAX_LENGTH_DIFFERENCE:
                break
            first, second = sorted((name, other))
            if same_waveform(beginning(first), beginning(second)) and all(
                same_waveform(*pair)
                for pair in zip(_windows(folder, clips[first]), _windows(folder, clips[second]), strict=False)
            ):
                offset = round(clips[first][0].start_seconds - clips[second][0].start_seconds, 1)
                found.append(NearDuplicate(first, second, round(seconds[name], 1), offset, 1.0, 1.0, 1.0))
    return sorted(found, key=lambda pair: (pair.first, pair.second))


def _windows(folder: Path, clips: Sequence[Segment]) -> Iterator[np.ndarray]:
    """The sound of clips that follow one another, in pieces float32 [n] of 10 s at `RATE_HZ`; the last is shorter."""
    size, rest = round(WINDOW_SECONDS * RATE_HZ), np.zeros(0, np.float32)
    for clip in clips:
        sound = read(folder / clip.file).to_channels(1)
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
    windows = np.lib.stride_tricks.sliding_window_view(sound, _SIZE)[::_HOP][_CLICK_FRAMES:-_CLICK_FRAMES]
    power: np.ndarray = np.abs(np.fft.rfft(windows * np.hanning(_SIZE).astype(np.float32), axis=1)) ** 2
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
