"""Intonation in the mode and marking of the cycle that each clip's prompt names.

The tonic of a generated clip is unknown, so it is placed where the named mode fits the melody best, in generated and
real clips alike: what is measured is the mode's inner tuning, not the absolute pitch. Clips are compared with the real
recordings of their mode other than their own (for generated clips: other than their prompt's).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from talim.corpus.labels import COLUMNS, numbers_in
from talim.corpus.manifest import UNKNOWN, Clip
from talim.errors import TalimError
from talim.evaluation import clip_measures
from talim.evaluation.score_table import ClipSet, Measure, ScoreRow, mean_over_recordings, missing_score, row_or_reason
from talim.metrics import intonation, pitch, rhythm, structure
from talim.traditions import note_transcription, prompt_labels
from talim.traditions.mode_recognition import ModeRecognizer
from talim.traditions.note_transcription import STEP_CENTS
from talim.traditions.schema import Cycle, Mode
from talim.traditions.tradition import Tradition, load, load_all_builtin

A4_HZ = 440.0
MAX_TONIC_SHIFT_CENTS = 40.0  # from the recognised tonic to where the degrees lie right on average
MIN_VOICED_SECONDS = 1.0

INTONATION = {
    name: Measure(name, "lower_is_better", unit, meaning)
    for name, unit, meaning in (
        ("intonation_deviation_cents", "cents", "distance of the mode's degrees from where real recordings have them"),
        (
            "intonation_z_rms",
            "standard deviations",
            "the same relative to the spread between real recordings (about 1 for real ones)",
        ),
        ("mode_histogram_distance", "0 to 1", "difference of the pitches from other real clips of the mode"),
    )
}
CYCLE = {
    name: Measure(name, "match_reference", "-1 to 1", meaning)
    for name, meaning in (
        ("cycle_strength", "correlation of one cycle's onsets with the next one's"),
        ("cycle_recurrence", "self-similarity of the melody one cycle later, above that at other times"),
    )
}
LabelledSets = Sequence[tuple[ClipSet, Sequence[Clip]]]  # generated, real and base clips with their labels


def tradition_scores(
    prompt_clips: Sequence[Clip], generated: ClipSet, base: ClipSet, real_clips: Sequence[Clip], real: ClipSet
) -> list[ScoreRow]:
    """Rows for intonation and cycle; a row without a value gives the reason.

    `prompt_clips` are the labels of `generated` and `base`, `real_clips` those of `real`.
    """
    sets = (generated, prompt_clips), (real, real_clips), (base, prompt_clips)
    return [*_intonation_scores(sets), *_cycle_scores(sets)]


def mode_label(clip: Clip) -> str | None:
    """ "tradition/mode" from a clip's label, else from its caption; None where they name none that talim knows."""
    return _label(clip, clip.mode, lambda tradition, name: tradition.mode(name).slug, prompt_labels.mode_in)


def cycle_label(clip: Clip) -> str | None:
    """ "tradition/cycle" from a clip's label, else from its caption; None where they name none that talim knows."""
    return _label(clip, clip.cycle, lambda tradition, name: tradition.cycle(name).slug, prompt_labels.cycle_in)


def _label(
    clip: Clip,
    name: str,
    slug_of: Callable[[Tradition, str], str],
    parse_caption: Callable[[str, Sequence[Tradition]], str | None],
) -> str | None:
    unset = ("", UNKNOWN)
    traditions = [one for one in load_all_builtin() if clip.tradition in (*unset, one.slug)]
    if name in unset:
        return parse_caption(clip.caption, traditions)
    if name == "none" or clip.tradition in unset or not traditions:
        return None
    (tradition,) = traditions
    try:
        return f"{tradition.slug}/{slug_of(tradition, name)}"
    except TalimError:
        return None


def _intonation_scores(sets: LabelledSets) -> list[ScoreRow]:
    if not any(mode_label(clip) for clip in sets[0][1]):
        return [missing_score(measure, "the prompts name no mode that talim knows") for measure in INTONATION.values()]
    real, real_clips = sets[1]
    tracks = [
        (label, recording, track)
        for recording, measures, clip in zip(real.recordings, real.measures, real_clips, strict=True)
        if (label := mode_label(clip)) and (track := _real_track(measures.cents, label, clip)) is not None
    ]

    def scores_of_clip(clip_set: ClipSet, number: int, clip: Clip) -> dict[str, float]:
        label = mode_label(clip)
        cents = relative_to_tonic(clip_set.measures[number].cents, label) if label else None
        if label is None or cents is None:
            return {}
        own = clip_set.recordings[number]
        others = [track for mode, recording, track in tracks if mode == label and recording != own]
        profile = intonation.learn_intonation(np.array(_mode(label).degrees_cents), others)
        return {
            "intonation_deviation_cents": intonation.intonation_deviation_cents(cents, profile),
            "intonation_z_rms": intonation.intonation_z_rms(cents, profile),
            "mode_histogram_distance": intonation.histogram_distance(cents, others),
        }

    reason = "the clips contain too little melody, or no other recording of their modes is held out"
    return _rows(INTONATION, sets, scores_of_clip, reason)


def _real_track(cents: np.ndarray, label: str, clip: Clip) -> np.ndarray | None:
    """A real melody above its annotated tonic, else above the recognised one."""
    if clip.tonic_hz and np.isfinite(cents).any():
        return cents - 1200 * np.log2(clip.tonic_hz / A4_HZ)
    return relative_to_tonic(cents, label)


def relative_to_tonic(cents: np.ndarray, label: str) -> np.ndarray | None:
    """A melody [n] (cents above any pitch) above the tonic where the mode "tradition/mode" fits it best.

    None if there is too little melody. The tonic is recognised on a grid of 10 cents and then shifted, by at most 40,
    so that the degrees lie right on average.
    """
    if np.isfinite(cents).sum() * clip_measures.HOP_SECONDS < MIN_VOICED_SECONDS:
        return None
    try:
        notes = note_transcription.transcribe_notes(cents, clip_measures.HOP_SECONDS)
        posterior = _recognizer(label).recognize(notes, tonic_known=False)
    except TalimError:
        return None
    track = cents - float(posterior.tonics.argmax()) * STEP_CENTS
    histogram = intonation.pitch_class_histogram(track)
    offsets, weights = intonation.degree_offsets(histogram, np.array(_mode(label).degrees_cents))
    shift = float(np.average(offsets, weights=weights + 1e-9))
    return track - np.clip(shift, -MAX_TONIC_SHIFT_CENTS, MAX_TONIC_SHIFT_CENTS)


@lru_cache(maxsize=64)
def _recognizer(label: str) -> ModeRecognizer:
    """A recognizer with this mode alone, to find its tonic."""
    return ModeRecognizer([replace(load(label.split("/")[0]), modes=(_mode(label),))])


def _mode(label: str) -> Mode:
    slug, name = label.split("/")
    return load(slug).mode(name)


def cycle_of(label: str) -> Cycle:
    """The cycle of "tradition/cycle"."""
    slug, name = label.split("/")
    return load(slug).cycle(name)


def _cycle_scores(sets: LabelledSets) -> list[ScoreRow]:
    if not any(cycle_label(clip) for clip in sets[0][1]):
        return [missing_score(measure, "the prompts name no cycle that talim knows") for measure in CYCLE.values()]

    def scores_of_clip(clip_set: ClipSet, number: int, clip: Clip) -> dict[str, float]:
        if (label := cycle_label(clip)) is None:
            return {}
        samples, cents = clip_set.clips[number].samples[0], clip_set.measures[number].cents
        beats, tempi = cycle_of(label).beats, candidate_tempi(samples, prompt_tempo(clip))
        at_lag = [structure.recurrence_at_lag(cents, clip_measures.HOP_SECONDS, beats * 60 / bpm) for bpm in tempi]
        strength = rhythm.onset_strength(samples, pitch.RATE_HZ)
        return {"cycle_strength": max_cycle_strength(strength, beats, tempi), "cycle_recurrence": max_finite(at_lag)}

    reason = (
        "the clips are shorter than one and a half cycles, or silent; ask for more seconds, of held-out clips as long"
    )
    return _rows(CYCLE, sets, scores_of_clip, reason)


def _rows(
    measures: Mapping[str, Measure],
    sets: LabelledSets,
    scores_of_clip: Callable[[ClipSet, int, Clip], dict[str, float]],
    reason: str,
) -> list[ScoreRow]:
    """Rows from the scores of single clips; the `reason` is that of a row without any."""
    scores = [[scores_of_clip(part, *numbered) for numbered in enumerate(clips)] for part, clips in sets]
    rows = []
    for name, measure in measures.items():
        columns = [[values.get(name, float("nan")) for values in of_set] for of_set in scores]
        estimates = [mean_over_recordings(c, part.recordings) for c, (part, _) in zip(columns, sets, strict=True)]
        rows.append(row_or_reason(measure, estimates, reason))
    return rows


def candidate_tempi(samples: np.ndarray, prompt_bpm: float | None = None) -> tuple[float, ...]:
    """Tempi in bpm that a clip may have: the prompt's, else the estimated one with its half, double and fourfold."""
    if prompt_bpm:
        return (prompt_bpm,)
    bpm = rhythm.tempo_bpm(samples, pitch.RATE_HZ)
    return tuple(bpm * factor for factor in (0.5, 1, 2, 4) if np.isfinite(bpm))


def prompt_tempo(clip: Clip) -> float | None:
    """Beats per minute in a clip's labels or caption, if any."""
    stated = [numbers_in("tempo_bpm", str(clip.extra.get(column, ""))) for column in COLUMNS["tempo_bpm"]]
    return next((tempi[0] for tempi in stated if len(tempi) == 1), None) or prompt_labels.tempo_in(clip.caption)


def max_cycle_strength(strength: np.ndarray, beats: float, tempi_bpm: Sequence[float]) -> float:
    """The highest cycle strength over candidate tempi; NaN where none can be measured."""
    return max_finite(rhythm.cycle_strength(strength, beats, bpm) for bpm in tempi_bpm if np.any(strength))


def max_finite(values: Iterable[float]) -> float:
    """The highest finite value; NaN if there is none."""
    return max((value for value in values if np.isfinite(value)), default=float("nan"))
