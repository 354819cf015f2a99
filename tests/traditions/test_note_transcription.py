"""Notes and interval histograms of pitch tracks."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from talim.traditions import note_transcription
from talim.traditions.note_transcription import INTERVALS_CENTS, STEP_CENTS

HOP_SECONDS = 0.01


def steady(*parts: tuple[float, float]) -> np.ndarray:
    """Plain notes: (cents, seconds), NaN for silence."""
    return np.concatenate([np.full(round(seconds / HOP_SECONDS), cents) for cents, seconds in parts])


def test_transcribe_notes_gives_pitch_length_onset_and_gap() -> None:
    track = steady((0, 0.5), (200, 0.3), (np.nan, 0.6), (700, 1.0))
    notes = note_transcription.transcribe_notes(track, HOP_SECONDS)
    assert notes.cents.tolist() == [0, 200, 700]
    assert notes.seconds == pytest.approx([0.5, 0.3, 1.0])
    assert notes.onset_seconds == pytest.approx([0, 0.5, 1.4])
    assert notes.gap_seconds == pytest.approx([np.inf, 0, 0.6])


def test_transcribe_notes_ignores_glides_and_short_notes() -> None:
    fast, slow = np.linspace(0, 700, 30), np.linspace(640, 520, 60)
    track = np.concatenate([steady((0, 0.5)), fast, steady((700, 0.5)), slow, steady((700, 0.08)), steady((500, 0.5))])
    assert note_transcription.transcribe_notes(track, HOP_SECONDS).cents.round(-1).tolist() == [0, 700, 500]


def test_transcribe_notes_of_a_slow_oscillation_is_its_centre() -> None:
    swing = 100 + 35 * np.sin(2 * np.pi * 1.5 * np.arange(200) * HOP_SECONDS)
    notes = note_transcription.transcribe_notes(swing, HOP_SECONDS)
    assert np.average(notes.cents, weights=notes.seconds) == pytest.approx(100, abs=20)


def test_transcribe_notes_of_vibrato_is_one_note() -> None:
    times = np.arange(100) * HOP_SECONDS
    notes = note_transcription.transcribe_notes(400 + 40 * np.sin(2 * np.pi * 6 * times), HOP_SECONDS)
    assert notes.cents == pytest.approx([400], abs=5)


def test_interval_histogram_weights_by_the_reached_note() -> None:
    counts = note_transcription.interval_histogram(
        note_transcription.transcribe_notes(steady((0, 0.5), (200, 0.6), (0, 0.2)), HOP_SECONDS)
    )
    up, down = np.searchsorted(INTERVALS_CENTS, 200), np.searchsorted(INTERVALS_CENTS, -200)
    assert counts[0, up] == pytest.approx(0.75)
    assert counts[round(200 / STEP_CENTS), down] == pytest.approx(0.25)


def test_interval_histogram_across_long_silence_is_empty() -> None:
    apart = note_transcription.transcribe_notes(steady((0, 0.5), (np.nan, 2.0), (200, 0.5)), HOP_SECONDS)
    assert not note_transcription.interval_histogram(apart).any()


@pytest.mark.parametrize("track", [np.empty(0), np.full(500, np.nan), np.array([3.0])])
def test_transcribe_notes_of_unvoiced_tracks_gives_none(track: np.ndarray) -> None:
    notes = note_transcription.transcribe_notes(track, HOP_SECONDS)
    assert notes.cents.size == 0
    assert not note_transcription.interval_histogram(notes).any()


@given(st.lists(st.integers(-24, 24), min_size=3, max_size=12), st.lists(st.integers(-2, 2), min_size=12, max_size=12))
def test_interval_histogram_is_octave_invariant(semitones: list[int], octaves: list[int]) -> None:
    assume(all((one - other) % 12 for one, other in pairwise(semitones)))  # what repeats is one note, or two
    plain = steady(*[(100.0 * note, 0.3) for note in semitones])
    moved = steady(*[(100.0 * note + 1200.0 * octave, 0.3) for note, octave in zip(semitones, octaves, strict=False)])
    one, other = (note_transcription.transcribe_notes(track, HOP_SECONDS) for track in (plain, moved))
    assert note_transcription.interval_histogram(one) == pytest.approx(note_transcription.interval_histogram(other))
