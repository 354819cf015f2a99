"""Long-term structure of a melody: which passages return, after how long, and which are new.

Conventions: `cents` is float [n] above any fixed pitch, NaN where unvoiced, one value every `hop_seconds`. Passages of
two seconds are compared by pitch class, frame by frame, so that octaves and a transposition of the whole do not matter.
A clip shorter than twice a cycle cannot repeat anything.
"""

from __future__ import annotations

import numpy as np

STEP_SECONDS = 0.1
PASSAGE_SECONDS = 2.0
SAME_CENTS = 50.0
MIN_GAP_SECONDS = 3.0
MIN_SIMILARITY = 0.7
MIN_RANGE_CENTS = 150.0


def self_similarity(cents: np.ndarray, hop_seconds: float) -> np.ndarray:
    """Similarity of any two passages of a piece, float32 [m, m], 0 to 1; passage k begins at k * 0.1 s.

    The fraction of frames, of those where either passage is voiced, in which both are within 50 cents (falling to 0 at
    twice that). Passages that move by less than 150 cents, held notes, have similarity 0.
    """
    steps = np.round(np.arange(0, len(cents), STEP_SECONDS / hop_seconds)).astype(int)
    track = np.asarray(cents, float)[steps[steps < len(cents)]]
    size = round(PASSAGE_SECONDS / STEP_SECONDS)
    if track.size < size:
        return np.zeros((0, 0), np.float32)
    voiced = np.isfinite(track)
    filled = np.where(voiced, track, 0.0)
    difference = np.abs((filled[:, None] - filled[None] + 600) % 1200 - 600)
    both = voiced[:, None] & voiced[None]
    agree = np.where(both, np.clip(2 - difference / SAME_CENTS, 0, 1), 0).astype(np.float32)
    either = (voiced[:, None] | voiced[None]).astype(np.float32)
    similarity = _diagonal_sums(agree, size) / np.maximum(_diagonal_sums(either, size), 0.5 * size)
    windows = np.lib.stride_tricks.sliding_window_view(track, size)
    with np.errstate(all="ignore"):
        highest = np.nan_to_num(np.nanmax(np.where(np.isfinite(windows), windows, -np.inf), 1))
        span = highest - np.nan_to_num(np.nanmin(np.where(np.isfinite(windows), windows, np.inf), 1))
    moving = np.isfinite(span) & (span >= MIN_RANGE_CENTS)
    return similarity * moving[:, None] * moving[None]


def _diagonal_sums(table: np.ndarray, size: int) -> np.ndarray:
    """Sums of `size` values along the diagonals of a table [n, n]: [n - size + 1, n - size + 1]."""
    count = len(table) - size + 1
    total = np.zeros((count, count), np.float32)
    for k in range(size):
        total += table[k : k + count, k : k + count]
    return total


def repetition_rate(cents: np.ndarray, hop_seconds: float) -> float:
    """Fraction of a piece's moving passages that occur again three or more seconds away, as a refrain does.

    Range 0 to 1, higher is more repetition, NaN where nothing moves; not better by itself: compare with real pieces of
    the same length. A passage occurs again if another agrees with it in 70 % of its frames. Source: own definition,
    after the recurrence plots of Foote 1999 and the alignments of Serra et al. 2009.
    """
    similarity = self_similarity(cents, hop_seconds)
    moving = np.diag(similarity) > 0
    if not moving.any():
        return float("nan")
    index = np.arange(similarity.shape[0])
    far = np.abs(index[:, None] - index[None]) >= round(MIN_GAP_SECONDS / STEP_SECONDS)
    return float((np.where(far, similarity, 0).max(1)[moving] >= MIN_SIMILARITY).mean())


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
    similarity = self_similarity(cents, hop_seconds)
    moving = np.diag(similarity) > 0
    if not moving.any():
        return float("nan")
    apart = round(PASSAGE_SECONDS / STEP_SECONDS)
    before = np.tril(similarity, -apart).max(1)
    return float((before[moving] < MIN_SIMILARITY).mean())
