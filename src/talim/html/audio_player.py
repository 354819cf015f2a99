"""Audio inside the page: a file becomes an MP3 data URI in an HTML audio element."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from markupsafe import Markup, escape

from talim.errors import TalimError

MP3_RATES_HZ = (16000, 22050, 24000, 32000, 44100, 48000)


@dataclass(frozen=True)
class DecodedAudio:
    """A decoded file: float32 samples [T, C] and their rate."""

    samples: np.ndarray
    rate_hz: int

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate_hz

    @property
    def mono(self) -> np.ndarray:
        """Mean over channels, float32 [T]."""
        return self.samples.mean(axis=1)


def read_audio(path: Path) -> DecodedAudio:
    """Read an audio file; TalimError names one that is missing, damaged or empty. NaN becomes 0."""
    if not path.is_file():
        raise TalimError(f"{path.name}: cannot be played on the page (there is no such file)")
    try:
        samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, soundfile.LibsndfileError) as error:
        raise TalimError(f"{path.name}: cannot be played on the page (it is not audio, or damaged)") from error
    if not len(samples):
        raise TalimError(f"{path.name}: cannot be played on the page (it has no samples)")
    return DecodedAudio(np.nan_to_num(samples), int(rate_hz))


def mp3_data_uri(audio: DecodedAudio) -> str:
    """The audio as MP3 of medium quality, about 10 kB per second, as a data URI; at most two channels."""
    samples, rate_hz = np.clip(audio.samples[:, :2], -1, 1), audio.rate_hz
    if rate_hz not in MP3_RATES_HZ:
        target_hz = min((r for r in MP3_RATES_HZ if r >= rate_hz), default=MP3_RATES_HZ[-1])
        samples, rate_hz = soxr.resample(samples, rate_hz, target_hz), target_hz
    buffer = io.BytesIO()
    quality: Any = {"compression_level": 0.55, "bitrate_mode": "VARIABLE"}
    soundfile.write(buffer, samples, rate_hz, format="MP3", subtype="MPEG_LAYER_III", **quality)
    return "data:audio/mpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def audio_player(audio: DecodedAudio, label: str) -> Markup:
    """An HTML audio element with a label for screen readers; works without scripts."""
    source = Markup(mp3_data_uri(audio))
    return Markup('<audio controls preload="metadata" aria-label="{}" src="{}"></audio>').format(escape(label), source)
