"""Renders the symbolic scores that importers find, with the synthesizer's instruments."""

from __future__ import annotations

import numpy as np

from talim.audio import Audio
from talim.synthesis import western_instruments
from talim.synthesis.symbolic_score import ScoreNote, SymbolicScore
from talim.synthesis.western_instruments import RATE_HZ, mix_in

INSTRUMENT_FAMILIES = {
    "plucked lute": ("plucked", 2),
    "end-blown flute": ("blown", 0),
    "bowed fiddle": ("bowed", 2),
    "voice-like tone": ("voice", 0),
}
_RING_SECONDS = {"plucked": 0.35}
_SLIDE_SECONDS = {"blown": 0.025, "bowed": 0.035, "voice": 0.05}
_TAIL_SECONDS = 0.5
_RMS = 0.1


def render_score(score: SymbolicScore, instrument: str, seed: int) -> Audio:
    """The score at 16 kHz, note by note with the slides of one of INSTRUMENT_FAMILIES; RMS near 0.1."""
    family, variant = INSTRUMENT_FAMILIES[instrument]
    rng = np.random.default_rng(seed)
    track = np.zeros(round((score.seconds + _TAIL_SECONDS) * RATE_HZ), np.float32)
    previous: ScoreNote | None = None
    for note in score.notes:
        curve_hz = _curve_hz(score.karar_hz, note, previous, family)
        tone = western_instruments.SOUND[family](curve_hz, variant, rng)
        mix_in(track, tone, note.onset_seconds, 0.4 + 0.6 * note.velocity)
        previous = note
    level = float(np.sqrt(np.mean(track**2))) + 1e-9
    return Audio(np.clip(track * _RMS / level, -0.98, 0.98).astype(np.float32), RATE_HZ)


def _curve_hz(karar_hz: float, note: ScoreNote, previous: ScoreNote | None, family: str) -> np.ndarray:
    """The note's frequency at each sample: a slide from an adjacent previous note, then steady."""
    length_seconds = note.seconds * note.sounding_fraction + _RING_SECONDS.get(family, 0.0) * min(1.0, note.seconds)
    seconds = np.arange(max(32, round(length_seconds * RATE_HZ))) / RATE_HZ
    cents = np.full(seconds.size, note.cents)
    slide = _SLIDE_SECONDS.get(family, 0.0)
    adjacent = previous is not None and note.onset_seconds - previous.onset_seconds - previous.seconds < 0.02
    if slide and adjacent and previous is not None and abs(previous.cents - note.cents) < 700:
        cents = cents + (previous.cents - note.cents) * np.exp(-seconds * 3 / min(slide, note.seconds))
    return karar_hz * 2 ** (cents / 1200)
