"""Mustango's vocabulary of beats and chords: checks, nearest supported values, token ids."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talim.backbones.mustango import beat_chord_vocabulary
from talim.backbones.mustango.beat_chord_vocabulary import check_vocabulary, snap_to_vocabulary
from talim.beats_chords import NO_CHORD, BeatGrid, BeatsAndChords, ChordTrack
from talim.errors import UsageError

names = st.sampled_from(
    [f"{root}{kind}" for root in beat_chord_vocabulary.ROOTS for kind in ("", *beat_chord_vocabulary.KINDS)] + ["N"]
)


@pytest.mark.parametrize(
    ("beats_chords", "message"),
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
def test_check_vocabulary_unsupported_raises_a_one_line_error(beats_chords: BeatsAndChords, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        check_vocabulary(beats_chords)
    assert "\n" not in str(caught.value)
    check_vocabulary(snap_to_vocabulary(beats_chords))  # the nearest supported value passes


def test_snap_to_vocabulary_keeps_supported_values() -> None:
    most = BeatsAndChords(BeatGrid.parse("300 bpm 5/4"), ChordTrack.parse("Gm@0 N@1 Eb/G@2.5"))
    assert len(most.beats.positions) == beat_chord_vocabulary.MAX_BEATS
    assert check_vocabulary(most) is most
    assert snap_to_vocabulary(most) == most


@pytest.mark.parametrize(("cycle", "counted"), [(5, 5), (6, 3), (7, 4), (8, 4), (9, 3), (10, 5), (16, 4)])
def test_snap_to_vocabulary_counts_long_cycles_in_groups(cycle: int, counted: int) -> None:
    snapped = snap_to_vocabulary(BeatsAndChords(BeatGrid.grid(120, cycle, 10.0))).beats
    assert snapped.times_seconds == BeatGrid.grid(120, cycle, 10.0).times_seconds
    assert snapped.positions[:cycle] == tuple(1 + index % counted for index in range(cycle))


def test_snap_to_vocabulary_thins_beats_and_drops_unknown_chords() -> None:
    fast = BeatsAndChords(BeatGrid.grid(390, 4, 10.0), ChordTrack.parse("C@0 Csus4@1 F@2"))
    snapped = snap_to_vocabulary(fast)
    assert snapped.beats.times_seconds == fast.beats.times_seconds[::2]
    assert snapped.chords.names == ("C", NO_CHORD, "F")


@given(st.lists(names, max_size=beat_chord_vocabulary.MAX_CHORDS))
def test_encode_chords_is_reversible(chords: list[str]) -> None:
    written = ChordTrack(tuple(float(i) for i in range(len(chords))), tuple(chords))
    assert ChordTrack.parse(str(written)) == written


def test_encode_chord_enharmonic_roots_are_equal() -> None:
    assert beat_chord_vocabulary.encode_chord("A#m7") == beat_chord_vocabulary.encode_chord("Bbm7")
    assert (
        beat_chord_vocabulary.encode_chord("C")
        != beat_chord_vocabulary.encode_chord("Cm")
        != beat_chord_vocabulary.encode_chord("C/E")
    )


def test_snap_to_vocabulary_does_not_modify_its_input() -> None:
    names, times = ["Gm", "Eb"], [0.5, 5.0]
    first = beat_chord_vocabulary.encode_chords(times, names)
    assert beat_chord_vocabulary.encode_chords(times, names) == first
    assert (names, times) == (["Gm", "Eb"], [0.5, 5.0])
    assert first[2].count(True) == 2
