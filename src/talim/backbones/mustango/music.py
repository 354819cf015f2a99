"""Beats and chords as people write them, checked, and as the numbers that Mustango was trained on. No torch.

Written forms: beats "1@0.5 2@1.0 3@1.5" (place in the bar @ seconds) or "92 bpm 3/4", optionally "from 0.4";
chords "Gm@0 Eb/G@2.5 F7@5" (chord @ seconds). An empty text means none.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from talim.errors import UsageError

MOST_BEATS, MOST_CHORDS = 50, 20
PAD, NONE = 0, 1
# The released model has names for seven places in a bar, but its layer takes only five of them.
LAST_PLACE, NAMED_PLACES = 5, 7
ROOTS = {
    **{"A": 2, "A#": 3, "Bb": 3, "B": 4, "Cb": 4, "B#": 5, "C": 5, "C#": 6, "Db": 6, "D": 7, "D#": 8},
    **{"Eb": 8, "E": 9, "Fb": 9, "E#": 10, "F": 10, "F#": 11, "Gb": 11, "G": 12, "G#": 13, "Ab": 13},
}
KINDS = {"maj": 2, "maj7": 3, "m": 4, "m6": 5, "m7": 6, "m7b5": 7, "6": 8, "7": 9, "aug": 10, "dim": 11}
INVERTED, NOT_INVERTED = 2, 3
NO_CHORD = "N"

CHORD = re.compile(r"([A-G][#b]?)([^/]*)(/.*)?")
GRID = re.compile(r"(\d+(?:\.\d+)?) *bpm(?: +(\d+)/\d+)?(?: +from +(\d+(?:\.\d+)?))?", re.IGNORECASE)
BEAT_FORMS = 'write beats as "1@0.5 2@1.0 3@1.5" (place in the bar @ seconds) or "92 bpm 3/4 from 0.4"'
CHORD_FORMS = 'write chords as "Gm@0 Eb/G@2.5 F7@5" (chord @ seconds)'


@dataclass(frozen=True)
class Beats:
    """When the beats are, and which beat of its bar each one is; UsageError says what the model takes."""

    times_seconds: tuple[float, ...] = ()
    places: tuple[int, ...] = ()  # 1 is the downbeat

    def __post_init__(self) -> None:
        if len(self.times_seconds) != len(self.places):
            raise UsageError(
                f"{len(self.times_seconds)} beat times with {len(self.places)} places in the bar"
            )
        _check_times("beats", self.times_seconds, MOST_BEATS)
        for place in self.places:
            if place not in range(1, LAST_PLACE + 1):
                raise UsageError(
                    f"place {place} in the bar is unknown to Mustango; it takes 1 to {LAST_PLACE}"
                )

    @classmethod
    def parse(cls, text: str, seconds: float = 10.0) -> Beats:
        """From a written form; a tempo becomes beats up to `seconds`."""
        if found := GRID.fullmatch(text.strip()):
            bpm, metre, start = found.groups()
            return cls.grid(float(bpm), int(metre or 4), seconds, float(start or 0))
        places, times = [], []
        for word in text.split():
            place, _, time = word.partition("@")
            try:
                places.append(int(place))
                times.append(float(time))
            except ValueError:
                raise UsageError(f"beat {word!r} is not readable; {BEAT_FORMS}") from None
        return cls(tuple(times), tuple(places))

    @classmethod
    def grid(cls, bpm: float, metre: int, seconds: float, start_seconds: float = 0.0) -> Beats:
        """Even beats from `start_seconds`, a downbeat first, up to `seconds`."""
        if not 20 <= bpm <= 400:
            raise UsageError(f"tempo {bpm:g} bpm is out of range; give 20 to 400")
        if not 1 <= metre <= LAST_PLACE:
            raise UsageError(f"a bar of {metre} beats is unknown to Mustango; it takes 1 to {LAST_PLACE}")
        count = max(0, math.ceil((seconds - start_seconds) * bpm / 60 - 1e-9))
        times = tuple(round(start_seconds + 60 * index / bpm, 4) for index in range(count))
        if count > MOST_BEATS:
            raise UsageError(
                f"{bpm:g} bpm makes {count} beats in {seconds:g} s; Mustango takes at most {MOST_BEATS}, "
                "so give every second beat: half the tempo"
            )
        return cls(times, tuple(1 + index % metre for index in range(count)))

    def __str__(self) -> str:
        return " ".join(
            f"{place}@{time:g}" for place, time in zip(self.places, self.times_seconds, strict=True)
        )


@dataclass(frozen=True)
class Chords:
    """Which chord begins when; UsageError says which chords the model knows."""

    times_seconds: tuple[float, ...] = ()
    names: tuple[str, ...] = ()  # "Gm", "Eb/G", "F#m7b5", "N" for none

    def __post_init__(self) -> None:
        if len(self.times_seconds) != len(self.names):
            raise UsageError(f"{len(self.times_seconds)} chord times with {len(self.names)} chords")
        _check_times("chords", self.times_seconds, MOST_CHORDS)
        for name in self.names:
            chord_ids(name)

    @classmethod
    def parse(cls, text: str) -> Chords:
        """From the written form."""
        names, times = [], []
        for word in text.split():
            name, _, time = word.partition("@")
            try:
                times.append(float(time))
            except ValueError:
                raise UsageError(f"chord {word!r} is not readable; {CHORD_FORMS}") from None
            names.append(name)
        return cls(tuple(times), tuple(names))

    def __str__(self) -> str:
        return " ".join(f"{name}@{time:g}" for name, time in zip(self.names, self.times_seconds, strict=True))


@dataclass(frozen=True)
class Music:
    """The musical half of a condition; empty parts are the ones that guidance calls unconditional."""

    beats: Beats = field(default_factory=Beats)
    chords: Chords = field(default_factory=Chords)


def chord_ids(name: str) -> tuple[int, int, int]:
    """Root, kind and inversion; which note is in the bass is nothing the model hears. UsageError if unknown."""
    if name == NO_CHORD:
        return NONE, NONE, NONE
    found = CHORD.fullmatch(name)
    root, kind, bass = found.groups() if found else ("", name, None)
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


def beat_row(
    times: Sequence[float], places: Sequence[float], length: int = MOST_BEATS
) -> tuple[list[int], list[float], list[bool]]:
    """Ids, times in seconds and mask, padded to `length` by the last time; longer input stays longer."""
    for place in places:
        if place not in range(1, NAMED_PLACES + 1):
            raise UsageError(f"place {place} in the bar has no name; there are 1 to {NAMED_PLACES}")
    spare = max(0, length - len(times))
    last = float(times[-1]) if len(times) else 0.0
    ids = [int(place) + 1 for place in places] + [PAD] * spare
    return ids, [*map(float, times), *[last] * spare], [True] * len(times) + [False] * spare


def chord_row(
    times: Sequence[float], names: Sequence[str], length: int = MOST_CHORDS
) -> tuple[list[tuple[int, int, int]], list[float], list[bool]]:
    """Ids (root, kind, inversion), times and mask, padded as beats are; no chords at all are one N at 0 s."""
    if not len(names):
        times, names = [0.0], [NO_CHORD]
    if len(times) != len(names):
        raise UsageError(f"{len(times)} chord times with {len(names)} chords")
    spare = max(0, length - len(names))
    ids = [*map(chord_ids, names), *[(PAD, PAD, PAD)] * spare]
    return ids, [*map(float, times), *[float(times[-1])] * spare], [True] * len(names) + [False] * spare


def _check_times(what: str, times: tuple[float, ...], most: int) -> None:
    if len(times) > most:
        raise UsageError(f"{len(times)} {what} are too many for Mustango; it takes at most {most}")
    if any(not math.isfinite(time) or time < 0 for time in times):
        raise UsageError(f"{what} need times of 0 s or later, got {', '.join(f'{t:g}' for t in times)}")
    if any(later < earlier for earlier, later in itertools.pairwise(times)):
        raise UsageError(f"{what} must be in order of time, got {', '.join(f'{t:g}' for t in times)}")
