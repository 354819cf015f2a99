"""Pitch salience of a mixture by harmonic kernels, and the leading melody's path through it.

Conventions: samples are float [T] at `rate_hz`; pitch in Hz, NaN where unvoiced; frames are centred on n * hop.
The kernels follow SWIPE' (Camacho and Harris 2008: lobes on prime harmonics, trenches between them), on a logarithmic
axis; the path is found by the Viterbi algorithm with a cost per cent of movement (cf. Salamon and Gomez 2012).
The constants were chosen on the excerpts and performances of docs/reports/pitch-tracking.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np

from talim.audio.load_librosa import load_librosa

STEP_CENTS = 10.0
TOP_HZ = 5000.0
WINDOW_SECONDS = 0.08
HARMONIC_MULTIPLES = (1, 2, 3, 5, 7, 11)
LOBE_WIDTH_CENTS = 60.0
SUBHARMONIC_PENALTY = 0.7
STEADY_LEVEL_FRACTION = 0.5
UNVOICED_SALIENCE = 0.28  # salience of the unvoiced state
JUMP_COST = 0.6  # of a leap of any size; a glide costs GLIDE_COST per semitone
GLIDE_COST = 0.06
VOICING_COST = 0.4  # of a change between voiced and unvoiced
_PART_FRAMES = 2000  # whose spectra are held at a time
_BAND_VALUES = 200_000  # of bands whose levels are taken at a time


def track_f0(
    samples: np.ndarray,
    rate_hz: int,
    hop: int,
    lowest_hz: float,
    highest_hz: float,
    *,
    steady_fraction: float = STEADY_LEVEL_FRACTION,
) -> tuple[np.ndarray, np.ndarray]:
    """Pitch [n] in Hz on a 10-cent grid (NaN = unvoiced) and its salience [n], about 0 (noise) to 1 (one tone).

    `steady_fraction` (0 to 1) of each frequency's steady level (drones, hum) is subtracted first.
    """
    spectrum = log_spectrum(samples, rate_hz, hop, lowest_hz, steady_fraction)
    kernels = harmonic_kernels(lowest_hz, highest_hz, spectrum.shape[0])
    salience = np.empty(spectrum.shape[1])  # of the best pitch of each frame

    def strengths() -> Iterator[np.ndarray]:
        for part in _parts(spectrum.shape[1]):
            strength = kernels @ spectrum[:, part]
            salience[part] = strength.max(0)
            yield strength

    path = viterbi(strengths())
    voiced = path >= 0
    for part in _parts(path.size):
        here = np.flatnonzero(voiced[part])
        salience[part][here] = (kernels[path[part][here]] * spectrum[:, part][:, here].T).sum(1)
    return np.where(voiced, lowest_hz * 2 ** (path * STEP_CENTS / 1200), np.nan), salience


def _parts(frames: int) -> list[slice]:
    """All frames, in parts whose tables are held at a time."""
    return [slice(first, min(first + _PART_FRAMES, frames)) for first in range(0, frames, _PART_FRAMES)]


def log_spectrum(
    samples: np.ndarray, rate_hz: int, hop: int, lowest_hz: float, steady_fraction: float = STEADY_LEVEL_FRACTION
) -> np.ndarray:
    """Square root of the magnitude spectrum [bands, n] on a 10-cent axis from `lowest_hz`, each frame of unit norm.

    Frames 50 dB below the loud ones are attenuated, so that silence has no pitch.
    """
    librosa = load_librosa()

    size = int(WINDOW_SECONDS * rate_hz)
    points = 1 << int(np.ceil(np.log2(2.5 * size)))
    frames, around = 1 + samples.size // hop, points // 2
    padded = np.pad(np.asarray(samples, np.float32), (around, around + max(0, points - samples.size)))
    top_hz = min(TOP_HZ, 0.48 * rate_hz)
    bands = int(1200 * np.log2(top_hz / lowest_hz) / STEP_CENTS)
    at = lowest_hz * 2 ** (np.arange(bands) * STEP_CENTS / 1200) * points / rate_hz
    below = at.astype(int)
    weight = (at - below)[:, None]
    loud = np.empty((bands, frames))
    for part in _parts(frames):
        sound = padded[part.start * hop : (part.stop - 1) * hop + points]
        magnitude = np.abs(librosa.stft(sound, n_fft=points, win_length=size, hop_length=hop, center=False))
        loud[:, part] = np.sqrt((1 - weight) * magnitude[below] + weight * magnitude[below + 1])
    if steady_fraction:
        together = max(1, _BAND_VALUES // frames)
        for rows in (loud[first : first + together] for first in range(0, bands, together)):
            np.maximum(rows - steady_fraction * np.quantile(rows, 0.3, axis=1, keepdims=True), 0.0, out=rows)
    length = np.concatenate([np.linalg.norm(loud[:, part], axis=0) for part in _parts(frames)])
    min_length = np.quantile(length, 0.95) * 10 ** (-50 / 40) + 1e-9
    loud /= np.maximum(length, min_length)
    return loud


@lru_cache(maxsize=4)
def harmonic_kernels(lowest_hz: float, highest_hz: float, bands: int) -> np.ndarray:
    """One row per candidate pitch f [pitches, bands]: lobes at f and its prime multiples, negative ones between them.

    With prime multiples only, a candidate at half the true pitch matches few harmonics, instead of every second one.
    """
    pitches = int(1200 * np.log2(highest_hz / lowest_hz) / STEP_CENTS) + 1
    cents, kernels = np.arange(bands) * STEP_CENTS, np.zeros((pitches, bands))
    above = cents - np.arange(pitches)[:, None] * STEP_CENTS  # of each candidate
    parts = [(k + end / 2, -SUBHARMONIC_PENALTY / 2 if end else 1.0) for k in HARMONIC_MULTIPLES for end in (-1, 0, 1)]
    for multiple, depth in parts:
        gap = np.abs(above - 1200 * np.log2(multiple)) / LOBE_WIDTH_CENTS
        near = gap < 1  # a few per cent of all
        kernels[near] += depth * np.cos(np.pi / 2 * gap[near]) ** 2 / np.sqrt(max(1.0, multiple))
    for row in kernels:
        row /= np.linalg.norm(np.maximum(row, 0))
    return kernels.astype(np.float32)


def viterbi(blocks: Iterable[np.ndarray]) -> np.ndarray:
    """The path [n] through a strength in blocks [pitches, n] with the greatest sum after costs; -1 where unvoiced.

    Exact in time linear in the pitches: for a cost linear in distance the best predecessor is a running maximum.
    """
    columns = (block[:, n] for block in blocks for n in range(block.shape[1]))
    score, silent = next(columns).astype(float), UNVOICED_SALIENCE
    pitches = score.size
    slope = GLIDE_COST * np.arange(pitches) * STEP_CENTS / 100
    rows = np.arange(pitches)
    kept = [np.zeros(pitches + 1, np.int16)]  # where each state of a frame came from
    for strength in columns:
        origins = np.empty(pitches + 1, np.int16)
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
        origins[:pitches] = before
        ends = score[top] - VOICING_COST
        origins[pitches] = top if ends > silent else pitches
        kept.append(origins)
        silent = max(ends, silent) + UNVOICED_SALIENCE
        score = near + strength
    state = int(score.argmax()) if score.max() >= silent else pitches
    path = np.empty(len(kept), int)
    for n in range(len(kept) - 1, -1, -1):
        path[n] = state
        state = int(kept[n][state])
    return np.where(path == pitches, -1, path)
