"""Reverberation by convolution with a random impulse response."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import signal

from talim.synthesis.western_instruments import RATE_HZ


@dataclass(frozen=True)
class Reverb:
    """`decay_seconds` is the reverberation time (RT60); `wet` the level relative to the direct sound."""

    name: str
    decay_seconds: float
    wet: float
    first_echo_seconds: float


REVERBS = (
    Reverb("dry", 0.0, 0.0, 0.0),
    Reverb("small room", 0.3, 0.25, 0.004),
    Reverb("chamber", 0.7, 0.3, 0.009),
    Reverb("courtyard", 0.5, 0.2, 0.021),
    Reverb("hall", 1.6, 0.35, 0.018),
)


def convolve_reverb(reverb: Reverb, samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`samples` [T] with reverberation, float32 [T]; the direct sound is not delayed."""
    if not reverb.wet:
        return samples.astype(np.float32)
    size = int(reverb.decay_seconds * RATE_HZ)
    seconds = np.arange(size) / RATE_HZ
    tail = rng.standard_normal(size) * 10 ** (-3 * seconds / reverb.decay_seconds)
    tail = np.convolve(tail, (0.25, 0.5, 0.25), "same")  # high-frequency absorption
    tail[: int(reverb.first_echo_seconds * RATE_HZ)] = 0.0
    for _ in range(4):
        tail[int(rng.uniform(1.0, 4.0) * reverb.first_echo_seconds * RATE_HZ)] += 4.0 * rng.uniform(-1, 1)
    impulse = reverb.wet * tail / np.sqrt(np.sum(tail**2))
    impulse[0] = 1.0
    wet = signal.oaconvolve(samples.astype(np.float64), impulse)
    return wet[: samples.size].astype(np.float32)
