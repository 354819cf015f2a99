"""Steady noise of a clip, relative to its music."""

from __future__ import annotations

import numpy as np

from talim.audio import Audio
from talim.audio.levels import DIGITAL_SILENCE_DBFS, SILENCE_BELOW_LOUD_DB
from talim.audio.load_librosa import load_librosa

QUANTILE = 0.1
NUM_BANDS = 20
LOWEST_HZ = 100.0


def noise_db(audio: Audio) -> float:
    """Power of the steady noise relative to the whole, in dB: about 0 for noise alone, -60 or less for clean synthesis.

    In each of 20 bands (from 100 Hz up, evenly spaced on a logarithmic axis) the 10th percentile of the spectrogram's
    powers, which lies between partials and in pauses, is taken for noise; of Gaussian noise it is 0.105 of the mean
    (its powers are exponentially distributed), so it is divided by that. Lower is cleaner; a gain does not change it;
    -inf without noise; NaN for silence. Dense reverberation counts in part. ValueError for audio without samples.
    Source: after the minimum statistics of Martin 2001.
    """
    librosa = load_librosa()

    if audio.frames == 0:
        raise ValueError("noise_db needs sound: the clip has 0 samples")
    samples = audio.mono().samples[0].astype(np.float64)
    size = 1 << round(np.log2(0.128 * audio.rate_hz))
    padded = np.pad(samples, (0, max(0, size - samples.size)))
    # Blackman-Harris: the side lobes of a Hann window would fill the valleys between partials.
    spectrum = librosa.stft(padded, n_fft=size, hop_length=size // 2, window="blackmanharris", center=False)
    power = np.abs(spectrum) ** 2
    total = power.sum(0)
    threshold = 10 ** (-SILENCE_BELOW_LOUD_DB / 10) * np.quantile(total, 0.95)
    sounding = total > max(threshold, size * 10 ** (DIGITAL_SILENCE_DBFS / 10))
    if not sounding.any():
        return float("nan")
    power = power[:, sounding]
    edges = np.geomspace(LOWEST_HZ, audio.rate_hz / 2, NUM_BANDS + 1) * size / audio.rate_hz
    noise, whole = 0.0, 0.0
    for low, high in zip(edges[:-1].astype(int), edges[1:].astype(int), strict=True):
        band = power[low : max(high, low + 1)]
        noise += band.shape[0] * float(np.quantile(band, QUANTILE)) / -np.log1p(-QUANTILE)
        whole += float(band.sum(0).mean())
    return float(10 * np.log10(noise / whole)) if noise > 0 else float("-inf")
