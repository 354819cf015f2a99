"""What is measured on one clip: its melody, ornaments, rhythm, structure and levels; kept on disk by the clip's sound.

Conventions: clips are `Audio` of any rate; they are mixed down and brought to 16 kHz first, and no measure but
`loudness_lufs` depends on their gain. A measure that a clip is too short or too silent for is NaN.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from talim.audio import Audio
from talim.metrics import intonation, levels, ornaments, phrases, pitch, rhythm, structure
from talim.metrics.cache import Cache

VERSION = 2  # goes up with every change of what is measured, so that no old cache answers
HOP_SECONDS = 0.01


@dataclass(frozen=True)
class Heard:
    """One clip: its measures by name, its melody in cents above A4 (10 ms hop), and its phrases."""

    measures: dict[str, float]
    cents: np.ndarray
    phrases: Counter[phrases.Phrase]


# name: (unit, direction, what a change of it means); "as real" is for what is best where real music has it
MEANINGS = {
    "ornaments": ("a second", "as real", "ornaments other than glides, each by how clearly it is drawn"),
    "glides": ("a second", "as real", "slow ways from held note to held note"),
    "note_stability_cents": ("cents", "as real", "how much held notes waver"),
    "redundancy": ("share", "as real", "phrases that the clip has played before"),
    "returning_share": ("share", "as real", "passages that come again"),
    "novelty": ("share", "as real", "passages unlike everything before them"),
    "beat_accuracy": ("0 to 1", "as real", "how exactly onsets fall on a grid of beats"),
    "tempo_drift": ("share a minute", "lower", "how much the tempo changes"),
    "silent_share": ("share", "as real", "silent stretches"),
    "noise_db": ("dB", "as real", "steady noise against the whole"),
    "clipped_share": ("share", "lower", "samples on a flat top"),
    "loudness_lufs": ("LUFS", "as real", "loudness"),
}


def hear(audio: Audio, cache: Cache) -> Heard:
    """Measure a clip, or find it measured in the cache."""
    packed = cache.get(audio, f"heard/{VERSION}-{pitch.VERSION}", lambda: _packed(audio))
    count = len(MEANINGS)
    cents = packed[count:]
    return Heard(
        dict(zip(MEANINGS, map(float, packed[:count]), strict=True)),
        cents,
        phrases.phrases(cents, HOP_SECONDS),
    )


def _packed(audio: Audio) -> np.ndarray:
    """The measures in the order of MEANINGS, then the pitch track in cents."""
    sound = audio.mono().resample(pitch.RATE_HZ)
    samples = sound.samples[0]
    cents = pitch.track(samples, pitch.RATE_HZ, hop_seconds=HOP_SECONDS).cents
    found = {**melodic(cents), **rhythmic(samples), **level(audio)}
    return np.concatenate([[found[name] for name in MEANINGS], cents])


def melodic(cents: np.ndarray) -> dict[str, float]:
    """What the melody's contour tells."""
    return {
        "ornaments": ornaments.ornament_score(cents, HOP_SECONDS),
        "glides": ornaments.profile(cents, HOP_SECONDS)["glide"]["per_second"],
        "note_stability_cents": intonation.note_stability_cents(cents, HOP_SECONDS),
        "redundancy": phrases.redundancy(phrases.phrases(cents, HOP_SECONDS)),
        "returning_share": structure.returning_share(cents, HOP_SECONDS),
        "novelty": structure.novelty(cents, HOP_SECONDS),
    }


def rhythmic(samples: np.ndarray) -> dict[str, float]:
    """What the onsets tell, at the tempo that is found."""
    beat_seconds = 60 / rhythm.tempo_bpm(samples, pitch.RATE_HZ)
    strength = rhythm.onset_strength(samples, pitch.RATE_HZ)
    if not np.isfinite(beat_seconds):
        return {"beat_accuracy": float("nan"), "tempo_drift": float("nan")}
    return {
        "beat_accuracy": rhythm.beat_accuracy(strength, beat_seconds),
        "tempo_drift": rhythm.tempo_drift(strength),
    }


def level(audio: Audio) -> dict[str, float]:
    """Silence, noise, clipping and loudness."""
    found = levels.levels(audio)
    return {
        "silent_share": found.silent_share,
        "noise_db": max(found.noise_db, -120.0),
        "clipped_share": found.clipped_share,
        "loudness_lufs": found.loudness_lufs,
    }


def hear_all(clips: Sequence[Audio], cache_folder: Path | None, jobs: int = 1) -> list[Heard]:
    """Measure clips, `jobs` at a time; what the cache folder holds is not measured again."""
    cache = Cache(cache_folder)
    if jobs <= 1 or len(clips) < 2 * jobs:
        return [hear(clip, cache) for clip in clips]
    with ProcessPoolExecutor(jobs) as pool:
        return list(pool.map(hear, clips, [cache] * len(clips)))


def identity() -> str:
    """What the measures are, as one line: equal identities, comparable values."""
    return json.dumps({"measures": list(MEANINGS), "version": VERSION, "pitch": pitch.VERSION})
