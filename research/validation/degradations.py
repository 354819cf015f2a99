"""Degradations of pitch contours and of audio that a score must respond to, and transforms that it must ignore.

Conventions: a contour is float [n] in cents above the tonic, NaN where unvoiced, one value every 10 ms; audio is
float32 [T] at 16 kHz. Every function is pure; randomness comes from the Generator argument.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage, signal

from talim.audio.load_librosa import load_librosa
from talim.metrics import pitch, pitch_contour
from talim.synthesis.ground_truth import FormSection

HOP_SECONDS = 0.01
RATE_HZ = pitch.RATE_HZ


def flatten_pitch(cents: np.ndarray) -> np.ndarray:
    """Steady notes only, joined by straight lines, without ornaments."""
    notes = pitch_contour.steady_notes(pitch_contour.clean_f0(cents, HOP_SECONDS), HOP_SECONDS)
    if not notes:
        return cents
    knots = np.array([[n.start, n.stop - 1] for n in notes]).reshape(-1)
    line = np.interp(np.arange(cents.size), knots, np.repeat([n.cents for n in notes], 2))
    return np.where(np.isfinite(cents), line, np.nan)


def smooth_pitch(cents: np.ndarray, seconds: float = 0.3) -> np.ndarray:
    """The running mean over `seconds` of the voiced frames."""
    voiced, width = np.isfinite(cents), round(seconds / HOP_SECONDS) | 1
    total = ndimage.uniform_filter1d(np.where(voiced, cents, 0.0), width)
    voiced_fraction = ndimage.uniform_filter1d(voiced.astype(float), width)
    return np.where(voiced, total / np.maximum(voiced_fraction, 1e-9), np.nan)


def median_filter(cents: np.ndarray, seconds: float = 0.3) -> np.ndarray:
    """The running median over `seconds` within each voiced run."""
    smoothed = cents.copy()
    for start, stop in pitch_contour.true_runs(np.isfinite(cents)):
        smoothed[start:stop] = ndimage.median_filter(
            cents[start:stop], round(seconds / HOP_SECONDS) | 1, mode="nearest"
        )
    return smoothed


def jitter_pitch(
    cents: np.ndarray, rng: np.random.Generator, size_cents: float, smooth_frames: float = 0.0
) -> np.ndarray:
    """Gaussian pitch errors of this standard deviation, independent per frame or smoothed over some frames."""
    noise = rng.standard_normal(cents.size)
    if smooth_frames:
        noise = ndimage.gaussian_filter1d(noise, smooth_frames)
        noise /= noise.std()
    return cents + size_cents * noise


def shuffle_segments(cents: np.ndarray, rng: np.random.Generator, seconds: float = 2.5) -> np.ndarray:
    """Cut into segments of `seconds` and joined in random order."""
    size = round(seconds / HOP_SECONDS)
    parts = [cents[n : n + size] for n in range(0, cents.size, size)]
    return np.concatenate([parts[n] for n in rng.permutation(len(parts))])


def drop_repeated_sections(cents: np.ndarray, sections: Sequence[FormSection], kind: str = "refrain") -> np.ndarray:
    """The contour without the repetitions of the sections of a kind."""
    keep = np.ones(cents.size, bool)
    for section in [s for s in sections if s.kind == kind and s.occurrence > 1]:
        keep[round(section.onset_seconds / HOP_SECONDS) : round(section.end_seconds / HOP_SECONDS)] = False
    return cents[keep]


def loop_segment(cents: np.ndarray, seconds: float = 6.0) -> np.ndarray:
    """The first `seconds`, repeated."""
    return np.resize(cents[: round(seconds / HOP_SECONDS)], cents.size)


def add_noise(samples: np.ndarray, rng: np.random.Generator, snr_db: float = 20.0) -> np.ndarray:
    """White noise at this signal-to-noise ratio."""
    noise = rng.standard_normal(samples.size).astype(np.float32)
    return samples + noise * np.sqrt(np.mean(samples**2)) * np.float32(10 ** (-snr_db / 20))


def low_pass(samples: np.ndarray, corner_hz: float = 1500.0) -> np.ndarray:
    """A fourth-order Butterworth low-pass."""
    return np.asarray(signal.sosfilt(signal.butter(4, corner_hz, fs=RATE_HZ, output="sos"), samples), np.float32)


def drop_frames(samples: np.ndarray, fraction: float = 0.2) -> np.ndarray:
    """Silence over this fraction of the clip, in its middle."""
    silenced, size = samples.copy(), round(fraction * samples.size)
    start = (samples.size - size) // 2
    silenced[start : start + size] = 0
    return silenced


def clip_samples(samples: np.ndarray, drive_db: float = 12.0) -> np.ndarray:
    """Amplified so that the peak is this far above full scale, and clipped."""
    peak = float(np.abs(samples).max()) + 1e-9
    return np.clip(samples * np.float32(10 ** (drive_db / 20) / peak), -1, 1)


def add_tempo_drift(samples: np.ndarray, drift_per_minute: float = 0.3) -> np.ndarray:
    """Speed that increases by this fraction per minute, like a tape: the pitch rises with it.

    Stretching segment by segment would keep the pitch but add a periodic seam, which is a beat of its own.
    """
    # After t seconds of the output, (exp(drift * t) - 1) / drift seconds of the input have been played.
    seconds = samples.size / RATE_HZ
    drift = drift_per_minute / 60
    times = np.arange(0, np.log1p(drift * seconds) / drift, 1 / RATE_HZ)
    return np.interp(np.expm1(drift * times) / drift * RATE_HZ, np.arange(samples.size), samples).astype(np.float32)


def transpose(samples: np.ndarray, semitones: float = 1.0) -> np.ndarray:
    """Transposed by some semitones at the same tempo."""
    librosa = load_librosa()

    return librosa.effects.pitch_shift(samples, sr=RATE_HZ, n_steps=semitones)


def transcode(samples: np.ndarray) -> np.ndarray:
    """Encoded as MP3 at a constant 128 kbit/s (at 32 kHz) and decoded, without the codec's delay."""
    import soundfile

    upsampled = signal.resample_poly(samples, 2, 1)
    buffer = io.BytesIO()
    level = 1 - (128 - 32) / (320 - 32)  # libsndfile maps 0..1 to the rates from 320 down to 32
    soundfile.write(
        buffer, upsampled, 2 * RATE_HZ, format="MP3", subtype="MPEG_LAYER_III",
        bitrate_mode="CONSTANT", compression_level=level,
    )  # fmt: skip
    buffer.seek(0)
    decoded = signal.resample_poly(soundfile.read(buffer, dtype="float32")[0], 1, 2)
    return np.asarray(np.pad(decoded, (0, max(0, samples.size - decoded.size)))[: samples.size], np.float32)


INVARIANT_TRANSFORMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "gain of -6 dB": lambda samples: samples * np.float32(10 ** (-6 / 20)),
    "offset of 1 s": lambda samples: samples[RATE_HZ:],
    "transposition": transpose,
    "128 kbit/s": transcode,
}
