"""Melodic motion in a mode: up by its ascent, down by its descent, through its phrases, to its strong notes.

Pitches are cents above the tonic, negative or above 1200 in other octaves.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from talim.traditions.schema import Mode

OCTAVES = (-1200.0, 0.0, 1200.0, 2400.0)
SAME_CENTS = 1.0
MAX_PATH_NOTES = 14


class MelodicMotion:
    """Melodic motion of one mode within a register."""

    def __init__(self, mode: Mode, lowest_cents: float, highest_cents: float) -> None:
        self.mode, self.lowest, self.highest = mode, lowest_cents, highest_cents
        self.degrees = self._within(mode.degrees_cents)
        notes = (*mode.degrees_cents, *mode.touched_cents)
        self.notes = self._within(notes)
        self._all_notes = sorted(note + octave for note in notes for octave in (*OCTAVES, -2400.0, 3600.0))
        self.up = self._through_octaves(mode.ascent_cents or (*mode.degrees_cents, 1200.0), rising=True)
        self.down = self._through_octaves(mode.descent_cents or (1200.0, *reversed(mode.degrees_cents)), rising=False)
        # Phrases may be notated with another intonation; they are played on the mode's own notes.
        snapped = [[self.nearest(cents, self._all_notes) for cents in phrase] for phrase in mode.phrases_cents]
        self.phrases = [phrase for phrase in snapped if len(phrase) > 1]
        strong = {mode.final_cents % 1200, *(s % 1200 for s in mode.strong_cents)}
        self.strong = [d for d in self.degrees if any(_same(d % 1200, s) for s in strong)] or self.degrees

    def _within(self, notes: Sequence[float]) -> list[float]:
        return sorted({n + o for n in notes for o in OCTAVES if self.lowest - 1 <= n + o <= self.highest + 1})

    def _through_octaves(self, line: Sequence[float], *, rising: bool) -> list[float]:
        """The line in every octave, joined without repeated notes."""
        joined: list[float] = []
        for octave in OCTAVES if rising else reversed(OCTAVES):
            for cents in line:
                note = self.nearest(cents + octave, self._all_notes)
                if not joined or not _same(note, joined[-1]):
                    joined.append(note)
        return joined

    def nearest(self, cents: float, among: Sequence[float] | None = None) -> float:
        """The degree nearest to a pitch; the lower of two equally near."""
        notes = self.degrees if among is None else among
        at = bisect_left(notes, cents)
        near = notes[max(0, at - 1) : at + 1] or notes[-1:]
        return min(near, key=lambda note: (abs(note - cents), note))

    def neighbour(self, cents: float, steps: int) -> float:
        """The degree `steps` above (or below) a pitch, limited to the register."""
        at = self.degrees.index(self.nearest(cents))
        return self.degrees[min(max(at + steps, 0), len(self.degrees) - 1)]

    def leading_to(self, cents: float) -> float:
        """The note of the ascent below a note."""
        below = [note for note in self._inside_sorted(self.up) if note < cents - SAME_CENTS]
        return below[-1] if below else self.neighbour(cents, 1)

    def _inside_sorted(self, line: Sequence[float]) -> list[float]:
        return sorted({note for note in line if self.lowest - 1 <= note <= self.highest + 1})

    def path_between(self, start: float, goal: float) -> list[float]:
        """The notes after `start` up to `goal`, by the ascent if it is higher, else by the descent."""
        if _same(start, goal):
            return [goal]
        line = self.up if goal > start else self.down
        ends = [i for i, note in enumerate(line) if _same(note, goal)]
        best: list[float] | None = None
        for end in ends:
            # The latest position before the goal where the line is at, or has not yet passed, the start.
            for begin in range(end - 1, max(-1, end - MAX_PATH_NOTES), -1):
                if _same(line[begin], start) or (line[begin] < start) == (goal > start):
                    path = line[begin + 1 : end + 1]
                    if best is None or len(path) < len(best):
                        best = path
                    break
        return self._fold_into_register(best or [goal])

    def _fold_into_register(self, notes: Sequence[float]) -> list[float]:
        """Notes folded into the register by octaves, without repeats in a row."""
        folded: list[float] = []
        for note in notes:
            while note > self.highest + 1:
                note -= 1200.0
            while note < self.lowest - 1:
                note += 1200.0
            note = self.nearest(note, self.notes)
            if not folded or not _same(note, folded[-1]):
                folded.append(note)
        return folded

    def draw_rest_note(self, around: float, width: float, rng: np.random.Generator) -> float:
        """A strong note near `around` (cents), drawn with a preference for near and for the strongest notes."""
        gaps = np.array([abs(note - around) for note in self.strong])
        weights = np.maximum(0.0, 1.0 - gaps / (width + gaps.min())) + 1e-6
        weights *= [self._importance(note) for note in self.strong]
        return self.strong[int(rng.choice(len(self.strong), p=weights / weights.sum()))]

    def _importance(self, note: float) -> float:
        """1.6 for the strongest note (vadi, güçlü), 1.3 for the second, 1 for the others."""
        for weight, strong in zip((1.6, 1.3), self.mode.strong_cents, strict=False):
            if _same(note % 1200, strong % 1200):
                return weight
        return 1.0

    def phrase(
        self, start: float, rest: float, rng: np.random.Generator, reach: float = 400.0, leaps: float = 0.0
    ) -> list[float]:
        """A phrase from `start` with one or two turning points to `rest`, or a typical phrase of the mode if it fits.

        `reach` is the distance of the turning point in cents, `leaps` the probability of omitting a passing note.
        """
        typical = [
            [note + octave for note in p]
            for p in self.phrases
            for octave in (-1200.0, 0.0, 1200.0)
            if self.lowest - 1 <= min(p) + octave and max(p) + octave <= self.highest + 1
        ]
        fitting = [p for p in typical if abs(p[-1] - rest) < 500 and abs(p[0] - start) < 700]
        if fitting and rng.random() < 0.5:
            selected = fitting[int(rng.integers(len(fitting)))]
            return self._fold_into_register(
                [*self.path_between(start, selected[0]), *selected, *self.path_between(selected[-1], rest)]
            )
        if rng.random() < 0.6:  # turn above, on a note of the ascent; else below, on one of the descent
            turn = self.nearest(max(start, rest) + rng.uniform(0.3, 1.0) * reach, self._inside_sorted(self.up))
        else:
            turn = self.nearest(min(start, rest) - rng.uniform(0.2, 0.8) * reach, self._inside_sorted(self.down))
        notes = self.path_between(start, turn)
        if rng.random() < 0.3:  # a second, smaller turn
            back = self.nearest((turn + rest) / 2, self._inside_sorted(self.down if turn > rest else self.up))
            notes += [*self.path_between(notes[-1], back), *self.path_between(back, turn)]
        whole = self._fold_into_register([*notes, *self.path_between(notes[-1], rest)])
        if leaps and len(whole) > 2:
            whole = [n for n in whole[:-1] if _same(n, turn) or rng.random() >= leaps] + whole[-1:]
        return whole

    def line(
        self, count: int, start: float, rest: float, rng: np.random.Generator, reach: float = 400.0, leaps: float = 0.0
    ) -> list[float]:
        """Exactly `count` notes that end on `rest`: the last notes of a chain of phrases."""
        notes = self.phrase(start, rest, rng, reach, leaps)
        while len(notes) < count:
            following = self.phrase(notes[-1], rest, rng, reach, leaps)
            repeats = len(following) > 1 and _same(notes[-1], following[0])
            notes = notes + (following[1:] if repeats else following)
        return notes[-count:]


def _same(a: float, b: float) -> bool:
    return abs(a - b) < SAME_CENTS
