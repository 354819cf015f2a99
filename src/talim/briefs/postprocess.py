"""From what a model plays to what a brief asks for: cut, joined into a loop or faded out, brought to a loudness."""

from __future__ import annotations

import math

import numpy as np

from talim import audio
from talim.audio import Audio
from talim.briefs.brief import Brief

OVERLAP_SECONDS = 0.5  # of the end with the beginning, in a loop
FADE_IN_SECONDS, FADE_OUT_SECONDS = 0.005, 0.3
PEAK = 10 ** (-1 / 20)  # -1 dB of full scale


def untrimmed_seconds(brief: Brief) -> float:
    """How much the model must play: a loop needs what its beginning is blended with."""
    return brief.seconds + (OVERLAP_SECONDS if brief.loop else 0.0)


def postprocess(sound: Audio, brief: Brief) -> Audio:
    """The piece [C, T] as it would be delivered. Sound shorter than the brief stays short; the check says so."""
    frames = min(sound.frames, round(brief.seconds * sound.rate_hz))
    shaped = make_loop(sound, frames) if brief.loop else apply_fades(sound, frames)
    return normalize_loudness(shaped, brief.loudness_lufs)


def make_loop(sound: Audio, frames: int) -> Audio:
    """The first `frames`, their beginning blended with what follows them, so that the end leads into it.

    With constant power, after which the sample that follows the last one is the one the model played there.
    """
    kept, more = sound.samples[:, :frames].copy(), sound.samples[:, frames:]
    count = min(more.shape[1], frames)
    if count:
        turn = np.linspace(0, np.pi / 2, count, dtype=np.float32)
        kept[:, :count] = kept[:, :count] * np.sin(turn) + more[:, :count] * np.cos(turn)
    return Audio(kept, sound.rate_hz)


def apply_fades(sound: Audio, frames: int) -> Audio:
    """The first `frames`, with a short fade in and a longer one out."""
    kept = sound.samples[:, :frames].copy()
    for seconds, backwards in ((FADE_IN_SECONDS, False), (FADE_OUT_SECONDS, True)):
        ramp = np.linspace(0, 1, min(frames, round(seconds * sound.rate_hz)), dtype=np.float32)
        part = kept[:, ::-1] if backwards else kept
        part[:, : len(ramp)] *= ramp
    return Audio(kept, sound.rate_hz)


def normalize_loudness(sound: Audio, target_lufs: float) -> Audio:
    """At the target loudness, or as loud as its highest peak allows at -1 dB. Silence stays silence."""
    found = audio.loudness_lufs(sound)
    if not math.isfinite(found) or sound.peak == 0:
        return sound
    gain = min(10 ** ((target_lufs - found) / 20), PEAK / sound.peak)
    return Audio(sound.samples * np.float32(gain), sound.rate_hz)
