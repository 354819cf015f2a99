"""Tests of talim.beats_chords: parsing, writing, cutting and validation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talim.beats_chords import BeatGrid, BeatsAndChords, ChordTrack, TempoGrid
from talim.errors import UsageError


def test_beat_grid_parse_and_str_are_inverse() -> None:
    beats = BeatGrid.parse("3@0.56 1@1.1 2@1.66")
    assert beats == BeatGrid((0.56, 1.1, 1.66), (3, 1, 2))
    assert str(beats) == "3@0.56 1@1.1 2@1.66"
    assert BeatGrid.parse("") == BeatGrid()


def test_beat_grid_parse_of_tempo_gives_evenly_spaced_beats() -> None:
    assert BeatGrid.parse("120 bpm 3/4", seconds=2.5) == BeatGrid((0.0, 0.5, 1.0, 1.5, 2.0), (1, 2, 3, 1, 2))
    assert BeatGrid.parse("60 bpm from 0.5", seconds=3.0) == BeatGrid((0.5, 1.5, 2.5), (1, 2, 3))


@given(st.floats(20, 290), st.integers(1, 5), st.floats(0.0, 9.0))
def test_beat_grid_grid_is_even_and_within_its_length(bpm: float, metre: int, start: float) -> None:
    beats = BeatGrid.grid(bpm, metre, 10.0, start)
    assert all(start - 1e-3 <= time < 10.0 + 1e-3 for time in beats.times_seconds)
    gaps = [b - a for a, b in zip(beats.times_seconds, beats.times_seconds[1:], strict=False)]
    assert all(abs(gap - 60 / bpm) < 2e-4 for gap in gaps)
    assert beats.positions[:1] in ((1,), ())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0@0.1", "in the bar is not between 1 and 128"),
        ("129@0.1", "in the bar is not between 1 and 128"),
        ("90 bpm 0/4", "bar of 0 beats"),
        ("401 bpm", "20 to 400"),
        ("1@a", "position in the bar @ seconds"),
        ("one", "position in the bar @ seconds"),
        ("1@1 2@0.5", "order of time"),
        ("1@-1", "0 s or later"),
        ("1@nan", "0 s or later"),
        ("5 bpm", "20 to 400"),
    ],
)
def test_beat_grid_parse_of_wrong_text_says_what_is_allowed(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        BeatGrid.parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("C", "chord @ seconds"),
        ("@1", "no readable name"),
        ("C@1@2", "chord @ seconds"),
        ("C@x", "chord @ seconds"),
        ("C@2 G@1", "order of time"),
    ],
)
def test_chord_track_parse_of_wrong_text_says_what_is_allowed(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        ChordTrack.parse(text)
    assert "\n" not in str(caught.value)


def test_constructors_with_unequal_lengths_raise_usage_error() -> None:
    with pytest.raises(UsageError, match="2 beat times with 1 position"):
        BeatGrid((0.0, 1.0), (1,))
    with pytest.raises(UsageError, match="1 chord times with 2 chords"):
        ChordTrack((0.0,), ("C", "G"))


def test_cut_times_the_excerpt_from_its_start() -> None:
    music = BeatsAndChords(BeatGrid.parse("1@0.5 2@1.0 3@1.5 1@2.0"), ChordTrack.parse("Gm@0 Eb/G@1.2 F7@3"))
    cut = music.cut(1.0, 1.0)
    assert cut == BeatsAndChords(BeatGrid((0.0, 0.5), (2, 3)), ChordTrack((0.0, 0.2), ("Gm", "Eb/G")))
    assert not BeatsAndChords(BeatGrid.parse("1@0.5")).cut(1.0, 5.0)
    assert BeatsAndChords(chords=ChordTrack.parse("C@2")).cut(5.0, 1.0).chords == ChordTrack(
        (0.0,), ("C",)
    )  # still sounding


@given(st.floats(20, 400), st.integers(1, 16), st.floats(0, 30), st.floats(0, 2000), st.floats(0.1, 30))
def test_tempo_grid_cut_equals_the_cut_of_the_whole_grid(
    bpm: float, metre: int, first: float, start: float, seconds: float
) -> None:
    whole = BeatGrid.grid(bpm, metre, start + seconds, first).cut(start, seconds)
    assert TempoGrid(bpm, metre, first).cut(start, seconds) == whole


eighths = st.integers(0, 400).map(lambda number: number / 8)


@given(st.lists(eighths, max_size=30).map(sorted), eighths, eighths, eighths.filter(bool))
def test_cut_of_cut_equals_one_cut(times: list[float], start: float, inner: float, seconds: float) -> None:
    positions = tuple(1 + i % 4 for i in range(len(times)))
    music = BeatsAndChords(
        BeatGrid(tuple(times), positions), ChordTrack(tuple(times), tuple("ABCD"[p - 1] for p in positions))
    )
    once, twice = music.cut(start + inner, seconds), music.cut(start, inner + seconds).cut(inner, seconds)
    assert once == twice
    assert all(0 <= time < seconds for time in once.beats.times_seconds)


def test_beat_grid_str_keeps_the_times_of_a_long_recording() -> None:
    beats = BeatGrid((0.0, 1234.5678), (1, 16))
    assert str(beats) == "1@0 16@1234.5678"
    assert BeatGrid.parse(str(beats)) == beats
