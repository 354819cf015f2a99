"""Beats and chords as people write them, and what they become."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talim.backbones.mustango import music
from talim.backbones.mustango.music import Beats, Chords
from talim.errors import UsageError

names = st.sampled_from([f"{root}{kind}" for root in music.ROOTS for kind in ("", *music.KINDS)] + ["N"])


def test_written_beats() -> None:
    beats = Beats.parse("3@0.56 1@1.1 2@1.66")
    assert beats == Beats((0.56, 1.1, 1.66), (3, 1, 2))
    assert str(beats) == "3@0.56 1@1.1 2@1.66"
    assert Beats.parse("") == Beats()


def test_a_tempo_is_a_grid() -> None:
    assert Beats.parse("120 bpm 3/4", seconds=2.5) == Beats((0.0, 0.5, 1.0, 1.5, 2.0), (1, 2, 3, 1, 2))
    assert Beats.parse("60 bpm from 0.5", seconds=3.0) == Beats((0.5, 1.5, 2.5), (1, 2, 3))


@given(st.floats(20, 290), st.integers(1, 5), st.floats(0.0, 9.0))
def test_a_grid_is_even_and_within_its_length(bpm: float, metre: int, start: float) -> None:
    beats = Beats.grid(bpm, metre, 10.0, start)
    assert all(start - 1e-3 <= time < 10.0 + 1e-3 for time in beats.times_seconds)
    gaps = [b - a for a, b in zip(beats.times_seconds, beats.times_seconds[1:], strict=False)]
    assert all(abs(gap - 60 / bpm) < 2e-4 for gap in gaps)
    assert beats.places[:1] in ((1,), ())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("6@0.1", "takes 1 to 5"),
        ("0@0.1", "takes 1 to 5"),
        ("1@a", "place in the bar @ seconds"),
        ("one", "place in the bar @ seconds"),
        ("1@1 2@0.5", "order of time"),
        ("1@-1", "0 s or later"),
        ("1@nan", "0 s or later"),
        (" ".join(f"1@{i / 10}" for i in range(51)), "at most 50"),
        ("300 bpm", "exactly fits"),
        ("400 bpm", "half the tempo"),
        ("90 bpm 6/8", "bar of 6 beats"),
        ("5 bpm", "20 to 400"),
    ],
)
def test_wrong_beats_are_told_what_is_allowed(text: str, says: str) -> None:
    if says == "exactly fits":  # exactly as many as fit
        assert len(Beats.parse(text).places) == music.MOST_BEATS
        return
    with pytest.raises(UsageError, match=says) as caught:
        Beats.parse(text)
    assert "\n" not in str(caught.value)


@given(st.lists(names, max_size=music.MOST_CHORDS))
def test_written_chords_come_back(chords: list[str]) -> None:
    written = Chords(tuple(float(i) for i in range(len(chords))), tuple(chords))
    assert Chords.parse(str(written)) == written


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Csus4@0", "'sus4', unknown.*maj7"),
        ("Bdim7@0", "'dim7', unknown"),
        ("Amin@0", "'min', unknown"),
        ("am@0", "capital A to G"),
        ("H@0", "capital A to G"),
        ("None@0", "capital A to G"),
        ("C", "chord @ seconds"),
        ("C@x", "chord @ seconds"),
        ("C@2 G@1", "order of time"),
        (" ".join(f"C@{i}" for i in range(21)), "at most 20"),
    ],
)
def test_wrong_chords_are_told_what_is_allowed(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        Chords.parse(text)
    assert "\n" not in str(caught.value)


def test_enharmonic_roots_are_one() -> None:
    assert music.chord_ids("A#m7") == music.chord_ids("Bbm7")
    assert music.chord_ids("C") != music.chord_ids("Cm") != music.chord_ids("C/E")


def test_rows_are_never_changed_in_place() -> None:
    names, times = ["Gm", "Eb"], [0.5, 5.0]
    first = music.chord_row(times, names)
    assert music.chord_row(times, names) == first
    assert (names, times) == (["Gm", "Eb"], [0.5, 5.0])
    assert first[2].count(True) == 2


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(UsageError, match="2 beat times with 1 place"):
        Beats((0.0, 1.0), (1,))
    with pytest.raises(UsageError, match="1 chord times with 2 chords"):
        Chords((0.0,), ("C", "G"))
