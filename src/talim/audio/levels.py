"""How a recording was levelled: loudness, peak, clipping and silence, measured on the source itself."""

from __future__ import annotations

import math

import numpy as np
from pydantic import BaseModel, ConfigDict

from talim.audio import Audio, loudness_lufs

_MIN_CLIPPED_RUN = (
    3  # samples in a row at the same extreme: one is a peak, two may be, three are a cut-off top
)
_FULL_SCALE = 0.98  # a peak below was not clipped by this file's format
_SILENCE_DB = -60.0
_FRAME_SECONDS = 0.05


class RecordingLevels(BaseModel):
    """Levels of one recording as it came: before resampling, mixing and cutting."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seconds: float
    rate_hz: int
    channels: int
    lufs: float | None  # integrated, ITU-R BS.1770-4; None for silence
    peak_db: float | None  # sample peak, dBFS
    clipped_fraction: float  # of the samples
    silent_fraction: float  # of the 50 ms frames, below -60 dBFS


def measure_levels(audio: Audio) -> RecordingLevels:
    """The levels of a sound, float32 [C, T]."""
    loudness = loudness_lufs(audio)
    peak = audio.peak
    return RecordingLevels(
        seconds=round(audio.seconds, 3),
        rate_hz=audio.rate_hz,
        channels=audio.channels,
        lufs=round(loudness, 1) if math.isfinite(loudness) else None,
        peak_db=round(20 * math.log10(peak), 1) if peak > 0 else None,
        clipped_fraction=round(clipped_fraction(audio), 6),
        silent_fraction=round(silent_fraction(audio), 4),
    )


def clipped_fraction(audio: Audio) -> float:
    """Share of samples, 0..1, in runs of three and more at the channel's own extreme near or above 0 dBFS."""
    flat = 0
    for channel in audio.samples:
        for extreme, sign in ((channel.max(initial=0.0), 1), (-channel.min(initial=0.0), -1)):
            if extreme >= _FULL_SCALE:
                at_top = (sign * channel >= extreme * 0.9999).astype(np.int8)
                edges = np.flatnonzero(np.diff(at_top, prepend=0, append=0))
                runs = edges[1::2] - edges[::2]
                flat += int(runs[runs >= _MIN_CLIPPED_RUN].sum())
    return flat / max(1, audio.samples.size)


def silent_fraction(audio: Audio) -> float:
    """Share of 50 ms frames, 0..1, in which every channel stays below -60 dBFS (RMS)."""
    frame = max(1, round(_FRAME_SECONDS * audio.rate_hz))
    count = audio.frames // frame
    if not count:
        return 0.0
    framed = audio.samples[:, : count * frame].reshape(audio.channels, count, frame)
    power = np.einsum("cnf,cnf->cn", framed, framed, dtype=np.float64).max(axis=0) / frame
    return float(np.mean(power < 10 ** (_SILENCE_DB / 10)))
