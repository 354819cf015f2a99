"""Tempo, its drift, and how strongly and how exactly beats and cycles are marked.

Conventions: samples are float [T] at `rate_hz`; tempo in beats a minute (bpm); octave errors (half, double) are left
to the caller to forgive, as is usual (Gouyon et al. 2006, "accuracy 2"). `strength` is an onset strength [n], 100
values a second, as `onset_strength` gives it; blind to gain.
"""

from __future__ import annotations

import numpy as np

MIN_BPM, MAX_BPM = 40.0, 240.0
FRAMES_A_SECOND = 100
STRETCH_SECONDS = 8.0
SHORTEST_DRIFT_SECONDS = 24.0
OTHER_DRIFT, MIN_PULSE_CLARITY = 0.2, 1.3


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
    candidates = np.exp(np.linspace(np.log(MIN_BPM), np.log(MAX_BPM), 400))
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


def onset_strength(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    """How much begins to sound at each hundredth of a second, float [n] from 0 up: the spectral flux of librosa."""
    import librosa

    hop = max(1, round(rate_hz / FRAMES_A_SECOND))
    strength = librosa.onset.onset_strength(
        y=np.asarray(samples, np.float32), sr=rate_hz, hop_length=hop, n_fft=1024
    )
    return np.maximum(strength, 0.0)


def autocorrelation(strength: np.ndarray) -> np.ndarray:
    """Correlation of the strength with itself at each lag, unbiased, [n]; lag 0 is 1; zeros for a constant."""
    centred = strength - strength.mean()
    power = float(centred @ centred)
    if power < 1e-12:
        return np.zeros(strength.size)
    size = 1 << int(np.ceil(np.log2(2 * strength.size)))
    likeness = np.fft.irfft(np.abs(np.fft.rfft(centred, size)) ** 2)[: strength.size] / power
    return likeness * (strength.size / np.arange(strength.size, 0, -1))


def cycle_strength(strength: np.ndarray, beats: float, bpm: float) -> float:
    """How strongly the strokes of one cycle of so many beats are those of the next: their correlation a cycle later.

    Range -1 to 1, higher is stronger, about 0 where nothing repeats; NaN where the clip holds less than one and a half
    cycles. The best lag within 3 % of the cycle counts, above the mean of the lags of other whole numbers of beats
    from half a cycle to one and a half, so that a pulse alone is no cycle. Source: own definition, after Foote and
    Uchihashi 2001.
    """
    beat_frames = 60 / bpm * FRAMES_A_SECOND
    if strength.size < 1.5 * beats * beat_frames or beat_frames < 4:
        return float("nan")
    likeness = np.convolve(autocorrelation(strength), np.full(3, 1 / 3), mode="same")

    def after(count: float) -> float:
        lag = count * beat_frames
        return float(likeness[int(0.97 * lag) : int(np.ceil(1.03 * lag)) + 1].max())

    most = min(1.5 * beats, 0.95 * strength.size / beat_frames)
    others = [count for count in range(max(1, round(beats / 2)), int(most) + 1) if abs(count - beats) >= 1]
    return after(beats) - (float(np.mean([after(count) for count in others])) if others else 0.0)


def beat_phase_coherence(strength: np.ndarray, beat_seconds: float) -> float:
    """How exactly onsets fall on an even grid of beats: the length of their mean phase vector.

    Range 0 (anywhere) to 1 (all on the beat), higher is more exact; NaN for silence. The beat is looked for within
    4 % and at once, twice and four times its rate, so that half and quarter beats are on the grid too. Long clips
    and unsteady tempi are judged in stretches of eight seconds. Source: Mardia and Jupp 2000 (mean resultant length).
    """
    size = round(STRETCH_SECONDS * FRAMES_A_SECOND)
    stretches = [strength[n : n + size] for n in range(0, max(1, strength.size - size // 2), size)]
    found = [_phase_length(stretch, beat_seconds) for stretch in stretches if stretch.sum() > 0]
    return float(np.mean(found)) if found else float("nan")


def _phase_length(strength: np.ndarray, beat_seconds: float) -> float:
    peaks = np.maximum(strength - np.quantile(strength, 0.8), 0)
    at = np.arange(strength.size) / FRAMES_A_SECOND
    rates = np.linspace(0.96, 1.04, 41)[:, None] * np.array([1.0, 2.0, 4.0]) / beat_seconds
    turns = np.exp(2j * np.pi * rates.reshape(-1)[:, None] * at)
    lengths = np.abs(turns @ peaks) / max(float(peaks.sum()), 1e-12)
    return float(lengths.reshape(rates.shape).max())


def tempo_drift(strength: np.ndarray) -> float:
    """How much faster or slower a clip becomes: the change of its tempo a minute, as a share, without its sign.

    Range 0 to 0.8, unit: share a minute (0.1 is from 100 to 110 bpm in a minute), lower is steadier; NaN for less than
    24 seconds, silence, and where no pulse is clear. Of all tempi that grow or fall steadily the one on whose beats,
    halves and quarters the onsets fall most exactly (mean resultant length, a chirp periodogram); it is clear where
    drifts that differ by 0.2 or more reach less than 1 / 1.3 of that. Source: own definition.
    """
    seconds = strength.size / FRAMES_A_SECOND
    tops = np.flatnonzero((strength[1:-1] >= strength[:-2]) & (strength[1:-1] > strength[2:])) + 1
    weights = np.maximum(strength[tops] - np.quantile(strength, 0.8), 0) if tops.size else np.zeros(0)
    if seconds < SHORTEST_DRIFT_SECONDS or not weights.any():
        return float("nan")
    at = tops[weights > 0] / FRAMES_A_SECOND - seconds / 2
    weights = weights[weights > 0] / weights.sum()
    drifts = np.arange(-20, 21) * 0.04
    reached = np.array([_best_phase_coherence(at, weights, drift, seconds) for drift in drifts])
    best = drifts[int(reached.argmax())]
    near = best + np.arange(-3, 4) * 0.01
    finer = np.array([_best_phase_coherence(at, weights, drift, seconds) for drift in near])
    others = reached[np.abs(drifts - best) >= OTHER_DRIFT]
    return (
        abs(float(near[int(finer.argmax())]))
        if finer.max() >= MIN_PULSE_CLARITY * others.max()
        else float("nan")
    )


def _best_phase_coherence(at: np.ndarray, weights: np.ndarray, drift: float, seconds: float) -> float:
    """How exactly onsets `at` [n] seconds from the middle fall on beats that drift: the best of all tempi.

    Summed over beats, halves and quarters, so that it ranges from 0 to 3.
    """
    share = drift / 60
    beats = np.expm1(share * at) / share if abs(share) > 1e-9 else at
    rates = np.arange(MIN_BPM / 60, 4 * MIN_BPM / 60, 1 / (8 * seconds))
    turns = np.exp(2j * np.pi * np.outer(rates, beats))
    return float(np.sum([np.abs(turns**multiple @ weights) for multiple in (1, 2, 4)], axis=0).max())
