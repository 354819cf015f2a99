"""Loudness, clipping, silence and noise of a clip: what a mixing engineer checks before listening.

Conventions: all channels count; shares are 0 to 1; nothing but the loudness changes with gain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from talim.audio import Audio, loudness_lufs

FRAME_SECONDS = 0.05
SILENT_DB = -50.0  # under the loud frames of the same clip
DIGITAL_SILENCE = 1e-5  # -100 dBFS: rounding of 16 bits, whatever the rest is
PLATEAU = 0.999  # of the peak: within 0.009 dB
MIN_PLATEAU_STEP = 0.005  # of the peak: a tone's own round top is entered more gently
SHORTEST_PLATEAU = 3
QUANTILE = 0.1
BANDS = 20
LOWEST_HZ = 100.0


@dataclass(frozen=True)
class ClipLevels:
    """A clip's levels; see the functions of the same names."""

    loudness_lufs: float
    clipped_fraction: float
    silent_fraction: float
    longest_silence_seconds: float
    noise_db: float


def levels(audio: Audio) -> ClipLevels:
    """All of them at once. ValueError for a clip without samples."""
    quiet = _silent_frames(audio)
    runs = np.diff(np.flatnonzero(np.concatenate([[True], ~quiet, [True]]))) - 1
    return ClipLevels(
        loudness_lufs(audio),
        clipped_fraction(audio),
        float(quiet.mean()),
        float(runs.max() * FRAME_SECONDS),
        noise_db(audio),
    )


def clipped_fraction(audio: Audio) -> float:
    """Share of samples that lie on a flat top: three or more in a row within 0.1 % of the channel's peak.

    A flat top is entered or left by a step of more than 0.5 % of the peak, which a slow sine's round top is not. Range
    0 to 1, lower is better, 0 for what was never clipped. It finds clipping also after a change of gain; not after a
    lossy coding or resampling, which round the edges. Own definition.
    """
    _require_sound(audio)
    count = 0
    for channel in audio.samples.astype(np.float64):
        peak = float(np.abs(channel).max())
        for side in (channel, -channel):
            flat = side >= PLATEAU * peak
            if peak < DIGITAL_SILENCE or not flat.any():
                continue
            edges = np.diff(np.concatenate([[0], flat.astype(np.int8), [0]]))
            starts, stops = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
            around = np.concatenate([[side[0]], side, [side[-1]]])
            step = np.maximum(
                side[starts] - around[starts], side[stops - 1] - around[np.minimum(stops + 1, side.size + 1)]
            )
            wide = (stops - starts >= SHORTEST_PLATEAU) & (step > MIN_PLATEAU_STEP * peak)
            count += int((stops - starts)[wide].sum())
    return count / audio.samples.size


def silent_fraction(audio: Audio) -> float:
    """Share of frames of 50 ms that lie 50 dB under the clip's loud frames (their 95th percentile), or under -100 dBFS.

    Range 0 to 1; lower is fuller; 1 for digital silence. Relative, so that a quiet recording is not a silent one.
    Own definition, after the gate of EBU R 128's loudness range.
    """
    return float(_silent_frames(audio).mean())


def noise_db(audio: Audio) -> float:
    """Power of the steady noise against the whole, in dB: about 0 for noise alone, -60 and less for clean synthesis.

    In each of 20 bands (from 100 Hz up, evenly on a logarithmic axis) the 10th percentile of the spectrogram's
    powers, which lies between partials and in pauses, is taken for noise; for Gaussian noise it is 0.105 of the mean
    (its powers are exponential), so it is divided by that. Lower is cleaner; -inf without noise; NaN for silence.
    A dense reverberation counts in part. After the minimum statistics of Martin 2001.
    """
    import librosa

    _require_sound(audio)
    sound = audio.mono().samples[0].astype(np.float64)
    size = 1 << round(np.log2(0.128 * audio.rate_hz))
    padded = np.pad(sound, (0, max(0, size - sound.size)))
    # Blackman-Harris: the side lobes of a Hann window would fill the valleys between partials.
    spectrum = librosa.stft(padded, n_fft=size, hop_length=size // 2, window="blackmanharris", center=False)
    power = np.abs(spectrum) ** 2
    total = power.sum(0)
    heard = total > max(10 ** (SILENT_DB / 10) * np.quantile(total, 0.95), size * DIGITAL_SILENCE**2)
    if not heard.any():
        return float("nan")
    power = power[:, heard]
    edges = np.geomspace(LOWEST_HZ, audio.rate_hz / 2, BANDS + 1) * size / audio.rate_hz
    noise, whole = 0.0, 0.0
    for low, high in zip(edges[:-1].astype(int), edges[1:].astype(int), strict=True):
        band = power[low : max(high, low + 1)]
        noise += band.shape[0] * float(np.quantile(band, QUANTILE)) / -np.log1p(-QUANTILE)
        whole += float(band.sum(0).mean())
    return float(10 * np.log10(noise / whole)) if noise > 0 else float("-inf")


def _silent_frames(audio: Audio) -> np.ndarray:
    """Which frames of 50 ms are silent [n]; the rest of a frame at the end goes with the last one."""
    _require_sound(audio)
    size = max(1, round(FRAME_SECONDS * audio.rate_hz))
    power = (audio.samples.astype(np.float64) ** 2).mean(0)
    starts = np.arange(0, max(1, power.size - size + 1), size)
    counts = np.diff(np.append(starts, power.size))
    level = np.sqrt(np.add.reduceat(power, starts) / counts)
    return level <= max(10 ** (SILENT_DB / 20) * float(np.quantile(level, 0.95)), DIGITAL_SILENCE)


def _require_sound(audio: Audio) -> None:
    if audio.frames == 0:
        raise ValueError("levels need sound: the clip has 0 samples")
