"""Short melodic phrases: the n-grams of a melody's intervals, what they share with real music, how often they repeat.

Conventions: `cents` is float [n] above any fixed pitch, NaN where unvoiced, one value every `hop_seconds`. A phrase is
a run of intervals between held notes, in semitones, octaves folded away, so that neither key nor register matters; no
phrase reaches over a silence of a second.
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
    """How often each run of `length` intervals occurs; an interval is its semitones in [-6, 5]."""
    track = pitch_contour.clean_f0(cents, hop_seconds)
    notes = pitch_contour.steady_notes(track, hop_seconds)
    lines: list[list[int]] = [[]]
    for one, two in pairwise(notes):
        if (two.start - one.stop) * hop_seconds > SILENCE_SECONDS:
            lines.append([])
            continue
        step = round((two.cents - one.cents) / 100)
        if step:
            lines[-1].append((step + 6) % 12 - 6)
    return Counter(tuple(line[n : n + length]) for line in lines for n in range(len(line) - length + 1))


def ngram_similarity(mine: Mapping[Ngram, int], real: Sequence[Mapping[Ngram, int]]) -> float:
    """How much a melody's phrases are those of real pieces: cosine of its phrase counts with theirs.

    Range 0 (none in common) to 1, higher is nearer; NaN where either has no phrase. Each real piece counts once, and
    counts enter as square roots, so that one phrase repeated for minutes does not decide. Source: own definition, after
    the n-gram profiles of Downie 1999.
    """
    theirs: dict[Ngram, float] = {}
    for piece in real:
        total = sum(piece.values())
        for phrase, count in piece.items():
            theirs[phrase] = theirs.get(phrase, 0.0) + count / total
    if not mine or not theirs:
        return float("nan")
    shared = sum(np.sqrt(count * theirs.get(phrase, 0.0)) for phrase, count in mine.items())
    return float(shared / np.sqrt(sum(mine.values()) * sum(theirs.values())))


def ngram_repetition(mine: Mapping[Ngram, int]) -> float:
    """Share of a piece's phrases that it has played before.

    Range 0 (no phrase twice) to nearly 1, neither direction is better by itself: compare with real pieces of the same
    length, for longer pieces repeat more. NaN without phrases. Source: own definition; one minus the type-token ratio.
    """
    total = sum(mine.values())
    return 1 - len(mine) / total if total else float("nan")
