"""Known damage to music, on a pitch track and on sound: what a score must notice, and what it must not.

Conventions: a contour is float [n] in cents above the tonic, NaN where unvoiced, one value every 10 ms; sound is
float32 [T] at 16 kHz. Every damage is a pure function; randomness comes from the Generator that is handed in.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage, signal

from talim.metrics import pitch, pitch_contour
from talim.synthesis.ground_truth import FormSection

HOP_SECONDS = 0.01
RATE_HZ = pitch.RATE_HZ


def flatten_pitch(cents: np.ndarray) -> np.ndarray:
    """Steady notes alone, joined by straight lines: no ornament is left."""
    notes = pitch_contour.steady_notes(pitch_contour.clean_f0(cents, HOP_SECONDS), HOP_SECONDS)
    if not notes:
        return cents
    knots = np.array([[n.start, n.stop - 1] for n in notes]).reshape(-1)
    line = np.interp(np.arange(cents.size), knots, np.repeat([n.cents for n in notes], 2))
    return np.where(np.isfinite(cents), line, np.nan)


def smooth_pitch(cents: np.ndarray, seconds: float = 0.3) -> np.ndarray:
    """The running mean over `seconds` of what is voiced."""
    voiced, width = np.isfinite(cents), round(seconds / HOP_SECONDS) | 1
    total = ndimage.uniform_filter1d(np.where(voiced, cents, 0.0), width)
    share = ndimage.uniform_filter1d(voiced.astype(float), width)
    return np.where(voiced, total / np.maximum(share, 1e-9), np.nan)


def median_filter(cents: np.ndarray, seconds: float = 0.3) -> np.ndarray:
    """The running median over `seconds`, breath by breath."""
    found = cents.copy()
    for start, stop in pitch_contour.true_runs(np.isfinite(cents)):
        found[start:stop] = ndimage.median_filter(
            cents[start:stop], round(seconds / HOP_SECONDS) | 1, mode="nearest"
        )
    return found


def jitter_pitch(
    cents: np.ndarray, rng: np.random.Generator, size_cents: float, smooth_frames: float = 0.0
) -> np.ndarray:
    """Random pitch errors of this standard deviation, new in every frame or smoothed over some frames."""
    noise = rng.standard_normal(cents.size)
    if smooth_frames:
        noise = ndimage.gaussian_filter1d(noise, smooth_frames)
        noise /= noise.std()
    return cents + size_cents * noise


def shuffle_segments(cents: np.ndarray, rng: np.random.Generator, seconds: float = 2.5) -> np.ndarray:
    """Cut into pieces of `seconds` and put together in random order."""
    size = round(seconds / HOP_SECONDS)
    parts = [cents[n : n + size] for n in range(0, cents.size, size)]
    return np.concatenate([parts[n] for n in rng.permutation(len(parts))])


def drop_repeated_sections(
    cents: np.ndarray, sections: Sequence[FormSection], kind: str = "refrain"
) -> np.ndarray:
    """The contour with every section of a kind cut out but its first."""
    keep = np.ones(cents.size, bool)
    for section in [s for s in sections if s.kind == kind and s.time > 1]:
        keep[round(section.onset_seconds / HOP_SECONDS) : round(section.end_seconds / HOP_SECONDS)] = False
    return cents[keep]


def loop_segment(cents: np.ndarray, seconds: float = 6.0) -> np.ndarray:
    """The first `seconds` again and again: a piece that copies itself."""
    return np.resize(cents[: round(seconds / HOP_SECONDS)], cents.size)


def add_noise(samples: np.ndarray, rng: np.random.Generator, snr_db: float = 20.0) -> np.ndarray:
    """White noise this far under the music."""
    noise = rng.standard_normal(samples.size).astype(np.float32)
    return samples + noise * np.sqrt(np.mean(samples**2)) * np.float32(10 ** (-snr_db / 20))


def low_pass(samples: np.ndarray, corner_hz: float = 1500.0) -> np.ndarray:
    """A fourth-order Butterworth low-pass."""
    return np.asarray(
        signal.sosfilt(signal.butter(4, corner_hz, fs=RATE_HZ, output="sos"), samples), np.float32
    )


def drop_frames(samples: np.ndarray, share: float = 0.2) -> np.ndarray:
    """A silence of this share of the clip in its middle."""
    found, size = samples.copy(), round(share * samples.size)
    start = (samples.size - size) // 2
    found[start : start + size] = 0
    return found


def clip_samples(samples: np.ndarray, drive_db: float = 12.0) -> np.ndarray:
    """Driven over full scale by this much."""
    peak = float(np.abs(samples).max()) + 1e-9
    return np.clip(samples * np.float32(10 ** (drive_db / 20) / peak), -1, 1)


def add_tempo_drift(samples: np.ndarray, share_a_minute: float = 0.3) -> np.ndarray:
    """Ever faster, by this share of the tempo a minute, as a tape that speeds up: the pitch rises with it.

    Stretching piece by piece would keep the pitch and leave a seam every second, which is a beat of its own.
    """
    # After t seconds of the new clip 60 / share * (exp(share * t / 60) - 1) seconds of the old one have been played.
    old = samples.size / RATE_HZ
    share = share_a_minute / 60
    at = np.arange(0, np.log1p(share * old) / share, 1 / RATE_HZ)
    return np.interp(np.expm1(share * at) / share * RATE_HZ, np.arange(samples.size), samples).astype(
        np.float32
    )


def transpose(samples: np.ndarray, semitones: float = 1.0) -> np.ndarray:
    """Higher by some semitones, the tempo kept."""
    import librosa

    return librosa.effects.pitch_shift(samples, sr=RATE_HZ, n_steps=semitones)


def transcode(samples: np.ndarray) -> np.ndarray:
    """Through MP3 at a constant 128 kbit/s (at 32 kHz) and back, without the coder's delay."""
    import soundfile

    wide = signal.resample_poly(samples, 2, 1)
    buffer = io.BytesIO()
    level = 1 - (128 - 32) / (320 - 32)  # libsndfile maps 0..1 to the rates from 320 down to 32
    soundfile.write(
        buffer, wide, 2 * RATE_HZ, format="MP3", subtype="MPEG_LAYER_III",
        bitrate_mode="CONSTANT", compression_level=level,
    )  # fmt: skip
    buffer.seek(0)
    found = signal.resample_poly(soundfile.read(buffer, dtype="float32")[0], 1, 2)
    return np.asarray(np.pad(found, (0, max(0, samples.size - found.size)))[: samples.size], np.float32)


INVARIANT_TRANSFORMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "gain of -6 dB": lambda samples: samples * np.float32(10 ** (-6 / 20)),
    "offset of 1 s": lambda samples: samples[RATE_HZ:],
    "transposition": transpose,
    "128 kbit/s": transcode,
}
