"""Symbolic scores as plain values: notes, metre changes and sections."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ScoreNote:
    """One note: when, how long, how high above the karar, how loud, what is sung or marked there."""

    onset_seconds: float
    seconds: float  # until the next begins
    sounding_share: float  # of those seconds, 0..1: legato
    cents: float  # above the karar
    velocity: float  # 0..1
    label: str = ""  # lyric syllable, or a section's name in capitals
    grace: bool = False


@dataclass(frozen=True)
class UsulChange:
    """From here on this usul: its name and its metre."""

    onset_seconds: float
    name: str
    pulses: int
    unit: int  # the pulse as a fraction of a whole note: 8 is an eighth


@dataclass(frozen=True)
class SymbolicScore:
    """A score as notes in time; `karar_hz` is the final note's frequency as written."""

    notes: tuple[ScoreNote, ...]
    usuls: tuple[UsulChange, ...]
    sections: tuple[tuple[float, str], ...]  # where each begins in seconds, and what it is called
    karar_hz: float
    seconds: float
    tempo_bpm: float  # quarter notes a minute, the median over the notes
