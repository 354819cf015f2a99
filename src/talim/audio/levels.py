"""Peak, clipping and silence: the only definitions in talim, used by `prepare`, the scores and the brief's checks.

Conventions: full scale is +-1; fractions are 0 to 1; all channels count. The thresholds were chosen on twelve real
recordings (singing, concerts, orchestra, studio mixes), on copies of them clipped by 1 to 12 dB (both sides or one;
at full scale, then turned down by 6 to 50 dB) or saturated softly, and on pure tones.
"""

from __future__ import annotations

import math

import numpy as np
from pydantic import BaseModel, ConfigDict

from talim.audio.audio import Audio
from talim.audio.loudness import loudness_lufs

# Clipping. Three samples, because one is a peak and two may be. Within 0.1 % of the extreme, because rounding to
# 16 bits after a change of gain moves equal samples apart. The step, because the round top of a slow sine is flat
# over many samples too, but is entered more gently; and because in quiet 16-bit files every top is a few steps wide.
MIN_PLATEAU_SAMPLES = 3
PLATEAU_RATIO = 0.999
MIN_PLATEAU_STEP_RATIO = 0.005
MIN_PLATEAU_STEP = 2.5 / 32768

# Silence. 45 dB: of each piece tested 99 % of the frames between its pauses lie less than 39 dB under its loud frames,
# and the pauses and faded ends of the same files reach 55 dB and more. -70 dBFS is the absolute gate of BS.1770;
# -100 dBFS is what rounding to 16 bits leaves.
FRAME_SECONDS = 0.05
SILENCE_BELOW_LOUD_DB = 45.0
MIN_LOUD_DBFS = -70.0
DIGITAL_SILENCE_DBFS = -100.0
MAX_LOUD_BELOW_PEAK_DB = 30.0


class RecordingLevels(BaseModel):
    """Levels of a recording as it was delivered: before resampling, mixing and cutting."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seconds: float
    rate_hz: int
    channels: int
    lufs: float | None  # integrated loudness, ITU-R BS.1770-4; None for silence
    peak_dbfs: float | None  # sample peak; None for digital silence
    clipped_fraction: float
    silent_fraction: float


def measure_levels(audio: Audio) -> RecordingLevels:
    """The levels of a recording, rounded for display. ValueError for audio without samples."""
    loudness, peak = loudness_lufs(audio), peak_dbfs(audio)
    return RecordingLevels(
        seconds=round(audio.seconds, 3),
        rate_hz=audio.rate_hz,
        channels=audio.channels,
        lufs=round(loudness, 1) if math.isfinite(loudness) else None,
        peak_dbfs=round(peak, 1) if math.isfinite(peak) else None,
        clipped_fraction=round(clipped_fraction(audio), 6),
        silent_fraction=round(silent_fraction(audio), 4),
    )


def peak_dbfs(audio: Audio) -> float:
    """Sample peak over all channels in dB relative to full scale; -inf for digital silence."""
    return 20 * math.log10(audio.peak) if audio.peak > 0 else -math.inf


def clipped_fraction(audio: Audio) -> float:
    """Fraction of samples that lie on flat tops: three or more in a row within 0.1 % of their channel's extreme.

    Upper and lower side count apart. A flat top is entered or left by a step of more than 0.5 % of the extreme, and
    of more than 2.5 steps of 16 bits. Range 0 to 1, lower is better, 0 without clipping. A gain does not change it
    (down to peaks of about -36 dBFS in 16 bits, where small steps drown in rounding); it misses clipping that was
    resampled or coded lossily afterwards, which rounds the edges, and soft saturation. A clip's value above 1e-4 is
    audible distortion as a rule. ValueError for audio without samples. Source: own definition; on the recordings
    described above no false alarm, and 91 to 99 % of the samples that had been clipped were found.
    """
    _require_samples(audio)
    count = 0
    for channel in audio.samples.astype(np.float64):
        for side in (channel, -channel):
            extreme = float(side.max())
            if extreme <= 0:
                continue
            flat = (side >= PLATEAU_RATIO * extreme).astype(np.int8)
            edges = np.diff(flat, prepend=0, append=0)
            starts, stops = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
            outside = np.concatenate([side[:1], side, side[-1:]])  # outside[n] precedes side[n]
            step = np.maximum(side[starts] - outside[starts], side[stops - 1] - outside[stops + 1])
            min_step = max(MIN_PLATEAU_STEP_RATIO * extreme, MIN_PLATEAU_STEP)
            clipped = (stops - starts >= MIN_PLATEAU_SAMPLES) & (step > min_step)
            count += int((stops - starts)[clipped].sum())
    return count / audio.samples.size


def silent_frames(audio: Audio) -> np.ndarray:
    """Which frames of 50 ms are silent, bool [n]: the loudest channel lies 45 dB or more under the loud frames.

    Loud is the 95th percentile of the frames' RMS, or 30 dB under the highest frame where that is more, so that a
    short passage in a long silence counts as sound. Everything is silent if no frame is louder than -70 dBFS, and
    so is a frame under -100 dBFS. ValueError for audio without samples.
    """
    level = frame_levels_dbfs(audio)
    loud = max(float(np.quantile(level, 0.95)), float(level.max()) - MAX_LOUD_BELOW_PEAK_DB)
    if loud <= MIN_LOUD_DBFS:
        return np.ones(level.shape, bool)
    return level <= max(loud - SILENCE_BELOW_LOUD_DB, DIGITAL_SILENCE_DBFS)


def silent_fraction(audio: Audio) -> float:
    """Fraction of the frames of 50 ms that are silent, see `silent_frames`; range 0 to 1, compare with real music.

    A gain does not change it, unless it moves all frames under -70 dBFS: a quiet recording is not a silent one.
    ValueError for audio without samples. Source: own definition, a relative gate as in BS.1770 and EBU R 128.
    """
    return float(silent_frames(audio).mean())


def longest_silence_seconds(audio: Audio) -> float:
    """Duration of the longest run of silent frames in seconds. ValueError for audio without samples."""
    sounding = np.flatnonzero(np.concatenate([[True], ~silent_frames(audio), [True]]))
    return min(float((np.diff(sounding) - 1).max()) * FRAME_SECONDS, audio.seconds)


def frame_levels_dbfs(audio: Audio) -> np.ndarray:
    """RMS of the loudest channel in each frame of 50 ms in dBFS [n]; the last frame includes the remainder.

    -200 for digital silence. ValueError for audio without samples.
    """
    _require_samples(audio)
    size = max(1, round(FRAME_SECONDS * audio.rate_hz))
    starts = np.arange(0, max(1, audio.frames - size + 1), size)
    lengths = np.diff(np.append(starts, audio.frames))
    power = np.zeros(starts.size)
    for channel in audio.samples:
        power = np.maximum(power, np.add.reduceat(np.square(channel, dtype=np.float64), starts) / lengths)
    return 10 * np.log10(power + 1e-20)


def _require_samples(audio: Audio) -> None:
    if audio.frames == 0:
        raise ValueError("levels need sound: the clip has 0 samples")
