"""Prompt adherence: whether outputs fit their own prompt's mode, cycle, tempo and instruments better than others'.

Measured from the audio, and by CLAP (audio and text in one embedding space) if its weights are available. Reported
next to real held-out clips with their own labels (the upper bound) and the untrained base.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from talim.corpus.manifest import UNKNOWN, Clip
from talim.errors import TalimError
from talim.evaluation import clip_measures, score_table, tradition_scores
from talim.evaluation.score_table import ClipSet, Estimate, Measure, ScoreRow, missing_score, row_or_reason
from talim.html.formatting import format_counted
from talim.metrics import clap, embeddings, pitch, prompt_adherence, rhythm
from talim.metrics.cache import MetricCache
from talim.traditions import note_transcription
from talim.traditions.mode_recognition import ModeRecognizer
from talim.traditions.tradition import load

LabelFit = Callable[[ClipSet, Sequence[str]], np.ndarray]

ADHERENCE_LABELS = ("mode", "cycle", "tempo", "instruments")


def prompt_adherence_scores(
    prompt_clips: Sequence[Clip],
    generated: ClipSet,
    base: ClipSet,
    real_clips: Sequence[Clip],
    real: ClipSet,
    cache: MetricCache,
    clap_model: clap.ClapModel | str = "it was not requested",
) -> list[ScoreRow]:
    """Rows for mode, cycle, tempo, instruments and, by `clap_model`, captions (a str: why there is no CLAP).

    A row has no value, but the reason, if the prompts name fewer than two values of the label.
    """
    rows = []
    asked = any(clip.caption for clip in prompt_clips)
    for name in ADHERENCE_LABELS:
        labels, real_labels = ([prompt_label(clip, name) for clip in clips] for clips in (prompt_clips, real_clips))
        meaning = f"outputs that fit their own prompt's {name} better than other prompts' (0.5 is chance)"
        measure = Measure(f"adherence_{name}", "higher_is_better", "0 to 1", meaning)
        sets = [(generated, labels), (real, real_labels), (base, labels)]
        alike = _why_alike(f"in {name}", asked, real_labels)
        rows.append(_row(measure, alike, sets, label_fit(name, real, real_labels, cache)))
    meaning = "outputs closer to their own prompt than to other prompts in CLAP's space (0.5 is chance)"
    measure = Measure("adherence_clap", "higher_is_better", "0 to 1", meaning)
    if isinstance(clap_model, str):
        return [*rows, missing_score(measure, clap_model)]
    captions, real_captions = ([clip.caption or None for clip in clips] for clips in (prompt_clips, real_clips))
    sets = [(generated, captions), (real, real_captions), (base, captions)]
    return [*rows, _row(measure, _why_alike("at all", asked, real_captions), sets, clap_fit(clap_model, cache))]


def _why_alike(how: str, asked: bool, held_out: Sequence[str | None]) -> str:
    """Why prompts do not differ, and what would help: more of them only where the held-out recordings differ."""
    if not asked:
        return "the held-out recordings have no captions, so nothing was asked for; write some into metadata.csv"
    if len({*filter(None, held_out)}) < 2:
        return f"the held-out recordings, and so the prompts, do not differ {how} as far as talim can tell"
    return f"the prompts do not differ {how} as far as talim can tell; ask for more prompts"


def _row(measure: Measure, alike: str, sets: Sequence[tuple[ClipSet, list[str | None]]], fit: LabelFit) -> ScoreRow:
    """A row from the generated, real and base clips with their labels; `alike` is the reason if these do not differ.

    It decides nothing, and says so, where so many prompts could not tell outputs that follow them as real music does
    from outputs that ignore them.
    """
    if len(set(filter(None, sets[0][1]))) < 2:
        return missing_score(measure, alike)
    fits = [_fit_of_labelled(*labelled, fit) for labelled in sets]
    estimates = [_mean_preference(*labelled, fits[n]) for n, labelled in enumerate(sets)]
    reason = "the outputs are too short or too silent to measure; ask for more seconds"
    row = row_or_reason(measure, estimates, reason)
    if row.value is None or not (undecided := _too_few_prompts(row.n, sets[1][1], fits[1])):
        return row
    none = {"gain": None, "gain_error": None, "gain_recordings": 0, "gain_skewness": 0.0}
    return replace(row, **none, undecided=undecided, sentence=f"{row.sentence}; {undecided}")


def _too_few_prompts(prompts: int, labels: Sequence[str | None], fits: np.ndarray | None) -> str:
    """Why so many prompts decide nothing, from the rates at which the labels of real clips are recognised; else ""."""
    rates = None if fits is None else prompt_adherence.recognition_rates(fits, [*filter(None, labels)])
    if rates is None:
        return "not decided: too few held-out clips have this label to measure how well it is recognised"
    power, needed = rates.power(prompts), rates.prompts_needed()
    if power >= prompt_adherence.POWER:
        return ""
    if needed is None:
        return f"not decided: it is not recognised in real music either (preference {rates.hit:.2f}, 0.5 is chance)"
    return (
        f"not decided: real music prefers its own label in {rates.hit:.2f} of comparisons and others in "
        f"{rates.false_alarm:.2f}, so {format_counted(prompts, 'prompt')} would show a model that follows them as well "
        f"in {power:.0%} of cases; {format_counted(needed, 'prompt')} would do (80 %)"
    )


def prompt_label(clip: Clip, name: str) -> str | None:
    """A clip's value of one of ADHERENCE_LABELS; None where its labels and caption give none that can be measured."""
    if name == "tempo":
        bpm = tradition_scores.prompt_tempo(clip)
        return None if bpm is None else f"{bpm:g}"
    if name == "instruments":
        return None if clip.instruments == UNKNOWN else clip.instruments
    return tradition_scores.mode_label(clip) if name == "mode" else tradition_scores.cycle_label(clip)


def _fit_of_labelled(clip_set: ClipSet, labels: Sequence[str | None], fit: LabelFit) -> np.ndarray | None:
    """How well the labelled clips fit each other's labels, [n, n]; None for fewer than two labels."""
    texts = [label for label in labels if label]
    labelled = clip_set.subset([n for n, label in enumerate(labels) if label])
    return fit(labelled, texts) if len(set(texts)) > 1 else None


def _mean_preference(clip_set: ClipSet, labels: Sequence[str | None], fits: np.ndarray | None) -> Estimate:
    """Mean preference of the labelled clips for their own label over the others; NaN for fewer than two labels."""
    if fits is None:
        return Estimate(float("nan"), None, 0)
    preferences = np.full(len(labels), np.nan)
    texts = [label for label in labels if label]
    preferences[[bool(label) for label in labels]] = prompt_adherence.prompt_preference(fits, texts)
    return score_table.mean_over_recordings(preferences.tolist(), clip_set.recordings)


def label_fit(name: str, real: ClipSet, real_labels: Sequence[str | None], cache: MetricCache) -> LabelFit:
    """A function of clips and labels: how well each clip fits each label, [n, n]."""
    if name == "mode":
        return mode_fit
    if name == "cycle":
        return cycle_fit
    if name == "tempo":
        return tempo_fit
    timbre = embeddings.load("timbre")

    def instrument_fit(clip_set: ClipSet, labels: Sequence[str]) -> np.ndarray:
        """Timbre distance to the mean real clip of each instrumentation; to that of all clips if none has it."""
        rows = embeddings.embed(real.clips, timbre, cache)
        named = np.array(real_labels, object)
        means = {label: rows[named == label].mean(0) for label in filter(None, real_labels)}
        prototypes = np.stack([means.get(label, rows.mean(0)) for label in labels])
        return prompt_adherence.prototype_fit(embeddings.embed(clip_set.clips, timbre, cache), prototypes)

    return instrument_fit


def mode_fit(clip_set: ClipSet, labels: Sequence[str]) -> np.ndarray:
    """Log probability of each mode in each clip, tonic unknown, [n, n]; NaN where there is too little melody."""
    recognizer = ModeRecognizer([load(slug) for slug in sorted({label.split("/")[0] for label in labels})])
    column = {f"{tradition.slug}/{mode.slug}": n for n, (tradition, mode) in enumerate(recognizer.modes)}
    fits = np.full((len(labels), len(labels)), np.nan)
    for row, measures in enumerate(clip_set.measures):
        try:
            notes = note_transcription.transcribe_notes(measures.cents, clip_measures.HOP_SECONDS)
            posterior = recognizer.recognize(notes, tonic_known=False, half_seconds=0)
        except TalimError:
            continue
        fits[row] = np.log(posterior.scores[[column[label] for label in labels]] + 1e-12)
    return fits


def cycle_fit(clip_set: ClipSet, labels: Sequence[str]) -> np.ndarray:
    """How strongly each clip marks each cycle at its prompt's tempo, else at an estimated tempo, [n, n].

    NaN where the clip is too short. With an estimated tempo cycles are told apart much less reliably.
    """
    fits = np.full((len(labels), len(labels)), np.nan)
    for row, clip in enumerate(clip_set.clips):
        samples = clip.samples[0]
        prompt_bpm = clip_set.prompt_bpm[row] if clip_set.prompt_bpm else None
        tempi = tradition_scores.candidate_tempi(samples, prompt_bpm)
        strength = rhythm.onset_strength(samples, pitch.RATE_HZ)
        beats = [tradition_scores.cycle_of(label).beats for label in labels]
        found = {each: tradition_scores.max_cycle_strength(strength, each, tempi) for each in {*beats}}
        fits[row] = [found[each] for each in beats]
    return fits


def clap_fit(clap_model: clap.ClapModel, cache: MetricCache) -> LabelFit:
    """Cosine similarity of clips and captions in CLAP's space, as a function of both."""

    def fit(clip_set: ClipSet, captions: Sequence[str]) -> np.ndarray:
        rows = embeddings.embed(clip_set.clips, clap_model.audio_embedding, cache)
        text_vectors = {caption: clap_model.embed_text(caption) for caption in {*captions}}
        norms = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        return rows / norms @ np.stack([text_vectors[caption] for caption in captions]).T

    return fit


def tempo_fit(clip_set: ClipSet, labels: Sequence[str]) -> np.ndarray:
    """`prompt_adherence.tempo_fit` of the estimated tempo of each clip and labels in bpm; NaN for silence."""
    tempi = [rhythm.tempo_bpm(clip.samples[0], pitch.RATE_HZ) for clip in clip_set.clips]
    return prompt_adherence.tempo_fit(tempi, list(map(float, labels)))
