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
from talim.evaluation.score_table import ClipSet, ScoreRow, mean_over_recordings, missing_score, score_row
from talim.metrics import audio_matching, copy_detection, pitch
from talim.metrics.cache import MetricCache
from talim.metrics.copy_detection import FALSE_POSITIVE_RATE, CopyMatch

MIN_NULL_CLIPS = 10  # under which no tail can be fitted, and nothing can be one in a hundred
MEANINGS = {
    "copied_sound": "outputs that hold 4 s of the sound of a training clip, shifted, stretched or filtered perhaps",
    "copied_tokens": "outputs that hold a longer run of a training clip's own tokens than strangers do",
}


NO_NULL_SCORES = np.zeros(0)  # no strangers yet
# Of outputs, of the base's outputs, of strangers.
CopyMatches = tuple[list[CopyMatch | None], list[CopyMatch | None], list[CopyMatch | None]]


@dataclass(frozen=True)
class TokenMatcher:
    """First codebooks [frames] of the training clips, of strangers, of the outputs and of the base's outputs."""

    training: Sequence[np.ndarray]
    strangers: Sequence[np.ndarray]
    generated: Sequence[np.ndarray]
    base: Sequence[np.ndarray]
    frame_hz: float


def copy_scores(
    corpus: Corpus, own: ClipSet, base: ClipSet, real: ClipSet, tokens: TokenMatcher | str, cache: MetricCache
) -> tuple[list[ScoreRow], dict[str, Any]]:
    """The share of outputs that copy, by sound and by tokens (a str: why there are none), and the passages found.

    The second value has the keys that `talim.evaluation.copy_report.copy_report` shows: of each output the more suspect finding.
    """
    found = {"copied_sound": audio_copy_scores(corpus, own, base, real, cache)}
    found["copied_tokens"] = tokens if isinstance(tokens, str) else token_copy_scores(tokens)
    rows = [_row(name, findings, own, base, real) for name, findings in found.items()]
    of_outputs = [findings[0] for findings in found.values() if not isinstance(findings, str)]
    suspects = [_most_suspect(pair) for pair in zip(*of_outputs, strict=True)]
    names = [str(corpus.folder / clip.file) for clip in corpus.train]
    told = [
        {"clip": f"{number:02d}-after.flac", "copied": _copy_indicator(one) > 0,
         "finding": None if one is None else {**asdict(one), "source": names[one.source]}}
        for number, one in enumerate(suspects, start=1)
    ]  # fmt: skip
    return rows, {
        "gate": FALSE_POSITIVE_RATE, "training": len(names), "strangers": len(real.clips),
        "copied": sum(row["copied"] for row in told), "clips": told,
    }  # fmt: skip


def audio_copy_scores(
    corpus: Corpus, own: ClipSet, base: ClipSet, real: ClipSet, cache: MetricCache
) -> CopyMatches | str:
    """What sounds most like a training clip in each output, each output of the base and each stranger; or why not."""
    sources = audio_matching.build_reference_audio(
        [fingerprint_of(corpus.read_clip(clip), cache) for clip in corpus.train]
    )
    return with_p_values(
        [[copy_detection.find_audio_copy(fingerprint_of(clip, cache), sources, NO_NULL_SCORES) for clip in part.clips]
         for part in (own, base, real)],
        f"a passage of sound lasts {audio_matching.PASSAGE_SECONDS:g} s and the clips are shorter; ask for more seconds",
    )  # fmt: skip


def token_copy_scores(tokens: TokenMatcher) -> CopyMatches | str:
    """The longest run of a training clip's tokens in each output, each output of the base and each stranger."""
    return with_p_values(
        [[copy_detection.find_token_copy(codes, tokens.training, tokens.frame_hz, NO_NULL_SCORES) for codes in part]
         for part in (tokens.generated, tokens.base, tokens.strangers)],
        "the held-out clips share no token with the training clips",
    )  # fmt: skip


def with_p_values(found: Sequence[Sequence[CopyMatch | None]], why: str) -> CopyMatches | str:
    """Findings of outputs, base and strangers with their p-values; a stranger's is against the other strangers.

    Why not, in words, where fewer than ten strangers could be compared: nothing can be one in a hundred then.
    """
    own, base, strangers = found
    likeness = np.array([one.likeness for one in strangers if one is not None])
    if likeness.size < MIN_NULL_CLIPS:
        few = f"it takes {MIN_NULL_CLIPS} held-out clips to tell what strangers share, and there are "
        return why if len(strangers) >= MIN_NULL_CLIPS else f"{few}{len(strangers)}"

    def told(one: CopyMatch | None, among: np.ndarray) -> CopyMatch | None:
        return one and replace(one, p_value=copy_detection.tail_p_value(one.likeness, among))

    places = np.cumsum([one is not None for one in strangers]) - 1
    return (
        [told(one, likeness) for one in own],
        [told(one, likeness) for one in base],
        [told(one, np.delete(likeness, place)) for one, place in zip(strangers, places, strict=True)],
    )


def fingerprint_of(clip: Audio, cache: MetricCache) -> np.ndarray:
    """A clip's `sound_match.sound_print`, from the cache if it is there."""
    return cache.get(
        clip,
        f"print/{audio_matching.VERSION}",
        lambda: audio_matching.audio_fingerprint(clip.mono().resample(pitch.RATE_HZ).samples[0]),
    )


def _row(name: str, found: CopyMatches | str, own: ClipSet, base: ClipSet, real: ClipSet) -> ScoreRow:
    if isinstance(found, str):
        return missing_score(name, "lower_is_better", "share", MEANINGS[name], found)
    mine, baseline, reference = (
        mean_over_recordings([_copy_indicator(one) for one in findings], part.recordings)
        for findings, part in zip(found, (own, base, real), strict=True)
    )
    if not mine[2]:
        return missing_score(name, "lower_is_better", "share", MEANINGS[name], "the outputs are too short to compare")
    return score_row(name, mine, reference[0], baseline[0], "lower_is_better", "share", MEANINGS[name])


def _copy_indicator(finding: CopyMatch | None) -> float:
    """1 for a copy, 0 for none, NaN where nothing could be compared."""
    return float("nan") if finding is None else float(finding.p_value <= FALSE_POSITIVE_RATE)


def _most_suspect(findings: Sequence[CopyMatch | None]) -> CopyMatch | None:
    return min((one for one in findings if one is not None), key=lambda one: one.p_value, default=None)
