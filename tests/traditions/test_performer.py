"""Performances: repeatable, of the asked length, and truly at the pitches on record."""

from __future__ import annotations

import numpy as np
import pytest

from talim.metrics import pitch
from talim.traditions import performer
from talim.traditions.score import Plan


@pytest.mark.parametrize("style", performer.STYLES)
def test_same_seed_same_samples_other_seed_others(style: str) -> None:
    one, same, other = (performer.perform(seed, style, 2.0) for seed in (4, 4, 5))
    np.testing.assert_array_equal(one.samples, same.samples)
    assert one.caption == same.caption
    assert not np.array_equal(one.samples, other.samples)
    assert one.samples.dtype == np.float32
    assert one.samples.size == 2 * one.rate_hz
    assert 0.005 < np.sqrt(np.mean(one.samples**2)) < 0.3
    assert np.abs(one.samples).max() <= 0.98


def test_the_notes_on_record_are_the_notes_that_sound() -> None:
    rng = np.random.default_rng(0)
    plan = Plan("blown", 0, 2, "demo", 96, 7, drums=False, chords=False, reverberant=False)
    notes = performer.melody(plan, 6.0, rng)
    samples = performer.render(plan, notes, 6.0, "western", rng)
    track = pitch.track(samples, performer.RATE_HZ)
    errors = []
    for note in notes:
        middle = int((note.onset_seconds + note.seconds / 2) / track.hop_seconds)
        errors.append(track.cents[middle] + 900 - note.cents)
    assert np.nanmedian(np.abs(errors)) < 5


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="western"):
        performer.perform(0, "baroque")
    with pytest.raises(ValueError, match="positive"):
        performer.perform(0, "western", 0.0)
