"""Integrated loudness after ITU-R BS.1770-4."""

from __future__ import annotations

import math

import numpy as np

from talim.audio.audio import Audio

_BLOCK_SECONDS = 0.4
_STEP_SECONDS = 0.1
_ABSOLUTE_GATE_LUFS = -70.0
_RELATIVE_GATE_LU = -10.0
_FILTERED_SAMPLES = 1 << 17  # at a time, to bound the memory of float64 copies


class LoudnessMeter:
    """Integrated loudness of a sound that comes in blocks; memory does not depend on its length."""

    def __init__(self, rate_hz: int, channels: int) -> None:
        self._rate_hz = rate_hz
        self._filters = [(b, a, np.zeros((channels, 2))) for b, a in (_head_filter(rate_hz), _high_pass(rate_hz))]
        self._block, self._step = round(_BLOCK_SECONDS * rate_hz), max(1, round(_STEP_SECONDS * rate_hz))
        self._energy = np.zeros(0)  # from the start of the next gating block
        self._power: list[np.ndarray] = []

    def add(self, samples: np.ndarray) -> None:
        """Measure a further block float32 [C, n]."""
        for start in range(0, samples.shape[1], _FILTERED_SAMPLES):
            self._add(samples[:, start : start + _FILTERED_SAMPLES])

    def _add(self, samples: np.ndarray) -> None:
        from scipy.signal import lfilter

        filtered = samples.astype(np.float64)
        for numerator, denominator, state in self._filters:
            filtered, state[:] = lfilter(numerator, denominator, filtered, axis=1, zi=state)
        self._energy = np.concatenate([self._energy, (filtered**2).sum(axis=0)])
        starts = np.arange(0, self._energy.size - self._block + 1, self._step)
        if starts.size:
            self._power.append(_block_power(self._energy, starts, self._block))
            self._energy = self._energy[starts[-1] + self._step :]

    def lufs(self) -> float:
        """Loudness of what was added so far, as `loudness_lufs`."""
        power = np.concatenate(self._power) if self._power else np.zeros(0)
        if not power.size and self._energy.size:
            power = _block_power(self._energy, np.zeros(1, int), self._energy.size)
        loud = power[power > 10 ** ((_ABSOLUTE_GATE_LUFS + 0.691) / 10)]
        if loud.size == 0:
            return -math.inf
        gated = loud[loud > loud.mean() * 10 ** (_RELATIVE_GATE_LU / 10)]
        return -0.691 + 10 * math.log10(gated.mean())


def loudness_lufs(audio: Audio) -> float:
    """Integrated loudness in LUFS, gated; -inf for silence. Higher is louder.

    Every channel has weight 1 (mono and stereo). Audio shorter than a 400 ms block is measured as one block.
    Source: ITU-R BS.1770-4; a 997 Hz sine at full scale in one channel reads -3.01.
    """
    meter = LoudnessMeter(audio.rate_hz, audio.channels)
    meter.add(audio.samples)
    return meter.lufs()


def _block_power(energy: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
    """Mean energy of the stretches of `length` samples that begin at `starts`."""
    summed = np.concatenate([[0.0], np.cumsum(energy)])
    return (summed[starts + length] - summed[starts]) / length


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
