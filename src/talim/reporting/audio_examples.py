"""Audio examples of reports: generated before and after, and real, each with spectrogram and pitch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from markupsafe import Markup

from talim.errors import TalimError
from talim.experiments.results import BaseModelResults, StudyResults, TrialResult
from talim.html.audio_player import DecodedAudio, audio_player, read_audio
from talim.html.formatting import format_counted, format_duration, format_percent
from talim.html.spectrogram import spectrogram
from talim.inside_folder import resolve_inside
from talim.reporting.run_results import RunResults, SavedSample, read_result

TITLES = {"before": "Before", "after": "After", "real": "Real"}
ORIGINS = {"before": "the base alone", "after": "with the adapter", "real": "held-out recording"}
MAX_EXAMPLE_GROUPS = 6  # about 1 MB of the page each, at ten seconds per file
MAX_DESIGNS, MAX_CORPORA = 6, 2  # ten seconds of audio are a tenth of a megabyte of the page
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
    """One prompt and seed, with its cards in the order of TITLES."""

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
        ExampleGroup(prompt, seed, [_example_card(role, samples.get(role), tracker) for role in TITLES])
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
    for match in (lambda each: (each.prompt, each.recording), lambda each: each.prompt, lambda each: None):
        for real in list(reals):
            free = (
                group
                for group in groups.values()
                if "real" not in group and any(match(each) == match(real) for each in group.values())
            )
            if group := next(free, None):
                group["real"] = real
                reals.remove(real)
    for index, real in enumerate(reals):
        groups[real.prompt or real.recording, None, -1 - index] = {"real": real}
    return [(prompt, seed, group) for (prompt, seed, _), group in groups.items()]


def _example_card(role: str, sample: SavedSample | None, tracker: Tracker | None) -> AudioExample:
    if sample is None:
        missing = "no held-out recording" if role == "real" else f"no audio from {role} training"
        return AudioExample(role, TITLES[role], "", problem=f"{missing} for this prompt")
    origin = f"{ORIGINS[role]} {sample.recording if role == 'real' else ''}".rstrip()
    return _card(role, TITLES[role], sample, origin, tracker)


def _card(role: str, title: str, sample: SavedSample, origin: str = "", tracker: Tracker | None = None) -> AudioExample:
    try:
        audio = read_audio(sample.path)
    except TalimError as error:
        return AudioExample(role, title, "", problem=str(error))
    drawing, voiced = spectrogram_of(title, audio, tracker)
    details = ", ".join(part for part in (origin, format_duration(audio.seconds), voiced) if part)
    player = audio_player(audio, f"{title}: {sample.prompt or sample.recording}")
    return AudioExample(role, title, details, drawing, player)


def spectrogram_of(
    title: str, audio: DecodedAudio, tracker: Tracker | None, seam_seconds: float | None = None
) -> tuple[Markup, str]:
    """The spectrogram with its pitch, and the voiced fraction as text; a line at `seam_seconds`."""
    mono = audio.mono
    pitch = tracker(mono, audio.rate_hz) if tracker else None
    if pitch is None:
        alt = f"Spectrogram of {title.lower()}, {audio.seconds:.0f} seconds; its pitch was not measured."
        return spectrogram(mono, audio.rate_hz, alt=alt, seam_seconds=seam_seconds), ""
    hz = np.asarray(pitch.hz, dtype=float)
    voiced = hz[np.isfinite(hz)]
    fraction = len(voiced) / max(len(hz), 1)
    alt = f"Spectrogram of {title.lower()}, {audio.seconds:.0f} seconds, pitched {format_percent(fraction)} of the time"
    if len(voiced):
        low, high = np.percentile(voiced, [5, 95])
        alt += f", mostly between {low:.0f} and {high:.0f} hertz"
    track = {"pitch_hz": hz, "hop_seconds": float(pitch.hop_seconds), "seam_seconds": seam_seconds}
    drawing = spectrogram(mono, audio.rate_hz, alt=alt + ".", **track)
    return drawing, f"pitched {format_percent(fraction)}"


@dataclass(frozen=True)
class ComparisonRow:
    """One corpus and prompt: real music, the base alone, and designs after training."""

    corpus: str
    prompt: str
    cards: Sequence[AudioExample]
    note: str = ""  # what is not played


def example_runs(study: StudyResults) -> dict[str, RunResults]:
    """The run of one trial for each design and corpus, by trial id; trials without a folder are left out."""
    runs = {}
    for table in study.tables:
        for design in table.designs:
            for trial in table.of_design(design):
                if trial.run and (folder := resolve_inside(study.folder, trial.run)).is_dir():
                    runs[trial.id] = read_result(folder)
                    break
    return runs


def side_by_side(study: StudyResults, runs: Mapping[str, RunResults], designs: Sequence[str]) -> list[ComparisonRow]:
    """Audio of up to MAX_DESIGNS designs, those in `designs` first, for the first corpora whose runs have audio.

    Pitch is not drawn: tracking takes more than a second per file, and each run's own page has it.
    """
    found = [(table, with_audio) for table in study.tables if (with_audio := _runs_with_audio(table, runs, designs))]
    rows = [_comparison_row(table, with_audio) for table, with_audio in found[:MAX_CORPORA]]
    if len(found) > MAX_CORPORA:
        said = f"{rows[-1].note} {MAX_CORPORA} of {len(found)} corpora are played here."
        rows[-1] = replace(rows[-1], note=said.strip())
    return rows


def _runs_with_audio(
    table: BaseModelResults, runs: Mapping[str, RunResults], designs: Sequence[str]
) -> list[tuple[TrialResult, RunResults]]:
    trials = [trial for trial in table.trials if trial.id in runs and runs[trial.id].samples]
    trials.sort(key=lambda trial: designs.index(trial.design) if trial.design in designs else len(designs))
    return [(trial, runs[trial.id]) for trial in trials]


def _comparison_row(table: BaseModelResults, with_audio: Sequence[tuple[TrialResult, RunResults]]) -> ComparisonRow:
    first = with_audio[0][1].samples
    lead = next((sample for sample in first if sample.role == "after"), first[0])
    cards = []
    for role, title in (("real", "Real"), ("before", f"{table.base} alone")):
        if sample := _matching_sample(first, role, lead):
            cards.append(_card(role, title, sample))
    for trial, result in with_audio[:MAX_DESIGNS]:
        missing = AudioExample("after", trial.design, "", problem="no audio for this prompt")
        sample = _matching_sample(result.samples, "after", lead)
        cards.append(_card("after", trial.design, sample) if sample else missing)
    more = len(with_audio) > MAX_DESIGNS
    of = f"{MAX_DESIGNS} of {format_counted(len(with_audio), 'design')}"
    note = f"{of} are played here; each run's own page has its audio." * more
    return ComparisonRow(table.corpus, lead.prompt, cards, note)


def _matching_sample(samples: Sequence[SavedSample], role: str, lead: SavedSample) -> SavedSample | None:
    """The sample of a role with the lead's prompt; of several that with its recording and seed."""
    matching = [sample for sample in samples if sample.role == role and sample.prompt == lead.prompt]
    return max(
        matching, key=lambda sample: (sample.recording == lead.recording) + (sample.seed == lead.seed), default=None
    )
