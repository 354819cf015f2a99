"""Timing of cycles: beats, strokes, cycle counts that fit a length, and random rhythms."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from talim.synthesis.drums import syllables
from talim.synthesis.ground_truth import PlayedStroke
from talim.traditions.schema import Cycle


@dataclass(frozen=True)
class CycleGrid:
    """`count` cycles from `start_seconds` on, and the first beat after the last one."""

    cycle: Cycle
    start_seconds: float
    beat_seconds: float
    count: int

    @property
    def cycle_seconds(self) -> float:
        return self.cycle.beats * self.beat_seconds

    @property
    def end_seconds(self) -> float:
        return self.at(self.count)

    def at(self, cycle: float, beat: float = 0.0) -> float:
        """Time in seconds of a beat of a cycle, both counted from 0."""
        return self.start_seconds + (cycle * self.cycle.beats + beat) * self.beat_seconds

    def first_beats_seconds(self) -> np.ndarray:
        """First beats (sam) of the cycles and the closing one; float64 [count + 1]."""
        return np.array([self.at(k) for k in range(self.count + 1)])

    def beats_seconds(self) -> np.ndarray:
        """All beats up to the closing first beat; in a cycle of 6.5 beats the half beat is the last."""
        whole = [self.at(k, b) for k in range(self.count) for b in range(math.ceil(self.cycle.beats))]
        return np.array([*whole, self.end_seconds])

    def strokes(self) -> tuple[PlayedStroke, ...]:
        """The strokes of all cycles, and the first one again at the end."""
        played: list[PlayedStroke] = []
        for k in range(self.count):
            for stroke in self.cycle.strokes:
                parts = syllables(stroke.syllable)
                for index, part in enumerate(parts):
                    beat = stroke.onset_beats + index * stroke.beats / len(parts)
                    if part:
                        played.append(PlayedStroke(part, self.at(k, beat), beat, stroke.weight))
        first = next((s for s in played if s.beat == 0), None)
        if first is not None:
            played.append(PlayedStroke(first.syllable, self.end_seconds, 0.0, first.weight))
        return tuple(played)


def fitting_cycle_counts(
    cycle: Cycle, seconds: float, tempo_bpm: tuple[float, float], multiple: int, longest_seconds: float
) -> list[int]:
    """Numbers of cycles, multiples of `multiple`, that fill `seconds` with none longer than `longest_seconds`."""
    slowest, fastest = tempo_bpm
    shortest = cycle.beats * 60 / fastest
    longest = min(cycle.beats * 60 / slowest, longest_seconds)
    counts = range(multiple, int(seconds / shortest + 1e-9) + 1, multiple)
    return [count for count in counts if seconds / count <= longest + 1e-9]


def draw_rhythm(
    beats: float, beat_seconds: float, note_seconds: float, rng: np.random.Generator
) -> list[tuple[float, float]]:
    """(onset, length) in beats that fill `beats`: units near `note_seconds`, some tied, some split in two."""
    unit = 2.0 ** round(math.log2(max(note_seconds / beat_seconds, 1 / 16)))
    slots: list[tuple[float, float]] = []
    now = 0.0
    while now < beats - 1e-6:
        chance = rng.random()
        length = unit * (2 if chance < 0.16 else 3 if chance < 0.22 else 1)
        length = min(length, beats - now)
        if chance > 0.72 and length > 0.75 * unit:
            slots += [(now, length / 2), (now + length / 2, length / 2)]
        else:
            slots.append((now, length))
        now += length
    return slots
