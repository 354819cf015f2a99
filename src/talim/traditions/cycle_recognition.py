"""Which cycle a recording keeps, if any, from the strength of its onsets alone.

The onsets are folded at the length of each cycle, for each beat that the tempo allows, and compared with the cycle's
strokes at the phase where they agree most. How well they agree, and how much one round is like the next, give the
probability of each cycle and of none; a conditional logit model, fitted to synthesised performances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from talim.traditions.schema import Cycle

FRAMES_PER_SECOND = 100
BEATS_PER_BEAT = (0.25, 1 / 3, 0.5, 2 / 3, 1, 1.5, 2, 3, 4)  # of a cycle in one of the tempo, which may be a multiple
MIN_BPM, MAX_BPM = 20.0, 480.0
MIN_CYCLE_SECONDS, MIN_ROUNDS = 0.6, 2.0
STROKE_FRAMES = 7  # over which a stroke is spread
SHARPNESS = 6.0  # how far the best beat decides for its cycle
# Of correlation, repetition, their product, and log2 of the number of rounds; then the logit of no cycle at all. From
# `python -m research.validation.suggested_cycles --fit`.
WEIGHTS = np.array([3.63, 11.36, 31.96, -0.84])
NO_CYCLE = 4.69


@dataclass(frozen=True)
class PossibleCycle:
    """Cycles of the same strokes, with the probability that a recording keeps one of them.

    `contrast`, -1 to 1, is how much more a round is like the next than like itself some other number of beats later: of
    an even pulse, which any cycle of even strokes fits, it is about 0.
    """

    cycles: tuple[Cycle, ...]
    probability: float
    contrast: float


def recognize_cycle(strength: np.ndarray, bpm: float, cycles: Sequence[Cycle]) -> list[PossibleCycle]:
    """The cycles that a recording may keep, the most probable first; what is missing to 1 is that it keeps none.

    `strength` [n] is that of the onsets, 100 values per second, and `bpm` the tempo, up to simple ratios. Cycles
    without strokes, and those of which fewer than two rounds fit, are left out.
    """
    alike: dict[object, list[Cycle]] = {}
    for cycle in cycles:
        if cycle.strokes:
            alike.setdefault((cycle.beats, cycle.strokes), []).append(cycle)
    fits = [(tuple(group), fit_features(strength, bpm, group[0])) for group in alike.values()]
    fits = [(group, rows) for group, rows in fits if len(rows)]
    logits = np.array([cycle_logit(rows, WEIGHTS) for _, rows in fits])
    probabilities = np.exp(logits - np.logaddexp.reduce([*logits, NO_CYCLE]))
    found = [
        PossibleCycle(group, float(probability), best_contrast(rows, WEIGHTS))
        for (group, rows), probability in zip(fits, probabilities, strict=True)
    ]
    return sorted(found, key=lambda each: -each.probability)


def cycle_logit(features: np.ndarray, weights: np.ndarray) -> float:
    """The logit of a cycle from its features at each beat [n, 5]: nearly that of the best beat."""
    return float(np.logaddexp.reduce(SHARPNESS * (features[:, :-1] @ weights)) / SHARPNESS)


def best_contrast(features: np.ndarray, weights: np.ndarray) -> float:
    """The contrast at the best beat."""
    return float(features[int(np.argmax(features[:, :-1] @ weights)), -1])


def fit_features(strength: np.ndarray, bpm: float, cycle: Cycle) -> np.ndarray:
    """How onsets fit a cycle for each beat that is possible, float [n, 5]: those of WEIGHTS, and the contrast."""
    onsets = np.asarray(strength, float)
    if not np.isfinite(bpm) or not onsets.size or np.ptp(onsets) == 0:
        return np.zeros((0, len(WEIGHTS) + 1))
    onsets = np.sqrt(np.maximum(onsets - np.median(onsets), 0))
    onsets -= onsets.mean()
    repeats, rows = _autocorrelation(onsets), []
    for ratio in BEATS_PER_BEAT:
        frames = cycle.beats * 60 / (bpm * ratio) * FRAMES_PER_SECOND
        if not (MIN_BPM <= bpm * ratio <= MAX_BPM and frames >= MIN_CYCLE_SECONDS * FRAMES_PER_SECOND):
            continue
        if MIN_ROUNDS * frames > onsets.size:
            continue
        period = max(frames * np.linspace(0.97, 1.03, 13), key=lambda each: float(_folded(onsets, each).var()))
        correlation = _best_correlation(_folded(onsets, period), cycle)
        repetition = max(0.0, _near(repeats, period))
        rounds = float(np.log2(onsets.size / period))
        rows.append(
            [correlation, repetition, correlation * repetition, rounds, _contrast(repeats, period, cycle.beats)]
        )
    return np.array(rows).reshape(-1, len(WEIGHTS) + 1)


def _near(repeats: np.ndarray, lag: float) -> float:
    return float(repeats[max(0, int(lag) - 2) : int(lag) + 3].max(initial=0.0))


def _contrast(repeats: np.ndarray, period: float, beats: float) -> float:
    """The repetition after a round, less the mean after other whole beats from half a round to one and a half."""
    lags = [period * count / beats for count in range(max(1, round(beats / 2)), int(1.5 * beats) + 1)]
    others = [
        _near(repeats, lag) for lag in lags if abs(lag - period) >= period / beats - 1e-6 and lag < repeats.size - 3
    ]
    return _near(repeats, period) - (float(np.mean(others)) if others else 0.0)


def _folded(onsets: np.ndarray, period: float) -> np.ndarray:
    """The mean of all rounds of `period` frames, float [round(period)]."""
    size = round(period)
    places = (np.arange(onsets.size) % period / period * size).astype(int) % size
    return np.bincount(places, onsets, size) / np.maximum(np.bincount(places, minlength=size), 1)


def _best_correlation(folded: np.ndarray, cycle: Cycle) -> float:
    """Pearson's correlation of one round with the cycle's strokes, at the phase where it is highest."""
    strokes = np.zeros(folded.size)
    for stroke in cycle.strokes:
        strokes[round(stroke.onset_beats / cycle.beats * folded.size) % folded.size] += stroke.weight
    window = np.zeros(folded.size)
    window[:STROKE_FRAMES] = np.hanning(STROKE_FRAMES)
    spread = np.fft.irfft(np.fft.rfft(strokes) * np.fft.rfft(window), folded.size)
    one, other = folded - folded.mean(), spread - spread.mean()
    products = np.fft.irfft(np.fft.rfft(one) * np.conj(np.fft.rfft(other)), folded.size)
    return float(products.max() / (np.linalg.norm(one) * np.linalg.norm(other) + 1e-12))


def _autocorrelation(onsets: np.ndarray) -> np.ndarray:
    """Correlation of the onsets with themselves at each lag, unbiased, [n]."""
    power = np.abs(np.fft.rfft(onsets, 2 * onsets.size)) ** 2
    products = np.fft.irfft(power, 2 * onsets.size)[: onsets.size]
    return products / products[0] * (onsets.size / np.arange(onsets.size, 0, -1))
