"""Long structure of a melody: what returns, after how long, and where something new begins.

Conventions: `cents` is float [n] above any fixed pitch, NaN where unvoiced, one value every `hop_seconds`. Passages of
two seconds are compared by pitch class, frame by frame; octaves are forgiven, transposition of the whole changes
nothing. Everything needs pieces of some length: a clip shorter than twice a cycle cannot return to anything.
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
    """How alike any two passages of a piece are, float32 [m, m], 0 to 1; passage k begins at k * 0.1 s.

    Two passages agree where both are voiced within 50 cents (falling to 0 at twice that), out of the frames where
    either is. Held notes agree with themselves for nothing, so that passages moving less than 150 cents count 0.
    """
    steps = np.round(np.arange(0, len(cents), STEP_SECONDS / hop_seconds)).astype(int)
    line = np.asarray(cents, float)[steps[steps < len(cents)]]
    size = round(PASSAGE_SECONDS / STEP_SECONDS)
    if line.size < size:
        return np.zeros((0, 0), np.float32)
    voiced = np.isfinite(line)
    known = np.where(voiced, line, 0.0)
    gap = np.abs((known[:, None] - known[None] + 600) % 1200 - 600)
    both = voiced[:, None] & voiced[None]
    agree = np.where(both, np.clip(2 - gap / SAME_CENTS, 0, 1), 0).astype(np.float32)
    either = (voiced[:, None] | voiced[None]).astype(np.float32)
    alike = _diagonal_sums(agree, size) / np.maximum(_diagonal_sums(either, size), 0.5 * size)
    windows = np.lib.stride_tricks.sliding_window_view(line, size)
    with np.errstate(all="ignore"):
        spread = np.nan_to_num(
            np.nanmax(np.where(np.isfinite(windows), windows, -np.inf), 1)
        ) - np.nan_to_num(np.nanmin(np.where(np.isfinite(windows), windows, np.inf), 1))
    moving = np.isfinite(spread) & (spread >= MIN_RANGE_CENTS)
    return alike * moving[:, None] * moving[None]


def _diagonal_sums(table: np.ndarray, size: int) -> np.ndarray:
    """Sums of `size` values along the diagonals of a table [n, n]: [n - size + 1, n - size + 1]."""
    count = len(table) - size + 1
    total = np.zeros((count, count), np.float32)
    for k in range(size):
        total += table[k : k + count, k : k + count]
    return total


def repetition_rate(cents: np.ndarray, hop_seconds: float) -> float:
    """Share of a piece's moving passages that come again, three seconds or more apart: the return of a refrain.

    Range 0 to 1, higher is more returning, NaN where nothing moves; not better by itself: compare with real pieces of
    the same length. A passage comes again where another agrees with it on 70 % of its frames. Source: own definition,
    after the recurrence plots of Foote 1999 and the alignments of Serra et al. 2009.
    """
    alike = self_similarity(cents, hop_seconds)
    moving = np.diag(alike) > 0
    if not moving.any():
        return float("nan")
    apart = round(MIN_GAP_SECONDS / STEP_SECONDS)
    at = np.arange(alike.shape[0])
    far = np.abs(at[:, None] - at[None]) >= apart
    return float((np.where(far, alike, 0).max(1)[moving] >= MIN_SIMILARITY).mean())


def recurrence_at_lag(cents: np.ndarray, hop_seconds: float, lag_seconds: float) -> float:
    """How much more alike passages are `lag_seconds` (a cycle, a section) apart than any two of the piece.

    Range -1 to 1, about 0 where nothing recurs at that distance, higher is more; NaN where the piece is shorter than
    the lag and a passage. The best of the lags within 3 % counts. Source: own definition, after the lag matrices of
    Bartsch and Wakefield 2001.
    """
    alike = self_similarity(cents, hop_seconds)
    lags = np.arange(round(0.97 * lag_seconds / STEP_SECONDS), round(1.03 * lag_seconds / STEP_SECONDS) + 1)
    moving = np.diag(alike) > 0
    found = []
    for lag in lags[(lags > 0) & (lags < alike.shape[0])]:
        both = moving[lag:] & moving[: alike.shape[0] - lag]
        if both.any():
            found.append(float(np.diagonal(alike, lag)[both].mean()))
    apart = np.triu(np.ones(alike.shape, bool), round(MIN_GAP_SECONDS / STEP_SECONDS))
    apart &= moving[:, None] & moving[None]
    return max(found) - float(alike[apart].mean()) if found and apart.any() else float("nan")


def novelty(cents: np.ndarray, hop_seconds: float) -> float:
    """Share of a piece's moving passages that are unlike everything before them: how much is new.

    Range 0 (all heard in the first passage) to 1 (nothing ever returns), NaN where nothing moves; compare with real
    pieces of the same length. Source: own definition, after Foote 2000.
    """
    alike = self_similarity(cents, hop_seconds)
    moving = np.diag(alike) > 0
    if not moving.any():
        return float("nan")
    apart = round(PASSAGE_SECONDS / STEP_SECONDS)
    before = np.tril(alike, -apart).max(1)
    return float((before[moving] < MIN_SIMILARITY).mean())
