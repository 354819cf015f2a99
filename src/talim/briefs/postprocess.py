"""Postprocessing of candidates: cut to length, cross-faded into a loop or faded out, at the loudness of the brief."""

from __future__ import annotations

import math

import numpy as np

from talim import audio
from talim.audio import Audio
from talim.audio.limiter import limit_peaks
from talim.briefs.brief import Brief

OVERLAP_SECONDS = 0.5  # cross-fade of a loop
FADE_IN_SECONDS, FADE_OUT_SECONDS = 0.005, 0.3
PEAK_DB = -1.0  # dBFS, between samples too
MAX_LIMITING_DB = 12.0  # more is heard as distortion; a piece that needs it stays quieter, and its check says so
LOUDNESS_STEPS = 6  # limiting makes a piece quieter, so the gain is found step by step


def untrimmed_seconds(brief: Brief) -> float:
    """Seconds to generate: a loop also needs the cross-fade."""
    return brief.seconds + (OVERLAP_SECONDS if brief.loop else 0.0)


def postprocess(clip: Audio, brief: Brief, phrase_seconds: float = 0.0) -> Audio:
    """The piece [C, T] as delivered: a phrase of `phrase_seconds` and the brief's seconds of new music.

    A clip shorter than that stays short, which `check_length` reports.
    """
    frames = min(clip.frames, round((phrase_seconds + brief.seconds) * clip.rate_hz))
    piece = make_loop(clip, frames) if brief.loop else apply_fades(clip, frames)
    return normalize_loudness(piece, brief.loudness_lufs, periodic=brief.loop)


def make_loop(clip: Audio, frames: int) -> Audio:
    """The first `frames`, their beginning cross-faded (constant power) with the samples that follow them.

    The first sample of the loop is then the one that the model generated after the last one.
    """
    loop, following = clip.samples[:, :frames].copy(), clip.samples[:, frames:]
    count = min(following.shape[1], frames)
    if count:
        angle = np.linspace(0, np.pi / 2, count, dtype=np.float32)
        loop[:, :count] = loop[:, :count] * np.sin(angle) + following[:, :count] * np.cos(angle)
    return Audio(loop, clip.rate_hz)


def apply_fades(clip: Audio, frames: int) -> Audio:
    """The first `frames`, faded in over 5 ms and out over 0.3 s."""
    samples = clip.samples[:, :frames].copy()
    for seconds, direction in ((FADE_IN_SECONDS, 1), (FADE_OUT_SECONDS, -1)):
        ramp = np.linspace(0, 1, min(frames, round(seconds * clip.rate_hz)), dtype=np.float32)
        samples[:, ::direction][:, : len(ramp)] *= ramp
    return Audio(samples, clip.rate_hz)


def normalize_loudness(clip: Audio, target_lufs: float, *, periodic: bool = False) -> Audio:
    """At the target loudness, with peaks above -1 dBFS limited (`talim.audio.limiter`). Silence is unchanged.

    Peaks are reduced by 12 dB at most; a piece that would need more stays below the target. `periodic`: it is a loop.
    """
    lufs = audio.loudness_lufs(clip)
    if not math.isfinite(lufs) or clip.peak == 0:
        return clip
    max_gain_db = PEAK_DB + MAX_LIMITING_DB - 20 * math.log10(clip.peak)
    gain_db, piece = target_lufs - lufs, clip
    for _ in range(LOUDNESS_STEPS):
        gain_db = min(gain_db, max_gain_db)
        louder = Audio(clip.samples * np.float32(10 ** (gain_db / 20)), clip.rate_hz)
        piece = limit_peaks(louder, PEAK_DB, periodic=periodic)
        missing_db = target_lufs - audio.loudness_lufs(piece)
        if missing_db < 0.1 or gain_db == max_gain_db:
            break
        gain_db += missing_db
    return piece
