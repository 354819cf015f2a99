"""Pitch of a recording's leading melody over time, to a cent.

Conventions: samples are float [T] at `rate_hz`; pitch in Hz, NaN where unvoiced; one value every `hop_seconds`,
the n-th at n * hop_seconds. Path and voicing come from `pitch_salience`, on a grid of ten cents; each value is then
refined by the reassigned frequencies of its harmonics (Auger and Flandrin 1995). Accuracy:
docs/reports/pitch-tracking.md.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from talim.audio import Audio
from talim.audio.load_librosa import load_librosa
from talim.metrics import pitch_salience
from talim.metrics.cache import MetricCache

VERSION = 2  # raise it with every change of `track_pitch`: it is part of the cache key
RATE_HZ = 16000
HOP_SECONDS = 0.02
LOWEST_HZ = 75.0
HIGHEST_HZ = 1100.0
FRAME_SECONDS = 0.064
_YIN_FRAMES = 3000  # at a time: a minute
_YIN_HOP_SECONDS = 0.02
_REFINED_FRAMES = 256  # at a time: some MB
_COLUMNS = 32


@dataclass(frozen=True)
class PitchTrack:
    """Pitch `hz` [n] (NaN where unvoiced), `voiced` [n] bool, one value each `hop_seconds`."""

    hz: np.ndarray
    voiced: np.ndarray
    hop_seconds: float

    @property
    def cents(self) -> np.ndarray:
        """Cents above A4 = 440 Hz [n], NaN where unvoiced."""
        return 1200 * np.log2(self.hz / 440.0)


def track_pitch(
    samples: np.ndarray,
    rate_hz: int,
    *,
    hop_seconds: float = HOP_SECONDS,
    lowest_hz: float = LOWEST_HZ,
    highest_hz: float = HIGHEST_HZ,
) -> PitchTrack:
    """Pitch of the leading melody in `samples` [T], also over a drone, chords and drums.

    Raises ValueError for samples that are not one finite, non-empty channel.
    """
    samples = np.asarray(samples, np.float32)
    if samples.ndim != 1 or samples.size == 0 or not np.isfinite(samples).all():
        raise ValueError(f"pitch needs one non-empty channel of finite samples, not an array of shape {samples.shape}")
    hop = max(1, round(hop_seconds * rate_hz))
    coarse, _ = pitch_salience.track_f0(samples, rate_hz, hop, lowest_hz, highest_hz)
    fine = refine_f0(samples, rate_hz, coarse, hop)
    return PitchTrack(fine, np.isfinite(coarse), hop / rate_hz)


def track_pitch_cached(audio: Audio, cache: MetricCache) -> PitchTrack:
    """`track_pitch` of the mix-down at 16 kHz, cached by the clip's content."""

    def compute() -> np.ndarray:
        return track_pitch(audio.mono().resample(RATE_HZ).samples[0], RATE_HZ).hz

    hz = cache.get(audio, f"melody/{VERSION}", compute)
    return PitchTrack(hz, np.isfinite(hz), HOP_SECONDS)


def yin_f0_of_blocks(blocks: Iterable[np.ndarray], rate_hz: int) -> PitchTrack:
    """Pitch by plain YIN (de Cheveigne and Kawahara 2002): to about ten cents, faster than `track_pitch` and without
    its smoothing.

    The sound comes in blocks float32 [n]; memory does not follow the length of the samples. Frames more than 40 dB
    below the loud ones count as unvoiced.
    """
    frame = 1 << math.ceil(math.log2(2.2 * rate_hz / LOWEST_HZ))  # holds two periods of the lowest pitch
    hop = max(1, round(_YIN_HOP_SECONDS * rate_hz))
    rest = np.zeros(frame // 2, np.float32)
    pitches: list[np.ndarray] = []
    levels: list[np.ndarray] = []
    for block in itertools.chain(blocks, [np.zeros(frame // 2, np.float32)]):
        rest = np.concatenate([rest, block])
        while len(rest) >= frame:
            count = min(_YIN_FRAMES, 1 + (len(rest) - frame) // hop)
            f0_hz, level = _yin_frames(rest[: frame + hop * (count - 1)], rate_hz, frame, hop)
            pitches.append(f0_hz)
            levels.append(level)
            rest = rest[count * hop :]
    f0_hz, level = np.concatenate(pitches), np.concatenate(levels)
    voiced = (level > 0.01 * np.quantile(level, 0.95)) & (level > 1e-5)
    return PitchTrack(np.where(voiced, f0_hz, np.nan), voiced, hop / rate_hz)


def _yin_frames(samples: np.ndarray, rate_hz: int, frame: int, hop: int) -> tuple[np.ndarray, np.ndarray]:
    """Pitch in Hz and RMS of each whole frame."""
    librosa = load_librosa()

    f0_hz = librosa.yin(
        samples, fmin=LOWEST_HZ, fmax=HIGHEST_HZ, sr=rate_hz, frame_length=frame, hop_length=hop, center=False
    )
    return f0_hz, librosa.feature.rms(y=samples, frame_length=frame, hop_length=hop, center=False)[0][: f0_hz.size]


def refine_f0(samples: np.ndarray, rate_hz: int, coarse_hz: np.ndarray, hop: int, harmonics: int = 8) -> np.ndarray:
    """Refine `coarse_hz` [n] (NaN = unvoiced) by at most 40 cents, from the harmonics' reassigned frequencies.

    Weighted mean of f_k / k over harmonics k, with weight k^2 |X_k|^2, the inverse variance of that estimate in white
    noise; harmonics more than 40 cents off belong to other sounds and are left out.
    """
    size = int(FRAME_SECONDS * rate_hz) // 2 * 2
    padded = np.pad(samples.astype(np.float64), (size // 2, size))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    fine = np.array(coarse_hz, np.float64)
    voiced = np.flatnonzero(np.isfinite(coarse_hz))
    for start in range(0, voiced.size, _REFINED_FRAMES):
        some = voiced[start : start + _REFINED_FRAMES]
        fine[some] = _refine_frames(frames[some], rate_hz, fine[some], np.arange(1, harmonics + 1))
    return fine


def _refine_frames(frames: np.ndarray, rate_hz: int, coarse_hz: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """`refine_f0` of frames [n, size] with pitches [n] in Hz, from harmonics `orders` [k]."""
    size = frames.shape[1]
    steps = np.arange(size) - size / 2
    hann = 0.5 + 0.5 * np.cos(2 * np.pi * steps / size)
    slope = -np.pi / size * np.sin(2 * np.pi * steps / size)
    windowed = frames[:, None] * np.stack([hann, slope])
    fine = coarse_hz
    for _ in range(2):
        harmonics_hz = orders * fine[:, None]
        plain, derived = _fourier_sums(windowed, -2 * np.pi / rate_hz * harmonics_hz)
        power = np.abs(plain) ** 2 + 1e-18
        reassigned_hz = harmonics_hz - np.imag(derived * plain.conj()) / power * rate_hz / (2 * np.pi)
        estimates = reassigned_hz / orders
        close = np.abs(1200 * np.log2(np.maximum(estimates, 1.0) / coarse_hz[:, None])) < 40
        weight = power * orders**2 * (close & (harmonics_hz < 0.45 * rate_hz))
        total = weight.sum(axis=1)
        fine = np.where(total > 0, (estimates * weight).sum(axis=1) / np.where(total > 0, total, 1), fine)
    return fine


def _fourier_sums(windowed: np.ndarray, angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums over t of x(t) exp(i a (t - size/2)): complex [n, k] of each of the two rows of [n, 2, size], a of [n, k].

    With t = 32 r + c the exponential is a product of one of r and one of c, so that few are computed.
    """
    count, _, size = windowed.shape
    rows = -(-size // _COLUMNS)
    filled = np.zeros((count, 2, rows * _COLUMNS))
    filled[:, :, :size] = windowed
    of_column = np.exp(1j * angles[:, None, :] * np.arange(_COLUMNS)[:, None])  # [n, 32, k]
    of_row = np.exp(1j * angles[:, None, :] * (np.arange(rows) * _COLUMNS - size / 2)[:, None])
    matrix = np.concatenate([np.real(of_column), np.imag(of_column)], axis=2)
    real, imaginary = np.split(filled.reshape(count, 2 * rows, _COLUMNS) @ matrix, 2, axis=2)
    sums = ((real + 1j * imaginary).reshape(count, 2, rows, -1) * of_row[:, None]).sum(axis=2)
    return sums[:, 0], sums[:, 1]
