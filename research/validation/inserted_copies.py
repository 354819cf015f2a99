"""Test copies for a search: five seconds of one clip, transformed, replace part of another.

No code is shared with the search: time is stretched by a phase vocoder (librosa) or by overlap-add (ffmpeg's atempo),
pitch shifted by resampling, audio encoded by libsndfile.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from talim.audio.load_librosa import load_librosa

RATE_HZ = 16000
SECONDS, FRAGMENT_SECONDS = 10.0, 5.0
MAX_SEMITONES, MIN_LENGTH_RATIO, MAX_LENGTH_RATIO = 3.0, 0.8, 1.25
STRETCHES = ("phase vocoder", "overlap-add")
FILTERS = ("none", "low-pass 2 kHz", "high-pass 300 Hz")
DRONES = ("none", "drone 10 dB under")
CODINGS = ("none", "mp3", "vorbis", "opus")
CONTAINERS = {"mp3": ("MP3", "MPEG_LAYER_III"), "vorbis": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS")}


@dataclass(frozen=True)
class InsertedCopy:
    """What was inserted, from where to where, and how it was transformed; `ratio` is the new length over the old."""

    source: int
    source_seconds: float
    clip_seconds: float
    semitones: float
    ratio: float
    stretch: str
    filtering: str
    drone: str
    coding: str

    @property
    def end_seconds(self) -> float:
        """End in the clip."""
        return self.clip_seconds + FRAGMENT_SECONDS * self.ratio


def draw_copy(rng: np.random.Generator, sources: Sequence[int], host_seconds: float = SECONDS) -> InsertedCopy:
    """A random copy from one of `sources`, each transformation drawn uniformly over its range."""
    ratio = float(np.exp(rng.uniform(np.log(MIN_LENGTH_RATIO), np.log(MAX_LENGTH_RATIO))))
    return InsertedCopy(
        int(rng.choice(sources)),
        float(rng.uniform(0, SECONDS - FRAGMENT_SECONDS)),
        float(rng.uniform(0, host_seconds - FRAGMENT_SECONDS * ratio)),
        float(rng.uniform(-MAX_SEMITONES, MAX_SEMITONES)),
        ratio,
        *(str(rng.choice(choices)) for choices in (STRETCHES, FILTERS, DRONES, CODINGS)),
    )


def insert_copy(host: np.ndarray, source: np.ndarray, copy: InsertedCopy, rng: np.random.Generator) -> np.ndarray:
    """`host` [T] with the transformed fragment of `source` at the level of what it replaces, then drone and coding.

    Both at 16 kHz; `rng` draws the pitch of the drone.
    """
    start = round(copy.source_seconds * RATE_HZ)
    part = source[start : start + round(FRAGMENT_SECONDS * RATE_HZ)]
    part = apply_filter(transpose_and_stretch(part, copy.semitones, copy.ratio, copy.stretch), copy.filtering)
    begin = round(copy.clip_seconds * RATE_HZ)
    part = part[: host.size - begin]
    replaced = host[begin : begin + part.size]
    part = part * np.sqrt(np.mean(replaced**2) + 1e-9) / np.sqrt(np.mean(part**2) + 1e-9)
    fade = np.minimum(1.0, np.minimum(np.arange(part.size), np.arange(part.size)[::-1]) / (0.02 * RATE_HZ))
    mixed = host.copy()
    mixed[begin : begin + part.size] = (1 - fade) * replaced + fade * part
    if copy.drone != "none":
        mixed = mixed + make_drone(mixed.size, rng) * np.sqrt(np.mean(mixed**2)) * 10 ** (-10 / 20)
    return apply_codec(np.clip(mixed, -1, 1).astype(np.float32), copy.coding)


def transpose_and_stretch(samples: np.ndarray, semitones: float, ratio: float, stretch: str) -> np.ndarray:
    """`samples` [T] transposed by `semitones` and made `ratio` times as long."""
    librosa = load_librosa()
    import soxr

    factor = 2 ** (semitones / 12)
    if stretch == "phase vocoder":
        shifted = librosa.effects.pitch_shift(samples, sr=RATE_HZ, n_steps=semitones)
        return librosa.effects.time_stretch(shifted, rate=1 / ratio)
    shifted = soxr.resample(samples, RATE_HZ * factor, RATE_HZ).astype(np.float32)  # also changes the length
    return _at_tempo(shifted, 1 / (factor * ratio))


def _at_tempo(samples: np.ndarray, tempo: float) -> np.ndarray:
    """`samples` [T] played `tempo` times as fast at the same pitch, by ffmpeg's atempo (overlap-add)."""
    from av import AudioFrame
    from av.error import BlockingIOError, EOFError
    from av.filter import Graph

    graph = Graph()
    chain = [
        graph.add_abuffer(format="flt", sample_rate=RATE_HZ, layout="mono", time_base=f"1/{RATE_HZ}"),  # type: ignore[arg-type]
        graph.add("atempo", f"{tempo:.6f}"),
        graph.add("aformat", "sample_fmts=flt"),
        graph.add("abuffersink"),
    ]
    for node, following in itertools.pairwise(chain):
        node.link_to(following)
    graph.configure()
    frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format="flt", layout="mono")
    frame.sample_rate, frame.pts = RATE_HZ, 0
    chain[0].push(frame)
    chain[0].push(None)
    parts = [np.zeros(0, np.float32)]
    while True:
        try:
            parts.append(chain[-1].pull().to_ndarray().ravel())  # type: ignore[union-attr]
        except (EOFError, BlockingIOError):
            return np.concatenate(parts)


def apply_filter(samples: np.ndarray, name: str) -> np.ndarray:
    """Second-order Butterworth filter by a name of FILTERS."""
    from scipy.signal import butter, sosfilt

    if name == "none":
        return samples
    kind, corner_hz = ("low", 2000.0) if name.startswith("low") else ("high", 300.0)
    return np.asarray(sosfilt(butter(2, corner_hz, kind, fs=RATE_HZ, output="sos"), samples), np.float32)


def make_drone(size: int, rng: np.random.Generator) -> np.ndarray:
    """A steady tonic and fifth with eight harmonics each, RMS 1, [size]."""
    steps, tonic_hz = np.arange(size) / RATE_HZ, rng.uniform(90, 180)
    waves = [
        np.sin(2 * np.pi * tonic_hz * degree * k * steps + rng.uniform(0, 2 * np.pi)) / k
        for degree in (1, 1.5)
        for k in range(1, 9)
    ]
    sound = np.sum(waves, axis=0)
    return sound / np.sqrt(np.mean(sound**2))


def apply_codec(samples: np.ndarray, codec: str) -> np.ndarray:
    """Encoded as MP3, Vorbis or Opus at libsndfile's default quality and decoded, at the original length."""
    import soundfile

    if codec == "none":
        return samples
    container, subtype = CONTAINERS[codec]
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE_HZ, format=container, subtype=subtype)
    buffer.seek(0)
    decoded = soundfile.read(buffer, dtype="float32")[0][: samples.size]
    return np.pad(decoded, (0, samples.size - decoded.size))
