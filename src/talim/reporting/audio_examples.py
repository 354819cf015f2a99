"""Before, after and real, side by side: which sounds belong together, each with its spectrogram and pitch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from markupsafe import Markup

from talim.errors import TalimError
from talim.experiments.results import BaseModelResults, StudyResults, TrialResult
from talim.html.audio_player import DecodedAudio, audio_player, read_sound
from talim.html.formatting import format_duration, format_percent
from talim.html.spectrogram import spectrogram
from talim.reporting.run_results import RunResults, SavedSample, read_result

ROLES = ("before", "after", "real")

TITLES = {"before": "Before", "after": "After", "real": "Real"}

MAX_EXAMPLE_GROUPS = 6  # about 1 MB of the page each, at ten seconds a sound


Tracker = Callable[[np.ndarray, int], Any]  # samples [T], rate -> something with hz [n] and hop_seconds


@dataclass(frozen=True)
class AudioExample:
    """One sound as the page shows it; `problem` stands in the place of a sound that is missing."""

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
    """The refined pyin of the metrics; imported only for a page with sounds, since it is slow to load."""
    from talim.metrics.pitch import track_pitch

    return track_pitch


def collect_audio_examples(result: RunResults, tracker: Tracker | None) -> tuple[list[ExampleGroup], int]:
    """The first MOST_EXHIBITS groups of sounds, and how many more there are on disk."""
    groups = group_samples(result.samples)
    shown = [
        ExampleGroup(prompt, seed, [_card(role, sounds.get(role), tracker) for role in ROLES])
        for prompt, seed, sounds in groups[:MAX_EXAMPLE_GROUPS]
    ]
    return shown, max(0, len(groups) - MAX_EXAMPLE_GROUPS)


def group_samples(samples: list[SavedSample]) -> list[tuple[str, int | None, dict[str, SavedSample]]]:
    """Pair before and after by prompt and seed; a real sound joins its prompt, else the first free group."""
    groups: dict[tuple[str, int | None, int], dict[str, SavedSample]] = {}
    met: Counter[tuple[str, int | None, str]] = Counter()
    for sample in (sample for sample in samples if sample.role != "real"):
        # one caption may stand for several recordings: the n-th before belongs to the n-th after
        repeat = met[sample.prompt, sample.seed, sample.role]
        met[sample.prompt, sample.seed, sample.role] += 1
        groups.setdefault((sample.prompt, sample.seed, repeat), {})[sample.role] = sample
    reals = [sample for sample in samples if sample.role == "real"]
    for matches in (_same_clip, _same_prompt, lambda real, sounds: True):
        for real in list(reals):
            free = (sounds for sounds in groups.values() if "real" not in sounds and matches(real, sounds))
            if sounds := next(free, None):
                sounds["real"] = real
                reals.remove(real)
    for place, real in enumerate(reals):
        groups[real.prompt or real.recording, None, -1 - place] = {"real": real}
    return [(prompt, seed, sounds) for (prompt, seed, _), sounds in groups.items()]


def _same_prompt(real: SavedSample, sounds: dict[str, SavedSample]) -> bool:
    return any(sound.prompt == real.prompt for sound in sounds.values())


def _same_clip(real: SavedSample, sounds: dict[str, SavedSample]) -> bool:
    return any((sound.prompt, sound.recording) == (real.prompt, real.recording) for sound in sounds.values())


def _card(role: str, sample: SavedSample | None, tracker: Tracker | None) -> AudioExample:
    title = TITLES[role]
    if sample is None:
        missing = "no held-out recording" if role == "real" else f"no sound from {role} training"
        return AudioExample(role, title, "", problem=f"{missing} for this prompt")
    try:
        sound = read_sound(sample.path)
    except TalimError as error:
        return AudioExample(role, title, "", problem=str(error))
    drawing, voiced = spectrogram_of(title, sound, tracker)
    details = [_origin(role, sample), format_duration(sound.seconds), voiced]
    label = f"{title}: {sample.prompt or sample.recording}"
    return AudioExample(
        role, title, ", ".join(part for part in details if part), drawing, audio_player(sound, label)
    )


def _origin(role: str, sample: SavedSample) -> str:
    if role == "real":
        return f"held-out recording {sample.recording}" if sample.recording else "held-out recording"
    return "with the adapter" if role == "after" else "the base alone"


def spectrogram_of(title: str, sound: DecodedAudio, tracker: Tracker | None) -> tuple[Markup, str]:
    """The spectrogram with its pitch, and in words how much of the sound has a pitch."""
    mono = sound.mono
    pitch = tracker(mono, sound.rate_hz) if tracker else None
    if pitch is None:
        alt = f"Spectrogram of {title.lower()}, {sound.seconds:.0f} seconds; its pitch was not measured."
        return spectrogram(mono, sound.rate_hz, alt=alt), ""
    hz = np.asarray(pitch.hz, dtype=float)
    sung = hz[np.isfinite(hz)]
    share = len(sung) / max(len(hz), 1)
    alt = f"Spectrogram of {title.lower()}, {sound.seconds:.0f} seconds, pitched {format_percent(share)} of the time"
    if len(sung):
        low, high = np.percentile(sung, [5, 95])
        alt += f", mostly between {low:.0f} and {high:.0f} hertz"
    drawing = spectrogram(
        mono, sound.rate_hz, alt=alt + ".", pitch_hz=hz, hop_seconds=float(pitch.hop_seconds)
    )
    return drawing, f"pitched {format_percent(share)}"


MAX_DESIGNS, MAX_CORPORA = 6, 2  # a sound of ten seconds is a tenth of a megabyte of the page


@dataclass(frozen=True)
class ComparisonRow:
    """One corpus and prompt: real music, the base alone, and designs after training."""

    corpus: str
    prompt: str
    cards: Sequence[AudioExample]


def example_runs(study: StudyResults) -> dict[str, RunResults]:
    """The run of one trial for each design and corpus, by trial id; trials whose folder is gone are left out."""
    found = {}
    for table in study.tables:
        for design in table.designs:
            for row in table.of(design):
                if row.run and (study.folder / row.run).is_dir():
                    found[row.id] = read_result(study.folder / row.run)
                    break
    return found


def side_by_side(
    study: StudyResults, runs: Mapping[str, RunResults], worth: Sequence[str]
) -> list[ComparisonRow]:
    """For the first corpora whose runs left sounds: what can be heard of the designs that are worth hearing.

    Pitches are not drawn here, since following them takes a second a sound and more: each run's own page has them.
    """
    found = []
    for table in study.tables:
        heard = _audible_runs(table, runs, worth)
        if heard and len(found) < MAX_CORPORA:
            found.append(_comparison_row(table, heard))
    return found


def _audible_runs(
    table: BaseModelResults, runs: Mapping[str, RunResults], worth: Sequence[str]
) -> list[tuple[TrialResult, RunResults]]:
    rows = [row for row in table.rows if row.id in runs and runs[row.id].samples]
    rows.sort(key=lambda row: worth.index(row.design) if row.design in worth else len(worth))
    return [(row, runs[row.id]) for row in rows[:MAX_DESIGNS]]


def _comparison_row(
    table: BaseModelResults, heard: Sequence[tuple[TrialResult, RunResults]]
) -> ComparisonRow:
    first = heard[0][1].samples
    lead = next((sample for sample in first if sample.role == "after"), first[0])
    cards = []
    for role, title in (("real", "Real"), ("before", f"{table.base} alone")):
        sample = _matching_sample(first, role, lead)
        if sample:
            cards.append(_comparison_card(role, title, sample))
    for row, result in heard:
        sample = _matching_sample(result.samples, "after", lead)
        if sample is None:
            cards.append(AudioExample("after", row.design, "", problem="no sound of this prompt"))
        else:
            cards.append(_comparison_card("after", row.design, sample))
    return ComparisonRow(table.corpus, lead.prompt, cards)


def _matching_sample(samples: Sequence[SavedSample], role: str, lead: SavedSample) -> SavedSample | None:
    """The sample of a role with the lead's prompt, and its recording and seed where there are several."""
    fitting = [sample for sample in samples if sample.role == role and sample.prompt == lead.prompt]
    return max(
        fitting, key=lambda one: (one.recording == lead.recording) + (one.seed == lead.seed), default=None
    )


def _comparison_card(role: str, title: str, sample: SavedSample) -> AudioExample:
    try:
        sound = read_sound(sample.path)
    except TalimError as error:
        return AudioExample(role, title, "", problem=str(error))
    drawing, _ = spectrogram_of(title, sound, None)
    label = f"{title}: {sample.prompt or sample.recording}"
    return AudioExample(role, title, format_duration(sound.seconds), drawing, audio_player(sound, label))
