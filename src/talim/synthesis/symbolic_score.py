"""Symbolic scores: notes, changes of usul, sections."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from talim.traditions.note_transcription import NoteSequence


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

    def melody(self) -> NoteSequence:
        """The notes without grace notes, in cents above the karar, as a pitch track's are for `fit_modes`."""
        notes = [note for note in self.notes if not note.grace]
        onset_seconds = np.array([note.onset_seconds for note in notes], float)
        seconds = np.array([note.seconds for note in notes], float)
        ends = np.append(-np.inf, (onset_seconds + seconds)[:-1])
        return NoteSequence(
            cents=np.array([note.cents for note in notes], float),
            seconds=seconds,
            onset_seconds=onset_seconds,
            gap_seconds=np.maximum(0.0, onset_seconds - ends[: onset_seconds.size]),
        )
