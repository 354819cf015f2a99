"""Do outputs copy the training clips: in sound, whatever was done to it, and token by token where the base writes such.

Strangers are the held-out clips, of other recordings than the training ones by the split: what they share with the
training clips is what music of this kind shares. A copy is what fewer than one stranger in a hundred would reach.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from talim.audio import Audio
from talim.corpus.manifest import Corpus
from talim.metrics import originality, pitch, sound_match
from talim.metrics.cache import Cache
from talim.metrics.originality import FALSE_ALARMS, Finding
from talim.stages.score_table import Score, Set, by_recording, score, unanswered

FEWEST_STRANGERS = 10  # under which no tail can be fitted, and nothing can be one in a hundred
MEANINGS = {
    "copied_sound": "outputs that hold 4 s of the sound of a training clip, shifted, stretched or filtered perhaps",
    "copied_tokens": "outputs that hold a longer run of a training clip's own tokens than strangers do",
}


UNJUDGED = np.zeros(0)  # no strangers yet
# Of outputs, of the base's outputs, of strangers.
Findings = tuple[list[Finding | None], list[Finding | None], list[Finding | None]]


@dataclass(frozen=True)
class Tokens:
    """First codebooks [frames] of the training clips, of strangers, of the outputs and of the base's outputs."""

    training: Sequence[np.ndarray]
    strangers: Sequence[np.ndarray]
    own: Sequence[np.ndarray]
    base: Sequence[np.ndarray]
    frame_hz: float


def copying(
    corpus: Corpus, own: Set, base: Set, real: Set, tokens: Tokens | str, cache: Cache
) -> tuple[list[Score], dict[str, Any]]:
    """The share of outputs that copy, by sound and by tokens (a str: why there are none), and the passages found.

    The second value has the keys that `talim.stages.copies.page` shows: of each output the more suspect finding.
    """
    found = {"copied_sound": by_sound(corpus, own, base, real, cache)}
    found["copied_tokens"] = tokens if isinstance(tokens, str) else by_tokens(tokens)
    rows = [_row(name, findings, own, base, real) for name, findings in found.items()]
    of_outputs = [findings[0] for findings in found.values() if not isinstance(findings, str)]
    suspects = [_most_suspect(pair) for pair in zip(*of_outputs, strict=True)]
    names = [str(corpus.folder / clip.file) for clip in corpus.train]
    told = [
        {"clip": f"{number:02d}-after.flac", "copied": _copied(one) > 0,
         "finding": None if one is None else {**asdict(one), "source": names[one.source]}}
        for number, one in enumerate(suspects, start=1)
    ]  # fmt: skip
    return rows, {
        "gate": FALSE_ALARMS, "training": len(names), "strangers": len(real.clips),
        "copied": sum(row["copied"] for row in told), "clips": told,
    }  # fmt: skip


def by_sound(corpus: Corpus, own: Set, base: Set, real: Set, cache: Cache) -> Findings | str:
    """What sounds most like a training clip in each output, each output of the base and each stranger; or why not."""
    sources = sound_match.sound_library([print_of(corpus.read_clip(clip), cache) for clip in corpus.train])
    return judged(
        [[originality.copied_sound(print_of(clip, cache), sources, UNJUDGED) for clip in part.clips]
         for part in (own, base, real)],
        f"a passage of sound lasts {sound_match.PASSAGE_SECONDS:g} s and the clips are shorter; ask for more seconds",
    )  # fmt: skip


def by_tokens(tokens: Tokens) -> Findings | str:
    """The longest run of a training clip's tokens in each output, each output of the base and each stranger."""
    return judged(
        [[originality.copied_tokens(codes, tokens.training, tokens.frame_hz, UNJUDGED) for codes in part]
         for part in (tokens.own, tokens.base, tokens.strangers)],
        "the held-out clips share no token with the training clips",
    )  # fmt: skip


def judged(found: Sequence[Sequence[Finding | None]], why: str) -> Findings | str:
    """Findings of outputs, base and strangers with their p-values; a stranger's is against the other strangers.

    Why not, in words, where fewer than ten strangers could be compared: nothing can be one in a hundred then.
    """
    own, base, strangers = found
    likeness = np.array([one.likeness for one in strangers if one is not None])
    if likeness.size < FEWEST_STRANGERS:
        few = f"it takes {FEWEST_STRANGERS} held-out clips to tell what strangers share, and there are "
        return why if len(strangers) >= FEWEST_STRANGERS else f"{few}{len(strangers)}"

    def told(one: Finding | None, among: np.ndarray) -> Finding | None:
        return one and replace(one, p_value=originality.tail_p_value(one.likeness, among))

    places = np.cumsum([one is not None for one in strangers]) - 1
    return (
        [told(one, likeness) for one in own],
        [told(one, likeness) for one in base],
        [told(one, np.delete(likeness, place)) for one, place in zip(strangers, places, strict=True)],
    )


def print_of(clip: Audio, cache: Cache) -> np.ndarray:
    """A clip's `sound_match.sound_print`, from the cache if it is there."""
    return cache.get(
        clip,
        f"print/{sound_match.VERSION}",
        lambda: sound_match.sound_print(clip.mono().resample(pitch.RATE_HZ).samples[0]),
    )


def _row(name: str, found: Findings | str, own: Set, base: Set, real: Set) -> Score:
    if isinstance(found, str):
        return unanswered(name, "lower", "share", MEANINGS[name], found)
    mine, ceiling, floor = (
        by_recording([_copied(one) for one in findings], part.recordings)
        for findings, part in zip(found, (own, base, real), strict=True)
    )
    if not mine[2]:
        return unanswered(name, "lower", "share", MEANINGS[name], "the outputs are too short to compare")
    return score(name, mine, floor[0], ceiling[0], "lower", "share", MEANINGS[name])


def _copied(finding: Finding | None) -> float:
    """1 for a copy, 0 for none, NaN where nothing could be compared."""
    return float("nan") if finding is None else float(finding.p_value <= FALSE_ALARMS)


def _most_suspect(findings: Sequence[Finding | None]) -> Finding | None:
    return min((one for one in findings if one is not None), key=lambda one: one.p_value, default=None)
