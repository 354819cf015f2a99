"""Beats and chords as people write them: read, written, cut, refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talim.errors import UsageError
from talim.music import Beats, Chords, Music


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
        ("0@0.1", "places are 1 to 128"),
        ("129@0.1", "places are 1 to 128"),
        ("90 bpm 0/4", "bar of 0 beats"),
        ("401 bpm", "20 to 400"),
        ("1@a", "place in the bar @ seconds"),
        ("one", "place in the bar @ seconds"),
        ("1@1 2@0.5", "order of time"),
        ("1@-1", "0 s or later"),
        ("1@nan", "0 s or later"),
        ("5 bpm", "20 to 400"),
    ],
)
def test_wrong_beats_are_told_what_is_allowed(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        Beats.parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("C", "chord @ seconds"),
        ("@1", "no readable name"),
        ("C@1@2", "chord @ seconds"),
        ("C@x", "chord @ seconds"),
        ("C@2 G@1", "order of time"),
    ],
)
def test_wrong_chords_are_told_what_is_allowed(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        Chords.parse(text)
    assert "\n" not in str(caught.value)


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(UsageError, match="2 beat times with 1 place"):
        Beats((0.0, 1.0), (1,))
    with pytest.raises(UsageError, match="1 chord times with 2 chords"):
        Chords((0.0,), ("C", "G"))


def test_a_cut_is_timed_from_its_beginning() -> None:
    music = Music(Beats.parse("1@0.5 2@1.0 3@1.5 1@2.0"), Chords.parse("Gm@0 Eb/G@1.2 F7@3"))
    cut = music.cut(1.0, 1.0)
    assert cut == Music(Beats((0.0, 0.5), (2, 3)), Chords((0.0, 0.2), ("Gm", "Eb/G")))
    assert not Music(Beats.parse("1@0.5")).cut(1.0, 5.0)
    assert Music(chords=Chords.parse("C@2")).cut(5.0, 1.0).chords == Chords((0.0,), ("C",))  # it sounds on


eighths = st.integers(0, 400).map(lambda number: number / 8)


@given(st.lists(eighths, max_size=30).map(sorted), eighths, eighths, eighths.filter(bool))
def test_cutting_twice_is_cutting_once(
    times: list[float], start: float, inner: float, seconds: float
) -> None:
    places = tuple(1 + i % 4 for i in range(len(times)))
    music = Music(Beats(tuple(times), places), Chords(tuple(times), tuple("ABCD"[p - 1] for p in places)))
    once, twice = music.cut(start + inner, seconds), music.cut(start, inner + seconds).cut(inner, seconds)
    assert once == twice
    assert all(0 <= time < seconds for time in once.beats.times_seconds)


def test_the_written_form_keeps_a_long_recordings_times() -> None:
    beats = Beats((0.0, 1234.5678), (1, 16))
    assert str(beats) == "1@0 16@1234.5678"
    assert Beats.parse(str(beats)) == beats
