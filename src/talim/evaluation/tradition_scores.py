"""Intonation in the mode and marking of the cycle that each clip's prompt names.

The tonic of a generated clip is unknown, so it is placed where the named mode fits the melody best, in generated and
real clips alike: what is measured is the mode's inner tuning, not the absolute pitch. Clips are compared with the real
recordings of their mode other than their own (for generated clips: other than their prompt's).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from talim.corpus.manifest import UNKNOWN, Clip
from talim.errors import TalimError
from talim.evaluation import clip_measures
from talim.evaluation.score_table import ClipSet, Estimate, ScoreRow, mean_over_recordings, missing_score, score_row
from talim.metrics import intonation, pitch, rhythm, structure
from talim.traditions import note_transcription, prompt_labels
from talim.traditions.mode_recognition import ModeRecognizer
from talim.traditions.note_transcription import STEP_CENTS
from talim.traditions.schema import Cycle, Mode
from talim.traditions.tradition import Tradition, load, load_all_builtin

A4_HZ = 440.0
MAX_TONIC_SHIFT_CENTS = 40.0  # from the recognised tonic to where the degrees lie right on average
MIN_VOICED_SECONDS = 1.0

# name: (unit, meaning)
INTONATION = {
    "intonation_deviation_cents": ("cents", "distance of the mode's degrees from where real recordings have them"),
    "intonation_z_rms": (
        "standard deviations",
        "the same relative to the spread between real recordings (about 1 for real ones)",
    ),
    "mode_histogram_distance": ("0 to 1", "difference of the pitches from other real clips of the mode"),
}
CYCLE = {
    "cycle_strength": ("-1 to 1", "correlation of one cycle's onsets with the next one's"),
    "cycle_recurrence": ("-1 to 1", "self-similarity of the melody one cycle later, above that at other times"),
}


def tradition_scores(
    prompt_clips: Sequence[Clip], generated: ClipSet, base: ClipSet, real_clips: Sequence[Clip], real: ClipSet
) -> list[ScoreRow]:
    """Rows for intonation and cycle; a row without a value gives the reason.

    `prompt_clips` are the labels of `generated` and `base`, `real_clips` those of `real`.
    """
    return [
        *_intonation_scores(prompt_clips, generated, base, real_clips, real),
        *_cycle_scores(prompt_clips, generated, base, real_clips, real),
    ]


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


def _intonation_scores(
    prompt_clips: Sequence[Clip], generated: ClipSet, base: ClipSet, real_clips: Sequence[Clip], real: ClipSet
) -> list[ScoreRow]:
    labels, real_labels = ([mode_label(clip) for clip in clips] for clips in (prompt_clips, real_clips))
    if not any(labels):
        reason = "the prompts name no mode that talim knows"
        return [missing_score(name, "lower_is_better", *texts, reason) for name, texts in INTONATION.items()]
    tracks = [
        (label, recording, track)
        for label, recording, measures, clip in zip(
            real_labels, real.recordings, real.measures, real_clips, strict=True
        )
        if label and (track := _real_track(measures.cents, label, clip)) is not None
    ]
    estimates = [
        _intonation_estimates(clip_set, set_labels, tracks)
        for clip_set, set_labels in ((generated, labels), (real, real_labels), (base, labels))
    ]
    reason = "the clips contain too little melody, or no other recording of their modes is held out"
    return [
        _row(name, "lower_is_better", texts, [estimate[name] for estimate in estimates], reason)
        for name, texts in INTONATION.items()
    ]


def _real_track(cents: np.ndarray, label: str, clip: Clip) -> np.ndarray | None:
    """A real melody above its annotated tonic, else above the recognised one."""
    if clip.tonic_hz and np.isfinite(cents).any():
        return cents - 1200 * np.log2(clip.tonic_hz / A4_HZ)
    return relative_to_tonic(cents, label)


def _intonation_estimates(
    clip_set: ClipSet, labels: Sequence[str | None], tracks: Sequence[tuple[str, str, np.ndarray]]
) -> dict[str, Estimate]:
    values: dict[str, list[float]] = {name: [] for name in INTONATION}
    for measures, label, recording in zip(clip_set.measures, labels, clip_set.recordings, strict=True):
        cents = relative_to_tonic(measures.cents, label) if label else None
        others = [track for mode, name, track in tracks if mode == label and name != recording]
        scores = dict.fromkeys(INTONATION, float("nan"))
        if label and cents is not None:
            profile = intonation.learn_intonation(np.array(_mode(label).degrees_cents), others)
            scores = {
                "intonation_deviation_cents": intonation.intonation_deviation_cents(cents, profile),
                "intonation_z_rms": intonation.intonation_z_rms(cents, profile),
                "mode_histogram_distance": intonation.histogram_distance(cents, others),
            }
        for name, value in scores.items():
            values[name].append(value)
    return {name: mean_over_recordings(column, clip_set.recordings) for name, column in values.items()}


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
    offsets, weights = intonation.degree_offsets(
        intonation.pitch_class_histogram(track), np.array(_mode(label).degrees_cents)
    )
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


def _cycle_scores(
    prompt_clips: Sequence[Clip], generated: ClipSet, base: ClipSet, real_clips: Sequence[Clip], real: ClipSet
) -> list[ScoreRow]:
    if not any(cycle_label(clip) for clip in prompt_clips):
        reason = "the prompts name no cycle that talim knows"
        return [missing_score(name, "match_reference", *texts, reason) for name, texts in CYCLE.items()]
    estimates = [
        _cycle_estimates(clip_set, clips)
        for clip_set, clips in ((generated, prompt_clips), (real, real_clips), (base, prompt_clips))
    ]
    reason = "the clips are shorter than one and a half cycles, or silent; ask for more seconds"
    return [
        _row(name, "match_reference", texts, [estimate[name] for estimate in estimates], reason)
        for name, texts in CYCLE.items()
    ]


def _cycle_estimates(clip_set: ClipSet, clips: Sequence[Clip]) -> dict[str, Estimate]:
    values: dict[str, list[float]] = {name: [] for name in CYCLE}
    for audio, measures, clip in zip(clip_set.clips, clip_set.measures, clips, strict=True):
        label = cycle_label(clip)
        scores = dict.fromkeys(CYCLE, float("nan"))
        if label:
            samples = audio.samples[0]
            beats, tempi = cycle_of(label).beats, candidate_tempi(samples, prompt_tempo(clip))
            strength = rhythm.onset_strength(samples, pitch.RATE_HZ)
            scores = {
                "cycle_strength": max_cycle_strength(strength, beats, tempi),
                "cycle_recurrence": max_finite(
                    structure.recurrence_at_lag(measures.cents, clip_measures.HOP_SECONDS, beats * 60 / bpm)
                    for bpm in tempi
                ),
            }
        for name, value in scores.items():
            values[name].append(value)
    return {name: mean_over_recordings(column, clip_set.recordings) for name, column in values.items()}


def candidate_tempi(samples: np.ndarray, prompt_bpm: float | None = None) -> tuple[float, ...]:
    """Tempi in bpm that a clip may have: the prompt's, else the estimated one with its half, double and fourfold."""
    if prompt_bpm:
        return (prompt_bpm,)
    bpm = rhythm.tempo_bpm(samples, pitch.RATE_HZ)
    return tuple(bpm * factor for factor in (0.5, 1, 2, 4) if np.isfinite(bpm))


def prompt_tempo(clip: Clip) -> float | None:
    """Beats per minute in a clip's labels or caption, if any."""
    try:
        bpm = float(str(clip.extra.get("tempo_bpm")))
    except ValueError:
        return prompt_labels.tempo_in(clip.caption)
    return bpm if np.isfinite(bpm) and bpm > 0 else None


def max_cycle_strength(strength: np.ndarray, beats: float, tempi_bpm: Sequence[float]) -> float:
    """The highest cycle strength over candidate tempi; NaN where none can be measured."""
    return max_finite(rhythm.cycle_strength(strength, beats, bpm) for bpm in tempi_bpm if np.any(strength))


def max_finite(values: Iterable[float]) -> float:
    """The highest finite value; NaN if there is none."""
    return max((value for value in values if np.isfinite(value)), default=float("nan"))


def _row(name: str, direction: str, texts: tuple[str, str], estimates: Sequence[Estimate], reason: str) -> ScoreRow:
    """A row from the estimates of generated, real and base clips; without a value if no generated clip has one."""
    unit, meaning = texts
    generated, reference, baseline = estimates
    if not generated.n:
        return missing_score(name, direction, unit, meaning, reason)
    return score_row(name, generated, reference, baseline, direction, unit, meaning)
