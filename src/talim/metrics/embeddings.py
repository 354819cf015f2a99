"""Embeddings by name: how each is loaded, and its vectors for clips, cached on disk.

Conventions: an embedding takes float samples [T] at its own `rate_hz` and gives float32 [windows, dims]; windows of
`window_seconds` follow one another without overlap, the last one padded with silence (None: the whole clip is one).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from talim.atomic_io import read_json
from talim.audio import Audio
from talim.errors import UsageError
from talim.metrics import neural_embeddings, pitch, signal_embeddings
from talim.metrics.cache import MetricCache
from talim.metrics.pitch import PitchTrack


@dataclass(frozen=True)
class EmbeddingExtractor:
    """One embedding. `identity` names it, its version and its weights: equal identity, equal vectors."""

    name: str
    identity: str
    rate_hz: int
    window_seconds: float | None
    dims: int
    embed_window: Callable[[np.ndarray], np.ndarray]  # samples [T] at rate_hz -> [dims]
    context_seconds: float = 0.0  # read beyond the end of a window
    embed_track: Callable[[PitchTrack], np.ndarray] | None = None  # -> [dims], if the pitch track is enough

    def __call__(self, audio: Audio) -> np.ndarray:
        """The clip's vectors, float32 [windows, dims], at least one. ValueError for a clip without samples."""
        samples = audio.mono().resample(self.rate_hz).samples[0]
        if samples.size == 0:
            raise ValueError("an embedding needs sound: the clip has 0 samples")
        windows = split_windows(samples, self.rate_hz, self.window_seconds, self.context_seconds)
        return np.stack([self.embed_window(window) for window in windows]).astype(np.float32)


SHIPPED: dict[str, tuple[int, Callable[[np.ndarray], np.ndarray]]] = {
    "timbre": (80, signal_embeddings.timbre_vector),
    "pitch": (85, signal_embeddings.pitch_vector),
    "rhythm": (52, signal_embeddings.rhythm_vector),
}
SHIPPED_VERSION = 1  # raise it whenever one of the vectors changes: it is part of the cache key


def embedding_names() -> list[str]:
    """All names that `load` takes; the first three need no weights."""
    return [*SHIPPED, *neural_embeddings.MODELS]


def load(name: str, path: Path | str | None = None, device: str = "cpu") -> EmbeddingExtractor:
    """The embedding called `name`; a neural one from `path`, a folder or file in its released layout, if given.

    UsageError for an unknown name; TalimError, in one line, if a package or the weights are missing.
    """
    if name in SHIPPED:
        dims, embed_window = SHIPPED[name]
        identity = f"{name}/talim-{SHIPPED_VERSION}"
        embed_track = signal_embeddings.pitch_invariants if name == "pitch" else None
        rate_hz = signal_embeddings.RATE_HZ
        return EmbeddingExtractor(name, identity, rate_hz, None, dims, embed_window, embed_track=embed_track)
    if name not in neural_embeddings.MODELS:
        raise UsageError(f"no embedding {name!r}; choose from {', '.join(embedding_names())}")
    spec = neural_embeddings.MODELS[name]
    loaded = neural_embeddings.load(name, None if path is None else Path(path), device)
    return EmbeddingExtractor(
        name, loaded.identity, spec.rate_hz, spec.window_seconds, loaded.dims, loaded.embed_window, spec.context_seconds
    )


@lru_cache(maxsize=1)
def _spreads() -> dict[str, list[float]]:
    return read_json(Path(__file__).with_name("embedding_spreads.json"))


def typical_spread(name: str) -> np.ndarray:
    """Standard deviation of a shipped embedding in each dimension over 100 performances of 10 s, [d]: its unit.

    Hindustani and makam, as `python -m research.validation.distance_bias --write-spreads` measures it. A spread taken
    from the sets that are compared would bias their distance where they are small.
    """
    return np.array(_spreads()[name])


def split_windows(
    samples: np.ndarray, rate_hz: int, window_seconds: float | None, context_seconds: float = 0.0
) -> list[np.ndarray]:
    """The clip [T] in windows, each followed by `context_seconds` of what comes next.

    The last window is padded with zeros, and left out if it is less than half full and not the only one.
    """
    if window_seconds is None:
        return [samples]
    size, context = round(window_seconds * rate_hz), round(context_seconds * rate_hz)
    count = max(1, int(samples.size / size + 0.5))
    padded = np.pad(samples, (0, max(0, count * size + context - samples.size)))
    return [padded[n * size : (n + 1) * size + context] for n in range(count)]


def embed(clips: Sequence[Audio], embedding: EmbeddingExtractor, cache: MetricCache | None = None) -> np.ndarray:
    """One vector per clip, the mean over its windows: float32 [clips, dims]; each clip is computed once per cache."""
    cache = cache or MetricCache(None)

    def windows_of(clip: Audio) -> np.ndarray:
        if embedding.embed_track is None:
            return embedding(clip)
        return embedding.embed_track(pitch.track_pitch_cached(clip, cache))[None]  # shares the cached pitch track

    rows = [cache.get(clip, embedding.identity, lambda clip=clip: windows_of(clip)).mean(0) for clip in clips]
    return np.stack(rows) if rows else np.zeros((0, embedding.dims), np.float32)
