"""Beats and chords as people write them: plain values that a corpus carries and a base model may hear. No torch.

Written forms: beats "1@0.5 2@1.0 3@1.5" (place in the bar @ seconds) or "92 bpm 3/4", optionally "from 0.4";
chords "Gm@0 Eb/G@2.5 F7@5" (chord @ seconds). An empty text means none. What a base model can hear of it is for
the base model to say.
"""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass, field

from talim.errors import UsageError

BPM_GRID_PATTERN = re.compile(
    r"(\d+(?:\.\d+)?) *bpm(?: +(\d+)/\d+)?(?: +from +(\d+(?:\.\d+)?))?", re.IGNORECASE
)
BEAT_FORMS = 'write beats as "1@0.5 2@1.0 3@1.5" (place in the bar @ seconds) or "92 bpm 3/4 from 0.4"'
CHORD_FORMS = 'write chords as "Gm@0 Eb/G@2.5 F7@5" (chord @ seconds)'
NO_CHORD = "N"
MAX_BEATS_PER_BAR = 128  # beats; the longest talas and usuls have about as many
DECIMALS = 4  # of a second, in the written form


@dataclass(frozen=True)
class BeatGrid:
    """When the beats are, and which beat of its bar (or cycle) each one is; UsageError if they make no sense."""

    times_seconds: tuple[float, ...] = ()
    places: tuple[int, ...] = ()  # 1 is the downbeat

    def __post_init__(self) -> None:
        if len(self.times_seconds) != len(self.places):
            raise UsageError(
                f"{len(self.times_seconds)} beat times with {len(self.places)} places in the bar"
            )
        _check_times("beats", self.times_seconds)
        for place in self.places:
            if place not in range(1, MAX_BEATS_PER_BAR + 1):
                raise UsageError(f"place {place} in the bar is none; places are 1 to {MAX_BEATS_PER_BAR}")

    @classmethod
    def parse(cls, text: str, seconds: float = 10.0) -> BeatGrid:
        """From a written form; a tempo becomes beats up to `seconds`."""
        if found := BPM_GRID_PATTERN.fullmatch(text.strip()):
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
    def grid(cls, bpm: float, metre: int, seconds: float, start_seconds: float = 0.0) -> BeatGrid:
        """Even beats from `start_seconds`, a downbeat first, up to `seconds`."""
        if not 20 <= bpm <= 400:
            raise UsageError(f"tempo {bpm:g} bpm is out of range; give 20 to 400")
        if not 1 <= metre <= MAX_BEATS_PER_BAR:
            raise UsageError(f"a bar of {metre} beats is out of range; give 1 to {MAX_BEATS_PER_BAR}")
        count = max(0, math.ceil((seconds - start_seconds) * bpm / 60 - 1e-9))
        times = tuple(round(start_seconds + 60 * index / bpm, DECIMALS) for index in range(count))
        return cls(times, tuple(1 + index % metre for index in range(count)))

    def cut(self, start_seconds: float, seconds: float) -> BeatGrid:
        """The beats of a stretch, timed from its beginning."""
        kept = [
            (round(time - start_seconds, DECIMALS), place)
            for time, place in zip(self.times_seconds, self.places, strict=True)
            if start_seconds <= time < start_seconds + seconds
        ]
        return BeatGrid(tuple(time for time, _ in kept), tuple(place for _, place in kept))

    def __bool__(self) -> bool:
        return bool(self.times_seconds)

    def __str__(self) -> str:
        return _format_times(self.places, self.times_seconds)


@dataclass(frozen=True)
class ChordTrack:
    """Which chord begins when, each lasting until the next; UsageError if they make no sense."""

    times_seconds: tuple[float, ...] = ()
    names: tuple[str, ...] = ()  # "Gm", "Eb/G", "F#m7b5", "N" for none

    def __post_init__(self) -> None:
        if len(self.times_seconds) != len(self.names):
            raise UsageError(f"{len(self.times_seconds)} chord times with {len(self.names)} chords")
        _check_times("chords", self.times_seconds)
        for name in self.names:
            if not name or any(letter.isspace() or letter == "@" for letter in name):
                raise UsageError(f"chord {name!r} has no readable name; {CHORD_FORMS}")

    @classmethod
    def parse(cls, text: str) -> ChordTrack:
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

    def cut(self, start_seconds: float, seconds: float) -> ChordTrack:
        """The chords of a stretch, timed from its beginning; the one that sounds already begins at 0."""
        kept: list[tuple[float, str]] = []
        for time, name in zip(self.times_seconds, self.names, strict=True):
            if time <= start_seconds:
                kept = [(0.0, name)]
            elif time < start_seconds + seconds:
                kept.append((round(time - start_seconds, DECIMALS), name))
        return ChordTrack(tuple(time for time, _ in kept), tuple(name for _, name in kept))

    def __bool__(self) -> bool:
        return bool(self.times_seconds)

    def __str__(self) -> str:
        return _format_times(self.names, self.times_seconds)


@dataclass(frozen=True)
class BeatsAndChords:
    """What is known of a stretch of music besides words; empty parts are not known."""

    beats: BeatGrid = field(default_factory=BeatGrid)
    chords: ChordTrack = field(default_factory=ChordTrack)

    @classmethod
    def parse(cls, beats: str, chords: str, seconds: float) -> BeatsAndChords:
        """From the written forms; a tempo becomes beats up to `seconds`."""
        return cls(BeatGrid.parse(beats, seconds), ChordTrack.parse(chords))

    def cut(self, start_seconds: float, seconds: float) -> BeatsAndChords:
        """Of a stretch, timed from its beginning."""
        return BeatsAndChords(self.beats.cut(start_seconds, seconds), self.chords.cut(start_seconds, seconds))

    def __bool__(self) -> bool:
        return bool(self.beats) or bool(self.chords)


def _format_times(what: tuple[int, ...] | tuple[str, ...], times: tuple[float, ...]) -> str:
    return " ".join(f"{one}@{round(time, DECIMALS):.10g}" for one, time in zip(what, times, strict=True))


def _check_times(what: str, times: tuple[float, ...]) -> None:
    if any(not math.isfinite(time) or time < 0 for time in times):
        raise UsageError(f"{what} need times of 0 s or later, got {_abbreviate(times)}")
    if any(later < earlier for earlier, later in itertools.pairwise(times)):
        raise UsageError(f"{what} must be in order of time, got {_abbreviate(times)}")


def _abbreviate(times: tuple[float, ...]) -> str:
    """A few times in words: a recording may have thousands."""
    wrong = next((i for i, (a, b) in enumerate(itertools.pairwise(times)) if not 0 <= a <= b), len(times) - 1)
    few = times[max(0, wrong - 1) : wrong + 3]
    return ", ".join(f"{time:g}" for time in few) + (" ..." if len(few) < len(times) else "")
