"""Forms: a free part, a composition whose refrain lands on every first beat, and rounds with a returning refrain.

Every form gives tones and sections; the sections follow each other without a gap.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from talim.synthesis.cycle_timing import CycleGrid, draw_rhythm
from talim.synthesis.ground_truth import FormSection
from talim.synthesis.melodic_motion import MelodicMotion
from talim.synthesis.melody_line import ExpressionParameters, NoteEvent, split_phrases

Motif = Sequence[tuple[float, float, float, bool]]  # (beat, beats, cents, slurred)
MelodicContour = Sequence[tuple[float, float]]  # (share of the time, cents around which phrases rest)
ONE_BREATH_SECONDS = 10.0  # a longer free part has a pause


@dataclass
class ScoreBuilder:
    """What will be played, growing from left to right."""

    tones: list[NoteEvent] = field(default_factory=list)
    sections: list[FormSection] = field(default_factory=list)
    heard: Counter[str] = field(default_factory=Counter)

    def begin(self, name: str, kind: str, onset_seconds: float, end_seconds: float) -> None:
        """Add a section; its `time` counts how often this name has come."""
        self.heard[name] += 1
        self.sections.append(
            FormSection(name, kind, onset_seconds, end_seconds - onset_seconds, self.heard[name])
        )

    def add_motif(self, grid: CycleGrid, cycle: float, figure: Motif, part: str) -> None:
        """Add a figure of (beat, beats, cents, slurred), its beats counted from the beginning of a cycle."""
        for beat, beats, cents, slurred in figure:
            accent = 1.0 if abs((beat / grid.cycle.beats) % 1) < 1e-6 else 0.8
            self.tones.append(
                NoteEvent(grid.at(cycle, beat), beats * grid.beat_seconds, cents, part, accent, slurred)
            )


def contour_height(course: MelodicContour, share: float) -> float:
    """The course's height at a share of the time, straight between its points."""
    shares, heights = zip(*course, strict=True)
    return float(np.interp(share, shares, heights))


def unmetered(
    movement: MelodicMotion,
    manner: ExpressionParameters,
    course: MelodicContour,
    start_seconds: float,
    end_seconds: float,
    name: str,
    rng: np.random.Generator,
) -> list[NoteEvent]:
    """An unmetred part: phrases that rest on strong notes along the course, the last one on the final.

    A part longer than `ONE_BREATH_SECONDS` has at least two phrases with a pause between them.
    """
    while True:
        tones = _phrases(movement, manner, course, start_seconds, end_seconds, name, rng)
        if end_seconds - start_seconds <= ONE_BREATH_SECONDS or len(split_phrases(tones)) > 1:
            return tones  # else the first phrase filled the time, and other lengths are drawn


def _phrases(
    movement: MelodicMotion,
    manner: ExpressionParameters,
    course: MelodicContour,
    start_seconds: float,
    end_seconds: float,
    name: str,
    rng: np.random.Generator,
) -> list[NoteEvent]:
    """One draw of an unmetred part, with as many phrases as its time holds, at least one."""
    span = end_seconds - start_seconds
    now, at = start_seconds, movement.nearest(contour_height(course, 0.0))
    tones: list[NoteEvent] = []
    while end_seconds - now > 0.6:
        rest = movement.draw_rest_note(contour_height(course, (now - start_seconds) / span), 500.0, rng)
        notes = movement.phrase(at, rest, rng, manner.reach_cents, manner.leap_probability)
        lengths = manner.passing_seconds * np.exp(0.55 * rng.standard_normal(len(notes)))
        lengths[-1] = manner.held_seconds * np.exp(0.6 * float(rng.standard_normal()))
        held = rng.random(len(notes)) < 0.12
        lengths = np.clip(np.where(held, 2.5 * lengths, lengths), 0.1, 7.0)
        left = end_seconds - now
        if lengths.sum() > left - 0.5:  # the last phrase: come home, and stay there
            notes = movement.way(at, movement.nearest(movement.mode.final_cents))
            notes = notes[-max(1, int(0.4 * left / manner.passing_seconds)) :]
            lengths = np.full(len(notes), manner.passing_seconds)
            lengths[-1] = left - lengths[:-1].sum()
        for cents, length in zip(notes, lengths, strict=True):
            tones.append(
                NoteEvent(now, float(length), cents, name, 0.9, bool(rng.random() < manner.slur_probability))
            )
            now += float(length)
        at = notes[-1]
        now += float(rng.uniform(*manner.pause_seconds))
    return tones or [NoteEvent(start_seconds, span, movement.nearest(movement.mode.final_cents), name)]


def draw_motif(
    movement: MelodicMotion,
    manner: ExpressionParameters,
    grid: CycleGrid,
    beats: tuple[float, float],
    ends: tuple[float, float],
    note_seconds: float,
    rng: np.random.Generator,
) -> list[tuple[float, float, float, bool]]:
    """(beat, beats, cents, slurred) from beat to beat, from a note to a note."""
    first, last = beats
    slots = draw_rhythm(last - first, grid.beat_seconds, note_seconds, rng)
    notes = movement.line(len(slots), *ends, rng, manner.reach_cents, manner.leap_probability)
    return [
        (first + at, length, cents, bool(rng.random() < manner.slur_probability))
        for (at, length), cents in zip(slots, notes, strict=True)
    ]


def truncate(figure: Motif, by_seconds: float, beat_seconds: float) -> list[tuple[float, float, float, bool]]:
    """The figure with breath taken at its end, at most 0.35 of it; it still ends on its last note."""
    first, (last_beat, last_beats, rest, _) = figure[0][0], figure[-1]
    end = last_beat + last_beats
    end -= min(by_seconds / beat_seconds, 0.35 * (end - first))
    kept = [tone for tone in figure if tone[0] < end - 0.15 / beat_seconds] or [figure[0]]
    beat, _, _, slurred = kept[-1]
    return [*kept[:-1], (beat, end - beat, rest, slurred)]


def mukhra_form(
    score: ScoreBuilder,
    movement: MelodicMotion,
    manner: ExpressionParameters,
    grid: CycleGrid,
    end_seconds: float,
    rng: np.random.Generator,
) -> None:
    """Theme (sthayi), improvisation, second theme (antara): every cycle ends with the refrain (mukhra) that lands on
    the next sam, always the same notes."""
    beats = grid.cycle.beats
    pickup = pickup_beat(grid, rng)
    landing = movement.nearest(
        float(rng.choice([*movement.mode.strong_cents[:2], movement.mode.final_cents]))
    )
    high = movement.nearest(1200.0)
    pace = float(rng.uniform(0.36, 0.85))
    mukhra = draw_motif(
        movement, manner, grid, (pickup, beats), (landing, movement.leading_to(landing)), pace, rng
    )
    bodies = {
        "sthayi": draw_motif(movement, manner, grid, (0, pickup), (landing, landing), pace, rng),
        "antara": draw_motif(
            movement, manner, grid, (0, pickup), (high, movement.draw_rest_note(700, 500, rng)), pace, rng
        ),
    }
    for cycle, name in enumerate(themes(grid.count)):
        body = bodies.get(name) or improvise(movement, manner, grid, pickup, landing, rng)
        body = truncate(body, 0.6 * float(rng.uniform(*manner.pause_seconds)), grid.beat_seconds)
        body[0] = (*body[0][:2], landing, False)
        kind = "theme" if name in bodies else "episode"
        score.begin(name, kind, grid.at(cycle), grid.at(cycle, pickup))
        score.add_motif(grid, cycle, body, name)
        score.begin("mukhra", "refrain", grid.at(cycle, pickup), grid.at(cycle + 1))
        score.add_motif(grid, cycle, mukhra, "mukhra")
    score.begin("close", "theme", grid.end_seconds, end_seconds)
    score.tones.append(NoteEvent(grid.end_seconds, end_seconds - grid.end_seconds, landing, "close", 1.0))


def themes(count: int) -> list[str]:
    """What fills the cycles before each refrain: the theme twice, improvisation, the second theme, and home."""
    pattern = (
        "sthayi",
        "sthayi",
        "improvisation",
        "improvisation",
        "sthayi",
        "antara",
        "improvisation",
        "improvisation",
    )
    names = [pattern[k % len(pattern)] for k in range(count)]
    if count == 2:
        names[1] = "improvisation"
    return names


def pickup_beat(grid: CycleGrid, rng: np.random.Generator) -> float:
    """The beat on which the refrain begins: a section of the cycle in its second half, else two thirds on."""
    beats = grid.cycle.beats
    starts = np.cumsum((0.0, *grid.cycle.sections))
    inside = [float(b) for b in starts if 0.5 * beats <= b <= 0.8 * beats]
    return inside[int(rng.integers(len(inside)))] if inside else max(1.0, float(round(2 * beats / 3)))


def improvise(
    movement: MelodicMotion,
    manner: ExpressionParameters,
    grid: CycleGrid,
    until: float,
    landing: float,
    rng: np.random.Generator,
) -> list[tuple[float, float, float, bool]]:
    """A cycle's improvisation: the landing note, a breath, then phrases of one of three paces, with pauses."""
    pace = float(rng.choice((0.13, 0.3, 0.8), p=(0.45, 0.15, 0.4)))
    whole: list[tuple[float, float, float, bool]] = []
    at, now = landing, 0.0
    while until - now > 1e-6:
        stretch = min(max(1.0, round(float(rng.uniform(1.6, 4.0)) / grid.beat_seconds)), until - now)
        rest = movement.draw_rest_note(float(rng.uniform(0, 1200)), 500, rng)
        part = draw_motif(movement, manner, grid, (now, now + stretch), (at, rest), pace, rng)
        whole += truncate(part, float(rng.uniform(*manner.pause_seconds)), grid.beat_seconds)
        at, now = rest, now + stretch
    return whole


def round_form(
    score: ScoreBuilder,
    movement: MelodicMotion,
    manner: ExpressionParameters,
    grid: CycleGrid,
    course: MelodicContour,
    names: tuple[str, str],
    cycles: tuple[int, int],
    end_seconds: float,
    rng: np.random.Generator,
) -> None:
    """Sections of `cycles[0]` cycles, each followed by the refrain of `cycles[1]` cycles that ends on the final."""
    section, refrain = names
    own, returning = cycles
    home = movement.nearest(movement.mode.final_cents)
    middle = movement.nearest(movement.mode.strong_cents[0] if movement.mode.strong_cents else home)
    pace = float(rng.uniform(0.24, 0.42))
    beats = grid.cycle.beats
    refrain_figure = truncate(
        draw_motif(movement, manner, grid, (0, returning * beats), (middle, home), pace, rng),
        0.15,
        grid.beat_seconds,
    )
    rounds = grid.count // (own + returning)
    at = movement.nearest(contour_height(course, 0.0))
    for number in range(rounds):
        cycle = number * (own + returning)
        name = f"{section} {number + 1}"
        score.begin(name, "episode", grid.at(cycle), grid.at(cycle + own))
        half = midpoint(own * beats)
        aim = contour_height(course, (number + 0.5) / rounds)
        # Half the section comes to rest where the course has arrived, its end on the strong note.
        first = draw_motif(
            movement, manner, grid, (0, half), (at, movement.draw_rest_note(aim, 300, rng)), pace, rng
        )
        second = draw_motif(movement, manner, grid, (half, own * beats), (first[-1][2], middle), pace, rng)
        for part in (first, second):
            breath = float(rng.uniform(*manner.pause_seconds))
            score.add_motif(grid, cycle, truncate(part, breath, grid.beat_seconds), name)
        score.begin(refrain, "refrain", grid.at(cycle + own), grid.at(cycle + own + returning))
        score.add_motif(grid, cycle + own, refrain_figure, refrain)
        at = home
    score.begin("close", "theme", grid.end_seconds, end_seconds)
    score.tones.append(NoteEvent(grid.end_seconds, end_seconds - grid.end_seconds, home, "close", 1.0))


def midpoint(beats: float) -> float:
    """A whole beat near the middle."""
    return max(1.0, float(int(beats / 2 + 0.5))) if beats >= 2 else beats / 2
