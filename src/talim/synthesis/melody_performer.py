"""One player of a line: breaths, the way from tone to tone, ornaments drawn and put on record, loudness, strokes."""

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
    """A performed line: its curve every 5 ms, its main notes and its ornaments in the order of their onsets."""

    curve: SynthesisControls
    notes: tuple[PlayedNote, ...]
    ornaments: tuple[PlayedOrnament, ...]


@dataclass(frozen=True)
class MelodyPerformer:
    """A player: the instrument, the tradition's manner, the ornaments to draw from, the mode's ways."""

    instrument: Instrument
    manner: ExpressionParameters
    ornaments: Sequence[OrnamentDefinition]
    movement: MelodicMotion
    rng: np.random.Generator

    def play(self, tones: list[NoteEvent], seconds: float) -> PerformedLine:
        """Perform the tones inside [0, seconds]; they must be in order and not overlap."""
        frames = frame(seconds)
        cents, level, since = np.full(frames, np.nan), np.zeros(frames), np.zeros(frames)
        attacks: list[tuple[int, float]] = []
        ornaments: list[PlayedOrnament] = []
        groups = split_phrases(tones)
        for group, following in zip(groups, [*groups[1:], None], strict=False):
            free = seconds if following is None else following[0].onset_seconds - 0.01
            end = min(
                max(group[-1].end_seconds, min(group[-1].end_seconds + self.instrument.ring_seconds, free)),
                seconds,
            )
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
        notes = tuple(PlayedNote(t.onset_seconds, t.seconds, t.cents, t.part) for t in tones)
        ornaments.sort(key=lambda o: o.onset_seconds)
        return PerformedLine(SynthesisControls(cents, level, since, tuple(attacks)), notes, tuple(ornaments))

    def _render_phrase(
        self, group: list[NoteEvent], first: int, frames: int
    ) -> tuple[PitchContour, list[PlayedOrnament]]:
        """The contour of one breath and its ornaments: one where a tone begins, one while it lasts, or either."""
        contour, played = PitchContour(frames, group[0].cents), list[PlayedOrnament]()
        for before, tone in zip([None, *group], group, strict=False):
            at, way = frame(tone.onset_seconds) - first, self._transition_frames(tone, before)
            place = OrnamentPosition(
                contour, self.movement, tone.cents + self._scatter(), before.cents if before else None, at,
                frame(tone.seconds), way, self.instrument.transition > 0, self.rng,
            )  # fmt: skip
            if before is None:
                self._scoop(place)
            opening = self._choose(ONSET_ORNAMENTS, place)
            done = SHAPES[opening.shape](place, opening) if opening else None
            if opening is None or done is None:
                contour.move(at - way // 2, place.cents, way)
            else:
                played.append(self._record(opening, done, first, frames))
                place = replace(place, at=done.at + done.frames, frames=place.frames - done.frames, way=0)
            lasting = self._choose(SUSTAINED_ORNAMENTS, place)
            done = SHAPES[lasting.shape](place, lasting) if lasting else None
            if lasting is not None and done is not None:
                played.append(self._record(lasting, done, first, frames))
        self._release_fall(contour, group[-1])
        return contour, played

    def _record(
        self, ornament: OrnamentDefinition, done: OrnamentResult, first: int, frames: int
    ) -> PlayedOrnament:
        """The truth of an ornament that was played in the breath that begins at frame `first`."""
        taken = min(done.frames, frames - done.at) * CONTROL_SECONDS
        onset = (first + done.at) * CONTROL_SECONDS
        return PlayedOrnament(ornament.slug, ornament.shape, onset, taken, done.extent_cents, done.rate_hz)

    def _consonants(self, cents: np.ndarray, level: np.ndarray, struck: list[tuple[int, float]]) -> None:
        """Fall silent before each new syllable, for as long as a consonant lasts; singers only."""
        if self.instrument.family != "voice":
            return
        for at, _ in struck:
            taken = frame(float(self.rng.uniform(*self.manner.consonant_seconds)))
            edge = slice(max(0, at - taken - 3), at - taken)
            level[edge] *= np.linspace(0.8, 0.1, edge.stop - edge.start)
            cents[at - taken : at] = np.nan
            level[at - taken : at] = 0.0

    def _choose(self, shapes: Sequence[str], place: OrnamentPosition) -> OrnamentDefinition | None:
        """Draw an ornament of these shapes that this place has the room for, or none."""
        fitting = [o for o in self.ornaments if o.shape in shapes and can_play(o, place)]
        found = [shape for shape in shapes if any(o.shape == shape for o in fitting)]
        for at in self.rng.permutation(len(found)):
            if self.rng.random() < self.manner.ornaments.get(found[at], 0.0):
                kinds = [o for o in fitting if o.shape == found[at]]
                return kinds[int(self.rng.integers(len(kinds)))]
        return None

    def _scatter(self) -> float:
        """How far a tone lies off its degree; nothing where the instrument fixes it."""
        return (
            self.manner.scatter_cents * float(self.rng.standard_normal()) * (self.instrument.transition > 0)
        )

    def _transition_frames(self, tone: NoteEvent, before: NoteEvent | None) -> int:
        """How many frames the way into a tone takes: drawn evenly on a log scale, at most half of the tone."""
        if before is None or not self.instrument.transition:
            return 1
        short, long = self.manner.transition_seconds
        drawn = short * (long / short) ** float(self.rng.random()) * self.instrument.transition
        return max(1, frame(min(drawn, 0.5 * tone.seconds)))

    def _scoop(self, place: OrnamentPosition) -> None:
        """Begin a breath below its first note now and then, as voices and bows do."""
        if place.slides and self.rng.random() < self.manner.scoop_probability:
            place.contour.cents[:] = place.cents - float(self.rng.uniform(*self.manner.slip_cents))
            taken = min(frame(float(self.rng.uniform(0.04, 0.12))), place.frames // 2)
            place.contour.move(1, place.cents, taken)

    def _release_fall(self, contour: PitchContour, tone: NoteEvent) -> None:
        """Let go of a breath's last note downwards now and then."""
        if self.instrument.transition and not self.instrument.struck and self.rng.random() < self.manner.fall:
            taken = min(frame(float(self.rng.uniform(0.05, 0.12))), frame(tone.seconds) // 3)
            down = float(self.rng.uniform(*self.manner.slip_cents))
            contour.move(contour.cents.size - taken, tone.cents - down, taken)

    def _drift(self, frames: int) -> np.ndarray:
        """How a held pitch wanders and trembles; nothing where strings are struck and cannot be bent."""
        size = self.manner.drift_cents * (0.3 if self.instrument.struck else 1.0)
        if not self.instrument.transition or not size:
            return np.zeros(frames)
        knots = self.rng.standard_normal(frames // 20 + 2) * size
        trembling = self.rng.standard_normal(frames // 4 + 2) * 0.5 * size
        at = np.arange(frames)
        slow = np.interp(at / 20, np.arange(knots.size), knots)
        return slow + np.interp(at / 4, np.arange(trembling.size), trembling)

    def _strokes(self, group: list[NoteEvent], first: int, last: int) -> list[tuple[int, float]]:
        """Where the sound begins anew: at every tone of a struck string that is not slurred, else at syllables."""
        found = [(first, group[0].accent)]
        for before, tone in itertools.pairwise(group):
            bound = tone.slurred and (self.instrument.transition > 0 or not self.instrument.struck)
            rung_out = self.instrument.struck and tone.onset_seconds - found[-1][0] * CONTROL_SECONDS > 0.7
            same = abs(before.cents - tone.cents) < 1
            if (not bound or same or rung_out) and frame(tone.onset_seconds) < last - 2:
                found.append((frame(tone.onset_seconds), tone.accent))
        return found

    def _level(self, group: list[NoteEvent], first: int, last: int) -> np.ndarray:
        """Loudness of the breath, 0..1: accents, a soft dip where a syllable begins, attack and release."""
        frames = last - first
        knots = [(frame(t.onset_seconds) - first + frame(t.seconds) // 3, t.accent) for t in group]
        level = np.interp(np.arange(frames), *np.array(knots, float).T)
        attack = min(max(1, frame(self.instrument.attack_seconds)), frames)
        for at, _ in self._strokes(group, first, last)[1:]:
            if not self.instrument.struck:
                dip = level[max(0, at - first - attack) : at - first + attack]
                dip *= 1 - 0.6 * np.hanning(dip.size)
        level[:attack] *= np.arange(attack) / attack
        release = max(2, frame(0.2 if self.instrument.struck else 0.06))
        release = min(release, frames // 2)
        level[frames - release :] *= np.linspace(1.0, 0.02, release)
        return level


def _age(starts: list[int], frames: int) -> np.ndarray:
    """Seconds since the last start, float64 [frames]."""
    at = np.arange(frames)
    last = np.zeros(frames, np.int64)
    last[starts] = starts
    return (at - np.maximum.accumulate(last)) * CONTROL_SECONDS
