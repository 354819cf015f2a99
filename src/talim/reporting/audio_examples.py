"""Audio examples of reports: generated before and after, and real, each with spectrogram and pitch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from markupsafe import Markup

from talim.errors import TalimError
from talim.experiments.results import BaseModelResults, StudyResults, TrialResult
from talim.html.audio_player import DecodedAudio, audio_player, read_audio
from talim.html.formatting import format_duration, format_percent
from talim.html.spectrogram import spectrogram
from talim.reporting.run_results import RunResults, SavedSample, read_result

ROLES = ("before", "after", "real")

TITLES = {"before": "Before", "after": "After", "real": "Real"}

MAX_EXAMPLE_GROUPS = 6  # about 1 MB of the page each, at ten seconds per file


Tracker = Callable[[np.ndarray, int], Any]  # samples [T], rate -> something with hz [n] and hop_seconds


@dataclass(frozen=True)
class AudioExample:
    """One audio file on the page; `problem` is shown instead if the file is missing."""

    role: str
    title: str
    details: str
    drawing: Markup | None = None
    player: Markup | None = None
    problem: str = ""


@dataclass(frozen=True)
class ExampleGroup:
    """One prompt and seed, with its cards in the order of ROLES."""

    prompt: str
    seed: int | None
    cards: list[AudioExample] = field(default_factory=list)


def pitch_tracker() -> Tracker:
    """The pitch tracker of the metrics; imported only for pages with audio, since it is slow to load."""
    from talim.metrics.pitch import track_pitch

    return track_pitch


def collect_audio_examples(result: RunResults, tracker: Tracker | None) -> tuple[list[ExampleGroup], int]:
    """The first MAX_EXAMPLE_GROUPS groups of audio files, and how many more there are on disk."""
    groups = group_samples(result.samples)
    examples = [
        ExampleGroup(prompt, seed, [_card(role, samples.get(role), tracker) for role in ROLES])
        for prompt, seed, samples in groups[:MAX_EXAMPLE_GROUPS]
    ]
    return examples, max(0, len(groups) - MAX_EXAMPLE_GROUPS)


def group_samples(samples: list[SavedSample]) -> list[tuple[str, int | None, dict[str, SavedSample]]]:
    """Pair before and after by prompt and seed; real audio joins its prompt, else the first free group."""
    groups: dict[tuple[str, int | None, int], dict[str, SavedSample]] = {}
    counts: Counter[tuple[str, int | None, str]] = Counter()
    for sample in (sample for sample in samples if sample.role != "real"):
        # recordings may share a caption: the n-th before belongs to the n-th after
        repeat = counts[sample.prompt, sample.seed, sample.role]
        counts[sample.prompt, sample.seed, sample.role] += 1
        groups.setdefault((sample.prompt, sample.seed, repeat), {})[sample.role] = sample
    reals = [sample for sample in samples if sample.role == "real"]
    for matches in (_same_clip, _same_prompt, lambda real, group: True):
        for real in list(reals):
            free = (group for group in groups.values() if "real" not in group and matches(real, group))
            if group := next(free, None):
                group["real"] = real
                reals.remove(real)
    for index, real in enumerate(reals):
        groups[real.prompt or real.recording, None, -1 - index] = {"real": real}
    return [(prompt, seed, group) for (prompt, seed, _), group in groups.items()]


def _same_prompt(real: SavedSample, group: dict[str, SavedSample]) -> bool:
    return any(sample.prompt == real.prompt for sample in group.values())


def _same_clip(real: SavedSample, group: dict[str, SavedSample]) -> bool:
    return any((sample.prompt, sample.recording) == (real.prompt, real.recording) for sample in group.values())


def _card(role: str, sample: SavedSample | None, tracker: Tracker | None) -> AudioExample:
    title = TITLES[role]
    if sample is None:
        missing = "no held-out recording" if role == "real" else f"no audio from {role} training"
        return AudioExample(role, title, "", problem=f"{missing} for this prompt")
    try:
        audio = read_audio(sample.path)
    except TalimError as error:
        return AudioExample(role, title, "", problem=str(error))
    drawing, voiced = spectrogram_of(title, audio, tracker)
    details = [_origin(role, sample), format_duration(audio.seconds), voiced]
    label = f"{title}: {sample.prompt or sample.recording}"
    return AudioExample(role, title, ", ".join(part for part in details if part), drawing, audio_player(audio, label))


def _origin(role: str, sample: SavedSample) -> str:
    if role == "real":
        return f"held-out recording {sample.recording}" if sample.recording else "held-out recording"
    return "with the adapter" if role == "after" else "the base alone"


def spectrogram_of(title: str, audio: DecodedAudio, tracker: Tracker | None) -> tuple[Markup, str]:
    """The spectrogram with its pitch, and the voiced fraction as text."""
    mono = audio.mono
    pitch = tracker(mono, audio.rate_hz) if tracker else None
    if pitch is None:
        alt = f"Spectrogram of {title.lower()}, {audio.seconds:.0f} seconds; its pitch was not measured."
        return spectrogram(mono, audio.rate_hz, alt=alt), ""
    hz = np.asarray(pitch.hz, dtype=float)
    voiced = hz[np.isfinite(hz)]
    fraction = len(voiced) / max(len(hz), 1)
    alt = f"Spectrogram of {title.lower()}, {audio.seconds:.0f} seconds, pitched {format_percent(fraction)} of the time"
    if len(voiced):
        low, high = np.percentile(voiced, [5, 95])
        alt += f", mostly between {low:.0f} and {high:.0f} hertz"
    drawing = spectrogram(mono, audio.rate_hz, alt=alt + ".", pitch_hz=hz, hop_seconds=float(pitch.hop_seconds))
    return drawing, f"pitched {format_percent(fraction)}"


MAX_DESIGNS, MAX_CORPORA = 6, 2  # ten seconds of audio are a tenth of a megabyte of the page


@dataclass(frozen=True)
class ComparisonRow:
    """One corpus and prompt: real music, the base alone, and designs after training."""

    corpus: str
    prompt: str
    cards: Sequence[AudioExample]


def example_runs(study: StudyResults) -> dict[str, RunResults]:
    """The run of one trial for each design and corpus, by trial id; trials without a folder are left out."""
    runs = {}
    for table in study.tables:
        for design in table.designs:
            for trial in table.of_design(design):
                if trial.run and (study.folder / trial.run).is_dir():
                    runs[trial.id] = read_result(study.folder / trial.run)
                    break
    return runs


def side_by_side(study: StudyResults, runs: Mapping[str, RunResults], designs: Sequence[str]) -> list[ComparisonRow]:
    """Audio of up to MAX_DESIGNS designs, those in `designs` first, for the first corpora whose runs have audio.

    Pitch is not drawn: tracking takes more than a second per file, and each run's own page has it.
    """
    rows = []
    for table in study.tables:
        with_audio = _runs_with_audio(table, runs, designs)
        if with_audio and len(rows) < MAX_CORPORA:
            rows.append(_comparison_row(table, with_audio))
    return rows


def _runs_with_audio(
    table: BaseModelResults, runs: Mapping[str, RunResults], designs: Sequence[str]
) -> list[tuple[TrialResult, RunResults]]:
    trials = [trial for trial in table.trials if trial.id in runs and runs[trial.id].samples]
    trials.sort(key=lambda trial: designs.index(trial.design) if trial.design in designs else len(designs))
    return [(trial, runs[trial.id]) for trial in trials[:MAX_DESIGNS]]


def _comparison_row(table: BaseModelResults, with_audio: Sequence[tuple[TrialResult, RunResults]]) -> ComparisonRow:
    first = with_audio[0][1].samples
    lead = next((sample for sample in first if sample.role == "after"), first[0])
    cards = []
    for role, title in (("real", "Real"), ("before", f"{table.base} alone")):
        sample = _matching_sample(first, role, lead)
        if sample:
            cards.append(_comparison_card(role, title, sample))
    for trial, result in with_audio:
        sample = _matching_sample(result.samples, "after", lead)
        if sample is None:
            cards.append(AudioExample("after", trial.design, "", problem="no audio for this prompt"))
        else:
            cards.append(_comparison_card("after", trial.design, sample))
    return ComparisonRow(table.corpus, lead.prompt, cards)


def _matching_sample(samples: Sequence[SavedSample], role: str, lead: SavedSample) -> SavedSample | None:
    """The sample of a role with the lead's prompt; of several that with its recording and seed."""
    matching = [sample for sample in samples if sample.role == role and sample.prompt == lead.prompt]
    return max(
        matching, key=lambda sample: (sample.recording == lead.recording) + (sample.seed == lead.seed), default=None
    )


def _comparison_card(role: str, title: str, sample: SavedSample) -> AudioExample:
    try:
        audio = read_audio(sample.path)
    except TalimError as error:
        return AudioExample(role, title, "", problem=str(error))
    drawing, _ = spectrogram_of(title, audio, None)
    label = f"{title}: {sample.prompt or sample.recording}"
    return AudioExample(role, title, format_duration(audio.seconds), drawing, audio_player(audio, label))
