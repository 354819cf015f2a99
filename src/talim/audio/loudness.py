"""Integrated loudness after ITU-R BS.1770-4."""

from __future__ import annotations

import math

import numpy as np

from talim.audio.audio import Audio

_BLOCK_SECONDS = 0.4
_STEP_SECONDS = 0.1
_ABSOLUTE_GATE_LUFS = -70.0
_RELATIVE_GATE_LU = -10.0


def loudness_lufs(audio: Audio) -> float:
    """Integrated loudness in LUFS, gated; -inf for silence. Higher is louder.

    Every channel has weight 1 (mono and stereo). Audio shorter than a 400 ms block is measured as one block.
    Source: ITU-R BS.1770-4; a 997 Hz sine at full scale in one channel reads -3.01.
    """
    if audio.frames == 0:
        return -math.inf
    energy = (_k_weighted(audio) ** 2).sum(axis=0)  # [T]
    block = min(round(_BLOCK_SECONDS * audio.rate_hz), audio.frames)
    step = max(1, round(_STEP_SECONDS * audio.rate_hz))
    summed = np.concatenate([[0.0], np.cumsum(energy)])
    starts = np.arange(0, audio.frames - block + 1, step)
    power = (summed[starts + block] - summed[starts]) / block  # [blocks]
    loud = power[power > 10 ** ((_ABSOLUTE_GATE_LUFS + 0.691) / 10)]
    if loud.size == 0:
        return -math.inf
    gated = loud[loud > loud.mean() * 10 ** (_RELATIVE_GATE_LU / 10)]
    return -0.691 + 10 * math.log10(gated.mean())


def _k_weighted(audio: Audio) -> np.ndarray:
    """The audio [C, T] through the two filters of the standard, float64."""
    from scipy.signal import lfilter

    filtered = audio.samples.astype(np.float64)
    for numerator, denominator in (_head_filter(audio.rate_hz), _high_pass(audio.rate_hz)):
        filtered = lfilter(numerator, denominator, filtered, axis=1)
    return np.asarray(filtered)


def _head_filter(rate_hz: int) -> tuple[np.ndarray, np.ndarray]:
    """The +4 dB shelf. The analogue prototype of the standard's 48 kHz table, so any rate can be measured."""
    gain_db, quality, corner_hz = 3.999843853973347, 0.7071752369554196, 1681.974450955533
    k = math.tan(math.pi * corner_hz / rate_hz)
    high = 10 ** (gain_db / 20)
    band = high**0.4996667741545416
    a0 = 1 + k / quality + k * k
    middle = band * k / quality
    numerator = np.array([high + middle + k * k, 2 * (k * k - high), high - middle + k * k]) / a0
    return numerator, np.array([1.0, 2 * (k * k - 1) / a0, (1 - k / quality + k * k) / a0])


def _high_pass(rate_hz: int) -> tuple[np.ndarray, np.ndarray]:
    """The low-frequency roll-off (RLB) of the standard."""
    quality, corner_hz = 0.5003270373238773, 38.13547087602444
    k = math.tan(math.pi * corner_hz / rate_hz)
    a0 = 1 + k / quality + k * k
    return np.array([1.0, -2.0, 1.0]), np.array([1.0, 2 * (k * k - 1) / a0, (1 - k / quality + k * k) / a0])
