"""Performs a melodic line on an instrument: phrasing, transitions, ornaments, loudness, strokes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from talim.synthesis.ground_truth import PlayedNote, PlayedOrnament
from talim.synthesis.instruments import CONTROL_SECONDS, Instrument, SynthesisControls
from talim.synthesis.melodic_motion import MelodicMotion
from talim.synthesis.melody_line import ExpressionParameters, NoteEvent, split_phrases
from talim.synthesis.ornaments import (
    ONSET_ORNAMENTS,
    SHAPES,
    SUSTAINED_ORNAMENTS,
    OrnamentPosition,
    OrnamentResult,
    PitchContour,
    can_play,
    frame,
)
from talim.traditions.schema import OrnamentDefinition


@dataclass(frozen=True)
class PerformedLine:
    """A performed line: its control curve (5 ms), its main notes, and its ornaments in order of onset."""

    curve: SynthesisControls
    notes: tuple[PlayedNote, ...]
    ornaments: tuple[PlayedOrnament, ...]


@dataclass(frozen=True)
class MelodyPerformer:
    """Performs lines with an instrument, expression parameters, the ornaments to draw from and the mode's motion."""

    instrument: Instrument
    expression: ExpressionParameters
    ornaments: Sequence[OrnamentDefinition]
    motion: MelodicMotion
    rng: np.random.Generator
    ornamented: bool = True  # if not, ornaments are drawn and left out, so that all else is performed alike

    def play(self, events: list[NoteEvent], seconds: float) -> PerformedLine:
        """Perform the events within [0, seconds]; they must be sorted and not overlap."""
        frames = frame(seconds)
        cents, level, since = np.full(frames, np.nan), np.zeros(frames), np.zeros(frames)
        attacks: list[tuple[int, float]] = []
        ornaments: list[PlayedOrnament] = []
        groups = split_phrases(events)
        for group, following in zip(groups, [*groups[1:], None], strict=False):
            next_onset = seconds if following is None else following[0].onset_seconds - 0.01
            last_end = group[-1].end_seconds
            end = min(max(last_end, min(last_end + self.instrument.ring_seconds, next_onset)), seconds)
            first, last = frame(group[0].onset_seconds), min(frames, frame(end))
            if last - first < 4:
                continue
            contour, played = self._render_phrase(group, first, last - first)
            struck = self._strokes(group, first, last)
            cents[first:last] = contour.cents + contour.bend + self._drift(last - first)
            level[first:last] = self._level(group, first, last)
            since[first:last] = _age([at - first for at, _ in struck], last - first)
            self._consonants(cents, level, struck[1:])
            attacks += struck
            ornaments += played
        notes = tuple(PlayedNote(t.onset_seconds, t.seconds, t.cents, t.part) for t in events)
        ornaments.sort(key=lambda o: o.onset_seconds)
        return PerformedLine(SynthesisControls(cents, level, since, tuple(attacks)), notes, tuple(ornaments))

    def _render_phrase(
        self, group: list[NoteEvent], first: int, frames: int
    ) -> tuple[PitchContour, list[PlayedOrnament]]:
        """The contour of one phrase, and its ornaments: at most one at the onset and one during each note."""
        contour, played = PitchContour(frames, group[0].cents), list[PlayedOrnament]()
        drawn = contour if self.ornamented else PitchContour(frames, group[0].cents)  # gets the ornaments
        for before, event in zip([None, *group], group, strict=False):
            at, transition = frame(event.onset_seconds) - first, self._transition_frames(event, before)
            position = OrnamentPosition(
                contour, self.motion, event.cents + self._scatter(), before.cents if before else None, at,
                frame(event.seconds), transition, self.instrument.transition > 0, self.rng,
            )  # fmt: skip
            if before is None:
                self._scoop(position)
            position = replace(position, contour=drawn)
            opening = self._choose(ONSET_ORNAMENTS, position)
            done = SHAPES[opening.shape](position, opening) if opening else None
            if done is None or not self.ornamented:
                contour.move(at - transition // 2, position.cents, transition)
            if opening is not None and done is not None:
                played.append(self._record(opening, done, first, frames))
                remaining = position.frames - done.frames
                position = replace(position, at=done.at + done.frames, frames=remaining, transition_frames=0)
            lasting = self._choose(SUSTAINED_ORNAMENTS, position)
            done = SHAPES[lasting.shape](position, lasting) if lasting else None
            if lasting is not None and done is not None:
                played.append(self._record(lasting, done, first, frames))
        self._release_drop(contour, group[-1])
        return contour, played if self.ornamented else []

    def _record(self, ornament: OrnamentDefinition, done: OrnamentResult, first: int, frames: int) -> PlayedOrnament:
        """The ground truth of an ornament in the phrase that begins at frame `first`."""
        seconds = min(done.frames, frames - done.at) * CONTROL_SECONDS
        onset = (first + done.at) * CONTROL_SECONDS
        return PlayedOrnament(ornament.slug, ornament.shape, onset, seconds, done.extent_cents, done.rate_hz)

    def _consonants(self, cents: np.ndarray, level: np.ndarray, struck: list[tuple[int, float]]) -> None:
        """Silence before each new syllable of a voice, as long as a consonant."""
        if self.instrument.family != "voice":
            return
        for at, _ in struck:
            gap = frame(float(self.rng.uniform(*self.expression.consonant_seconds)))
            edge = slice(max(0, at - gap - 3), at - gap)
            level[edge] *= np.linspace(0.8, 0.1, edge.stop - edge.start)
            cents[at - gap : at] = np.nan
            level[at - gap : at] = 0.0

    def _choose(self, shapes: Sequence[str], position: OrnamentPosition) -> OrnamentDefinition | None:
        """Draw an ornament of these shapes that fits the position, or none."""
        fitting = [o for o in self.ornaments if o.shape in shapes and can_play(o, position)]
        available = [shape for shape in shapes if any(o.shape == shape for o in fitting)]
        for index in self.rng.permutation(len(available)):
            if self.rng.random() < self.expression.ornaments.get(available[index], 0.0):
                kinds = [o for o in fitting if o.shape == available[index]]
                return kinds[int(self.rng.integers(len(kinds)))]
        return None

    def _scatter(self) -> float:
        """Deviation of a note from its degree in cents; 0 for instruments of fixed pitch."""
        return self.expression.scatter_cents * float(self.rng.standard_normal()) * (self.instrument.transition > 0)

    def _transition_frames(self, event: NoteEvent, before: NoteEvent | None) -> int:
        """Frames of the transition into a note: log-uniform, at most half of the note."""
        if before is None or not self.instrument.transition:
            return 1
        short, long = self.expression.transition_seconds
        drawn = short * (long / short) ** float(self.rng.random()) * self.instrument.transition
        return max(1, frame(min(drawn, 0.5 * event.seconds)))

    def _scoop(self, position: OrnamentPosition) -> None:
        """Sometimes begin a phrase below its first note."""
        if position.can_slide and self.rng.random() < self.expression.scoop_probability:
            position.contour.cents[:] = position.cents - float(self.rng.uniform(*self.expression.slip_cents))
            taken = min(frame(float(self.rng.uniform(0.04, 0.12))), position.frames // 2)
            position.contour.move(1, position.cents, taken)

    def _release_drop(self, contour: PitchContour, event: NoteEvent) -> None:
        """Sometimes let the last note of a phrase drop in pitch."""
        can_drop = self.instrument.transition and not self.instrument.struck
        if can_drop and self.rng.random() < self.expression.drop_probability:
            taken = min(frame(float(self.rng.uniform(0.05, 0.12))), frame(event.seconds) // 3)
            down = float(self.rng.uniform(*self.expression.slip_cents))
            contour.move(contour.cents.size - taken, event.cents - down, taken)

    def _drift(self, frames: int) -> np.ndarray:
        """Slow drift and fast jitter of the pitch in cents; 0 for instruments of fixed pitch."""
        size = self.expression.drift_cents * (0.3 if self.instrument.struck else 1.0)
        if not self.instrument.transition or not size:
            return np.zeros(frames)
        knots = self.rng.standard_normal(frames // 20 + 2) * size
        jitter = self.rng.standard_normal(frames // 4 + 2) * 0.5 * size
        at = np.arange(frames)
        slow = np.interp(at / 20, np.arange(knots.size), knots)
        return slow + np.interp(at / 4, np.arange(jitter.size), jitter)

    def _strokes(self, group: list[NoteEvent], first: int, last: int) -> list[tuple[int, float]]:
        """(frame, strength) of attacks: at unslurred notes, repeated notes, and strings that have rung out."""
        attacks = [(first, group[0].accent)]
        for before, event in itertools.pairwise(group):
            bound = event.slurred and (self.instrument.transition > 0 or not self.instrument.struck)
            rung_out = self.instrument.struck and event.onset_seconds - attacks[-1][0] * CONTROL_SECONDS > 0.7
            same = abs(before.cents - event.cents) < 1
            if (not bound or same or rung_out) and frame(event.onset_seconds) < last - 2:
                attacks.append((frame(event.onset_seconds), event.accent))
        return attacks

    def _level(self, group: list[NoteEvent], first: int, last: int) -> np.ndarray:
        """Level of the phrase, 0..1: accents, a dip at each syllable, attack and release."""
        frames = last - first
        knots = [(frame(t.onset_seconds) - first + frame(t.seconds) // 3, t.accent) for t in group]
        level = np.interp(np.arange(frames), *np.array(knots, float).T)
        attack = min(max(1, frame(self.instrument.attack_seconds)), frames)
        for at, _ in self._strokes(group, first, last)[1:]:
            if not self.instrument.struck:
                dip = level[max(0, at - first - attack) : at - first + attack]
                dip *= 1 - 0.6 * np.hanning(dip.size)
        level[:attack] *= np.arange(attack) / attack
        release = min(max(2, frame(0.2 if self.instrument.struck else 0.06)), frames // 2)
        level[frames - release :] *= np.linspace(1.0, 0.02, release)
        return level


def _age(starts: list[int], frames: int) -> np.ndarray:
    """Seconds since the last start, float64 [frames]."""
    at = np.arange(frames)
    last = np.zeros(frames, np.int64)
    last[starts] = starts
    return (at - np.maximum.accumulate(last)) * CONTROL_SECONDS
