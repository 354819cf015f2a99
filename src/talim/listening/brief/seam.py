"""Where a loop's end meets its beginning: whether it clicks, and whether the sound changes more than it does inside."""

from __future__ import annotations

import numpy as np

WINDOW_SECONDS = 0.05
_FLOOR_DB = -80.0


def click_ratio(samples: np.ndarray) -> float:
    """The bend of the wave at the seam over the strongest of 999 in 1000 bends inside; above 1 it stands out.

    `samples` [T]. A bend is the second difference, which a steady wave keeps small and a jump does not.
    """
    around = np.concatenate([samples[-2:], samples[:2]]).astype(np.float64)
    inside = np.abs(np.diff(samples.astype(np.float64), 2))
    usual = float(np.quantile(inside, 0.999)) if inside.size else 0.0
    return float(np.abs(np.diff(around, 2)).max() / max(usual, 1e-6))


def change_rank(samples: np.ndarray, rate_hz: int) -> float:
    """The share of all changes inside that are smaller than the one over the seam; in [0, 1], NaN if too short.

    A change is the root mean square difference in dB between the spectra of two neighbouring 50 ms of `samples` [T].
    """
    size = max(16, round(WINDOW_SECONDS * rate_hz))
    count = samples.size // size
    if count < 4:
        return float("nan")
    # The last window ends at the seam: so that no rest of the division is left there, count from both ends.
    forward = samples[: count * size].reshape(count, size)
    last = samples[-size:][None]
    spectra = _spectra_db(np.concatenate([forward, last]))
    inside = _distance(spectra[:-2], spectra[1:-1])
    seam = _distance(spectra[-1:], spectra[:1])[0]
    return float((inside < seam).mean())


def _spectra_db(windows: np.ndarray) -> np.ndarray:
    power = np.abs(np.fft.rfft(windows * np.hanning(windows.shape[1]), axis=1)) ** 2
    edges = np.unique(np.geomspace(1, power.shape[1] - 1, 25).astype(int))
    bands = np.add.reduceat(power[:, : edges[-1] + 1], edges[:-1], axis=1) + 1e-12
    db = 10 * np.log10(bands)
    return np.maximum(db, db.max() + _FLOOR_DB)


def _distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.sqrt(np.mean((one - other) ** 2, axis=1))
