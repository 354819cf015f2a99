"""Cleaning of pitch tracks and steady notes on constructed tracks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from talim.metrics.pitch_contour import clean_f0, steady_notes

HOP = 0.01


def line(*parts: tuple[float, float], way_seconds: float = 0.1) -> np.ndarray:
    """Held pitches (cents, seconds) joined by straight ways."""
    out = [np.full(round(parts[0][1] / HOP), parts[0][0])]
    for (before, _), (cents, seconds) in itertools.pairwise(parts):
        out += [np.linspace(before, cents, round(way_seconds / HOP) + 2)[1:-1], np.full(round(seconds / HOP), cents)]
    return np.concatenate(out)


def test_clean_f0_with_octave_jumps_moves_short_ones_back_and_keeps_long_ones() -> None:
    track = np.full(200, 300.0)
    track[50:60] += 1200
    track[100:160] += 1200
    cleaned = clean_f0(track, HOP)
    assert cleaned[55] == pytest.approx(300)
    assert cleaned[130] == pytest.approx(1500)


def test_steady_notes_of_two_held_notes_have_their_pitches() -> None:
    notes = steady_notes(clean_f0(line((0, 0.5), (300, 0.4)), HOP), HOP)
    assert [round(n.cents) for n in notes] == [0, 300]
