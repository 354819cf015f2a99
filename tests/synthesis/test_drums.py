"""Drums: syllables in any spelling, low and high strokes that sound low and high."""

from __future__ import annotations

import numpy as np
import pytest

from talim.synthesis.drums import stroke, stroke_hands, syllables
from talim.synthesis.western_instruments import RATE_HZ
from talim.traditions.tradition import load


@pytest.mark.parametrize(
    ("word", "parts"),
    [("Dha", ["dha"]), ("TiRaKiTa", ["ti", "ra", "ki", "ta"]), ("Düm", ["dum"]), ("DhaGe", ["dha", "ge"]), ("-", [""])],
)
def test_syllables_split_words(word: str, parts: list[str]) -> None:
    assert syllables(word) == parts


def test_stroke_hands_of_known_syllables_and_rest() -> None:
    assert stroke_hands("dha") == ("ring", "ring")
    assert stroke_hands("ge") == ("ring", "")
    assert stroke_hands("na") == ("", "ring")
    assert stroke_hands("dum")[0] == "ring"
    assert stroke_hands("tek")[0] == ""
    assert stroke_hands("") == ("", "")
    assert stroke_hands("gung")[0]  # unknown: by its first letter
    assert stroke_hands("pik") == ("", "ring")


def centre_hz(samples: np.ndarray) -> float:
    power = np.abs(np.fft.rfft(samples)) ** 2
    return float((np.fft.rfftfreq(samples.size, 1 / RATE_HZ) * power).sum() / power.sum())


def test_stroke_of_every_syllable_sounds_and_decays() -> None:
    for name in ("hindustani", "makam"):
        message = {s.syllable for c in load(name).cycles for s in c.strokes}
        for word in message:
            for part in syllables(word):
                samples = stroke(part, 280.0, np.random.default_rng(0))
                assert np.isfinite(samples).all()
                assert np.abs(samples).max() > 0.1, word
                assert np.abs(samples[-200:]).max() < 0.02


def test_stroke_low_syllables_have_lower_spectrum() -> None:
    low, high = (stroke(s, 280.0, np.random.default_rng(0)) for s in ("dum", "tek"))
    assert centre_hz(low) < 150 < 300 < centre_hz(high)
    assert not stroke("", 280.0, np.random.default_rng(0)).any()
