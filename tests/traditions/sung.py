"""Melodies sung from a mode's own movements, for the tests of the recognition."""

from __future__ import annotations

import numpy as np

from talim.traditions.entries import Mode

HOP_SECONDS = 0.01


def sing(mode: Mode, seed: int, phrases: int = 60) -> np.ndarray:
    """Cents above the tonic [frames]: ascents, descents and phrases in random order, with glides and vibrato.

    Strong notes and the last note of a phrase are held twice as long; a silence parts the phrases; the last phrase
    is a descent.
    """
    rng = np.random.default_rng(seed)
    lines = [line for line in (mode.ascent_cents, mode.descent_cents) if line] + 2 * list(mode.phrases_cents)
    chosen = [lines[n] for n in rng.integers(len(lines), size=phrases)] + [mode.descent_cents or lines[0]]
    strong = {cents % 1200 for cents in mode.strong_cents}
    parts: list[np.ndarray] = []
    for line in chosen:
        before = line[0]
        for place, cents in enumerate(line):
            seconds = rng.uniform(0.18, 0.4) * (2 if place == len(line) - 1 or cents % 1200 in strong else 1)
            steady = np.full(round(seconds / HOP_SECONDS), cents + rng.normal(0, 8))
            wave = 12 * np.sin(2 * np.pi * 5.5 * np.arange(steady.size) * HOP_SECONDS)
            parts += [np.linspace(before, cents, 6), steady + wave]
            before = cents
        parts.append(np.full(round(rng.uniform(0.5, 1.5) / HOP_SECONDS), np.nan))
    return np.concatenate(parts)
