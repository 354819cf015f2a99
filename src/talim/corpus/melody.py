"""The melody of a sound as one pitch class per frame, which MusicGen-melody is conditioned on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from talim.audio import Audio
from talim.corpus.feature_cache import FeatureCache
from talim.metrics import pitch

if TYPE_CHECKING:
    from talim.backbones.protocol import Backbone
    from talim.corpus.manifest import Clip, Corpus

CHROMA, PITCH = "chroma", "pitch"
SOURCES = (CHROMA, PITCH)  # the base's own chromagram of the mix; the tracked pitch of the leading melody


@dataclass(frozen=True)
class Melody:
    """Pitch classes int8 [M] (0 is C), `rate_hz` a second, the first one at the beginning."""

    classes: np.ndarray
    rate_hz: float

    def cut(self, start_seconds: float, seconds: float) -> Melody:
        """The frames of an excerpt, at least one."""
        first = min(round(start_seconds * self.rate_hz), len(self.classes) - 1)
        return Melody(self.classes[first : first + int(seconds * self.rate_hz + 1e-6) + 1], self.rate_hz)


def melody_of(audio: Audio, backbone: Backbone, source: str = CHROMA) -> Melody:
    """The melody of a sound for a base that takes one; `source` is one of SOURCES.

    UsageError for a base without melodies.
    """
    if source == PITCH and backbone.melody_rate_hz:
        return Melody(tracked_classes(audio, backbone.melody_rate_hz), backbone.melody_rate_hz)
    return Melody(backbone.encode_melody(audio), backbone.melody_rate_hz)


def clip_melody(cache: FeatureCache, corpus: Corpus, clip: Clip, backbone: Backbone, source: str) -> Melody:
    """The melody of a clip of a corpus, from the corpus's cache or computed and cached now."""
    fields: dict[str, Any] = {"kind": "melody", "from": source, "audio": clip.audio_hash}
    fields |= {"start_seconds": 0.0, "seconds": round(float(clip.seconds), 6)}
    by_pitch = {"tracker": pitch.VERSION, "rate_hz": float(backbone.melody_rate_hz)}
    fields["settings"] = by_pitch if source == PITCH else dict(backbone.melody_settings)
    stored = cache.get_or_make(fields, lambda: {"classes": melody_of(corpus.read_clip(clip), backbone, source).classes})
    return Melody(stored["classes"], backbone.melody_rate_hz)


def tracked_classes(audio: Audio, rate_hz: float) -> np.ndarray:  # int8 [M]
    """The pitch class of the leading melody around each of 1 + seconds * rate_hz moments: the most frequent one.

    Where nothing is voiced the last note goes on, as in a room; the first note also fills what precedes it, and a
    sound without any voiced frame is 0 throughout, the base's null melody.
    """
    mono = audio.mono().resample(pitch.RATE_HZ)
    track = pitch.track_pitch(mono.samples[0], pitch.RATE_HZ)
    return classes_of_track(track.hz, track.hop_seconds, 1 + int(audio.seconds * rate_hz + 1e-6), rate_hz)


def classes_of_track(hz: np.ndarray, hop_seconds: float, frames: int, rate_hz: float) -> np.ndarray:  # int8 [frames]
    """`tracked_classes` of a pitch track in Hz (NaN where unvoiced), one value each `hop_seconds`."""
    voiced = np.isfinite(hz)
    counts = np.zeros((frames, 12), np.int64)
    seconds = np.flatnonzero(voiced) * hop_seconds
    frame = np.minimum(np.floor(seconds * rate_hz + 0.5).astype(np.int64), frames - 1)
    note = np.rint(69 + 12 * np.log2(hz[voiced] / 440.0)).astype(np.int64) % 12
    np.add.at(counts, (frame, note), 1)
    has_note = counts.any(axis=1)
    if not has_note.any():
        return np.zeros(frames, np.int8)
    last = np.maximum.accumulate(np.where(has_note, np.arange(frames), -1))
    return counts.argmax(axis=1)[np.where(last < 0, has_note.argmax(), last)].astype(np.int8)
