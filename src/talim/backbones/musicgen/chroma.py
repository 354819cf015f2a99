"""The loudest pitch class of a sound over time, as MusicGen-melody's own feature extractor computes it.

Equal to transformers' `MusicgenMelodyFeatureExtractor` (power spectrogram, chroma filters of librosa, the largest bin
of each frame), which needs torchaudio. Nothing separates voices or drums from the mix before.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np

_BLOCK_FRAMES = 128  # at a time: 17 s of the released models


@dataclass(frozen=True)
class ChromaSettings:
    """Settings of the feature extractor; the defaults are those of the released models."""

    rate_hz: int = 32000
    hop_length: int = 4096  # samples
    n_fft: int = 16384  # samples of a frame
    num_chroma: int = 12

    @classmethod
    def of(cls, preprocessor: dict[str, Any], rate_hz: int, num_chroma: int) -> ChromaSettings:
        """From the values of a preprocessor_config.json, which may be empty."""
        given = {name: int(preprocessor[name]) for name in ("hop_length", "n_fft") if name in preprocessor}
        return cls(rate_hz=int(preprocessor.get("sampling_rate", rate_hz)), num_chroma=num_chroma, **given)

    @property
    def frame_rate_hz(self) -> float:
        return self.rate_hz / self.hop_length

    def to_json(self) -> dict[str, int]:
        """As plain values, for the key of a cache."""
        return asdict(self)


def pitch_classes(samples: np.ndarray, settings: ChromaSettings) -> np.ndarray:  # int8 [M]
    """The loudest pitch class (0 is C) of frames centred at m * hop_length, for samples float [T] at `rate_hz`.

    M is 1 + T // hop_length; a silent frame gives 0. Sounds shorter than a frame are padded with silence.
    """
    samples = np.asarray(samples, np.float32)
    if (missing := settings.n_fft - len(samples)) > 0:
        samples = np.pad(samples, (missing // 2, missing - missing // 2))
    padded = np.pad(samples, settings.n_fft // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, settings.n_fft)[:: settings.hop_length]
    window, filters = _window(settings.n_fft), _filters(settings)
    blocks = (frames[first : first + _BLOCK_FRAMES] for first in range(0, len(frames), _BLOCK_FRAMES))
    return np.concatenate([(_power(block * window) @ filters).argmax(1).astype(np.int8) for block in blocks])


def _power(frames: np.ndarray) -> np.ndarray:
    """Power spectra of windowed frames [n, n_fft]: float32 [n, n_fft // 2 + 1]."""
    from scipy import fft

    spectra: Any = fft.rfft(frames, axis=1)
    return spectra.real**2 + spectra.imag**2


@lru_cache(maxsize=4)
def _window(size: int) -> np.ndarray:
    """The periodic Hann window of torch."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)


@lru_cache(maxsize=4)
def _filters(settings: ChromaSettings) -> np.ndarray:
    """Weights of frequencies in pitch classes, float32 [n_fft // 2 + 1, num_chroma]."""
    from transformers.audio_utils import chroma_filter_bank

    filters = chroma_filter_bank(settings.n_fft, settings.num_chroma, settings.rate_hz)
    return np.ascontiguousarray(filters.T.astype(np.float32))
