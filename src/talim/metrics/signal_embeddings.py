"""The shipped embeddings: timbre, tonic-invariant pitch, and rhythm, computed from the signal.

Conventions: samples are float [T] at 16 kHz, a vector is float32 [d], one for the whole clip; deterministic and
independent of gain. Nothing is learned, so that no evaluation data can have been in a training set.
"""

from __future__ import annotations

import numpy as np

from talim.audio.load_librosa import load_librosa
from talim.metrics import pitch
from talim.metrics.pitch import PitchTrack


def timbre_features(samples: np.ndarray, rate_hz: int, coefficients: int = 20) -> np.ndarray:
    """Means and standard deviations over time of the MFCCs and of their change, float [4 * coefficients].

    The zeroth coefficient's mean, the loudness, is removed.
    """
    librosa = load_librosa()

    hop = max(1, round(rate_hz * 0.01))
    cepstrum = librosa.feature.mfcc(
        y=np.asarray(samples, np.float32), sr=rate_hz, n_mfcc=coefficients, n_fft=1024, hop_length=hop, n_mels=64
    )
    cepstrum[0] -= cepstrum[0].mean()
    change = np.diff(cepstrum, axis=1, prepend=cepstrum[:, :1])
    rows = (cepstrum.mean(1), cepstrum.std(1), np.abs(change).mean(1), change.std(1))
    return np.concatenate(rows)


RATE_HZ = 16000
BINS = 120  # of ten cents in an octave
HARMONICS = 16
ORDER = 5
LAGS_SECONDS = (0.1, 0.4, 1.6)
INTERVALS = 13  # of a semitone, from a tritone down to a tritone up
PERIODS = 24
SHORTEST_SECONDS, LONGEST_SECONDS = 0.125, 4.0


def timbre_vector(samples: np.ndarray) -> np.ndarray:
    """Timbre: `timbre_features` of the clip, [80]."""
    return timbre_features(samples, RATE_HZ).astype(np.float32)


def pitch_vector(samples: np.ndarray) -> np.ndarray:
    """Scale and melodic steps independent of the tonic: `pitch_invariants` of the clip's pitch track, [85]."""
    return pitch_invariants(pitch.track_pitch(samples, RATE_HZ))


def pitch_invariants(track: PitchTrack) -> np.ndarray:
    """Scale and melodic steps of a pitch track without its transposition, float32 [85]; zeros without pitch.

    16 magnitudes of the Fourier transform of the pitch-class histogram (10-cent bins; Lewin, Quinn 2006), 30 numbers
    of its bispectrum, which is invariant to a shift but not to inversion (so that a mode differs from its mirror
    image), and the fractions of 13 semitone steps over 0.1, 0.4 and 1.6 s. No tonic has to be estimated.
    """
    cents = track.cents
    voiced = cents[np.isfinite(cents)]
    if voiced.size == 0:
        return np.zeros(HARMONICS + ORDER * (ORDER + 1) + len(LAGS_SECONDS) * INTERVALS, np.float32)
    classes = np.floor(np.mod(voiced, 1200) / (1200 / BINS)).astype(int) % BINS
    waves = np.fft.fft(np.bincount(classes, minlength=BINS) / voiced.size)
    pairs = [(a, b) for a in range(1, ORDER + 1) for b in range(a, ORDER + 1)]
    mixed = np.array([waves[a] * waves[b] * waves[a + b].conj() for a, b in pairs])
    mixed = mixed / np.maximum(np.abs(mixed), 1e-9) * np.abs(mixed) ** (1 / 3)  # as large as the magnitudes
    steps = [_step_fractions(cents, lag, track.hop_seconds) for lag in LAGS_SECONDS]
    parts = (np.abs(waves[1 : HARMONICS + 1]), mixed.real, mixed.imag, *steps)
    return np.concatenate(parts).astype(np.float32)


def _step_fractions(cents: np.ndarray, lag_seconds: float, hop_seconds: float) -> np.ndarray:
    """Fractions of 13 semitone steps over `lag_seconds`, [13]."""
    lag = max(1, round(lag_seconds / hop_seconds))
    moves = cents[lag:] - cents[:-lag]
    moves = moves[np.isfinite(moves)]
    half = INTERVALS // 2
    steps = np.clip(np.round(moves / 100), -half, half).astype(int) + half
    return np.bincount(steps, minlength=INTERVALS) / max(1, steps.size)


def rhythm_vector(samples: np.ndarray) -> np.ndarray:
    """Rhythm, [52]: autocorrelation of the onset strength below and above 500 Hz at 24 periods from 1/8 to 4 s, its
    coefficient of variation and its skewness. Zeros for silence and for clips shorter than a quarter of a second.
    """
    librosa = load_librosa()

    hop, num_bands = RATE_HZ // 100, 40
    mel = librosa.feature.melspectrogram(
        y=np.asarray(samples, np.float32), sr=RATE_HZ, n_fft=1024, hop_length=hop, n_mels=num_bands
    )
    loud = np.log1p(1e3 * mel / max(float(mel.max()), 1e-12))
    rise = np.maximum(np.diff(loud, axis=1), 0.0)
    edge = int(np.searchsorted(librosa.mel_frequencies(n_mels=num_bands, fmax=RATE_HZ / 2), 500.0))
    bands = [_periodicity(band.mean(0)) for band in (rise[:edge], rise[edge:])]
    return np.concatenate(bands).astype(np.float32)


def _periodicity(strength: np.ndarray) -> np.ndarray:
    """Autocorrelation of an onset strength (100 values per second) at the periods, its variation and skewness; [26]."""
    centred = strength - strength.mean() if strength.size else strength
    spread = float(centred.std()) if strength.size else 0.0
    if strength.size < 25 or spread < 1e-6:
        return np.zeros(PERIODS + 2)
    size = 1 << int(np.ceil(np.log2(2 * centred.size)))
    products = np.fft.irfft(np.abs(np.fft.rfft(centred, size)) ** 2)[: centred.size]
    lags = 100 * np.geomspace(SHORTEST_SECONDS, LONGEST_SECONDS, PERIODS)
    values = np.interp(lags, np.arange(centred.size), products / products[0], right=0.0)
    return np.concatenate([values, [spread / strength.mean(), (centred**3).mean() / spread**3 / 3]])
