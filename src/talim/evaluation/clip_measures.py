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
from talim.metrics import intonation, melodic_ngrams, noise, ornaments, pitch, rhythm, structure
from talim.metrics.cache import MetricCache

VERSION = 2  # goes up with every change of what is measured, so that no old cache answers
HOP_SECONDS = 0.01


@dataclass(frozen=True)
class ClipMeasures:
    """One clip: its measures by name, its melody in cents above A4 (10 ms hop), and its phrases."""

    measures: dict[str, float]
    cents: np.ndarray
    phrases: Counter[melodic_ngrams.Phrase]


# name: (unit, direction, what a change of it means); "as real" is for what is best where real music has it
MEASURE_DESCRIPTIONS = {
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


def measure_clip(audio: Audio, cache: MetricCache) -> ClipMeasures:
    """Measure a clip, or find it measured in the cache."""
    packed = cache.get(audio, f"heard/{VERSION}-{pitch.VERSION}", lambda: _packed(audio))
    count = len(MEASURE_DESCRIPTIONS)
    cents = packed[count:]
    return ClipMeasures(
        dict(zip(MEASURE_DESCRIPTIONS, map(float, packed[:count]), strict=True)),
        cents,
        melodic_ngrams.melodic_ngrams(cents, HOP_SECONDS),
    )


def _packed(audio: Audio) -> np.ndarray:
    """The measures in the order of MEANINGS, then the pitch track in cents."""
    sound = audio.mono().resample(pitch.RATE_HZ)
    samples = sound.samples[0]
    cents = pitch.track_pitch(samples, pitch.RATE_HZ, hop_seconds=HOP_SECONDS).cents
    found = {**melodic_measures(cents), **rhythmic_measures(samples), **level_measures(audio)}
    return np.concatenate([[found[name] for name in MEASURE_DESCRIPTIONS], cents])


def melodic_measures(cents: np.ndarray) -> dict[str, float]:
    """What the melody's contour tells."""
    return {
        "ornaments": ornaments.ornament_score(cents, HOP_SECONDS),
        "glides": ornaments.ornament_profile(cents, HOP_SECONDS)["glide"]["per_second"],
        "note_stability_cents": intonation.note_stability_cents(cents, HOP_SECONDS),
        "redundancy": melodic_ngrams.ngram_repetition(melodic_ngrams.melodic_ngrams(cents, HOP_SECONDS)),
        "returning_share": structure.repetition_rate(cents, HOP_SECONDS),
        "novelty": structure.novelty(cents, HOP_SECONDS),
    }


def rhythmic_measures(samples: np.ndarray) -> dict[str, float]:
    """What the onsets tell, at the tempo that is found."""
    beat_seconds = 60 / rhythm.tempo_bpm(samples, pitch.RATE_HZ)
    strength = rhythm.onset_strength(samples, pitch.RATE_HZ)
    if not np.isfinite(beat_seconds):
        return {"beat_accuracy": float("nan"), "tempo_drift": float("nan")}
    return {
        "beat_accuracy": rhythm.beat_phase_coherence(strength, beat_seconds),
        "tempo_drift": rhythm.tempo_drift(strength),
    }


def level_measures(audio: Audio) -> dict[str, float]:
    """Silence, noise, clipping and loudness."""
    found = noise.levels(audio)
    return {
        "silent_share": found.silent_share,
        "noise_db": max(found.noise_db, -120.0),
        "clipped_share": found.clipped_share,
        "loudness_lufs": found.loudness_lufs,
    }


def measure_clips(clips: Sequence[Audio], cache_folder: Path | None, jobs: int = 1) -> list[ClipMeasures]:
    """Measure clips, `jobs` at a time; what the cache folder holds is not measured again."""
    cache = MetricCache(cache_folder)
    if jobs <= 1 or len(clips) < 2 * jobs:
        return [measure_clip(clip, cache) for clip in clips]
    with ProcessPoolExecutor(jobs) as pool:
        return list(pool.map(measure_clip, clips, [cache] * len(clips)))


def measure_version() -> str:
    """What the measures are, as one line: equal identities, comparable values."""
    return json.dumps({"measures": list(MEASURE_DESCRIPTIONS), "version": VERSION, "pitch": pitch.VERSION})
