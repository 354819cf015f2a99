"""Where clips begin and end: silence is skipped, the rest divided evenly."""

from __future__ import annotations

import numpy as np

from talim.audio.levels import FRAME_SECONDS, silent_levels

MIN_CLIP_SECONDS = 1.0
_SKIPPED_SILENCE_SECONDS = 2.0  # shorter pauses are part of the music
_MARGIN_SECONDS = 0.1  # added around active regions, to keep attacks and decays


def active_regions(levels_dbfs: np.ndarray, frames: int, rate_hz: int) -> list[tuple[int, int]]:
    """Regions [start, stop) in samples that are not silent, separated by silences of 2 s and more.

    `levels_dbfs` [n] are those of `talim.audio.levels.frame_levels_dbfs`, of a sound of `frames` samples.
    """
    if frames == 0:
        return []
    active = np.flatnonzero(~silent_levels(levels_dbfs))
    if not active.size:
        return []
    frame, margin = (round(seconds * rate_hz) for seconds in (FRAME_SECONDS, _MARGIN_SECONDS))
    breaks = np.flatnonzero(np.diff(active) * FRAME_SECONDS > _SKIPPED_SILENCE_SECONDS)
    starts = active[np.concatenate([[0], breaks + 1])] * frame - margin
    stops = (active[np.concatenate([breaks, [len(active) - 1]])] + 1) * frame + margin
    return [(max(0, int(a)), min(frames, int(b))) for a, b in zip(starts, stops, strict=True)]


def clip_boundaries(regions: list[tuple[int, int]], rate_hz: int, clip_seconds: float) -> list[tuple[int, int]]:
    """Clips [start, stop) in samples: each region divided evenly; a remainder shorter than 1 s is dropped."""
    length, shortest = round(clip_seconds * rate_hz), round(MIN_CLIP_SECONDS * rate_hz)
    return [
        (clip_start, min(clip_start + length, stop))
        for start, stop in regions
        for clip_start in range(start, stop, length)
        if min(clip_start + length, stop) - clip_start >= shortest
    ]
