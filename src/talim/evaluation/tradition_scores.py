"""How true outputs are to the mode and the cycle that their words name: intonation, and how the cycle is marked.

The tonic of an output is nobody's to say, so it is placed where the named mode fits the melody best, in outputs and
in real clips alike: what is judged is the mode's inner tuning, not the pitch of the whole. Real clips are judged
against the other recordings of their mode only, and outputs against those that are not their own prompt's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from talim.corpus.manifest import UNKNOWN, Clip
from talim.errors import TalimError
from talim.evaluation import clip_measures
from talim.evaluation.score_table import ClipSet, ScoreRow, mean_over_recordings, missing_score, score_row
from talim.metrics import intonation, pitch, rhythm, structure
from talim.traditions import note_transcription, prompt_labels
from talim.traditions.mode_recognition import ModeRecognizer
from talim.traditions.note_transcription import STEP_CENTS
from talim.traditions.schema import Cycle, Mode
from talim.traditions.tradition import Tradition, load, load_all_builtin

A4_HZ = 440.0
NEAR_CENTS = 40.0  # how far the tonic may be moved from where it was recognised
LEAST_VOICED_SECONDS = 1.0

INTONATION = {
    "intonation_deviation_cents": ("cents", "how far the degrees of the mode are played off their usual places"),
    "intonation_z_rms": (
        "spreads",
        "the same in the spreads between real recordings (about 1 for real ones)",
    ),
    "mode_histogram_distance": ("0 to 1", "pitches unlike those of other real clips of the mode"),
}
CYCLE = {
    "cycle_strength": ("-1 to 1", "how strongly one cycle's onsets are the next one's"),
    "cycle_recurrence": (
        "-1 to 1",
        "how much more the melody is like itself one cycle later than at other times",
    ),
}


def tradition_scores(
    asked: Sequence[Clip], own: ClipSet, base: ClipSet, chosen: Sequence[Clip], real: ClipSet
) -> list[ScoreRow]:
    """Intonation in the mode and marking of the cycle that each clip's words name; a row says why it has no value."""
    return [
        *_intonation_scores(asked, own, base, chosen, real),
        *_cycle_scores(asked, own, base, chosen, real),
    ]


def mode_label(clip: Clip) -> str | None:
    """ "tradition/mode" of a clip by its label, else by its words; None where they name none that talim knows."""
    return _label(clip, clip.mode, lambda one, name: one.mode(name).slug, prompt_labels.mode_in)


def cycle_label(clip: Clip) -> str | None:
    """ "tradition/cycle" of a clip by its label, else by its words; None where they name none that talim knows."""
    return _label(clip, clip.cycle, lambda one, name: one.cycle(name).slug, prompt_labels.cycle_in)


def _label(
    clip: Clip,
    name: str,
    find: Callable[[Tradition, str], str],
    read: Callable[[str, Sequence[Tradition]], str | None],
) -> str | None:
    unsaid = ("", UNKNOWN)
    known = [one for one in load_all_builtin() if clip.tradition in (*unsaid, one.slug)]
    if name in unsaid:
        return read(clip.caption, known)
    if name == "none" or clip.tradition in unsaid or not known:
        return None
    (tradition,) = known
    try:
        return f"{tradition.slug}/{find(tradition, name)}"
    except TalimError:
        return None


def _intonation_scores(
    asked: Sequence[Clip], own: ClipSet, base: ClipSet, chosen: Sequence[Clip], real: ClipSet
) -> list[ScoreRow]:
    labels, real_labels = ([mode_label(clip) for clip in clips] for clips in (asked, chosen))
    if not any(labels):
        why = "the prompts' words name no mode that talim knows"
        return [missing_score(name, "lower_is_better", *told, why) for name, told in INTONATION.items()]
    lines = [
        (label, name, _stated_or_recognized(heard.cents, label, clip))
        for label, name, heard, clip in zip(real_labels, real.recordings, real.heard, chosen, strict=True)
        if label
    ]
    known = [(label, name, line) for label, name, line in lines if line is not None]
    sets = ((own, labels), (real, real_labels), (base, labels))
    found = [_intonation(part, said, known) for part, said in sets]
    why = "the outputs hold too little melody, or no other recording of their modes is held out"
    return [_row(name, "lower_is_better", INTONATION[name], [part[name] for part in found], why) for name in INTONATION]


def _stated_or_recognized(cents: np.ndarray, label: str, clip: Clip) -> np.ndarray | None:
    """A real line above its tonic: the one that is said, else the one that is recognised."""
    if clip.tonic_hz and np.isfinite(cents).any():
        return cents - 1200 * np.log2(clip.tonic_hz / A4_HZ)
    return relative_to_tonic(cents, label)


def _intonation(
    part: ClipSet, labels: Sequence[str | None], known: Sequence[tuple[str, str, np.ndarray]]
) -> dict[str, tuple[float, list[float] | None, int]]:
    values: dict[str, list[float]] = {name: [] for name in INTONATION}
    for heard, label, recording in zip(part.heard, labels, part.recordings, strict=True):
        line = relative_to_tonic(heard.cents, label) if label else None
        others = [track for said, name, track in known if said == label and name != recording]
        found = dict.fromkeys(INTONATION, float("nan"))
        if label and line is not None:
            practice = intonation.learn_intonation(np.array(_mode(label).degrees_cents), others)
            found = {
                "intonation_deviation_cents": intonation.intonation_deviation_cents(line, practice),
                "intonation_z_rms": intonation.intonation_z_rms(line, practice),
                "mode_histogram_distance": intonation.histogram_distance(line, others),
            }
        for name, value in found.items():
            values[name].append(value)
    return {name: mean_over_recordings(mine, part.recordings) for name, mine in values.items()}


def relative_to_tonic(cents: np.ndarray, label: str) -> np.ndarray | None:
    """A melody [n] (cents above any pitch) above the tonic where the mode "tradition/mode" fits it best.

    None where there is too little melody to tell. The tonic is recognised to 10 cents and then moved, by at most 40,
    so that the degrees lie right on average.
    """
    if np.isfinite(cents).sum() * clip_measures.HOP_SECONDS < LEAST_VOICED_SECONDS:
        return None
    try:
        judged = _listener(label).judge(
            note_transcription.transcribe_notes(cents, clip_measures.HOP_SECONDS), tonic_known=False
        )
    except TalimError:
        return None
    line = cents - float(judged.tonics.argmax()) * STEP_CENTS
    offsets, shares = intonation.degree_offsets(
        intonation.pitch_class_histogram(line), np.array(_mode(label).degrees_cents)
    )
    moved = float(np.average(offsets, weights=shares + 1e-9))
    return line - np.clip(moved, -NEAR_CENTS, NEAR_CENTS)


@lru_cache(maxsize=64)
def _listener(label: str) -> ModeRecognizer:
    """Knows this mode alone."""
    return ModeRecognizer([replace(load(label.split("/")[0]), modes=(_mode(label),))])


def _mode(label: str) -> Mode:
    slug, name = label.split("/")
    return load(slug).mode(name)


def cycle_of(label: str) -> Cycle:
    """The cycle of "tradition/cycle"."""
    slug, name = label.split("/")
    return load(slug).cycle(name)


def _cycle_scores(
    asked: Sequence[Clip], own: ClipSet, base: ClipSet, chosen: Sequence[Clip], real: ClipSet
) -> list[ScoreRow]:
    if not any(cycle_label(clip) for clip in asked):
        why = "the prompts' words name no cycle that talim knows"
        return [missing_score(name, "match_reference", *told, why) for name, told in CYCLE.items()]
    found = [_cycle_strengths(part, clips) for part, clips in ((own, asked), (real, chosen), (base, asked))]
    why = "the clips are shorter than one and a half cycles, or silent; ask for more seconds"
    return [_row(name, "match_reference", CYCLE[name], [part[name] for part in found], why) for name in CYCLE]


def _cycle_strengths(
    part: ClipSet, clips: Sequence[Clip]
) -> dict[str, tuple[float, list[float] | None, int]]:
    values: dict[str, list[float]] = {name: [] for name in CYCLE}
    for sound, heard, clip in zip(part.clips, part.heard, clips, strict=True):
        label = cycle_label(clip)
        found = dict.fromkeys(CYCLE, float("nan"))
        if label:
            samples = sound.samples[0]
            beats, tempi = cycle_of(label).beats, beats_bpm(samples, prompt_tempo(clip))
            strength = rhythm.onset_strength(samples, pitch.RATE_HZ)
            found = {
                "cycle_strength": max_cycle_strength(strength, beats, tempi),
                "cycle_recurrence": max_finite(
                    structure.recurrence_at_lag(heard.cents, clip_measures.HOP_SECONDS, beats * 60 / bpm)
                    for bpm in tempi
                ),
            }
        for name, value in found.items():
            values[name].append(value)
    return {name: mean_over_recordings(mine, part.recordings) for name, mine in values.items()}


def beats_bpm(samples: np.ndarray, said_bpm: float | None = None) -> tuple[float, ...]:
    """The tempi that a clip may have: the one that was said, else what is heard and its half, double and fourfold."""
    if said_bpm:
        return (said_bpm,)
    heard = rhythm.tempo_bpm(samples, pitch.RATE_HZ)
    return tuple(heard * factor for factor in (0.5, 1, 2, 4) if np.isfinite(heard))


def prompt_tempo(clip: Clip) -> float | None:
    """Beats a minute in a clip's words, if any."""
    try:
        said = float(str(clip.extra.get("tempo_bpm")))
    except ValueError:
        return prompt_labels.tempo_in(clip.caption)
    return said if np.isfinite(said) and said > 0 else None


def max_cycle_strength(strength: np.ndarray, beats: float, tempi_bpm: Sequence[float]) -> float:
    """The highest cycle strength at some tempi; NaN where none can be measured."""
    return max_finite(rhythm.cycle_strength(strength, beats, bpm) for bpm in tempi_bpm if np.any(strength))


def max_finite(values: Iterable[float]) -> float:
    """The highest of those that are numbers; NaN where none is."""
    return max((value for value in values if np.isfinite(value)), default=float("nan"))


def _row(
    name: str,
    direction: str,
    told: tuple[str, str],
    found: Sequence[tuple[float, list[float] | None, int]],
    why: str,
) -> ScoreRow:
    """A row from what outputs, real clips and the base have; unanswered where no output could be measured."""
    unit, meaning = told
    mine, reference, baseline = found
    if not mine[2]:
        return missing_score(name, direction, unit, meaning, why)
    return score_row(name, mine, reference[0], baseline[0], direction, unit, meaning)
