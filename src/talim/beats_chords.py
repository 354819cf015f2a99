"""Beats and chords as plain values, parsed from and written to text. A corpus may carry them as conditions of a base.

Written forms: beats "1@0.5 2@1.0 3@1.5" (position in the bar @ seconds) or "92 bpm 3/4", optionally "from 0.4";
chords "Gm@0 Eb/G@2.5 F7@5" (chord @ seconds). An empty text means none. Each base decides what it can represent.
"""

from __future__ import annotations

import bisect
import itertools
import math
import re
from dataclasses import dataclass, field

from talim.errors import UsageError

BPM_GRID_PATTERN = re.compile(r"(\d+(?:\.\d+)?) *bpm(?: +(\d+)/\d+)?(?: +from +(\d+(?:\.\d+)?))?", re.IGNORECASE)
BEAT_FORMS = 'write beats as "1@0.5 2@1.0 3@1.5" (position in the bar @ seconds) or "92 bpm 3/4 from 0.4"'
CHORD_FORMS = 'write chords as "Gm@0 Eb/G@2.5 F7@5" (chord @ seconds)'
NO_CHORD = "N"
MAX_BEATS_PER_BAR = 128  # beats; the longest talas and usuls have about as many
DECIMALS = 4  # of seconds in the written form


@dataclass(frozen=True)
class BeatGrid:
    """Times of beats and their positions in the bar (or cycle); UsageError for invalid or unordered values."""

    times_seconds: tuple[float, ...] = ()
    positions: tuple[int, ...] = ()  # in the bar; 1 is the downbeat

    def __post_init__(self) -> None:
        if len(self.times_seconds) != len(self.positions):
            raise UsageError(f"{len(self.times_seconds)} beat times with {len(self.positions)} positions in the bar")
        _check_times("beats", self.times_seconds)
        for position in self.positions:
            if position not in range(1, MAX_BEATS_PER_BAR + 1):
                raise UsageError(f"position {position} in the bar is not between 1 and {MAX_BEATS_PER_BAR}")

    @classmethod
    def parse(cls, text: str, seconds: float = 10.0) -> BeatGrid:
        """From a written form; a tempo becomes beats up to `seconds`."""
        if tempo := TempoGrid.parse(text):
            return tempo.cut(0.0, seconds)
        positions, times = [], []
        for word in text.split():
            position, _, time = word.partition("@")
            try:
                positions.append(int(position))
                times.append(float(time))
            except ValueError:
                raise UsageError(f"beat {word!r} is not readable; {BEAT_FORMS}") from None
        return cls(tuple(times), tuple(positions))

    @classmethod
    def grid(cls, bpm: float, metre: int, seconds: float, start_seconds: float = 0.0) -> BeatGrid:
        """Evenly spaced beats from `start_seconds` (a downbeat) up to `seconds`, `metre` beats per bar."""
        return TempoGrid(bpm, metre, start_seconds).cut(0.0, seconds)

    def cut(self, start_seconds: float, seconds: float) -> BeatGrid:
        """The beats of an excerpt, timed from its start."""
        first = bisect.bisect_left(self.times_seconds, start_seconds)
        stop = bisect.bisect_left(self.times_seconds, start_seconds + seconds, lo=first)
        times = tuple(round(time - start_seconds, DECIMALS) for time in self.times_seconds[first:stop])
        return BeatGrid(times, self.positions[first:stop])

    def __bool__(self) -> bool:
        return bool(self.times_seconds)

    def __str__(self) -> str:
        return _format_times(self.positions, self.times_seconds)


@dataclass(frozen=True)
class TempoGrid:
    """Evenly spaced beats without an end; UsageError for a tempo or a bar out of range."""

    bpm: float  # 20 to 400
    metre: int = 4  # beats per bar, 1 to MAX_BEATS_PER_BAR
    start_seconds: float = 0.0  # of the first beat, a downbeat

    def __post_init__(self) -> None:
        if not 20 <= self.bpm <= 400:
            raise UsageError(f"tempo {self.bpm:g} bpm is out of range; give 20 to 400")
        if not 1 <= self.metre <= MAX_BEATS_PER_BAR:
            raise UsageError(f"a bar of {self.metre} beats is out of range; give 1 to {MAX_BEATS_PER_BAR}")

    @classmethod
    def parse(cls, text: str) -> TempoGrid | None:
        """From "92 bpm 3/4 from 0.4"; None for any other form."""
        match = BPM_GRID_PATTERN.fullmatch(text.strip())
        if match is None:
            return None
        bpm, metre, start = match.groups()
        return cls(float(bpm), int((metre or "4")[:9]), float(start or 0))

    def cut(self, start_seconds: float, seconds: float) -> BeatGrid:
        """The beats of an excerpt, timed from its start; takes time by the excerpt, not by what lies before it."""
        if not math.isfinite(self.start_seconds) or self.start_seconds >= start_seconds + seconds:
            return BeatGrid()
        stop = math.ceil((start_seconds + seconds - self.start_seconds) * self.bpm / 60 - 1e-9)
        first = max(0, math.floor((start_seconds - self.start_seconds) * self.bpm / 60) - 1)
        beats = range(first, stop)
        times = tuple(round(self.start_seconds + 60 * index / self.bpm, DECIMALS) for index in beats)
        grid = BeatGrid(times, tuple(1 + index % self.metre for index in beats))
        return grid.cut(start_seconds, seconds) if start_seconds else grid


@dataclass(frozen=True)
class ChordTrack:
    """Times and names of chords, each lasting until the next; UsageError for invalid or unordered values."""

    times_seconds: tuple[float, ...] = ()
    names: tuple[str, ...] = ()  # such as "Gm", "Eb/G", "F#m7b5"; "N" is no chord

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
        """The chords of an excerpt, timed from its start; the one that is sounding there starts at 0."""
        first = bisect.bisect_right(self.times_seconds, start_seconds)
        stop = bisect.bisect_left(self.times_seconds, start_seconds + seconds, lo=first)
        times = tuple(round(time - start_seconds, DECIMALS) for time in self.times_seconds[first:stop])
        if not first:
            return ChordTrack(times, self.names[:stop])
        return ChordTrack((0.0, *times), self.names[first - 1 : stop])

    def __bool__(self) -> bool:
        return bool(self.times_seconds)

    def __str__(self) -> str:
        return _format_times(self.names, self.times_seconds)


@dataclass(frozen=True)
class BeatsAndChords:
    """The beats and chords of a piece; an empty part is unknown."""

    beats: BeatGrid = field(default_factory=BeatGrid)
    chords: ChordTrack = field(default_factory=ChordTrack)

    @classmethod
    def parse(cls, beats: str, chords: str, seconds: float) -> BeatsAndChords:
        """From the written forms; a tempo becomes beats up to `seconds`."""
        return cls(BeatGrid.parse(beats, seconds), ChordTrack.parse(chords))

    def cut(self, start_seconds: float, seconds: float) -> BeatsAndChords:
        """Those of an excerpt, timed from its start."""
        return BeatsAndChords(self.beats.cut(start_seconds, seconds), self.chords.cut(start_seconds, seconds))

    def __bool__(self) -> bool:
        return bool(self.beats) or bool(self.chords)


def _format_times(labels: tuple[int, ...] | tuple[str, ...], times: tuple[float, ...]) -> str:
    return " ".join(f"{label}@{round(time, DECIMALS):.10g}" for label, time in zip(labels, times, strict=True))


def _check_times(what: str, times: tuple[float, ...]) -> None:
    if any(not math.isfinite(time) or time < 0 for time in times):
        raise UsageError(f"{what} need times of 0 s or later, got {_abbreviate(times)}")
    if any(later < earlier for earlier, later in itertools.pairwise(times)):
        raise UsageError(f"{what} must be in order of time, got {_abbreviate(times)}")


def _abbreviate(times: tuple[float, ...]) -> str:
    """A few times around the first invalid one: a recording may have thousands."""
    wrong = next((i for i, (a, b) in enumerate(itertools.pairwise(times)) if not 0 <= a <= b), len(times) - 1)
    few = times[max(0, wrong - 1) : wrong + 3]
    return ", ".join(f"{time:g}" for time in few) + (" ..." if len(few) < len(times) else "")
