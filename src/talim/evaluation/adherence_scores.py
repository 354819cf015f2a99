"""Do outputs have the mode, cycle, tempo and instruments of their own prompts, rather than those of other prompts.

By the measures of the music, and by CLAP, which has sound and words in one space, where its weights are at hand.

The same is measured on real held-out clips with their own labels, which is the most to be hoped for, and on the base.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from talim.corpus.manifest import UNKNOWN, Clip
from talim.errors import TalimError
from talim.evaluation import clip_measures, tradition_scores
from talim.evaluation.score_table import ClipSet, ScoreRow, mean_over_recordings, missing_score, score_row
from talim.metrics import clap, embeddings, pitch, prompt_adherence, rhythm
from talim.metrics.cache import MetricCache
from talim.traditions import note_transcription
from talim.traditions.mode_recognition import ModeRecognizer
from talim.traditions.tradition import load

LabelFit = Callable[[ClipSet, Sequence[str]], np.ndarray]


ADHERENCE_LABELS = ("mode", "cycle", "tempo", "instruments")
CHANCE = "(0.5 is chance)"


def prompt_adherence_scores(
    asked: Sequence[Clip],
    own: ClipSet,
    base: ClipSet,
    chosen: Sequence[Clip],
    real: ClipSet,
    cache: MetricCache,
    words: clap.ClapModel | str = "it was not asked for",
) -> list[ScoreRow]:
    """A row for each of mode, cycle, tempo, instruments and whole captions, by `words` (a str: why it is missing).

    Unanswered, with the reason, is what the prompts ask for in fewer than two ways.
    """
    rows = []
    for name in ADHERENCE_LABELS:
        labels, real_labels = ([prompt_label(clip, name) for clip in clips] for clips in (asked, chosen))
        fit = label_fit(name, real, real_labels, cache)
        meaning = f"outputs that fit their own prompt's {name} better than other prompts' {CHANCE}"
        rows.append(
            _row(f"adherence_{name}", meaning, f"in {name}", own, base, real, labels, real_labels, fit)
        )
    meaning = f"outputs that CLAP finds nearer to their own prompt than to other prompts {CHANCE}"
    if isinstance(words, str):
        return [*rows, missing_score("adherence_clap", "higher_is_better", "0 to 1", meaning, words)]
    captions, real_captions = ([clip.caption or None for clip in clips] for clips in (asked, chosen))
    fit = clap_fit(words, cache)
    rows.append(_row("adherence_clap", meaning, "at all", own, base, real, captions, real_captions, fit))
    return rows


def _row(
    name: str,
    meaning: str,
    what: str,
    own: ClipSet,
    base: ClipSet,
    real: ClipSet,
    labels: Sequence[str | None],
    real_labels: Sequence[str | None],
    fit: LabelFit,
) -> ScoreRow:
    if len(set(filter(None, labels))) < 2:
        why = f"the prompts do not differ {what} as far as talim can tell; ask for more prompts"
        return missing_score(name, "higher_is_better", "0 to 1", meaning, why)
    mine, reference, baseline = (
        preference_rate(part, said, fit)
        for part, said in ((own, labels), (real, real_labels), (base, labels))
    )
    if not mine[2]:
        why = "the outputs are too short or too silent to tell; ask for more seconds"
        return missing_score(name, "higher_is_better", "0 to 1", meaning, why)
    return score_row(name, mine, reference[0], baseline[0], "higher_is_better", "0 to 1", meaning)


def prompt_label(clip: Clip, name: str) -> str | None:
    """What a clip's words ask for; None where they say nothing that can be measured."""
    if name == "tempo":
        said = tradition_scores.prompt_tempo(clip)
        return None if said is None else f"{said:g}"
    if name == "instruments":
        return None if clip.instruments == UNKNOWN else clip.instruments
    return tradition_scores.mode_label(clip) if name == "mode" else tradition_scores.cycle_label(clip)


def preference_rate(
    part: ClipSet, labels: Sequence[str | None], fit: LabelFit
) -> tuple[float, list[float] | None, int]:
    """Mean preference of the clips with a label for their own, its interval by recording, and how many there were."""
    rows = [n for n, said in enumerate(labels) if said]
    known = part.part(rows)
    said = [str(labels[n]) for n in rows]
    if len(set(said)) < 2:
        return float("nan"), None, 0
    return mean_over_recordings(
        prompt_adherence.prompt_preference(fit(known, said), said).tolist(), known.recordings
    )


def label_fit(name: str, real: ClipSet, real_labels: Sequence[str | None], cache: MetricCache) -> LabelFit:
    """How well the outputs of a set have what each label asks for, as a function of both."""
    if name == "mode":
        return mode_fit
    if name == "cycle":
        return cycle_fit
    if name == "tempo":
        return lambda part, said: prompt_adherence.tempo_fit(clip_tempi(part), [float(one) for one in said])
    timbre = embeddings.load("timbre")

    def instrument_fit(part: ClipSet, said: Sequence[str]) -> np.ndarray:
        rows = embeddings.embed(real.clips, timbre, cache)
        middle = {
            one: rows[[n for n, other in enumerate(real_labels) if other == one]].mean(0)
            for one in set(filter(None, real_labels))
        }
        everything = rows.mean(0)
        prototypes = np.stack([middle.get(one, everything) for one in said])
        return prompt_adherence.prototype_fit(embeddings.embed(part.clips, timbre, cache), prototypes)

    return instrument_fit


def mode_fit(part: ClipSet, said: Sequence[str]) -> np.ndarray:
    """Log probability of each asked mode, the tonic unknown, [n, n]; NaN where there is too little melody."""
    listener = ModeRecognizer([load(slug) for slug in sorted({one.split("/")[0] for one in said})])
    column = {f"{tradition.slug}/{mode.slug}": n for n, (tradition, mode) in enumerate(listener.modes)}
    fits = np.full((len(said), len(said)), np.nan)
    for row, heard in enumerate(part.heard):
        try:
            judged = listener.judge(
                note_transcription.transcribe_notes(heard.cents, clip_measures.HOP_SECONDS), tonic_known=False
            )
        except TalimError:
            continue
        fits[row] = np.log(judged.scores[[column[one] for one in said]] + 1e-12)
    return fits


def cycle_fit(part: ClipSet, said: Sequence[str]) -> np.ndarray:
    """How well each asked cycle is marked at the tempo of the output's own words, else at one that is heard, [n, n].

    NaN where the clip is too short. Where the tempo has to be heard, cycles are told apart much less surely.
    """
    fits = np.full((len(said), len(said)), np.nan)
    for row, clip in enumerate(part.clips):
        samples = clip.samples[0]
        tempi = tradition_scores.beats_bpm(samples, part.stated_bpm[row] if part.stated_bpm else None)
        strength = rhythm.onset_strength(samples, pitch.RATE_HZ)
        for column, one in enumerate(said):
            beats = tradition_scores.cycle_of(one).beats
            fits[row, column] = tradition_scores.max_cycle_strength(strength, beats, tempi)
    return fits


def clap_fit(words: clap.ClapModel, cache: MetricCache) -> LabelFit:
    """Cosine of each output and each caption in CLAP's space, as a function of both."""

    def fit(part: ClipSet, said: Sequence[str]) -> np.ndarray:
        sounds = embeddings.embed(part.clips, words.sound, cache)
        told = {one: words.of_text(one) for one in {*said}}
        lengths = np.maximum(np.linalg.norm(sounds, axis=1, keepdims=True), 1e-12)
        return sounds / lengths @ np.stack([told[one] for one in said]).T

    return fit


def clip_tempi(part: ClipSet) -> list[float]:
    """The tempo of each clip in beats a minute; NaN for silence."""
    return [rhythm.tempo_bpm(clip.samples[0], pitch.RATE_HZ) for clip in part.clips]
