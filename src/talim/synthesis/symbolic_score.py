"""Symbolic scores: notes, changes of usul, sections."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ScoreNote:
    """One note of a score."""

    onset_seconds: float
    seconds: float  # until the next note
    sounding_fraction: float  # articulation: sounding part of `seconds`, 0..1
    cents: float  # above the karar
    velocity: float  # 0..1
    label: str = ""  # lyric syllable, or a section name in capitals
    grace: bool = False


@dataclass(frozen=True)
class UsulChange:
    """A change of usul."""

    onset_seconds: float
    name: str
    pulses: int
    unit: int  # 8: the pulse is an eighth note


@dataclass(frozen=True)
class SymbolicScore:
    """A score in seconds; `karar_hz` is the notated frequency of the final."""

    notes: tuple[ScoreNote, ...]
    usuls: tuple[UsulChange, ...]
    sections: tuple[tuple[float, str], ...]  # (onset in seconds, name)
    karar_hz: float
    seconds: float
    tempo_bpm: float  # quarter notes per minute, median over the notes
