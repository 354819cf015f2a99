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


# name: (unit, direction, what a change of it means); "match_reference" is for what is best where real music has it
MEASURE_DESCRIPTIONS = {
    "ornaments": ("a second", "match_reference", "ornaments other than glides, each by how clearly it is drawn"),
    "glides": ("a second", "match_reference", "slow ways from held note to held note"),
    "note_stability_cents": ("cents", "match_reference", "how much held notes waver"),
    "ngram_repetition": ("share", "match_reference", "phrases that the clip has played before"),
    "repetition_rate": ("share", "match_reference", "passages that come again"),
    "novelty": ("share", "match_reference", "passages unlike everything before them"),
    "beat_phase_coherence": ("0 to 1", "match_reference", "how exactly onsets fall on a grid of beats"),
    "tempo_drift": ("share a minute", "lower_is_better", "how much the tempo changes"),
    "silent_fraction": ("share", "match_reference", "silent stretches"),
    "noise_db": ("dB", "match_reference", "steady noise against the whole"),
    "clipped_fraction": ("share", "lower_is_better", "samples on a flat top"),
    "loudness_lufs": ("LUFS", "match_reference", "loudness"),
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
        "ngram_repetition": melodic_ngrams.ngram_repetition(melodic_ngrams.melodic_ngrams(cents, HOP_SECONDS)),
        "repetition_rate": structure.repetition_rate(cents, HOP_SECONDS),
        "novelty": structure.novelty(cents, HOP_SECONDS),
    }


def rhythmic_measures(samples: np.ndarray) -> dict[str, float]:
    """What the onsets tell, at the tempo that is found."""
    beat_seconds = 60 / rhythm.tempo_bpm(samples, pitch.RATE_HZ)
    strength = rhythm.onset_strength(samples, pitch.RATE_HZ)
    if not np.isfinite(beat_seconds):
        return {"beat_phase_coherence": float("nan"), "tempo_drift": float("nan")}
    return {
        "beat_phase_coherence": rhythm.beat_phase_coherence(strength, beat_seconds),
        "tempo_drift": rhythm.tempo_drift(strength),
    }


def level_measures(audio: Audio) -> dict[str, float]:
    """Silence, noise, clipping and loudness."""
    found = noise.levels(audio)
    return {
        "silent_fraction": found.silent_fraction,
        "noise_db": max(found.noise_db, -120.0),
        "clipped_fraction": found.clipped_fraction,
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
