"""Do outputs have the mode, tempo and instruments that their own prompts ask for, rather than those of other prompts.

The same is measured on real held-out clips with their own labels, which is the most to be hoped for, and on the base.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from talim.corpus.manifest import UNKNOWN, Clip
from talim.errors import TalimError
from talim.metrics import adherence, embeddings, pitch, rhythm
from talim.metrics.cache import Cache
from talim.stages import scoring
from talim.stages.score_table import Score, Set, by_recording, score
from talim.traditions import transcription
from talim.traditions.recognition import Listener
from talim.traditions.tradition import load, shipped

Fit = Callable[[Set, Sequence[str]], np.ndarray]


def adhering(
    asked: Sequence[Clip], own: Set, base: Set, chosen: Sequence[Clip], real: Set, cache: Cache
) -> list[Score]:
    """A row for each of mode, tempo and instruments that the prompts ask for in two ways or more."""
    rows = []
    for name in ("mode", "tempo", "instruments"):
        labels, real_labels = ([label(clip, name) for clip in clips] for clips in (asked, chosen))
        fit = fit_of(name, real, real_labels, cache)
        if len(set(filter(None, labels))) < 2:
            continue
        mine, floor, ceiling = (
            preferred(part, said, fit) for part, said in ((own, labels), (real, real_labels), (base, labels))
        )
        meaning = f"outputs that fit their own prompt's {name} better than other prompts' (0.5 is chance)"
        rows.append(score(f"adherence_{name}", mine, floor[0], ceiling[0], "higher", "0 to 1", meaning))
    return rows


def label(clip: Clip, name: str) -> str | None:
    """What a clip's words ask for; None where they say nothing that can be measured."""
    if name == "tempo":
        said = clip.extra.get("tempo_bpm")
        return str(said) if _number(said) else None
    if name == "instruments":
        return None if clip.instruments == UNKNOWN else clip.instruments
    if clip.mode == UNKNOWN or clip.tradition not in shipped():
        return None
    try:
        return f"{clip.tradition}/{load(clip.tradition).mode(clip.mode).slug}"
    except TalimError:
        return None


def preferred(part: Set, labels: Sequence[str | None], fit: Fit) -> tuple[float, list[float] | None, int]:
    """Mean preference of the clips with a label for their own, its interval by recording, and how many there were."""
    rows = [n for n, said in enumerate(labels) if said]
    known = Set(
        [part.clips[n] for n in rows], [part.heard[n] for n in rows], [part.recordings[n] for n in rows]
    )
    said = [str(labels[n]) for n in rows]
    if len(set(said)) < 2:
        return float("nan"), None, 0
    return by_recording(adherence.preference(fit(known, said), said).tolist(), known.recordings)


def fit_of(name: str, real: Set, real_labels: Sequence[str | None], cache: Cache) -> Fit:
    """How well the outputs of a set have what each label asks for, as a function of both."""
    if name == "mode":
        return mode_fit
    if name == "tempo":
        return lambda part, said: adherence.tempo_fit(tempi(part), [float(one) for one in said])
    timbre = embeddings.load("timbre")

    def instrument_fit(part: Set, said: Sequence[str]) -> np.ndarray:
        rows = embeddings.embed(real.clips, timbre, cache)
        middle = {
            one: rows[[n for n, other in enumerate(real_labels) if other == one]].mean(0)
            for one in set(filter(None, real_labels))
        }
        everything = rows.mean(0)
        prototypes = np.stack([middle.get(one, everything) for one in said])
        return adherence.prototype_fit(embeddings.embed(part.clips, timbre, cache), prototypes)

    return instrument_fit


def mode_fit(part: Set, said: Sequence[str]) -> np.ndarray:
    """Log probability of each asked mode, the tonic unknown, [n, n]; NaN where there is too little melody."""
    listener = Listener([load(slug) for slug in sorted({one.split("/")[0] for one in said})])
    column = {f"{tradition.slug}/{mode.slug}": n for n, (tradition, mode) in enumerate(listener.modes)}
    fits = np.full((len(said), len(said)), np.nan)
    for row, heard in enumerate(part.heard):
        try:
            judged = listener.judge(transcription.notes(heard.cents, scoring.HOP_SECONDS), tonic_known=False)
        except TalimError:
            continue
        fits[row] = np.log(judged.scores[[column[one] for one in said]] + 1e-12)
    return fits


def tempi(part: Set) -> list[float]:
    """The tempo of each clip in beats a minute; NaN for silence."""
    return [rhythm.tempo_bpm(clip.samples[0], pitch.RATE_HZ) for clip in part.clips]


def _number(said: object) -> bool:
    try:
        return float(str(said)) > 0
    except ValueError:
        return False
