"""Does a clip copy the training set: its nearest clip, passages copied in sound or melody, and exact fragments.

A copy of the sound keeps every attack and waver of a performance, whatever is done to it: two performances of one
melody never share them. So `copied_sound` is the gate for copies; `copied_melody` tells of the same line played anew.

Conventions: every likeness is judged against strangers: what real recordings reach among one another, clips of one
recording never compared. A p-value of 0.01 says that one stranger in a hundred is as alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from talim.metrics import audio_matching
from talim.metrics.audio_matching import PassageMatch, ReferenceAudio

FALSE_POSITIVE_RATE = 0.01

NULL_OUTLIER_RATE = 0.1  # true strangers that a training set may lose by being taken for copies within it


@dataclass(frozen=True)
class CopyMatch:
    """A passage of a clip that is suspiciously like one of the training set, with times in both, in seconds.

    `kind` is "sound", "melody" or "tokens"; `likeness` in that kind's unit; `p_value` (0, 1], see `p_value`; `cents`
    is how much higher it is than in the source, `tempo` how many times as fast.
    """

    kind: str
    source: int
    clip_seconds: tuple[float, float]
    source_seconds: tuple[float, float]
    likeness: float
    p_value: float
    detail: str
    cents: float = 0.0
    tempo: float = 1.0


@dataclass(frozen=True)
class NearestClip:
    """The training clip nearest in an embedding: its number, distance, and percentile of it among real pairs."""

    source: int
    distance: float
    percentile: float


def p_value(likeness: float, strangers: np.ndarray) -> float:
    """How often a stranger is as alike, in (0, 1]: (1 + strangers at or above) / (1 + strangers); lower is suspect.

    Valid for any distribution (conformal p-value, Vovk et al. 2005); n strangers cannot give less than 1 / (n + 1),
    so a gate at 0.01 needs 99 of them.
    """
    return float((1 + (np.asarray(strangers) >= likeness).sum()) / (1 + len(strangers)))


def tail_p_value(likeness: float, strangers: np.ndarray) -> float:
    """`p_value`, but beyond all strangers by the Gumbel tail through their mean and spread, (0, 1].

    The best of many chance alignments follows a Gumbel law (Karlin and Altschul 1990), so that a few dozen strangers,
    which alone can give no less than 1 / (n + 1), are enough for a gate at 0.01; fewer than ten are not. Clips of the
    training set that hold the same passage are no strangers to each other: they are left out (`strange`).
    """
    strangers = trim_null_outliers(np.asarray(strangers, float))
    plain = p_value(likeness, strangers)
    if strangers.size < 10 or likeness <= strangers.max() or strangers.std() < 1e-6:
        return plain
    scale = strangers.std(ddof=1) * np.sqrt(6) / np.pi
    height = (likeness - strangers.mean()) / scale + np.euler_gamma
    return float(np.clip(-np.expm1(-np.exp(-height)), 1e-300, plain))


def trim_null_outliers(likenesses: np.ndarray) -> np.ndarray:
    """Those of likenesses [n] that strangers can have: without what lies beyond the Gumbel law of their quartiles.

    A passage that stands twice in a training set would else let every copy pass. Less than one true stranger in ten
    training sets is lost by it; quartiles do not mind the few.
    """
    if likenesses.size < 10:
        return likenesses
    low, middle, high = np.quantile(likenesses, [0.25, 0.5, 0.75])
    scale = max(float(high - low) / (_gumbel_quantile(0.75) - _gumbel_quantile(0.25)), 1e-9)
    height = np.maximum(
        (likenesses - middle) / scale + _gumbel_quantile(0.5), -500.0
    )  # exp(-height) stays a number
    return likenesses[-np.expm1(-np.exp(-height)) >= NULL_OUTLIER_RATE / likenesses.size]


def _gumbel_quantile(share: float) -> float:
    """The quantile of the standard Gumbel law."""
    return float(-np.log(-np.log(share)))


def audio_null(sources: ReferenceAudio, recordings: Sequence[str]) -> np.ndarray:
    """Likeness of each source's sound to the sources of all other recordings [n]; those without one left out."""
    return _null_similarities(
        sources.prints, recordings, lambda own, made: audio_matching.find_audio_match(made, sources, own)
    )


def _null_similarities(
    items: Sequence[Any], recordings: Sequence[str], search: Callable[[list[int], Any], PassageMatch | None]
) -> np.ndarray:
    if len(recordings) != len(items):
        raise ValueError(f"{len(items)} sources but {len(recordings)} names of recordings")
    found = []
    for item, recording in zip(items, recordings, strict=True):
        own = [n for n, other in enumerate(recordings) if other == recording]
        match = search(own, item) if len(own) < len(items) else None
        found += [match.likeness] if match is not None else []
    return np.array(found)


def find_audio_copy(
    print_: np.ndarray, sources: ReferenceAudio, strangers: np.ndarray, without: Sequence[int] = ()
) -> CopyMatch | None:
    """The passage of 4 s whose sound is most like one of the sources'; None where there is none to compare.

    `print_` is the clip's `sound_match.sound_print`. Found up to 350 cents away, at 0.8 to 1.25 of the tempo, behind
    filters, coding and a drone; how surely: docs/metrics-originality.md. likeness: `sound_match.likeness`, [-1, 1],
    lower is more original. A copy where `p_value` (of `tail_p_value`) is at most 0.01.
    """
    match = audio_matching.find_audio_match(print_, sources, without)
    return None if match is None else _finding("sound", match, tail_p_value(match.likeness, strangers))


def _finding(kind: str, match: PassageMatch, chance: float) -> CopyMatch:
    detail = f"{match.cents:+.0f} cents, {1 / match.ratio:.2f} of the tempo"
    times = match.clip_seconds, match.source_seconds
    return CopyMatch(kind, match.source, *times, match.likeness, chance, detail, match.cents, 1 / match.ratio)


def nearest_sources(
    vectors: np.ndarray, sources: np.ndarray, recordings: Sequence[str], among: np.ndarray | None = None
) -> list[NearestClip]:
    """The nearest source [m, d] of each vector [n, d], by Euclidean distance after scaling each axis to the sources.

    percentile: share of real clips that have a nearer neighbour in another recording, 0 to 100 (`among`: these
    distances from `nearest_between`, if computed before); near 0 is suspect, 50 is as near as strangers are.
    """
    from scipy.spatial.distance import cdist

    scale = sources.std(0) + 1e-9
    among = nearest_source_distances(sources, recordings) if among is None else among
    gaps = cdist(vectors / scale, sources / scale)
    found = []
    for row in gaps:
        source = int(row.argmin())
        percentile = 100 * float((among < row[source]).mean()) if among.size else float("nan")
        found.append(NearestClip(source, float(row[source]), percentile))
    return found


def nearest_source_distances(sources: np.ndarray, recordings: Sequence[str]) -> np.ndarray:
    """Distance of each source to its nearest one of another recording, on the scale of `nearest`; [m], or [0]."""
    from scipy.spatial.distance import cdist

    names = np.asarray(recordings)
    if len(names) != len(sources):
        raise ValueError(f"{len(sources)} vectors but {len(names)} names of recordings")
    scaled = sources / (sources.std(0) + 1e-9)
    gaps = np.where(names[:, None] == names, np.inf, cdist(scaled, scaled)).min(1)
    return gaps[np.isfinite(gaps)]


def longest_common_run(codes: np.ndarray, sources: Sequence[np.ndarray]) -> tuple[int, int, int, int, int]:
    """The longest fragment of `codes` [F] that stands in a source token by token, told in (changes, source, start

    in the clip, start in the source, length), in frames. Measured in changes of token, so that silence, one token
    over and over, is no fragment; (0, -1, 0, 0, 0) where there is none. Codes are a codec's first codebook.
    """
    joined = np.concatenate([part for source in sources for part in (np.asarray(source), [-1])] or [[-1]])
    owner = np.repeat(np.arange(len(sources)), [len(source) + 1 for source in sources])
    moved = np.diff(joined, prepend=-1) != 0
    length, changes = np.zeros(joined.size, int), np.zeros(joined.size, int)
    best = (0, -1, 0, 0, 0)
    for n, token in enumerate(np.asarray(codes)):
        same = joined == token
        before = np.concatenate([[0], length[:-1]])
        changes = np.where(same, np.concatenate([[0], changes[:-1]]) + (moved & (before > 0)), 0)
        length = np.where(same, before + 1, 0)
        at = int(changes.argmax()) if changes.size else 0
        if changes.size and changes[at] > best[0]:
            run, source = int(length[at]), int(owner[at])
            first = int(np.searchsorted(owner, source))
            best = (int(changes[at]), source, n - run + 1, at - run + 1 - first, run)
    return best


def token_null(sources: Sequence[np.ndarray], recordings: Sequence[str]) -> np.ndarray:
    """Changes in the longest run that each source shares with the sources of other recordings, [n]."""
    found = []
    for codes, recording in zip(sources, recordings, strict=True):
        rest = [other for other, name in zip(sources, recordings, strict=True) if name != recording]
        found += [longest_common_run(codes, rest)[0]] if rest else []
    return np.array(found)


def find_token_copy(
    codes: np.ndarray, sources: Sequence[np.ndarray], frame_hz: float, strangers: np.ndarray
) -> CopyMatch | None:
    """The longest fragment that a clip shares with a source to the token, in a codec's first codebook; None if none.

    likeness: changes of token in it, 1 up, lower is more original. It proves a copy but misses one that is shifted by
    part of a frame, transposed or filtered: those are `copied_sound`'s. A copy where `p_value` is at most 0.01, by the
    law of longest runs that `tail_p_value` goes by.
    """
    changes, source, here, there, length = longest_common_run(codes, sources)
    if not changes:
        return None
    seconds = length / frame_hz
    times = [(start / frame_hz, start / frame_hz + seconds) for start in (here, there)]
    chance = tail_p_value(changes, strangers)
    return CopyMatch("tokens", source, times[0], times[1], float(changes), chance, f"{length} frames alike")
