"""The Audio class: samples with their rate; resampling, channel conversion, cutting, hashing."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from talim.audio.errors import AudioError
from talim.audio.write import write


@dataclass(frozen=True, eq=False)
class Audio:
    """Samples float32 [C, T], full scale at +-1, at rate_hz samples per second.

    `tags` are written by `save`; generated audio has its provenance there. Operations return audio without tags.
    """

    samples: np.ndarray
    rate_hz: int
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        samples = np.asarray(self.samples, dtype=np.float32)
        if samples.ndim == 1:
            samples = samples[None]
        if samples.ndim != 2 or samples.shape[0] < 1:
            raise AudioError(f"audio must be [channels, samples], got an array of shape {samples.shape}")
        if int(self.rate_hz) <= 0:
            raise AudioError(f"the sample rate must be positive, got {self.rate_hz} Hz")
        object.__setattr__(self, "samples", samples)
        object.__setattr__(self, "rate_hz", int(self.rate_hz))

    @property
    def channels(self) -> int:
        """Number of channels, C."""
        return self.samples.shape[0]

    @property
    def frames(self) -> int:
        """Number of samples in each channel, T."""
        return self.samples.shape[1]

    @property
    def peak(self) -> float:
        """Largest absolute sample; 1 is full scale, 0 for digital silence or no samples."""
        return float(max(self.samples.max(), -self.samples.min())) if self.samples.size else 0.0

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.frames / self.rate_hz

    def mono(self) -> Audio:
        """The mean of the channels, [1, T]; itself if there is only one."""
        return self.to_channels(1)

    def to_channels(self, n: int) -> Audio:
        """The audio in n channels: itself, or the mean of the channels repeated n times."""
        if n < 1:
            raise AudioError(f"audio needs at least one channel, got {n}")
        if n == self.channels:
            return self
        mixed = self.samples.mean(axis=0, keepdims=True, dtype=np.float32)
        return Audio(np.repeat(mixed, n, axis=0), self.rate_hz)

    def resample(self, rate_hz: int) -> Audio:
        """The audio at another rate (band-limited, without aliasing); itself at the same rate."""
        if rate_hz == self.rate_hz:
            return self
        if rate_hz <= 0:
            raise AudioError(f"the sample rate must be positive, got {rate_hz} Hz")
        import soxr

        parts = [soxr.resample(channel, self.rate_hz, rate_hz, quality="HQ") for channel in self.samples]
        return Audio(np.stack(parts), rate_hz)

    def cut(self, start_seconds: float, seconds: float) -> Audio:
        """The part of `seconds` from `start_seconds`, limited to the audio; shares the samples."""
        if start_seconds < 0 or seconds < 0:
            raise AudioError(f"cannot cut {seconds} s from {start_seconds} s: both must be 0 or more")
        start = min(round(start_seconds * self.rate_hz), self.frames)
        stop = min(start + round(seconds * self.rate_hz), self.frames)
        return Audio(self.samples[:, start:stop], self.rate_hz)

    def save(self, path: str | Path) -> Path:
        """Write a .wav, .flac, .ogg or .mp3 file with `tags`, and return its path."""
        write(path, self, dict(self.tags))
        return Path(path)

    def _repr_html_(self) -> str:
        """A player, which notebooks display."""
        file = io.BytesIO()
        soundfile.write(file, self.samples.T, self.rate_hz, format="WAV", subtype="PCM_16")
        data = base64.b64encode(file.getvalue()).decode("ascii")
        return f'<audio controls src="data:audio/wav;base64,{data}"></audio>'


class Resampler:
    """Resamples a sound that comes in blocks [C, n]; all blocks together equal `Audio.resample` of the whole."""

    def __init__(self, from_hz: int, to_hz: int, channels: int) -> None:
        import soxr

        self._streams = (
            None
            if from_hz == to_hz
            else [soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32", quality="HQ") for _ in range(channels)]
        )
        self._channels = channels

    def add(self, samples: np.ndarray) -> np.ndarray:
        """What is known after a further block float32 [C, n]: [C, m], with a short delay."""
        return self._resample(samples, last=False)

    def finish(self) -> np.ndarray:
        """The rest [C, m]."""
        return self._resample(np.zeros((self._channels, 0), np.float32), last=True)

    def _resample(self, samples: np.ndarray, last: bool) -> np.ndarray:
        if self._streams is None:
            return samples
        parts = zip(self._streams, samples, strict=True)
        return np.stack([stream.resample_chunk(np.ascontiguousarray(part), last=last) for stream, part in parts])


def content_hash(audio: Audio) -> str:
    """SHA-256 (hex) of the float32 samples, their shape and the rate."""
    digest = hashlib.sha256(f"audio {audio.rate_hz} {audio.channels} {audio.frames}\n".encode())
    digest.update(np.ascontiguousarray(audio.samples, dtype="<f4").data)
    return digest.hexdigest()
