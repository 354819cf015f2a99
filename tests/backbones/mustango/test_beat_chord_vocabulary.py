"""What Mustango hears of beats and chords, what it refuses, and what they become."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talim.backbones.mustango import beat_chord_vocabulary
from talim.backbones.mustango.beat_chord_vocabulary import check_vocabulary, snap_to_vocabulary
from talim.beats_chords import NO_CHORD, BeatGrid, BeatsAndChords, ChordTrack
from talim.errors import UsageError

names = st.sampled_from(
    [f"{root}{kind}" for root in beat_chord_vocabulary.ROOTS for kind in ("", *beat_chord_vocabulary.KINDS)]
    + ["N"]
)


@pytest.mark.parametrize(
    ("music_", "says"),
    [
        (BeatsAndChords(BeatGrid.parse("6@0.1")), "takes 1 to 5"),
        (BeatsAndChords(BeatGrid.parse("90 bpm 6/8")), "takes 1 to 5"),
        (BeatsAndChords(BeatGrid.parse(" ".join(f"1@{i / 10}" for i in range(51)))), "at most 50"),
        (BeatsAndChords(BeatGrid.parse("400 bpm")), "half the tempo"),
        (BeatsAndChords(chords=ChordTrack.parse("Csus4@0")), "'sus4', unknown.*maj7"),
        (BeatsAndChords(chords=ChordTrack.parse("Bdim7@0")), "'dim7', unknown"),
        (BeatsAndChords(chords=ChordTrack.parse("Amin@0")), "'min', unknown"),
        (BeatsAndChords(chords=ChordTrack.parse("am@0")), "capital A to G"),
        (BeatsAndChords(chords=ChordTrack.parse("H@0")), "capital A to G"),
        (BeatsAndChords(chords=ChordTrack.parse("None@0")), "capital A to G"),
        (BeatsAndChords(chords=ChordTrack.parse(" ".join(f"C@{i}" for i in range(21)))), "at most 20"),
    ],
)
def test_what_it_cannot_hear_is_refused_in_one_line(music_: BeatsAndChords, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        check_vocabulary(music_)
    assert "\n" not in str(caught.value)
    check_vocabulary(snap_to_vocabulary(music_))  # and a recording that is like this is still heard


def test_what_it_can_hear_stays_as_it_is() -> None:
    most = BeatsAndChords(BeatGrid.parse("300 bpm 5/4"), ChordTrack.parse("Gm@0 N@1 Eb/G@2.5"))
    assert len(most.beats.positions) == beat_chord_vocabulary.MAX_BEATS
    assert check_vocabulary(most) is most
    assert snap_to_vocabulary(most) == most


@pytest.mark.parametrize(
    ("cycle", "counted"),
    [(5, 5), (6, 3), (7, 4), (8, 4), (9, 3), (10, 5), (16, 4)],
)
def test_a_long_cycle_is_counted_in_groups(cycle: int, counted: int) -> None:
    heard = snap_to_vocabulary(BeatsAndChords(BeatGrid.grid(120, cycle, 10.0))).beats
    assert heard.times_seconds == BeatGrid.grid(120, cycle, 10.0).times_seconds
    assert heard.positions[:cycle] == tuple(1 + index % counted for index in range(cycle))


def test_of_too_many_beats_every_second_is_heard_and_an_unknown_chord_is_none() -> None:
    fast = BeatsAndChords(BeatGrid.grid(390, 4, 10.0), ChordTrack.parse("C@0 Csus4@1 F@2"))
    heard = snap_to_vocabulary(fast)
    assert heard.beats.times_seconds == fast.beats.times_seconds[::2]
    assert heard.chords.names == ("C", NO_CHORD, "F")


@given(st.lists(names, max_size=beat_chord_vocabulary.MAX_CHORDS))
def test_written_chords_come_back(chords: list[str]) -> None:
    written = ChordTrack(tuple(float(i) for i in range(len(chords))), tuple(chords))
    assert ChordTrack.parse(str(written)) == written


def test_enharmonic_roots_are_one() -> None:
    assert beat_chord_vocabulary.encode_chord("A#m7") == beat_chord_vocabulary.encode_chord("Bbm7")
    assert (
        beat_chord_vocabulary.encode_chord("C")
        != beat_chord_vocabulary.encode_chord("Cm")
        != beat_chord_vocabulary.encode_chord("C/E")
    )


def test_rows_are_never_changed_in_place() -> None:
    names, times = ["Gm", "Eb"], [0.5, 5.0]
    first = beat_chord_vocabulary.encode_chords(times, names)
    assert beat_chord_vocabulary.encode_chords(times, names) == first
    assert (names, times) == (["Gm", "Eb"], [0.5, 5.0])
    assert first[2].count(True) == 2
