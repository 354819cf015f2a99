"""The pitch of a recording over time, to a cent.

Conventions: samples are float [T] at `rate_hz`; pitch in Hz, NaN where unvoiced; one value every `hop_seconds`,
the n-th at n * hop_seconds. Candidates and voicing come from pYIN (Mauch and Dixon 2014) in librosa, which answers
on a grid of ten cents; each is then refined by the reassigned frequencies of its harmonics (Auger and Flandrin 1995).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

LOWEST_HZ = 75.0
HIGHEST_HZ = 1100.0
FRAME_SECONDS = 0.064


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


def track(
    samples: np.ndarray,
    rate_hz: int,
    *,
    hop_seconds: float = 0.02,
    lowest_hz: float = LOWEST_HZ,
    highest_hz: float = HIGHEST_HZ,
) -> PitchTrack:
    """The melody's pitch in `samples` [T].

    Raises ValueError for samples that are not one finite, non-empty channel.
    """
    import librosa

    samples, padded, frame, hop = framed(samples, rate_hz, hop_seconds, lowest_hz)
    coarse, voiced, _ = librosa.pyin(
        padded, fmin=lowest_hz, fmax=highest_hz, sr=rate_hz, frame_length=frame, hop_length=hop
    )
    count = 1 + samples.size // hop
    coarse, voiced = coarse[:count], voiced[:count]
    voiced = voiced & np.isfinite(coarse)
    fine = refine(samples, rate_hz, np.where(voiced, coarse, np.nan), hop)
    return PitchTrack(fine, voiced, hop / rate_hz)


def quick(samples: np.ndarray, rate_hz: int, *, hop_seconds: float = 0.02) -> PitchTrack:
    """The melody's pitch in `samples` [T] by plain YIN (de Cheveigne and Kawahara 2002): to some ten cents, a hundred
    times faster than `track`, and without its smoothing: where nothing is voiced, values jump about.

    Frames more than 40 dB below the loud ones count as unvoiced. Raises ValueError as `track` does.
    """
    import librosa

    _, padded, frame, hop = framed(samples, rate_hz, hop_seconds, LOWEST_HZ)
    found_hz = librosa.yin(
        padded, fmin=LOWEST_HZ, fmax=HIGHEST_HZ, sr=rate_hz, frame_length=frame, hop_length=hop
    )
    level = librosa.feature.rms(y=padded, frame_length=frame, hop_length=hop)[0][: found_hz.size]
    voiced = (level > 0.01 * np.quantile(level, 0.95)) & (level > 1e-5)
    return PitchTrack(np.where(voiced, found_hz, np.nan), voiced, hop / rate_hz)


def framed(
    samples: np.ndarray, rate_hz: int, hop_seconds: float, lowest_hz: float
) -> tuple[np.ndarray, np.ndarray, int, int]:
    """The samples [T] as float32, the same filled up to one frame at least, and frame and hop in samples.

    A frame holds two periods of `lowest_hz`. Raises ValueError for what is not one finite, non-empty channel.
    """
    samples = np.asarray(samples, np.float32)
    if samples.ndim != 1 or samples.size == 0 or not np.isfinite(samples).all():
        raise ValueError(
            f"pitch needs one non-empty channel of finite samples, not an array of shape {samples.shape}"
        )
    frame = 1 << math.ceil(math.log2(2.2 * rate_hz / lowest_hz))
    padded = np.pad(samples, (0, max(0, frame - samples.size)))
    return samples, padded, frame, max(1, round(hop_seconds * rate_hz))


def refine(
    samples: np.ndarray, rate_hz: int, coarse_hz: np.ndarray, hop: int, harmonics: int = 8
) -> np.ndarray:
    """Sharpen `coarse_hz` [n] (NaN = unvoiced) by at most 40 cents, from the harmonics' reassigned frequencies.

    Harmonic k votes for f_k / k with the weight k^2 |X_k|^2, the inverse variance of that estimate in white noise;
    harmonics that lie further than 40 cents off belong to other sounds and have no vote.
    """
    size = int(FRAME_SECONDS * rate_hz) // 2 * 2
    steps = np.arange(size) - size / 2
    hann = 0.5 + 0.5 * np.cos(2 * np.pi * steps / size)
    slope = -np.pi / size * np.sin(2 * np.pi * steps / size)
    padded = np.pad(samples.astype(np.float64), (size // 2, size))
    fine = np.array(coarse_hz, np.float64)
    orders = np.arange(1, harmonics + 1)
    for n in np.flatnonzero(np.isfinite(coarse_hz)):
        frame = padded[n * hop : n * hop + size]
        for _ in range(2):
            at_hz = orders * fine[n]
            usable = at_hz < 0.45 * rate_hz
            turn = np.exp(-2j * np.pi / rate_hz * np.outer(at_hz[usable], steps))
            plain, derived = turn @ (hann * frame), turn @ (slope * frame)
            power = np.abs(plain) ** 2 + 1e-18
            voted = at_hz[usable] - (derived * plain.conj()).imag / power * rate_hz / (2 * np.pi)
            votes = voted / orders[usable]
            close = np.abs(1200 * np.log2(np.maximum(votes, 1.0) / coarse_hz[n])) < 40
            if not close.any():
                break
            weight = (power * orders[usable] ** 2)[close]
            fine[n] = float((votes[close] * weight).sum() / weight.sum())
    return fine
