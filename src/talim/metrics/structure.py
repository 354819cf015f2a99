"""Long-term structure of a melody: which passages return, after how long, and which are new.

Conventions: `cents` is float [n] above any fixed pitch, NaN where unvoiced, one value every `hop_seconds`. Passages of
two seconds are compared by pitch class, frame by frame, so that octaves and a transposition of the whole do not matter.
A clip shorter than twice a cycle cannot repeat anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

STEP_SECONDS = 0.1
PASSAGE_SECONDS = 2.0
SAME_CENTS = 50.0
MIN_GAP_SECONDS = 3.0
MIN_SIMILARITY = 0.7
MIN_RANGE_CENTS = 150.0
_ROWS = 512  # of the table of similarities, held at a time


def self_similarity(cents: np.ndarray, hop_seconds: float) -> np.ndarray:
    """Similarity of any two passages of a piece, float32 [m, m], 0 to 1; passage k begins at k * 0.1 s.

    The fraction of frames, of those where either passage is voiced, in which both are within 50 cents (falling to 0 at
    twice that). Passages that move by less than 150 cents, held notes, have similarity 0.
    """
    blocks = [block for _, block in _similarity_rows(cents, hop_seconds)]
    return np.concatenate(blocks) if blocks else np.zeros((0, 0), np.float32)


def _similarity_rows(cents: np.ndarray, hop_seconds: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Row indices [b], and these rows [b, m] of `self_similarity`; a whole table would be a square of the length."""
    steps = np.round(np.arange(0, len(cents), STEP_SECONDS / hop_seconds)).astype(int)
    track = np.asarray(cents, float)[steps[steps < len(cents)]]
    size = round(PASSAGE_SECONDS / STEP_SECONDS)
    if track.size < size:
        return
    voiced = np.isfinite(track)
    filled = np.where(voiced, track, 0.0)
    windows = np.lib.stride_tricks.sliding_window_view(track, size)
    with np.errstate(all="ignore"):
        highest = np.nan_to_num(np.nanmax(np.where(np.isfinite(windows), windows, -np.inf), 1))
        span = highest - np.nan_to_num(np.nanmin(np.where(np.isfinite(windows), windows, np.inf), 1))
    moving = np.isfinite(span) & (span >= MIN_RANGE_CENTS)
    for first in range(0, moving.size, _ROWS):
        rows = np.arange(first, min(first + _ROWS, moving.size))
        part = slice(first, rows[-1] + size)
        difference = np.abs((filled[part, None] - filled[None] + 600) % 1200 - 600)
        both = voiced[part, None] & voiced[None]
        agree = np.where(both, np.clip(2 - difference / SAME_CENTS, 0, 1), 0).astype(np.float32)
        either = (voiced[part, None] | voiced[None]).astype(np.float32)
        similarity = _diagonal_sums(agree, size) / np.maximum(_diagonal_sums(either, size), 0.5 * size)
        yield rows, similarity * moving[rows, None] * moving[None]


def _diagonal_sums(table: np.ndarray, size: int) -> np.ndarray:
    """Sums of `size` values along the diagonals of a table [r, n]: [r - size + 1, n - size + 1]."""
    rows, columns = (count - size + 1 for count in table.shape)
    total = np.zeros((rows, columns), np.float32)
    for k in range(size):
        total += table[k : k + rows, k : k + columns]
    return total


def _best_matches(
    cents: np.ndarray, hop_seconds: float, may_match: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    """Each moving passage's highest similarity to those that it may match, by the steps of both [b, 1] and [m]."""
    best = [np.zeros(0, np.float32)]
    for rows, similarity in _similarity_rows(cents, hop_seconds):
        index = np.arange(similarity.shape[1])
        allowed = may_match(rows[:, None], index)
        moving = similarity[np.arange(rows.size), rows] > 0
        best.append(np.where(allowed, similarity, 0).max(1)[moving])
    return np.concatenate(best)


def repetition_rate(cents: np.ndarray, hop_seconds: float) -> float:
    """Fraction of a piece's moving passages that occur again three or more seconds away, as a refrain does.

    Range 0 to 1, higher is more repetition, NaN where nothing moves; not better by itself: compare with real pieces of
    the same length. A passage occurs again if another agrees with it in 70 % of its frames. Source: own definition,
    after the recurrence plots of Foote 1999 and the alignments of Serra et al. 2009.
    """
    gap = round(MIN_GAP_SECONDS / STEP_SECONDS)
    best = _best_matches(cents, hop_seconds, lambda one, other: np.abs(one - other) >= gap)
    return float((best >= MIN_SIMILARITY).mean()) if best.size else float("nan")


def recurrence_at_lag(cents: np.ndarray, hop_seconds: float, lag_seconds: float) -> float:
    """Mean similarity of passages `lag_seconds` (a cycle, a section) apart, minus that of any two of the piece.

    Range -1 to 1, about 0 where nothing recurs at that lag, higher is more; NaN if the piece is shorter than the lag
    and a passage. The best of the lags within 3 % counts. Source: own definition, after the lag matrices of
    Bartsch and Wakefield 2001.
    """
    similarity = self_similarity(cents, hop_seconds)
    lags = np.arange(round(0.97 * lag_seconds / STEP_SECONDS), round(1.03 * lag_seconds / STEP_SECONDS) + 1)
    moving = np.diag(similarity) > 0
    at_lag = []
    for lag in lags[(lags > 0) & (lags < similarity.shape[0])]:
        both = moving[lag:] & moving[: similarity.shape[0] - lag]
        if both.any():
            at_lag.append(float(np.diagonal(similarity, lag)[both].mean()))
    apart = np.triu(np.ones(similarity.shape, bool), round(MIN_GAP_SECONDS / STEP_SECONDS))
    apart &= moving[:, None] & moving[None]
    return max(at_lag) - float(similarity[apart].mean()) if at_lag and apart.any() else float("nan")


def novelty(cents: np.ndarray, hop_seconds: float) -> float:
    """Fraction of a piece's moving passages that are unlike everything before them.

    Range 0 (all contained in the first passage) to 1 (nothing ever returns), NaN where nothing moves; compare with real
    pieces of the same length. Source: own definition, after Foote 2000.
    """
    apart = round(PASSAGE_SECONDS / STEP_SECONDS)
    before = _best_matches(cents, hop_seconds, lambda one, other: other <= one - apart)
    return float((before < MIN_SIMILARITY).mean()) if before.size else float("nan")
