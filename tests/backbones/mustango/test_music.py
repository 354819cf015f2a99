"""What Mustango hears of beats and chords, what it refuses, and what they become."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talim.backbones.mustango import music
from talim.backbones.mustango.music import check, nearest
from talim.errors import UsageError
from talim.music import NO_CHORD, Beats, Chords, Music

names = st.sampled_from([f"{root}{kind}" for root in music.ROOTS for kind in ("", *music.KINDS)] + ["N"])


@pytest.mark.parametrize(
    ("music_", "says"),
    [
        (Music(Beats.parse("6@0.1")), "takes 1 to 5"),
        (Music(Beats.parse("90 bpm 6/8")), "takes 1 to 5"),
        (Music(Beats.parse(" ".join(f"1@{i / 10}" for i in range(51)))), "at most 50"),
        (Music(Beats.parse("400 bpm")), "half the tempo"),
        (Music(chords=Chords.parse("Csus4@0")), "'sus4', unknown.*maj7"),
        (Music(chords=Chords.parse("Bdim7@0")), "'dim7', unknown"),
        (Music(chords=Chords.parse("Amin@0")), "'min', unknown"),
        (Music(chords=Chords.parse("am@0")), "capital A to G"),
        (Music(chords=Chords.parse("H@0")), "capital A to G"),
        (Music(chords=Chords.parse("None@0")), "capital A to G"),
        (Music(chords=Chords.parse(" ".join(f"C@{i}" for i in range(21)))), "at most 20"),
    ],
)
def test_what_it_cannot_hear_is_refused_in_one_line(music_: Music, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        check(music_)
    assert "\n" not in str(caught.value)
    check(nearest(music_))  # and a recording that is like this is still heard


def test_what_it_can_hear_stays_as_it_is() -> None:
    most = Music(Beats.parse("300 bpm 5/4"), Chords.parse("Gm@0 N@1 Eb/G@2.5"))
    assert len(most.beats.places) == music.MOST_BEATS
    assert check(most) is most
    assert nearest(most) == most


@pytest.mark.parametrize(
    ("cycle", "counted"),
    [(5, 5), (6, 3), (7, 4), (8, 4), (9, 3), (10, 5), (16, 4)],
)
def test_a_long_cycle_is_counted_in_groups(cycle: int, counted: int) -> None:
    heard = nearest(Music(Beats.grid(120, cycle, 10.0))).beats
    assert heard.times_seconds == Beats.grid(120, cycle, 10.0).times_seconds
    assert heard.places[:cycle] == tuple(1 + index % counted for index in range(cycle))


def test_of_too_many_beats_every_second_is_heard_and_an_unknown_chord_is_none() -> None:
    fast = Music(Beats.grid(390, 4, 10.0), Chords.parse("C@0 Csus4@1 F@2"))
    heard = nearest(fast)
    assert heard.beats.times_seconds == fast.beats.times_seconds[::2]
    assert heard.chords.names == ("C", NO_CHORD, "F")


@given(st.lists(names, max_size=music.MOST_CHORDS))
def test_written_chords_come_back(chords: list[str]) -> None:
    written = Chords(tuple(float(i) for i in range(len(chords))), tuple(chords))
    assert Chords.parse(str(written)) == written


def test_enharmonic_roots_are_one() -> None:
    assert music.chord_ids("A#m7") == music.chord_ids("Bbm7")
    assert music.chord_ids("C") != music.chord_ids("Cm") != music.chord_ids("C/E")


def test_rows_are_never_changed_in_place() -> None:
    names, times = ["Gm", "Eb"], [0.5, 5.0]
    first = music.chord_row(times, names)
    assert music.chord_row(times, names) == first
    assert (names, times) == (["Gm", "Eb"], [0.5, 5.0])
    assert first[2].count(True) == 2
