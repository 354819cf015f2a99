"""Before, after and real, side by side: which sounds belong together, each with its spectrogram and pitch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from markupsafe import Markup

from talim.errors import TalimError
from talim.pages.players import Sound, player, read_sound
from talim.pages.spectrogram import spectrogram
from talim.study.results import Result, Sample
from talim.study.words import duration, percent

ROLES = ("before", "after", "real")
TITLES = {"before": "Before", "after": "After", "real": "Real"}
MOST_EXHIBITS = 6  # about 1 MB of the page each, at ten seconds a sound

Tracker = Callable[[np.ndarray, int], Any]  # samples [T], rate -> something with hz [n] and hop_seconds


@dataclass(frozen=True)
class Card:
    """One sound as the page shows it; `problem` stands in the place of a sound that is missing."""

    role: str
    title: str
    details: str
    drawing: Markup | None = None
    player: Markup | None = None
    problem: str = ""


@dataclass(frozen=True)
class Exhibit:
    """One prompt and seed, with its cards in the order of ROLES."""

    prompt: str
    seed: int | None
    cards: list[Card] = field(default_factory=list)


def pitch_tracker() -> Tracker:
    """The refined pyin of the metrics; imported only for a page with sounds, since it is slow to load."""
    from talim.metrics.pitch import track

    return track


def exhibits(result: Result, tracker: Tracker | None) -> tuple[list[Exhibit], int]:
    """The first MOST_EXHIBITS groups of sounds, and how many more there are on disk."""
    groups = group(result.samples)
    shown = [
        Exhibit(prompt, seed, [_card(role, sounds.get(role), tracker) for role in ROLES])
        for prompt, seed, sounds in groups[:MOST_EXHIBITS]
    ]
    return shown, max(0, len(groups) - MOST_EXHIBITS)


def group(samples: list[Sample]) -> list[tuple[str, int | None, dict[str, Sample]]]:
    """Pair before and after by prompt and seed; a real sound joins its prompt, else the first free group."""
    groups: dict[tuple[str, int | None, int], dict[str, Sample]] = {}
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


def _same_prompt(real: Sample, sounds: dict[str, Sample]) -> bool:
    return any(sound.prompt == real.prompt for sound in sounds.values())


def _same_clip(real: Sample, sounds: dict[str, Sample]) -> bool:
    return any((sound.prompt, sound.recording) == (real.prompt, real.recording) for sound in sounds.values())


def _card(role: str, sample: Sample | None, tracker: Tracker | None) -> Card:
    title = TITLES[role]
    if sample is None:
        missing = "no held-out recording" if role == "real" else f"no sound from {role} training"
        return Card(role, title, "", problem=f"{missing} for this prompt")
    try:
        sound = read_sound(sample.path)
    except TalimError as error:
        return Card(role, title, "", problem=str(error))
    drawing, voiced = drawing_of(title, sound, tracker)
    details = [_origin(role, sample), duration(sound.seconds), voiced]
    label = f"{title}: {sample.prompt or sample.recording}"
    return Card(role, title, ", ".join(part for part in details if part), drawing, player(sound, label))


def _origin(role: str, sample: Sample) -> str:
    if role == "real":
        return f"held-out recording {sample.recording}" if sample.recording else "held-out recording"
    return "with the adapter" if role == "after" else "the base alone"


def drawing_of(title: str, sound: Sound, tracker: Tracker | None) -> tuple[Markup, str]:
    """The spectrogram with its pitch, and in words how much of the sound has a pitch."""
    mono = sound.mono
    pitch = tracker(mono, sound.rate_hz) if tracker else None
    if pitch is None:
        alt = f"Spectrogram of {title.lower()}, {sound.seconds:.0f} seconds; its pitch was not measured."
        return spectrogram(mono, sound.rate_hz, alt=alt), ""
    hz = np.asarray(pitch.hz, dtype=float)
    sung = hz[np.isfinite(hz)]
    share = len(sung) / max(len(hz), 1)
    alt = f"Spectrogram of {title.lower()}, {sound.seconds:.0f} seconds, pitched {percent(share)} of the time"
    if len(sung):
        low, high = np.percentile(sung, [5, 95])
        alt += f", mostly between {low:.0f} and {high:.0f} hertz"
    drawing = spectrogram(
        mono, sound.rate_hz, alt=alt + ".", pitch_hz=hz, hop_seconds=float(pitch.hop_seconds)
    )
    return drawing, f"pitched {percent(share)}"
