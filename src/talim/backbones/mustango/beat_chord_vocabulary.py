"""Mustango's vocabulary of beats and chords: limits, token ids, mapping to the nearest supported ones. No torch."""

from __future__ import annotations

import re
from collections.abc import Sequence

from talim.beats_chords import NO_CHORD, BeatGrid, BeatsAndChords, ChordTrack
from talim.errors import UsageError

MAX_BEATS, MAX_CHORDS = 50, 20
PAD, NONE = 0, 1
# The released model has tokens for seven positions in a bar, but its layer accepts only five.
MAX_BEAT_POSITION, MAX_NAMED_POSITION = 5, 7
ROOTS = {
    **{"A": 2, "A#": 3, "Bb": 3, "B": 4, "Cb": 4, "B#": 5, "C": 5, "C#": 6, "Db": 6, "D": 7, "D#": 8},
    **{"Eb": 8, "E": 9, "Fb": 9, "E#": 10, "F": 10, "F#": 11, "Gb": 11, "G": 12, "G#": 13, "Ab": 13},
}
KINDS = {"maj": 2, "maj7": 3, "m": 4, "m6": 5, "m7": 6, "m7b5": 7, "6": 8, "7": 9, "aug": 10, "dim": 11}
INVERTED, NOT_INVERTED = 2, 3
CYCLE_GROUP_SIZES = (4, 3, 5)  # longer cycles are counted in the first of these that divides them

CHORD = re.compile(r"([A-G][#b]?)([^/]*)(/.*)?")


def check_vocabulary(beats_chords: BeatsAndChords) -> BeatsAndChords:
    """The argument itself if Mustango supports all of it; else UsageError."""
    beats, chords = beats_chords.beats, beats_chords.chords
    if len(beats.positions) > MAX_BEATS:
        raise UsageError(
            f"{len(beats.positions)} beats are too many for Mustango; it takes at most {MAX_BEATS}: give every "
            "second beat, or half the tempo"
        )
    if len(chords.names) > MAX_CHORDS:
        raise UsageError(f"{len(chords.names)} chords are too many for Mustango; it takes at most {MAX_CHORDS}")
    for position in beats.positions:
        if position > MAX_BEAT_POSITION:
            raise UsageError(
                f"position {position} in the bar is unknown to Mustango; it takes 1 to {MAX_BEAT_POSITION}"
            )
    for name in chords.names:
        encode_chord(name)
    return beats_chords


def snap_to_vocabulary(beats_chords: BeatsAndChords) -> BeatsAndChords:
    """The nearest beats and chords that Mustango supports.

    A long cycle (a tala, an usul) is counted in groups of four, three or five; of too many beats every second one is
    used; a chord of an unknown kind becomes no chord; of too many chords the first ones are used.
    """
    times, positions = beats_chords.beats.times_seconds, beats_chords.beats.positions
    chords = beats_chords.chords
    longest = max(positions, default=0)
    if longest > MAX_BEAT_POSITION:
        group = next((size for size in CYCLE_GROUP_SIZES if longest % size == 0), CYCLE_GROUP_SIZES[0])
        positions = tuple(1 + (position - 1) % group for position in positions)
    while len(times) > MAX_BEATS:
        times, positions = times[::2], positions[::2]
    names = tuple(name if is_known_chord(name) else NO_CHORD for name in chords.names[:MAX_CHORDS])
    return BeatsAndChords(BeatGrid(times, positions), ChordTrack(chords.times_seconds[:MAX_CHORDS], names))


def is_known_chord(name: str) -> bool:
    """Whether the chord is in Mustango's vocabulary."""
    try:
        encode_chord(name)
    except UsageError:
        return False
    return True


def encode_chord(name: str) -> tuple[int, int, int]:
    """Ids of root, kind and inversion; the bass note itself is not encoded. UsageError if unknown."""
    if name == NO_CHORD:
        return NONE, NONE, NONE
    match = CHORD.fullmatch(name)
    root, kind, bass = match.groups() if match else ("", name, None)
    if root not in ROOTS:
        raise UsageError(
            f"chord {name!r} is unknown to Mustango: a root is a capital A to G with # or b, then one of "
            f"{', '.join(KINDS)} or nothing, then /BASS or nothing; {NO_CHORD} is no chord"
        )
    if (kind or "maj") not in KINDS:
        raise UsageError(
            f"chord {name!r} has the kind {kind!r}, unknown to Mustango; it takes {', '.join(KINDS)} "
            "or nothing for major"
        )
    return ROOTS[root], KINDS[kind or "maj"], INVERTED if bass else NOT_INVERTED


def encode_beats(
    times: Sequence[float], positions: Sequence[float], length: int = MAX_BEATS
) -> tuple[list[int], list[float], list[bool]]:
    """Ids, times in seconds and mask, padded to `length` with the last time; longer input is not cut."""
    for position in positions:
        if position not in range(1, MAX_NAMED_POSITION + 1):
            raise UsageError(f"position {position} in the bar has no token; there are 1 to {MAX_NAMED_POSITION}")
    padding = max(0, length - len(times))
    last = float(times[-1]) if len(times) else 0.0
    ids = [int(position) + 1 for position in positions] + [PAD] * padding
    return ids, [*map(float, times), *[last] * padding], [True] * len(times) + [False] * padding


def encode_chords(
    times: Sequence[float], names: Sequence[str], length: int = MAX_CHORDS
) -> tuple[list[tuple[int, int, int]], list[float], list[bool]]:
    """Ids (root, kind, inversion), times and mask, padded like beats; without chords one N at 0 s."""
    if not len(names):
        times, names = [0.0], [NO_CHORD]
    if len(times) != len(names):
        raise UsageError(f"{len(times)} chord times with {len(names)} chords")
    padding = max(0, length - len(names))
    ids = [*map(encode_chord, names), *[(PAD, PAD, PAD)] * padding]
    return ids, [*map(float, times), *[float(times[-1])] * padding], [True] * len(names) + [False] * padding
