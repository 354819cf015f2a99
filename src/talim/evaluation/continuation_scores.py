"""Scores of what goes on from held-out phrases: is the mode kept, is it nearer to what followed than to other music.

What follows in the recording itself is the reference. The continuations of other held-out recordings are the control: a
score that they reach too says nothing about the phrase.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.special import stdtrit

from talim.atomic_io import to_jsonable
from talim.audio import Audio
from talim.corpus.manifest import Clip
from talim.errors import TalimError
from talim.evaluation import clip_measures, score_table, tradition_scores
from talim.evaluation.clip_measures import HOP_SECONDS, ClipMeasures
from talim.evaluation.protocol import EMBEDDINGS
from talim.evaluation.score_table import Estimate, Measure
from talim.metrics import embeddings, intonation, pitch
from talim.metrics.cache import MetricCache
from talim.progress import Progress, counted
from talim.traditions import note_transcription
from talim.traditions.mode_recognition import ModeRecognizer
from talim.traditions.tradition import load

ROLES = ("after", "before", "real")  # continued with the adapter, by the base alone, by the recording itself
MIN_VOICED_SECONDS = 0.2
Score = Callable[[int, ClipMeasures], float]  # of the clip of a number and what goes on from its phrase

MODE = Measure(
    "continuation_mode_probability",
    "higher_is_better",
    "0 to 1",
    "probability of the recording's mode in what goes on from its phrase, with its tonic given",
)
INTONATION = Measure(
    "continuation_intonation_cents",
    "lower_is_better",
    "cents",
    "distance of the mode's degrees, above the recording's tonic, from where they belong",
)
SCALE = Measure(
    "continuation_scale_distance",
    "lower_is_better",
    "0 to 1",
    "difference of the pitches that go on from the phrase from those of the phrase",
)
NEARNESS = {
    name: Measure(
        f"continuation_nearness_{name}",
        "higher_is_better",
        "0 to 1",
        f"other recordings whose continuation is farther in {name} than the recording's own (0.5 is chance)",
    )
    for name in EMBEDDINGS
}


@dataclass(frozen=True)
class Continued:
    """A held-out clip with its phrase, and what goes on from it, alone, by role (see ROLES)."""

    clip: Clip
    phrase: Audio
    parts: Mapping[str, Audio]


def score_continuations(
    continued: Sequence[Continued],
    controls: Sequence[tuple[str, Audio]],
    cache: MetricCache,
    progress: Progress | None = None,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of the score table, each with the `control`: the same score of other recordings' continuations.

    A row is `testable` if the recordings themselves are shown to be better than their controls: else it could not have
    told a good continuation from an unrelated one.

    The `reference` is the recording itself (for nearness: its phrase), the `baseline` the base alone. `controls` are
    continuations of recordings with the recordings' names, those that are continued among them.
    """
    recordings = [each.clip.sound_group for each in continued]
    sounds = [each.parts[role] for role in ROLES for each in continued] + [each.phrase for each in continued]
    sounds += [sound for _, sound in controls]
    shown = counted(
        sounds, len(sounds), progress or Progress(), "measuring continuations and those of other recordings"
    )
    every, count = [clip_measures.measure_clip(_uniform(sound), cache) for sound in shown], len(continued)
    measured = {role: every[number * count : (number + 1) * count] for number, role in enumerate(ROLES)}
    phrases = every[len(ROLES) * count :][:count]
    others = [(group, each) for (group, _), each in zip(controls, every[(len(ROLES) + 1) * count :], strict=True)]
    labels = [tradition_scores.mode_label(each.clip) for each in continued]
    tonics = [_tonic_cents(*each) for each in zip(continued, labels, phrases, measured["real"], strict=True)]
    rows = []
    for measure, score in (
        (SCALE, _scale_distance(phrases)),
        (MODE, _mode_probability(labels, tonics)),
        (INTONATION, _intonation_deviation(labels, tonics)),
    ):
        columns = [[score(n, each) for n, each in enumerate(measured[role])] for role in ROLES]
        control = [
            _mean([score(n, each) for group, each in others if group != own]) for n, own in enumerate(recordings)
        ]
        rows.append(_row(measure, columns, control, recordings))
    nearness = counted(
        NEARNESS.items(), len(NEARNESS), progress or Progress(), "nearness of continuations, by embedding"
    )
    rows += [_nearness_row(measure, name, continued, controls, recordings, cache) for name, measure in nearness]
    warnings = []
    if len(set(recordings)) < 2:
        warnings.append("all continued clips are of one recording: there is no interval by recording")
    return rows, warnings


def _row(
    measure: Measure, columns: Sequence[Sequence[float]], control: Sequence[float], recordings: Sequence[str]
) -> dict[str, Any]:
    """`columns`: values by clip with the adapter, of the base alone, and of the reference."""
    value, baseline, reference = (score_table.mean_over_recordings(column, recordings) for column in columns)
    other = score_table.mean_over_recordings(control, recordings)
    if not value.n:
        reason = "the recordings name no mode that talim knows, or hold too little melody"
        return _without_value(measure, reason)
    row = score_table.score_row(measure, value, reference, baseline)
    control_value = other.value if other.n else None
    return to_jsonable(asdict(row)) | {"control": control_value, "testable": _is_above(reference, other, measure)}


def _without_value(measure: Measure, reason: str) -> dict[str, Any]:
    return to_jsonable(asdict(score_table.missing_score(measure, reason))) | {"control": None, "testable": False}


def _is_above(reference: Estimate, control: Estimate, measure: Measure) -> bool:
    """Whether the recordings themselves are better than their controls, by a t test over recordings."""
    gain = score_table.paired_gain(reference, control, None, measure.direction)
    return gain is not None and gain.mean > 0 and gain.mean > gain.error * float(stdtrit(gain.df, 0.975))


def _scale_distance(phrases: Sequence[ClipMeasures]) -> Score:
    def score(number: int, part: ClipMeasures) -> float:
        phrase = phrases[number].cents
        if not _has_melody(phrase):
            return float("nan")
        # what has lost the melody shares nothing with it
        return intonation.histogram_distance(part.cents, [phrase]) if _has_melody(part.cents) else 1.0

    return score


def _mode_probability(labels: Sequence[str | None], tonics: Sequence[float | None]) -> Score:
    def score(number: int, part: ClipMeasures) -> float:
        label, tonic = labels[number], tonics[number]
        if label is None or tonic is None:
            return float("nan")
        slug, name = label.split("/")
        try:
            notes = note_transcription.transcribe_notes(part.cents - tonic, HOP_SECONDS)
            posterior = _recognizer(slug).recognize(notes, tonic_known=True, half_seconds=0)
        except TalimError:
            return 0.0  # without a melody the mode is not kept
        return float(posterior.scores[[mode.slug for _, mode in posterior.modes].index(name)])

    return score


def _intonation_deviation(labels: Sequence[str | None], tonics: Sequence[float | None]) -> Score:
    def score(number: int, part: ClipMeasures) -> float:
        label, tonic = labels[number], tonics[number]
        if label is None or tonic is None or not _has_melody(part.cents):
            return float("nan")
        slug, name = label.split("/")
        profile = intonation.learn_intonation(np.array(load(slug).mode(name).degrees_cents))
        return intonation.intonation_deviation_cents(part.cents - tonic, profile)

    return score


def _tonic_cents(each: Continued, label: str | None, phrase: ClipMeasures, real: ClipMeasures) -> float | None:
    """The recording's tonic in cents above A4: annotated, else where its mode fits the real clip best."""
    if each.clip.tonic_hz:
        return 1200 * float(np.log2(each.clip.tonic_hz / tradition_scores.A4_HZ))
    cents = np.concatenate([phrase.cents, real.cents])
    track = tradition_scores.relative_to_tonic(cents, label) if label else None
    return None if track is None else float(np.nanmedian(cents - track))


@lru_cache(maxsize=8)
def _recognizer(tradition: str) -> ModeRecognizer:
    return ModeRecognizer([load(tradition)])


def _nearness_row(
    measure: Measure,
    embedding: str,
    continued: Sequence[Continued],
    controls: Sequence[tuple[str, Audio]],
    recordings: Sequence[str],
    cache: MetricCache,
) -> dict[str, Any]:
    """How often the recording's own continuation is nearer than another recording's, 0.5 by chance."""
    extractor = embeddings.load(embedding)

    def vectors(sounds: Sequence[Audio]) -> np.ndarray:
        return embeddings.embed([_uniform(sound) for sound in sounds], extractor, cache)

    groups, pool = [group for group, _ in controls], vectors([sound for _, sound in controls])
    if len(set(groups)) < 2:
        reason = "it needs the continuations of two held-out recordings or more"
        return _without_value(measure, reason)
    scale = np.maximum(pool.std(0), 1e-6)
    own = vectors([each.parts["real"] for each in continued]) / scale

    def preferences(sounds: Sequence[Audio]) -> list[float]:
        rows, values = vectors(sounds) / scale, []
        for row, real, recording in zip(rows, own, recordings, strict=True):
            far = np.linalg.norm(pool[[group != recording for group in groups]] / scale - row, axis=1)
            values.append(nearer_share(float(np.linalg.norm(real - row)), far))
        return values

    columns = [preferences([each.parts[role] for each in continued]) for role in ROLES[:2]]
    columns.append(preferences([each.phrase for each in continued]))
    return _row(measure, columns, [0.5] * len(continued), recordings)


def nearer_share(own: float, others: np.ndarray) -> float:
    """The fraction of `others` [n] that is larger than the distance `own`, ties counting half; 0 for NaN."""
    if not np.isfinite(own):
        return 0.0
    return float(np.mean((others > own) + 0.5 * (others == own))) if len(others) else float("nan")


def _uniform(sound: Audio) -> Audio:
    return sound.mono().resample(pitch.RATE_HZ)


def _has_melody(cents: np.ndarray) -> bool:
    return np.isfinite(cents).sum() * HOP_SECONDS >= MIN_VOICED_SECONDS


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")
