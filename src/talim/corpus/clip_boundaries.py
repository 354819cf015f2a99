"""Where clips begin and end: silence is skipped, the rest divided evenly; and conversion to the corpus's rate."""

from __future__ import annotations

import numpy as np

from talim.audio import Audio
from talim.audio.levels import FRAME_SECONDS, silent_frames

MIN_CLIP_SECONDS = 1.0
_SKIPPED_SILENCE_SECONDS = 2.0  # shorter pauses are part of the music
_MARGIN_SECONDS = 0.1  # added around active regions, to keep attacks and decays


def active_regions(audio: Audio) -> list[tuple[int, int]]:
    """Regions [start, stop) in samples that are not silent, separated by silences of 2 s and more.

    Silence is that of `talim.audio.levels.silent_frames`.
    """
    if audio.frames == 0:
        return []
    active = np.flatnonzero(~silent_frames(audio))
    if not active.size:
        return []
    frame, margin = (round(seconds * audio.rate_hz) for seconds in (FRAME_SECONDS, _MARGIN_SECONDS))
    breaks = np.flatnonzero(np.diff(active) * FRAME_SECONDS > _SKIPPED_SILENCE_SECONDS)
    starts = active[np.concatenate([[0], breaks + 1])] * frame - margin
    stops = (active[np.concatenate([breaks, [len(active) - 1]])] + 1) * frame + margin
    return [(max(0, int(a)), min(audio.frames, int(b))) for a, b in zip(starts, stops, strict=True)]


def clip_boundaries(regions: list[tuple[int, int]], rate_hz: int, clip_seconds: float) -> list[tuple[int, int]]:
    """Clips [start, stop) in samples: each region divided evenly; a remainder shorter than 1 s is dropped."""
    length, shortest = round(clip_seconds * rate_hz), round(MIN_CLIP_SECONDS * rate_hz)
    return [
        (clip_start, min(clip_start + length, stop))
        for start, stop in regions
        for clip_start in range(start, stop, length)
        if min(clip_start + length, stop) - clip_start >= shortest
    ]


def conform_audio(audio: Audio, rate_hz: int, channels: int) -> tuple[Audio, list[str]]:
    """The audio at the corpus's rate and channels, within full scale, and notes on the changes."""
    notes = []
    if audio.peak > 1.001:
        excess_db = 20 * np.log10(audio.peak)
        notes.append(f"peaks {excess_db:.1f} dB above full scale; attenuated as a whole")
    mixed = audio.to_channels(channels)
    if channels == 1 < audio.channels:
        powers = [float(np.vdot(channel, channel)) for channel in audio.samples]
        if float(np.vdot(mixed.samples, mixed.samples)) < 0.01 * max(powers):
            loudest = int(np.argmax(powers))
            mixed = Audio(audio.samples[loudest], audio.rate_hz)
            notes.append(f"its channels cancel each other out; only channel {loudest + 1} is used")
    resampled = mixed.resample(rate_hz)
    if resampled.peak > 1.0:  # resampling may overshoot even where the source fits
        resampled = Audio(resampled.samples / resampled.peak, rate_hz)
    return resampled, notes
