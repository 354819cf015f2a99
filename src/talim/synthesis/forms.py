"""Forms: a free part, a composition whose refrain leads into every first beat, rounds with a returning refrain.

A form adds note events and contiguous sections to a score.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from talim.synthesis.cycle_timing import CycleGrid, draw_rhythm
from talim.synthesis.ground_truth import FormSection
from talim.synthesis.melodic_motion import MelodicMotion
from talim.synthesis.melody_line import ExpressionParameters, NoteEvent, split_phrases

Motif = list[tuple[float, float, float, bool]]  # (beat, beats, cents, slurred)
MelodicContour = Sequence[tuple[float, float]]  # (fraction of the time, cents around which phrases rest)
MOTIF_DRAWS = 20  # of a motif that is to be another one than before; in a mode of few notes it may still be the same
ONE_BREATH_SECONDS = 10.0  # longer free parts contain a pause


@dataclass
class ScoreBuilder:
    """Note events and sections, appended in order of time."""

    events: list[NoteEvent] = field(default_factory=list)
    sections: list[FormSection] = field(default_factory=list)
    section_counts: Counter[str] = field(default_factory=Counter)

    def begin_section(
        self, name: str, kind: str, onset_seconds: float, end_seconds: float, composed_anew: bool = False
    ) -> None:
        """Add a section and count the occurrences of its name, unless its material was not played before."""
        self.section_counts[name] += 1
        occurrence = 1 if composed_anew else self.section_counts[name]
        self.sections.append(FormSection(name, kind, onset_seconds, end_seconds - onset_seconds, occurrence))

    def add_motif(self, grid: CycleGrid, cycle: float, motif: Motif, part: str) -> None:
        """Add a motif whose beats count from the beginning of a cycle."""
        for beat, beats, cents, slurred in motif:
            accent = 1.0 if abs((beat / grid.cycle.beats) % 1) < 1e-6 else 0.8
            self.events.append(NoteEvent(grid.at(cycle, beat), beats * grid.beat_seconds, cents, part, accent, slurred))

    def add_close(self, grid: CycleGrid, end_seconds: float, cents: float) -> None:
        """Add the closing section: one note from the first beat after the last cycle."""
        self.begin_section("close", "theme", grid.end_seconds, end_seconds)
        self.events.append(NoteEvent(grid.end_seconds, end_seconds - grid.end_seconds, cents, "close", 1.0))


def contour_height(contour: MelodicContour, fraction: float) -> float:
    """The contour at a fraction of the time, linearly interpolated."""
    fractions, heights = zip(*contour, strict=True)
    return float(np.interp(fraction, fractions, heights))


@dataclass(frozen=True)
class MelodyComposer:
    """Draws the melodies of a performance from the motion of its mode and its expression parameters.

    Without `returns` what would come back is composed anew each time, and all else is as it would be.
    """

    motion: MelodicMotion
    expression: ExpressionParameters
    rng: np.random.Generator
    returns: bool = True

    def _later_composer(self) -> MelodyComposer:
        """One that draws from a generator of its own, so that what does not return changes nothing else."""
        return replace(self, rng=self.rng.spawn(1)[0])

    def _another_motif(self, grid: CycleGrid, beats: tuple[float, float], pace: float, before: Motif) -> Motif:
        """A motif in the place of another one, between other notes, that is not the same as `before`."""
        motif = before
        for _ in range(MOTIF_DRAWS):
            first, last = (self.motion.draw_rest_note(float(self.rng.uniform(0, 1200)), 500, self.rng) for _ in "12")
            motif = self.motif(grid, beats, (first, last), pace)
            if [note[2] for note in motif] != [note[2] for note in before]:
                break
        return motif

    def unmetered(
        self, contour: MelodicContour, start_seconds: float, end_seconds: float, name: str
    ) -> list[NoteEvent]:
        """An unmetred part: phrases that end on strong notes along the contour, the last one on the final.

        A part longer than `ONE_BREATH_SECONDS` has at least two phrases with a pause between them.
        """
        while True:
            events = self._phrases(contour, start_seconds, end_seconds, name)
            if end_seconds - start_seconds <= ONE_BREATH_SECONDS or len(split_phrases(events)) > 1:
                return events  # else the first phrase filled the time: draw again

    def _phrases(self, contour: MelodicContour, start_seconds: float, end_seconds: float, name: str) -> list[NoteEvent]:
        """One draw of an unmetred part with at least one phrase."""
        motion, expression, rng = self.motion, self.expression, self.rng
        span = end_seconds - start_seconds
        now, at = start_seconds, motion.nearest(contour_height(contour, 0.0))
        events: list[NoteEvent] = []
        while end_seconds - now > 0.6:
            rest = motion.draw_rest_note(contour_height(contour, (now - start_seconds) / span), 500.0, rng)
            notes = motion.phrase(at, rest, rng, expression.reach_cents, expression.leap_probability)
            lengths = expression.passing_seconds * np.exp(0.55 * rng.standard_normal(len(notes)))
            lengths[-1] = expression.held_seconds * np.exp(0.6 * float(rng.standard_normal()))
            held = rng.random(len(notes)) < 0.12
            lengths = np.clip(np.where(held, 2.5 * lengths, lengths), 0.1, 7.0)
            left = end_seconds - now
            if lengths.sum() > left - 0.5:  # the last phrase returns to the final
                notes = motion.path_between(at, motion.nearest(motion.mode.final_cents))
                notes = notes[-max(1, int(0.4 * left / expression.passing_seconds)) :]
                lengths = np.full(len(notes), expression.passing_seconds)
                lengths[-1] = left - lengths[:-1].sum()
            for cents, length in zip(notes, lengths.tolist(), strict=True):
                events.append(NoteEvent(now, length, cents, name, 0.9, self._draw_slur()))
                now += length
            at = notes[-1]
            now += float(rng.uniform(*expression.pause_seconds))
        return events or [NoteEvent(start_seconds, span, motion.nearest(motion.mode.final_cents), name)]

    def _draw_slur(self) -> bool:
        return bool(self.rng.random() < self.expression.slur_probability)

    def motif(
        self, grid: CycleGrid, beats: tuple[float, float], ends: tuple[float, float], note_seconds: float
    ) -> Motif:
        """A motif between two beats and from one note to another, with notes of about `note_seconds`."""
        first, last = beats
        slots = draw_rhythm(last - first, grid.beat_seconds, note_seconds, self.rng)
        reach_cents, leap_probability = self.expression.reach_cents, self.expression.leap_probability
        notes = self.motion.line(len(slots), *ends, self.rng, reach_cents, leap_probability)
        return [
            (first + at, length, cents, self._draw_slur()) for (at, length), cents in zip(slots, notes, strict=True)
        ]

    def mukhra_form(self, score: ScoreBuilder, grid: CycleGrid, end_seconds: float) -> None:
        """Theme (sthayi), improvisation and second theme (antara): every cycle ends with the refrain (mukhra), always
        the same notes, that leads into the next sam.
        """
        motion, rng, beats = self.motion, self.rng, grid.cycle.beats
        pickup = pickup_beat(grid, rng)
        landing = motion.nearest(float(rng.choice([*motion.mode.strong_cents[:2], motion.mode.final_cents])))
        high = motion.nearest(1200.0)
        pace = float(rng.uniform(0.36, 0.85))
        mukhra = self.motif(grid, (pickup, beats), (landing, motion.leading_to(landing)), pace)
        bodies = {
            "sthayi": self.motif(grid, (0, pickup), (landing, landing), pace),
            "antara": self.motif(grid, (0, pickup), (high, motion.draw_rest_note(700, 500, rng)), pace),
        }
        later, played = self._later_composer(), set[str]()
        for cycle, name in enumerate(themes(grid.count)):
            body = bodies.get(name) or self._improvise(grid, pickup, landing)
            opening = landing
            if not self.returns and name in played and name in bodies:
                body = bodies[name] = later._another_motif(grid, (0, pickup), pace, body)
                opening = body[0][2]
            if not self.returns and cycle:
                mukhra = later._another_motif(grid, (pickup, beats), pace, mukhra)
            played.add(name)
            body = truncate(body, 0.6 * float(rng.uniform(*self.expression.pause_seconds)), grid.beat_seconds)
            body[0] = (*body[0][:2], opening, False)
            kind = "theme" if name in bodies else "episode"
            anew = name not in bodies or not self.returns
            score.begin_section(name, kind, grid.at(cycle), grid.at(cycle, pickup), anew)
            score.add_motif(grid, cycle, body, name)
            score.begin_section("mukhra", "refrain", grid.at(cycle, pickup), grid.at(cycle + 1), not self.returns)
            score.add_motif(grid, cycle, mukhra, "mukhra")
        score.add_close(grid, end_seconds, landing)

    def _improvise(self, grid: CycleGrid, until: float, landing: float) -> Motif:
        """One cycle of improvisation: the landing note, then phrases of one of three paces with pauses."""
        rng, whole = self.rng, Motif()
        pace = float(rng.choice((0.13, 0.3, 0.8), p=(0.45, 0.15, 0.4)))
        at, now = landing, 0.0
        while until - now > 1e-6:
            stretch = min(max(1.0, round(float(rng.uniform(1.6, 4.0)) / grid.beat_seconds)), until - now)
            rest = self.motion.draw_rest_note(float(rng.uniform(0, 1200)), 500, rng)
            part = self.motif(grid, (now, now + stretch), (at, rest), pace)
            whole += truncate(part, float(rng.uniform(*self.expression.pause_seconds)), grid.beat_seconds)
            at, now = rest, now + stretch
        return whole

    def round_form(
        self, score: ScoreBuilder, grid: CycleGrid, contour: MelodicContour, names: tuple[str, str],
        cycles: tuple[int, int], end_seconds: float,
    ) -> None:  # fmt: skip
        """Sections of `cycles[0]` cycles, each followed by the refrain of `cycles[1]` cycles that ends on the final."""
        motion, rng, beats = self.motion, self.rng, grid.cycle.beats
        section, refrain = names
        section_cycles, refrain_cycles = cycles
        home = motion.nearest(motion.mode.final_cents)
        middle = motion.nearest(motion.mode.strong_cents[0] if motion.mode.strong_cents else home)
        pace = float(rng.uniform(0.24, 0.42))
        refrain_motif = self.motif(grid, (0, refrain_cycles * beats), (middle, home), pace)
        refrain_motif = truncate(refrain_motif, 0.15, grid.beat_seconds)
        later = self._later_composer()
        rounds = grid.count // sum(cycles)
        at = motion.nearest(contour_height(contour, 0.0))
        for number in range(rounds):
            cycle = number * sum(cycles)
            refrain_cycle = cycle + section_cycles
            name = f"{section} {number + 1}"
            score.begin_section(name, "episode", grid.at(cycle), grid.at(refrain_cycle))
            half = midpoint(section_cycles * beats)
            aim = contour_height(contour, (number + 0.5) / rounds)
            # The first half of a section ends on the contour, the second on the strong note.
            first = self.motif(grid, (0, half), (at, motion.draw_rest_note(aim, 300, rng)), pace)
            second = self.motif(grid, (half, section_cycles * beats), (first[-1][2], middle), pace)
            for part in (first, second):
                breath = float(rng.uniform(*self.expression.pause_seconds))
                score.add_motif(grid, cycle, truncate(part, breath, grid.beat_seconds), name)
            if number and not self.returns:
                refrain_motif = later._another_motif(grid, (0, refrain_cycles * beats), pace, refrain_motif)
                refrain_motif = truncate(refrain_motif, 0.15, grid.beat_seconds)
            refrain_end_seconds = grid.at(refrain_cycle + refrain_cycles)
            score.begin_section(refrain, "refrain", grid.at(refrain_cycle), refrain_end_seconds, not self.returns)
            score.add_motif(grid, refrain_cycle, refrain_motif, refrain)
            at = home
        score.add_close(grid, end_seconds, home)


def truncate(motif: Motif, by_seconds: float, beat_seconds: float) -> Motif:
    """The motif with a pause of at most 35 % of its length at its end; it still ends on its last note."""
    first, (last_beat, last_beats, rest, _) = motif[0][0], motif[-1]
    end = last_beat + last_beats
    end -= min(by_seconds / beat_seconds, 0.35 * (end - first))
    shortened = [event for event in motif if event[0] < end - 0.15 / beat_seconds] or [motif[0]]
    beat, _, _, slurred = shortened[-1]
    return [*shortened[:-1], (beat, end - beat, rest, slurred)]


def themes(count: int) -> list[str]:
    """The section of each cycle before its refrain."""
    if count == 2:
        return ["sthayi", "improvisation"]
    pattern = ["sthayi", "sthayi", *["improvisation"] * 2, "sthayi", "antara", *["improvisation"] * 2]
    return [pattern[k % len(pattern)] for k in range(count)]


def pickup_beat(grid: CycleGrid, rng: np.random.Generator) -> float:
    """The beat on which the refrain begins: a section of the cycle in its second half, else at two thirds."""
    beats = grid.cycle.beats
    starts = np.cumsum((0.0, *grid.cycle.sections))
    inside = [float(b) for b in starts if 0.5 * beats <= b <= 0.8 * beats]
    return inside[int(rng.integers(len(inside)))] if inside else max(1.0, float(round(2 * beats / 3)))


def midpoint(beats: float) -> float:
    """A whole beat near the middle."""
    return max(1.0, float(int(beats / 2 + 0.5))) if beats >= 2 else beats / 2
