"""What the two networks say, and that nothing they say can break a generation."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from talim.backbones.mustango import beat_chord_predictors
from talim.backbones.mustango.backbone import Mustango
from talim.beats_chords import BeatGrid, BeatsAndChords, ChordTrack


@given(st.lists(st.floats(-20, 20), max_size=120), st.lists(st.floats(-5, 5), min_size=4, max_size=4))
def test_any_answer_makes_beats(intervals: list[float], logits: list[float]) -> None:
    beats = beat_chord_predictors.decode_beats(torch.tensor(logits), intervals)
    assert all(0 <= time < 10.005 for time in beats.times_seconds)
    assert set(beats.positions) <= {1, 2, 3, 4}


@given(
    st.lists(
        st.sampled_from(["Gm at 0.46", "Eb/G at 3.2", "Hm at 1", "C at x", "", "Csus4 at 2", "at", "F at 9."])
    )
)
def test_any_answer_makes_chords(parts: list[str]) -> None:
    assert len(beat_chord_predictors.parse_chords(" n ".join(parts)).names) <= 20


def test_what_is_readable_is_kept() -> None:
    found = beat_chord_predictors.parse_chords("Gm at 0.46 n Csus4 at 1.0 n Eb 3.2 n Eb/G at 3.2 n F at 2.0")
    assert found == ChordTrack((0.46, 3.2), ("Gm", "Eb/G"))


def test_the_question_is_the_trained_one() -> None:
    asked = beat_chord_predictors.chord_prompt("A raga.", BeatGrid((0.31, 0.83), (1, 2)))
    assert asked == "Caption: A raga. \\n Timestamps: 0.31 , 0.83 \\n Max Beat: 2"


def test_the_networks_are_loaded_when_asked(tiny: Mustango) -> None:
    """The fixture's beat network says half a second at every token."""
    (music,) = tiny.predict_beats_chords(["hello"])
    expected = tuple(0.5 * (index + 1) for index in range(len("hello") + 1))
    assert music.beats.times_seconds == expected
    assert isinstance(music.chords, ChordTrack)
    made = tiny.generate_tokens(["hello"], 0.3, seed=0, sampling_steps=2, predict=True)
    given = tiny.generate_tokens(["hello"], 0.3, seed=0, sampling_steps=2, beats_chords=[music])
    assert (made == given).all()
    empty = tiny.generate_tokens(["hello"], 0.3, seed=0, sampling_steps=2, beats_chords=[BeatsAndChords()])
    assert abs(made - empty).max() > 1e-4
    assert math.isfinite(float(made.sum()))
