"""What a clip sounds like, as a short vector.

Conventions: samples are float [T] at `rate_hz`; the vector is deterministic and has no unit.
"""

from __future__ import annotations

import numpy as np


def describe(samples: np.ndarray, rate_hz: int, coefficients: int = 20) -> np.ndarray:
    """Means and spreads over time of the mel cepstrum and of its change, float [4 * coefficients].

    Loudness is left out (the zeroth coefficient's mean is removed), so that a quiet clip sounds like a loud one.
    """
    import librosa

    hop = max(1, round(rate_hz * 0.01))
    cepstrum = librosa.feature.mfcc(
        y=np.asarray(samples, np.float32),
        sr=rate_hz,
        n_mfcc=coefficients,
        n_fft=1024,
        hop_length=hop,
        n_mels=64,
    )
    cepstrum[0] -= cepstrum[0].mean()
    change = np.diff(cepstrum, axis=1, prepend=cepstrum[:, :1])
    rows = (cepstrum.mean(1), cepstrum.std(1), np.abs(change).mean(1), change.std(1))
    return np.concatenate(rows)
