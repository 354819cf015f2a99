"""Decoding of predicted beats and chords; any network output is valid."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from talim.backbones.mustango import beat_chord_predictors
from talim.backbones.mustango.backbone import Mustango
from talim.backbones.readable_text import TextReader
from talim.beats_chords import BeatGrid, BeatsAndChords, ChordTrack


@given(st.lists(st.floats(-20, 20), max_size=120), st.lists(st.floats(-5, 5), min_size=4, max_size=4))
def test_decode_beats_any_output_gives_valid_beats(intervals: list[float], logits: list[float]) -> None:
    beats = beat_chord_predictors.decode_beats(torch.tensor(logits), intervals)
    assert all(0 <= time < 10.005 for time in beats.times_seconds)
    assert set(beats.positions) <= {1, 2, 3, 4}


@given(st.lists(st.sampled_from(["Gm at 0.46", "Eb/G at 3.2", "Hm at 1", "C at x", "", "Csus4 at 2", "at", "F at 9."])))
def test_parse_chords_any_text_gives_valid_chords(parts: list[str]) -> None:
    assert len(beat_chord_predictors.parse_chords(" n ".join(parts)).names) <= 20


def test_parse_chords_drops_unreadable_parts() -> None:
    chords = beat_chord_predictors.parse_chords("Gm at 0.46 n Csus4 at 1.0 n Eb 3.2 n Eb/G at 3.2 n F at 2.0")
    assert chords == ChordTrack((0.46, 3.2), ("Gm", "Eb/G"))


def test_chord_prompt_has_the_trained_format() -> None:
    prompt = beat_chord_predictors.chord_prompt("A raga.", BeatGrid((0.31, 0.83), (1, 2)))
    assert prompt == "Caption: A raga. \\n Timestamps: 0.31 , 0.83 \\n Max Beat: 2"


def test_predict_beats_chords_loads_the_networks_on_demand(tiny: Mustango) -> None:
    """The fixture's beat network predicts 0.5 s at every token."""
    (music,) = tiny.predict_beats_chords(["hello"])
    tokens = TextReader(tiny._predictors.beat_tokenizer).token_ids("hello")  # type: ignore[union-attr]
    expected = tuple(0.5 * (index + 1) for index in range(len(tokens) + 2))  # with the two special ones
    assert music.beats.times_seconds == expected
    assert isinstance(music.chords, ChordTrack)
    latents = tiny.generate_tokens(["hello"], 0.3, seed=0, sampling_steps=2, predict=True)
    given = tiny.generate_tokens(["hello"], 0.3, seed=0, sampling_steps=2, beats_chords=[music])
    assert (latents == given).all()
    empty = tiny.generate_tokens(["hello"], 0.3, seed=0, sampling_steps=2, beats_chords=[BeatsAndChords()])
    assert abs(latents - empty).max() > 1e-4
    assert math.isfinite(float(latents.sum()))
