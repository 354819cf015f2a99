"""Tempo.

Conventions: samples are float [T] at `rate_hz`; tempo in beats a minute (bpm); octave errors (half, double) are left
to the caller to forgive, as is usual (Gouyon et al. 2006, "accuracy 2").
"""

from __future__ import annotations

import numpy as np

SLOWEST_BPM, FASTEST_BPM = 40.0, 240.0


def tempo_bpm(samples: np.ndarray, rate_hz: int) -> float:
    """The tempo whose beat, its half and its bar the onset strength repeats at most; NaN for silence.

    The autocorrelation of the onset strength is summed over one, two and four beats at each candidate, which keeps
    a single long note value from deciding.
    """
    import librosa

    hop = max(1, round(rate_hz * 0.01))
    strength = librosa.onset.onset_strength(
        y=np.asarray(samples, np.float32), sr=rate_hz, hop_length=hop, n_fft=1024
    )
    strength = strength - strength.mean()
    if not np.any(strength):
        return float("nan")
    size = 1 << int(np.ceil(np.log2(2 * strength.size)))
    power = np.abs(np.fft.rfft(strength, size)) ** 2
    likeness = np.fft.irfft(power)[: strength.size]
    likeness = likeness / likeness[0] * (strength.size / np.arange(strength.size, 0, -1))
    candidates = np.exp(np.linspace(np.log(SLOWEST_BPM), np.log(FASTEST_BPM), 400))
    beat = 60.0 / candidates * rate_hz / hop
    score = np.zeros(candidates.size)
    for beats in (1, 2, 4):
        lags = beats * beat
        inside = lags < 0.7 * strength.size
        score += np.where(inside, np.interp(lags, np.arange(likeness.size), likeness), 0.0)
    prior = np.exp(-0.5 * (np.log2(candidates / 95.0) / 0.9) ** 2)
    return float(candidates[np.argmax(score * prior)])


def same_tempo(one_bpm: float, other_bpm: float, within: float = 0.08) -> bool:
    """Whether two tempi agree to the share `within`, half and double forgiven."""
    return any(abs(one_bpm * factor / other_bpm - 1) <= within for factor in (0.5, 1.0, 2.0))
