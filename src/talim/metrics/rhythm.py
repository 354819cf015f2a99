"""Tempo, its drift, and how strongly and how exactly beats and cycles are marked.

Conventions: samples are float [T] at `rate_hz`; tempo in beats per minute (bpm); octave errors (half, double) are left
to the caller to accept, as is usual (Gouyon et al. 2006, "accuracy 2"). `strength` is an onset strength [n], 100
values per second, as from `onset_strength`; no measure depends on gain.
"""

from __future__ import annotations

import numpy as np

from talim.audio.load_librosa import load_librosa

MIN_BPM, MAX_BPM = 40.0, 240.0
FRAMES_PER_SECOND = 100
SEGMENT_SECONDS = 8.0
MIN_DRIFT_CLIP_SECONDS = 24.0
_RATES = 256  # at a time, in the search for a drift
_SPECTRA = 4096  # that are held at a time
MIN_DRIFT_DIFFERENCE, MIN_PULSE_CLARITY = 0.2, 1.3


def tempo_bpm(samples: np.ndarray, rate_hz: int) -> float:
    """The tempo at which the onset strength repeats most after one, two and four beats; NaN for silence.

    The autocorrelation of the onset strength is summed over one, two and four beats at each candidate, so that a single
    long note value does not decide.
    """
    return tempo_of_onsets(onset_strength(samples, rate_hz))


def tempo_of_onsets(strength: np.ndarray) -> float:
    """`tempo_bpm` of an onset strength."""
    autocorr = autocorrelation(strength)
    if not np.any(autocorr):
        return float("nan")
    candidates = np.exp(np.linspace(np.log(MIN_BPM), np.log(MAX_BPM), 400))
    score = np.zeros(candidates.size)
    for beats in (1, 2, 4):
        lags = beats * 60.0 / candidates * FRAMES_PER_SECOND
        values = np.interp(lags, np.arange(autocorr.size), autocorr)
        score += np.where(lags < 0.7 * autocorr.size, values, 0.0)
    prior = np.exp(-0.5 * (np.log2(candidates / 95.0) / 0.9) ** 2)
    return float(candidates[np.argmax(score * prior)])


def same_tempo(first_bpm: float, second_bpm: float, tolerance: float = 0.08) -> bool:
    """Whether two tempi agree within the fraction `tolerance` of the second, half and double included.

    As a hit of mir_eval.tempo.detection, at once, half and double the tempo.
    """
    return any(abs(first_bpm * factor / second_bpm - 1) <= tolerance for factor in (0.5, 1.0, 2.0))


def onset_strength(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    """Spectral flux (librosa), float [n] from 0 up, 100 values per second."""
    librosa = load_librosa()

    hop, size = max(1, round(rate_hz / FRAMES_PER_SECOND)), 1024
    padded = np.pad(np.asarray(samples, np.float32), size // 2)
    basis = librosa.filters.mel(sr=rate_hz, n_fft=size)
    parts = []
    for first in range(0, 1 + samples.size // hop, _SPECTRA):
        sound = padded[first * hop : (first + _SPECTRA - 1) * hop + size]
        spectrum = librosa.stft(sound, n_fft=size, hop_length=hop, center=False)
        parts.append(basis @ (np.abs(spectrum) ** 2))
    bands = librosa.power_to_db(np.concatenate(parts, axis=1))
    strength = librosa.onset.onset_strength(S=bands, sr=rate_hz, hop_length=hop, n_fft=size)
    return np.maximum(strength, 0.0)


def autocorrelation(strength: np.ndarray) -> np.ndarray:
    """Correlation of the strength with itself at each lag, unbiased, [n]; 1 at lag 0; zeros for a constant."""
    centred = strength - strength.mean()
    power = float(centred @ centred)
    if power < 1e-12:
        return np.zeros(strength.size)
    size = 1 << int(np.ceil(np.log2(2 * strength.size)))
    products = np.fft.irfft(np.abs(np.fft.rfft(centred, size)) ** 2)[: strength.size]
    return products / power * (strength.size / np.arange(strength.size, 0, -1))


def cycle_strength(strength: np.ndarray, beats: float, bpm: float) -> float:
    """Correlation of the onsets of one cycle of `beats` beats with those of the next cycle.

    Range -1 to 1, higher is stronger, about 0 where nothing repeats; NaN for clips shorter than one and a half cycles.
    The best lag within 3 % of the cycle counts, minus the mean over lags of other whole numbers of beats from half a
    cycle to one and a half, so that a plain pulse is no cycle. Source: own definition, after Foote and Uchihashi 2001.
    """
    beat_frames = 60 / bpm * FRAMES_PER_SECOND
    if strength.size < 1.5 * beats * beat_frames or beat_frames < 4:
        return float("nan")
    smoothed = np.convolve(autocorrelation(strength), np.full(3, 1 / 3), mode="same")

    def best_near(count: float) -> float:
        lag = count * beat_frames
        return float(smoothed[int(0.97 * lag) : int(np.ceil(1.03 * lag)) + 1].max())

    max_beats = min(1.5 * beats, 0.95 * strength.size / beat_frames)
    counts = range(max(1, round(beats / 2)), int(max_beats) + 1)
    others = [best_near(count) for count in counts if abs(count - beats) >= 1]
    return best_near(beats) - (float(np.mean(others)) if others else 0.0)


def beat_phase_coherence(strength: np.ndarray, beat_seconds: float | None = None, draws: int = 16) -> float:
    """How exactly onsets lie on an even grid of beats, beyond chance: 0 as for onsets anywhere, 1 for all on the beat.

    Range: at most 1, below 0 by chance; higher is more exact; NaN for silence. It is `phase_length`, less its mean for
    the same onsets at random times, over 1 less that mean: onsets anywhere reach a length of 0.3 to 0.5 and steady
    noise one of 0.2, as tempo and phase are searched. Without `beat_seconds` the tempo is estimated, for the random
    times too. The `draws` are the same for every clip.
    Source: Mardia and Jupp 2000 (mean resultant length), corrected as Cohen's kappa is.
    """

    def length(onsets: np.ndarray) -> float:
        beat = 60 / tempo_of_onsets(onsets) if beat_seconds is None else beat_seconds
        return phase_length(onsets, beat)

    found = length(strength) if np.any(strength) else float("nan")
    if not np.isfinite(found):
        return float("nan")
    rng = np.random.default_rng(0)
    by_chance = float(np.nanmean([length(_at_random_times(strength, rng)) for _ in range(draws)]))
    return (found - by_chance) / max(1 - by_chance, 1e-6)


def _at_random_times(strength: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same onsets, those parts that are above the 80th percentile, in another order at random times."""
    level = float(np.quantile(strength, 0.8))
    edges = np.flatnonzero(np.diff(np.concatenate([[0], (strength > level).astype(int), [0]])))
    parts = [strength[start:stop] for start, stop in edges.reshape(-1, 2)]
    free = strength.size - sum(part.size for part in parts)
    starts = np.sort(rng.integers(free + 1, size=len(parts)))
    moved, before = np.full(strength.size, min(level, float(strength.min()))), 0
    for start, index in zip(starts, rng.permutation(len(parts)), strict=True):
        moved[start + before : start + before + parts[index].size] = parts[index]
        before += parts[index].size
    return moved


def phase_length(strength: np.ndarray, beat_seconds: float) -> float:
    """Length of the mean phase vector of onsets on a grid of beats: 1 for all on the beat, 0.3 to 0.5 for anywhere.

    NaN for silence. The beat is searched within 4 %, at one, two and four times its rate, so that half and quarter
    beats are on the grid too. Clips are measured in segments of eight seconds, which allows for unsteady tempi.
    """
    size = round(SEGMENT_SECONDS * FRAMES_PER_SECOND)
    segments = [strength[n : n + size] for n in range(0, max(1, strength.size - size // 2), size)]
    lengths = [_resultant_length(segment, beat_seconds) for segment in segments if segment.sum() > 0]
    return float(np.mean(lengths)) if lengths else float("nan")


def _resultant_length(strength: np.ndarray, beat_seconds: float) -> float:
    weights = np.maximum(strength - np.quantile(strength, 0.8), 0)
    nonzero = np.flatnonzero(weights)
    rates_hz = np.linspace(0.96, 1.04, 41)[:, None] * np.array([1.0, 2.0, 4.0]) / beat_seconds
    phases = np.exp(2j * np.pi * rates_hz.reshape(-1)[:, None] * (nonzero / FRAMES_PER_SECOND))
    return float((np.abs(phases @ weights[nonzero]) / max(float(weights.sum()), 1e-12)).max())


def tempo_drift(strength: np.ndarray) -> float:
    """Absolute change of the tempo per minute, as a fraction of the tempo.

    Range 0 to 0.8, unit: fraction per minute (0.1 is from 100 to 110 bpm in a minute), lower is steadier; NaN for less
    than 24 seconds, silence, and without a clear pulse. Of all steadily changing tempi the one on whose beats, halves
    and quarters the onsets lie most exactly (mean resultant length, a chirp periodogram); it is clear if drifts that
    differ by 0.2 or more reach less than 1 / 1.3 of that. Source: own definition.
    """
    seconds = strength.size / FRAMES_PER_SECOND
    peaks = np.flatnonzero((strength[1:-1] >= strength[:-2]) & (strength[1:-1] > strength[2:])) + 1
    weights = np.maximum(strength[peaks] - np.quantile(strength, 0.8), 0) if peaks.size else np.zeros(0)
    if seconds < MIN_DRIFT_CLIP_SECONDS or not weights.any():
        return float("nan")
    onsets = peaks[weights > 0] / FRAMES_PER_SECOND - seconds / 2
    weights = weights[weights > 0] / weights.sum()
    drifts = np.arange(-20, 21) * 0.04
    coherence = np.array([_drifting_coherence(onsets, weights, drift, seconds) for drift in drifts])
    best = drifts[int(coherence.argmax())]
    near = best + np.arange(-3, 4) * 0.01
    fine = np.array([_drifting_coherence(onsets, weights, drift, seconds) for drift in near])
    others = coherence[np.abs(drifts - best) >= MIN_DRIFT_DIFFERENCE]
    clear = fine.max() >= MIN_PULSE_CLARITY * others.max()
    return abs(float(near[int(fine.argmax())])) if clear else float("nan")


def _drifting_coherence(onsets: np.ndarray, weights: np.ndarray, drift: float, seconds: float) -> float:
    """Best phase coherence of onsets [n] (seconds from the middle) with drifting beats, halves and quarters: 0 to 3."""
    per_second = drift / 60
    warped = np.expm1(per_second * onsets) / per_second if abs(per_second) > 1e-9 else onsets
    step_hz = 1 / (8 * seconds)
    rates_hz = np.arange(MIN_BPM / 60, 4 * MIN_BPM / 60, step_hz)
    turns = np.exp(2j * np.pi * np.outer(np.arange(_RATES) * step_hz, warped))  # from the first rate of a block
    best = 0.0
    for first in range(0, rates_hz.size, _RATES):
        phases = np.exp(2j * np.pi * rates_hz[first] * warped) * turns[: rates_hz.size - first]
        coherence = np.abs(phases @ weights)
        for _ in (2, 4):  # at twice the rate, a phase turns twice as far
            phases *= phases
            coherence += np.abs(phases @ weights)
        best = max(best, float(coherence.max()))
    return best
