"""Copies of training material in a clip: passages of a training recording's audio, and exact runs of codec tokens.

A copy of the audio keeps every attack and inflection of a performance, whatever is done to it; two performances of one
melody do not share them. So audio passages decide what is a copy; the same melody performed anew is none.

Conventions: a similarity is judged against a null distribution, that of unrelated real recordings (clips of one
recording are never compared). A p-value of 0.01 says that one unrelated clip in a hundred is as similar.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from talim.metrics import audio_matching
from talim.metrics.audio_matching import PassageMatch, ReferenceAudio

T = TypeVar("T")

FALSE_POSITIVE_RATE = 0.01
NULL_OUTLIER_RATE = 0.1  # expected number of unrelated clips per training set that `trim_null_outliers` removes
MIN_NULL_FOR_TAIL = 10
TAIL_FACTOR = 0.6


@dataclass(frozen=True)
class CopyMatch:
    """A passage of a clip that is similar to one of the training set, with times in both, in seconds.

    `kind` is "sound", "melody" or "tokens"; `similarity` is in that kind's unit; `p_value` is in (0, 1]; `cents` is how
    much higher the passage is than in the source, `tempo` how many times as fast.
    """

    kind: str
    source: int
    clip_seconds: tuple[float, float]
    source_seconds: tuple[float, float]
    similarity: float
    p_value: float
    detail: str
    cents: float = 0.0
    tempo: float = 1.0


def p_value(similarity: float, null: np.ndarray) -> float:
    """Empirical p-value in (0, 1]: (1 + #{null >= similarity}) / (1 + n); lower is more suspect.

    Valid for any distribution (conformal p-value, Vovk et al. 2005); n null similarities cannot give less than
    1 / (n + 1), so a threshold of 0.01 needs 99 of them.
    """
    return float((1 + (np.asarray(null) >= similarity).sum()) / (1 + len(null)))


def tail_p_value(similarity: float, null: np.ndarray) -> float:
    """`p_value`, but beyond the whole null by the Gumbel tail through its mean and standard deviation, (0, 1].

    The best of many chance alignments follows a Gumbel law (Karlin and Altschul 1990), so that ten null similarities
    are enough for a threshold of 0.01. How uncertain mean and standard deviation of n are makes the tail heavier: its
    exponential becomes a power, (1 + height / TAIL_FACTOR n) ^ (-TAIL_FACTOR n), which keeps the false alarms at 0.5 to
    1.5 % (docs/reports/interval-coverage.md). Outliers, which come from clips of the training set that contain the same
    passage, are left out (`trim_null_outliers`).
    """
    all_null = np.asarray(null, float)
    null = trim_null_outliers(all_null)
    empirical = p_value(similarity, null)
    if all_null.size < MIN_NULL_FOR_TAIL or similarity <= null.max() or null.std() < 1e-6:
        return empirical
    scale = null.std(ddof=1) * np.sqrt(6) / np.pi
    height = (similarity - null.mean()) / scale + np.euler_gamma
    exponent = TAIL_FACTOR * null.size
    tail = (1 + height / exponent) ** -exponent if height > 0 else np.exp(-height)
    return float(np.clip(-np.expm1(-tail), 1e-300, empirical))


def trim_null_outliers(similarities: np.ndarray) -> np.ndarray:
    """The similarities [n] without those beyond the Gumbel law through their quartiles.

    Otherwise a passage that occurs twice in a training set would hide every copy. Fewer than one unrelated clip in ten
    training sets is lost; quartiles are not affected by the few outliers.
    """
    if similarities.size < MIN_NULL_FOR_TAIL:
        return similarities
    low, middle, high = np.quantile(similarities, [0.25, 0.5, 0.75])
    scale = max(float(high - low) / (_gumbel_quantile(0.75) - _gumbel_quantile(0.25)), 1e-9)
    height = np.maximum((similarities - middle) / scale + _gumbel_quantile(0.5), -500.0)  # exp(-height) stays finite
    return similarities[-np.expm1(-np.exp(-height)) >= NULL_OUTLIER_RATE / similarities.size]


def _gumbel_quantile(probability: float) -> float:
    """Quantile of the standard Gumbel distribution."""
    return float(-np.log(-np.log(probability)))


def null_similarities(
    items: Sequence[T], recordings: Sequence[str], search: Callable[[T, list[int]], PassageMatch | None]
) -> np.ndarray:
    """Similarity of the match that `search(item, excluded indices)` finds for each item in other recordings [n]."""
    if len(recordings) != len(items):
        raise ValueError(f"{len(items)} sources but {len(recordings)} names of recordings")
    matches = []
    for item, recording in zip(items, recordings, strict=True):
        same_recording = [n for n, other in enumerate(recordings) if other == recording]
        if len(same_recording) < len(recordings):
            matches.append(search(item, same_recording))
    return np.array([match.similarity for match in matches if match is not None])


def find_audio_copy(
    fingerprint: np.ndarray, sources: ReferenceAudio, null: np.ndarray, exclude: Sequence[int] = ()
) -> CopyMatch | None:
    """The passage of 4 s whose audio is most similar to one of the sources'; None if there is none to compare.

    `fingerprint` is the clip's `audio_matching.audio_fingerprint`; sources `exclude` are skipped. Found up to 350 cents
    away, at 0.8 to 1.25 of the tempo, behind filters, coding and a drone; how reliably: docs/reports/copy-detection.md.
    similarity: `audio_matching.similarity`, [-1, 1], lower is more original. A copy if `p_value` (by `tail_p_value`
    against `null`) is at most 0.01.
    """
    match = audio_matching.find_audio_match(fingerprint, sources, exclude)
    return None if match is None else match_with_p_value("sound", match, tail_p_value(match.similarity, null))


def match_with_p_value(kind: str, match: PassageMatch, p_value: float) -> CopyMatch:
    """A passage match as a `CopyMatch` of a kind."""
    where, tempo = (match.source, match.clip_seconds, match.source_seconds), 1 / match.ratio
    detail = f"{match.cents:+.0f} cents, {tempo:.2f} of the tempo"
    return CopyMatch(kind, *where, match.similarity, p_value, detail, match.cents, tempo)


def longest_common_run(codes: np.ndarray, sources: Sequence[np.ndarray]) -> tuple[int, int, int, int, int]:
    """The longest run of `codes` [F] that occurs in a source token by token.

    Returns (changes, source, start in the clip, start in the source, length), in frames; (0, -1, 0, 0, 0) for none.
    Runs are ranked by the number of token changes, so that silence, one repeated token, does not count. `codes` are a
    codec's first codebook.
    """
    joined = np.concatenate([part for source in sources for part in (np.asarray(source), [-1])] or [[-1]])
    owner = np.repeat(np.arange(len(sources)), [len(source) + 1 for source in sources])
    changed = np.diff(joined, prepend=-1) != 0
    length, changes = np.zeros(joined.size, int), np.zeros(joined.size, int)
    best = (0, -1, 0, 0, 0)
    for n, token in enumerate(np.asarray(codes)):
        same = joined == token
        previous = np.concatenate([[0], length[:-1]])
        changes = np.where(same, np.concatenate([[0], changes[:-1]]) + (changed & (previous > 0)), 0)
        length = np.where(same, previous + 1, 0)
        end = int(changes.argmax()) if changes.size else 0
        if changes.size and changes[end] > best[0]:
            run, source = int(length[end]), int(owner[end])
            first = int(np.searchsorted(owner, source))
            best = (int(changes[end]), source, n - run + 1, end - run + 1 - first, run)
    return best


def find_token_copy(
    codes: np.ndarray, sources: Sequence[np.ndarray], frame_rate_hz: float, null: np.ndarray
) -> CopyMatch | None:
    """The longest run that a clip shares with a source token by token, in a codec's first codebook; None for no run.

    similarity: token changes in the run, 1 or more, lower is more original. It proves a copy but misses one that is
    shifted by part of a frame, transposed or filtered, which `find_audio_copy` finds. A copy if `p_value` (by
    `tail_p_value` against `null`) is at most 0.01.
    """
    changes, source, in_clip, in_source, length = longest_common_run(codes, sources)
    if not changes:
        return None
    clip_seconds, source_seconds = ((n / frame_rate_hz, (n + length) / frame_rate_hz) for n in (in_clip, in_source))
    p_value = tail_p_value(changes, null)
    return CopyMatch("tokens", source, clip_seconds, source_seconds, float(changes), p_value, f"{length} equal frames")
