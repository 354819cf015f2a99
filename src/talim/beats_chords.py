"""Beats and chords as plain values, parsed from and written to text. A corpus may carry them as conditions of a base.

Written forms: beats "1@0.5 2@1.0 3@1.5" (position in the bar @ seconds) or "92 bpm 3/4", optionally "from 0.4";
chords "Gm@0 Eb/G@2.5 F7@5" (chord @ seconds). An empty text means none. Each base decides what it can represent.
"""

from __future__ import annotations

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
        if match := BPM_GRID_PATTERN.fullmatch(text.strip()):
            bpm, metre, start = match.groups()
            return cls.grid(float(bpm), int(metre or 4), seconds, float(start or 0))
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
        if not 20 <= bpm <= 400:
            raise UsageError(f"tempo {bpm:g} bpm is out of range; give 20 to 400")
        if not 1 <= metre <= MAX_BEATS_PER_BAR:
            raise UsageError(f"a bar of {metre} beats is out of range; give 1 to {MAX_BEATS_PER_BAR}")
        count = max(0, math.ceil((seconds - start_seconds) * bpm / 60 - 1e-9))
        times = tuple(round(start_seconds + 60 * index / bpm, DECIMALS) for index in range(count))
        return cls(times, tuple(1 + index % metre for index in range(count)))

    def cut(self, start_seconds: float, seconds: float) -> BeatGrid:
        """The beats of an excerpt, timed from its start."""
        beats = [
            (round(time - start_seconds, DECIMALS), position)
            for time, position in zip(self.times_seconds, self.positions, strict=True)
            if start_seconds <= time < start_seconds + seconds
        ]
        return BeatGrid(tuple(time for time, _ in beats), tuple(position for _, position in beats))

    def __bool__(self) -> bool:
        return bool(self.times_seconds)

    def __str__(self) -> str:
        return _format_times(self.positions, self.times_seconds)


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
        chords: list[tuple[float, str]] = []
        for time, name in zip(self.times_seconds, self.names, strict=True):
            if time <= start_seconds:
                chords = [(0.0, name)]
            elif time < start_seconds + seconds:
                chords.append((round(time - start_seconds, DECIMALS), name))
        return ChordTrack(tuple(time for time, _ in chords), tuple(name for _, name in chords))

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
