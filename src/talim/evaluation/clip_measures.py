"""Measures of single clips: melody, ornaments, rhythm, structure and levels; cached by the clip's audio.

Conventions: clips are `Audio` of any rate; they are mixed down and resampled to 16 kHz first, and no measure but
`loudness_lufs` depends on their gain. A measure that a clip is too short or too silent for is NaN.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from talim.audio import Audio, levels, loudness_lufs
from talim.metrics import intonation, melodic_ngrams, noise, ornaments, pitch, rhythm, structure
from talim.metrics.cache import MetricCache
from talim.progress import Progress, counted

VERSION = 4  # raise it with every change of a measure: it is part of the cache key and of the protocol
HOP_SECONDS = 0.01
MIN_NOISE_DB = -120.0


@dataclass(frozen=True)
class ClipMeasures:
    """One clip: its measures by name, its melody in cents above A4 (10 ms hop), and its melodic n-grams."""

    values: dict[str, float]
    cents: np.ndarray
    ngrams: Counter[melodic_ngrams.Ngram]


# name: (unit, direction, meaning)
MEASURE_DESCRIPTIONS = {
    "ornaments": ("per second", "match_reference", "ornaments except glides, weighted by how clearly each is drawn"),
    "glides": ("per second", "match_reference", "slow direct moves between held notes"),
    "note_stability_cents": ("cents", "match_reference", "how much held notes waver"),
    "ngram_repetition": ("fraction", "match_reference", "melodic phrases that the clip has played before"),
    "repetition_rate": ("fraction", "match_reference", "passages that return"),
    "novelty": ("fraction", "match_reference", "passages unlike all before them"),
    "beat_phase_coherence": ("1 at most", "match_reference", "how exactly onsets lie on a grid of beats, 0 by chance"),
    "tempo_drift": ("fraction per minute", "lower_is_better", "change of the tempo"),
    "silent_fraction": ("fraction", "match_reference", "silent frames"),
    "noise_db": ("dB", "match_reference", "steady noise relative to the whole"),
    "clipped_fraction": ("fraction", "lower_is_better", "clipped samples"),
    "loudness_lufs": ("LUFS", "match_reference", "loudness"),
}


def measure_clip(audio: Audio, cache: MetricCache) -> ClipMeasures:
    """Measure a clip, or read its measures from the cache."""
    packed = cache.get(audio, f"measures/{VERSION}-{pitch.VERSION}", lambda: _packed_measures(audio))
    count = len(MEASURE_DESCRIPTIONS)
    cents = packed[count:]
    values = dict(zip(MEASURE_DESCRIPTIONS, map(float, packed[:count]), strict=True))
    return ClipMeasures(values, cents, melodic_ngrams.melodic_ngrams(cents, HOP_SECONDS))


def _packed_measures(audio: Audio) -> np.ndarray:
    """The measures in the order of MEASURE_DESCRIPTIONS, then the pitch track in cents."""
    samples = audio.mono().resample(pitch.RATE_HZ).samples[0]
    cents = pitch.track_pitch(samples, pitch.RATE_HZ, hop_seconds=HOP_SECONDS).cents
    values = {**melodic_measures(cents), **rhythmic_measures(samples), **level_measures(audio)}
    return np.concatenate([[values[name] for name in MEASURE_DESCRIPTIONS], cents])


def melodic_measures(cents: np.ndarray) -> dict[str, float]:
    """Measures of a pitch track [n] in cents, 10 ms hop, NaN where unvoiced."""
    return {
        "ornaments": ornaments.ornament_score(cents, HOP_SECONDS),
        "glides": ornaments.ornament_profile(cents, HOP_SECONDS)["glide"]["per_second"],
        "note_stability_cents": intonation.note_stability_cents(cents, HOP_SECONDS),
        "ngram_repetition": melodic_ngrams.ngram_repetition(melodic_ngrams.melodic_ngrams(cents, HOP_SECONDS)),
        "repetition_rate": structure.repetition_rate(cents, HOP_SECONDS),
        "novelty": structure.novelty(cents, HOP_SECONDS),
    }


def rhythmic_measures(samples: np.ndarray) -> dict[str, float]:
    """Measures of the onsets in `samples` [T] at 16 kHz, at the estimated tempo."""
    strength = rhythm.onset_strength(samples, pitch.RATE_HZ)
    if not np.isfinite(rhythm.tempo_of_onsets(strength)):
        return {"beat_phase_coherence": float("nan"), "tempo_drift": float("nan")}
    return {"beat_phase_coherence": rhythm.beat_phase_coherence(strength), "tempo_drift": rhythm.tempo_drift(strength)}


def level_measures(audio: Audio) -> dict[str, float]:
    """Silence, noise, clipping and loudness."""
    return {
        "silent_fraction": levels.silent_fraction(audio),
        "noise_db": max(noise.noise_db(audio), MIN_NOISE_DB),
        "clipped_fraction": levels.clipped_fraction(audio),
        "loudness_lufs": loudness_lufs(audio),
    }


def measure_clips(
    clips: Sequence[Audio],
    cache_folder: Path | None,
    num_workers: int = 1,
    progress: Progress | None = None,
    title: str = "measuring clips",
) -> list[ClipMeasures]:
    """Measure clips, in `num_workers` processes; what the cache folder holds is not measured again."""
    cache, progress = MetricCache(cache_folder), progress or Progress()
    if num_workers <= 1 or len(clips) < 2 * num_workers:
        return [measure_clip(clip, cache) for clip in counted(clips, len(clips), progress, title)]
    with ProcessPoolExecutor(num_workers) as pool:
        return list(counted(pool.map(measure_clip, clips, [cache] * len(clips)), len(clips), progress, title))
