"""The leading melody of a mixture: pitch salience by harmonic kernels, followed through time.

Conventions: samples are float [T] at `rate_hz`; pitch in Hz, NaN where unvoiced; frames are centred on n * hop.
The kernels follow SWIPE' (Camacho and Harris 2008: lobes on prime harmonics, trenches between them), on a logarithmic
axis; the path is Viterbi's, with a cost per cent of movement, as melody extraction asks (Salamon and Gomez 2012).
The constants were chosen on the excerpts and performances of docs/reports/pitch-tracking.md.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

STEP_CENTS = 10.0
TOP_HZ = 5000.0
WINDOW_SECONDS = 0.08
HARMONIC_MULTIPLES = (1, 2, 3, 5, 7, 11)
LOBE_WIDTH_CENTS = 60.0
SUBHARMONIC_PENALTY = 0.7
STEADY_LEVEL_FRACTION = 0.5
UNVOICED_SALIENCE = 0.28  # salience at which a frame counts as unvoiced as soon as voiced
JUMP_COST = 0.6  # of any leap, however far; a glide costs GLIDE_COST a semitone
GLIDE_COST = 0.06
VOICING_COST = 0.4  # of falling silent and of beginning


def track_f0(
    samples: np.ndarray,
    rate_hz: int,
    hop: int,
    lowest_hz: float,
    highest_hz: float,
    *,
    still: float = STEADY_LEVEL_FRACTION,
) -> tuple[np.ndarray, np.ndarray]:
    """Pitch [n] in Hz on a 10-cent grid (NaN = unvoiced) and its salience [n], about 0 (noise) to 1 (one tone).

    `still` (0 to 1) is the share of each frequency's steady level that is taken off before: drones and hum.
    """
    spectrum = log_spectrum(samples, rate_hz, hop, lowest_hz, still)
    strength = harmonic_kernels(lowest_hz, highest_hz, spectrum.shape[0]) @ spectrum
    path = viterbi(strength)
    voiced = path >= 0
    frames = np.arange(path.size)
    hz = np.where(voiced, lowest_hz * 2 ** (path * STEP_CENTS / 1200), np.nan)
    return hz, np.where(voiced, strength[path, frames], strength.max(0))


def log_spectrum(
    samples: np.ndarray, rate_hz: int, hop: int, lowest_hz: float, still: float = STEADY_LEVEL_FRACTION
) -> np.ndarray:
    """Square root of the magnitude spectrum [bands, n] on a 10-cent axis from `lowest_hz`, of unit length a frame.

    Frames 50 dB below the loud ones fade out, so that silence is no pitch.
    """
    import librosa

    size = int(WINDOW_SECONDS * rate_hz)
    points = 1 << int(np.ceil(np.log2(2.5 * size)))
    padded = np.pad(np.asarray(samples, np.float32), (0, max(0, points - samples.size)))
    magnitude = np.abs(librosa.stft(padded, n_fft=points, win_length=size, hop_length=hop))
    magnitude = magnitude[:, : 1 + samples.size // hop]
    top_hz = min(TOP_HZ, 0.48 * rate_hz)
    bands = int(1200 * np.log2(top_hz / lowest_hz) / STEP_CENTS)
    at = lowest_hz * 2 ** (np.arange(bands) * STEP_CENTS / 1200) * points / rate_hz
    below = at.astype(int)
    part = (at - below)[:, None]
    loud = np.sqrt((1 - part) * magnitude[below] + part * magnitude[below + 1])
    if still:
        loud = np.maximum(loud - still * np.quantile(loud, 0.3, axis=1, keepdims=True), 0.0)
    length = np.linalg.norm(loud, axis=0)
    floor = np.quantile(length, 0.95) * 10 ** (-50 / 40) + 1e-9
    return loud / np.maximum(length, floor)


@lru_cache(maxsize=4)
def harmonic_kernels(lowest_hz: float, highest_hz: float, bands: int) -> np.ndarray:
    """One row a candidate pitch f [pitches, bands]: lobes at f and its prime multiples, trenches beside each.

    With prime multiples alone half of the true pitch meets one lobe of two, not all its even ones.
    """
    pitches = int(1200 * np.log2(highest_hz / lowest_hz) / STEP_CENTS) + 1
    axis, found = np.arange(bands) * STEP_CENTS, np.zeros((pitches, bands))
    parts = [
        (k + side / 2, -SUBHARMONIC_PENALTY / 2 if side else 1.0)
        for k in HARMONIC_MULTIPLES
        for side in (-1, 0, 1)
    ]
    for row in range(pitches):
        for multiple, depth in parts:
            gap = np.abs(axis - row * STEP_CENTS - 1200 * np.log2(multiple)) / LOBE_WIDTH_CENTS
            lobe = np.where(gap < 1, np.cos(np.pi / 2 * gap) ** 2, 0.0)
            found[row] += depth * lobe / np.sqrt(max(1.0, multiple))
        found[row] /= np.linalg.norm(np.maximum(found[row], 0))
    return found.astype(np.float32)


def viterbi(strength: np.ndarray) -> np.ndarray:
    """The path [n] through `strength` [pitches, n] with the greatest sum after costs; -1 where unvoiced.

    Exact in time linear in the pitches: for a cost linear in distance the best predecessor is a running maximum.
    """
    pitches, frames = strength.shape
    slope = GLIDE_COST * np.arange(pitches) * STEP_CENTS / 100
    rows = np.arange(pitches)
    came = np.empty((frames, pitches + 1), np.int32)
    score, silent = strength[:, 0].astype(float), UNVOICED_SALIENCE
    for n in range(1, frames):
        rising, falling = score + slope, score - slope
        up = np.maximum.accumulate(rising)
        down = np.maximum.accumulate(falling[::-1])[::-1]
        from_below = np.maximum.accumulate(np.where(rising >= up, rows, 0))
        from_above = np.minimum.accumulate(np.where(falling >= down, rows, pitches)[::-1])[::-1]
        near = np.maximum(up - slope, down + slope)
        before = np.where(up - slope >= down + slope, from_below, from_above)
        top = int(score.argmax())
        for value, origin in ((score[top] - JUMP_COST, top), (silent - VOICING_COST, pitches)):
            better = value > near
            near, before = np.where(better, value, near), np.where(better, origin, before)
        came[n, :pitches] = before
        ends = score[top] - VOICING_COST
        came[n, pitches] = top if ends > silent else pitches
        silent = max(ends, silent) + UNVOICED_SALIENCE
        score = near + strength[:, n]
    state = int(score.argmax()) if score.max() >= silent else pitches
    path = np.empty(frames, int)
    for n in range(frames - 1, -1, -1):
        path[n] = state
        state = came[n, state] if n else state
    return np.where(path == pitches, -1, path)
