"""Short melodic phrases: n-grams of a melody's intervals, shared with real music or repeated.

Conventions: `cents` is float [n] above any fixed pitch, NaN where unvoiced, one value every `hop_seconds`. An n-gram is
a run of intervals between held notes, in semitones, octaves folded away, so that neither key nor register matters; none
spans a silence of a second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from talim.metrics import pitch_contour

LENGTH = 3  # intervals: four notes
SILENCE_SECONDS = 1.0
Ngram = tuple[int, ...]


def melodic_ngrams(cents: np.ndarray, hop_seconds: float, length: int = LENGTH) -> Counter[Ngram]:
    """Counts of the runs of `length` intervals; an interval is its semitones in [-6, 5]."""
    notes = pitch_contour.steady_notes(pitch_contour.clean_f0(cents, hop_seconds), hop_seconds)
    phrases: list[list[int]] = [[]]
    for note, following in pairwise(notes):
        if (following.start - note.stop) * hop_seconds > SILENCE_SECONDS:
            phrases.append([])
            continue
        interval = round((following.cents - note.cents) / 100)
        if interval:
            phrases[-1].append((interval + 6) % 12 - 6)
    return Counter(tuple(phrase[n : n + length]) for phrase in phrases for n in range(len(phrase) - length + 1))


def ngram_similarity(ngrams: Mapping[Ngram, int], real: Sequence[Mapping[Ngram, int]]) -> float:
    """Cosine similarity of a melody's n-gram counts with those of real pieces.

    Range 0 (none in common) to 1, higher is nearer; NaN where either has no n-gram. Each real piece counts once, and
    counts enter as square roots, so that one phrase repeated for minutes does not dominate. Source: own definition,
    after the n-gram profiles of Downie 1999.
    """
    profile: dict[Ngram, float] = {}
    for piece in real:
        total = sum(piece.values())
        for ngram, count in piece.items():
            profile[ngram] = profile.get(ngram, 0.0) + count / total
    if not ngrams or not profile:
        return float("nan")
    shared = sum(np.sqrt(count * profile.get(ngram, 0.0)) for ngram, count in ngrams.items())
    return float(shared / np.sqrt(sum(ngrams.values()) * sum(profile.values())))


def ngram_repetition(ngrams: Mapping[Ngram, int]) -> float:
    """Fraction of a piece's n-grams that it has played before: one minus the type-token ratio.

    Range 0 (no n-gram twice) to nearly 1, neither direction is better by itself: compare with real pieces of the same
    length, for longer pieces repeat more. NaN without n-grams. Source: own definition.
    """
    total = sum(ngrams.values())
    return 1 - len(ngrams) / total if total else float("nan")
