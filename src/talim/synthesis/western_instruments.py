"""Additive synthesis of single notes: five families of pitched timbres and a small drum kit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

RATE_HZ = 16000
HIGHEST_PARTIAL_HZ = 7400.0

FAMILIES = ("plucked", "bowed", "blown", "voice", "struck")
NAMES = {
    "plucked": ("guitar", "harp", "lute"),
    "bowed": ("violin", "cello", "fiddle"),
    "blown": ("flute", "clarinet", "oboe"),
    "voice": ("singing voice", "wordless voice", "humming voice"),
    "struck": ("marimba", "bells", "vibraphone"),
}

# Formant centres (Hz) and gains of five vowels, rounded averages of Peterson and Barney (1952).
VOWELS = np.array([
    [[730, 1.0], [1090, 0.5], [2440, 0.1]], [[530, 1.0], [1840, 0.3], [2480, 0.15]],
    [[300, 1.0], [2300, 0.15], [3000, 0.1]], [[570, 1.0], [840, 0.6], [2410, 0.06]],
    [[310, 1.0], [870, 0.3], [2240, 0.05]],
])  # fmt: skip


def mix_in(track: np.ndarray, samples: np.ndarray, at_seconds: float, gain: float) -> None:
    """Add `samples` to `track` in place, cut at the track's end."""
    start = round(at_seconds * RATE_HZ)
    target = track[start : start + samples.size]
    target += gain * samples[: target.size]


def partial_sum(f0_hz: np.ndarray, gains: Callable[[int, np.ndarray], np.ndarray | float], most: int) -> np.ndarray:
    """Sum of harmonics of a moving pitch `f0_hz` [T], each weighted by `gains(k, f0_hz)`; float32 [T].

    Uses sin(k x) = 2 cos(x) sin((k-1) x) - sin((k-2) x), so that only one sine and one cosine are taken a sample.
    """
    phase = 2 * np.pi * np.cumsum(f0_hz) / RATE_HZ
    twice_cosine, before, now = 2 * np.cos(phase), np.zeros_like(phase), np.sin(phase)
    total = np.zeros_like(phase)
    for k in range(1, max(1, min(most, int(HIGHEST_PARTIAL_HZ / float(f0_hz.max())))) + 1):
        total += gains(k, f0_hz) * now
        before, now = now, twice_cosine * now - before
    return total.astype(np.float32)


def envelope(frames: int, attack_seconds: float, release_seconds: float) -> np.ndarray:
    """Raised-cosine attack and release around a flat middle; float32 [frames]."""
    level = np.ones(frames, np.float32)
    attack, release = (min(frames // 2, max(1, int(s * RATE_HZ))) for s in (attack_seconds, release_seconds))
    level[:attack] = 0.5 - 0.5 * np.cos(np.pi * np.arange(attack) / attack)
    level[frames - release :] *= 0.5 + 0.5 * np.cos(np.pi * np.arange(release) / release)
    return level


def plucked(f0_hz: np.ndarray, variant: int, rng: np.random.Generator) -> np.ndarray:
    """A string that rings and darkens as it decays."""
    seconds = np.arange(f0_hz.size) / RATE_HZ
    pluck_position, slow, fast = ((0.21, 1.6, 0.5), (0.37, 1.2, 0.35), (0.13, 2.6, 0.8))[variant]

    def gain(k: int, _: np.ndarray) -> np.ndarray:
        return abs(np.sin(np.pi * k * pluck_position)) / k * np.exp(-seconds * (slow + fast * k))

    tone = partial_sum(f0_hz, gain, 24)
    tone[:240] += 0.05 * rng.standard_normal(min(240, tone.size)).astype(np.float32)[: tone[:240].size]
    return tone * envelope(f0_hz.size, 0.003, 0.03)


def bowed(f0_hz: np.ndarray, variant: int, rng: np.random.Generator) -> np.ndarray:
    """A bowed string: all harmonics, a body resonance, a little bow noise."""
    body_hz = (900.0, 450.0, 1300.0)[variant]

    def gain(k: int, f0: np.ndarray) -> np.ndarray:
        return (0.35 + np.exp(-((np.log2(k * f0 / body_hz)) ** 2))) / k

    tone = partial_sum(f0_hz, gain, 30) + 0.01 * rng.standard_normal(f0_hz.size).astype(np.float32)
    return 0.8 * tone * envelope(f0_hz.size, 0.05, 0.06)


def blown(f0_hz: np.ndarray, variant: int, rng: np.random.Generator) -> np.ndarray:
    """A wind instrument: few harmonics (flute), odd ones (clarinet) or nasal ones (oboe), and breath."""
    weights = (
        (1, 0.35, 0.12, 0.05, 0.02),
        (1, 0.06, 0.5, 0.05, 0.25, 0.03, 0.12, 0.02, 0.06),
        (0.5, 0.8, 1, 0.6, 0.4, 0.25, 0.15, 0.1, 0.06),
    )[variant]
    tone = partial_sum(f0_hz, lambda k, _: weights[k - 1], len(weights))
    breath = np.diff(rng.standard_normal(f0_hz.size + 1)).astype(np.float32)
    return 0.7 * (tone + 0.015 * breath) * envelope(f0_hz.size, 0.035, 0.04)


def voice(f0_hz: np.ndarray, variant: int, rng: np.random.Generator) -> np.ndarray:
    """A voice-like tone: a falling source spectrum through the formants of one vowel."""
    vowel = VOWELS[(variant * 2 + int(rng.integers(2))) % len(VOWELS)]

    def gain(k: int, f0: np.ndarray) -> np.ndarray:
        partial = k * f0
        shape = sum(g / (1 + ((partial - c) / (90 + 0.06 * c)) ** 2) for c, g in vowel)
        return (0.08 + shape) / k**0.6

    tone = partial_sum(f0_hz, gain, 30) + 0.006 * rng.standard_normal(f0_hz.size).astype(np.float32)
    return tone * envelope(f0_hz.size, 0.04, 0.05)


def struck(f0_hz: np.ndarray, variant: int, rng: np.random.Generator) -> np.ndarray:
    """A bar or bell: a strong fundamental and two or three fast-fading inharmonic partials."""
    ratios, decays = (((1, 3.93), (3.0, 14.0)), ((1, 2.76, 5.4), (1.8, 4.0, 8.0)), ((1, 4.0), (1.2, 6.0)))[variant]
    seconds = np.arange(f0_hz.size) / RATE_HZ
    phase = 2 * np.pi * np.cumsum(f0_hz) / RATE_HZ
    tone = np.zeros(f0_hz.size, np.float32)
    for ratio, decay in zip(ratios, decays, strict=True):
        if ratio * f0_hz.max() < HIGHEST_PARTIAL_HZ:
            tone += (np.sin(ratio * phase) * np.exp(-decay * seconds) / ratio**0.8).astype(np.float32)
    tone[:120] += 0.08 * rng.standard_normal(tone[:120].size).astype(np.float32)
    return tone * envelope(f0_hz.size, 0.002, 0.03)


SOUND: dict[str, Callable[[np.ndarray, int, np.random.Generator], np.ndarray]] = {
    synthesize.__name__: synthesize for synthesize in (plucked, bowed, blown, voice, struck)
}


def drum(kind: str, rng: np.random.Generator) -> np.ndarray:
    """One stroke of "kick", "snare" or "hat"; float32 [T], T below a third of a second."""
    if kind == "kick":
        seconds = np.arange(int(0.22 * RATE_HZ)) / RATE_HZ
        sweep = 2 * np.pi * (48 * seconds + 70 * 0.03 * (1 - np.exp(-seconds / 0.03)))
        return (np.sin(sweep) * np.exp(-seconds / 0.06)).astype(np.float32)
    if kind == "snare":
        seconds = np.arange(int(0.16 * RATE_HZ)) / RATE_HZ
        tone = 0.5 * np.sin(2 * np.pi * 185 * seconds) + 0.6 * rng.standard_normal(seconds.size)
        return (0.5 * tone * np.exp(-seconds / 0.045)).astype(np.float32)
    seconds = np.arange(int(0.06 * RATE_HZ)) / RATE_HZ
    bright = np.diff(np.diff(rng.standard_normal(seconds.size + 2)))
    return (0.16 * bright * np.exp(-seconds / 0.015)).astype(np.float32)
