"""Intonation of in-tune and detuned scales, and of learned profiles."""

import numpy as np
import pytest

from talim.metrics import intonation

DEGREES = np.array([0.0, 200.0, 386.0, 498.0, 702.0, 884.0, 1088.0])


def played(offsets=0.0, seed=0, notes=80):
    rng = np.random.default_rng(seed)
    off = np.broadcast_to(np.asarray(offsets, float), DEGREES.shape)
    order = rng.integers(DEGREES.size, size=notes)
    return np.concatenate([np.full(40, DEGREES[n] + off[n]) + rng.normal(0, 6, 40) for n in order])


def test_degree_offsets_of_shifted_degrees_are_the_shifts():
    offsets = np.array([0, 10, -20, 5, 0, 15, -25])
    found, shares = intonation.degree_offsets(intonation.pitch_class_histogram(played(offsets)), DEGREES)
    assert found == pytest.approx(offsets, abs=3)
    assert shares.sum() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("shift", [-35, -20, 20, 35])
def test_intonation_measures_of_detuned_melody_are_worse(shift):
    practice = intonation.learn_intonation(DEGREES)
    assert intonation.intonation_z_rms(played(), practice) < intonation.intonation_z_rms(played(shift), practice)
    assert intonation.intonation_deviation_cents(played(shift), practice) == pytest.approx(
        20 if abs(shift) == 20 else 35, abs=3
    )


def test_learn_intonation_moves_a_degree_towards_the_tracks():
    offsets = np.array([0, 0, 30, 0, 0, 0, 0])
    tracks = [played(offsets, seed) for seed in range(12)]
    practice = intonation.learn_intonation(DEGREES, tracks)
    assert 20 < practice.cents[2] - DEGREES[2] < 30  # a part of the theory stays
    assert intonation.intonation_z_rms(played(offsets, 99), practice) < intonation.intonation_z_rms(
        played(offsets, 99), intonation.learn_intonation(DEGREES)
    )


def test_histogram_distance_to_itself_is_zero_in_any_octave():
    track = played()
    assert intonation.histogram_distance(track, [track]) == pytest.approx(0, abs=1e-9)
    assert intonation.histogram_distance(track + 1200, [track]) == pytest.approx(0, abs=1e-9)
    assert intonation.histogram_distance(track + 50, [track]) > 0.3


def test_note_stability_cents_of_wavering_notes_is_larger():
    steady, rng = np.repeat(DEGREES, 60), np.random.default_rng(0)
    calm, loose = (steady + rng.normal(0, size, steady.size) for size in (2, 12))
    assert intonation.note_stability_cents(calm, 0.01) == pytest.approx(2, rel=0.3)
    assert intonation.note_stability_cents(loose, 0.01) > 8


def test_intonation_measures_of_silence_are_nan():
    silence = np.full(100, np.nan)
    assert np.isnan(intonation.intonation_z_rms(silence, intonation.learn_intonation(DEGREES)))
    with pytest.raises(ValueError, match="voiced"):
        intonation.pitch_class_histogram(silence)
