"""What a performance will be, drawn by seed: mode, cycle, form, players, tempo; and the score that follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from talim.errors import UsageError
from talim.synthesis.cycle_timing import CycleGrid, fitting_cycle_counts
from talim.synthesis.forms import ScoreBuilder, mukhra_form, round_form, unmetered
from talim.synthesis.instruments import INSTRUMENTS, Instrument
from talim.synthesis.melodic_motion import MelodicMotion
from talim.synthesis.ornaments import ONSET_ORNAMENTS, SUSTAINED_ORNAMENTS
from talim.synthesis.styles import PerformanceStyle, style_of
from talim.traditions.schema import Cycle, Mode, OrnamentDefinition
from talim.traditions.tradition import Tradition

ItemT = TypeVar("ItemT")
FORMS = ("free", "composition", "full")
SHORTEST_FREE_SECONDS = 5.0
WINDOW_RETURNS = 3  # statements of the refrain that any window must hold whole: the first and two returns


@dataclass(frozen=True)
class PerformanceRequest:
    """What is asked of a performance; whatever is None is drawn by the seed.

    `form` is "free" (unmetred only), "composition" (metred only) or "full" (both). `ensemble` is 1 to 3 players, a
    drone not counted. `window_seconds` makes the cycle and the refrain return at least twice inside every window of
    that length (and leaves the free part out). `ornament` is played wherever there is room for it, in place of those
    that would begin or last at the same moment.
    """

    mode: str | None = None
    cycle: str | None = None
    form: str | None = None
    ensemble: int | None = None
    window_seconds: float | None = None
    ornament: str | None = None

    def __post_init__(self) -> None:
        if self.form is not None and self.form not in FORMS:
            raise UsageError(f"no form {self.form!r}: choose one of {', '.join(FORMS)}")
        if self.ensemble is not None and self.ensemble not in (1, 2, 3):
            raise UsageError(f"an ensemble has 1, 2 or 3 players, not {self.ensemble}")
        if self.window_seconds is not None and not self.window_seconds > 0:
            raise UsageError(f"a window needs a positive length, not {self.window_seconds} s")
        if self.window_seconds is not None and self.form not in (None, "composition"):
            raise UsageError(f"window_seconds asks for a composition: leave form={self.form!r} out")
        if self.form == "free" and (self.cycle is not None or self.ensemble == 3):
            raise UsageError("a free part has no cycle and no drum: leave cycle and ensemble=3 out")


@dataclass(frozen=True)
class Arrangement:
    """Everything decided before a tone is played."""

    tradition: Tradition
    school: PerformanceStyle
    mode: Mode
    form: str
    ensemble: int
    seconds: float
    free_seconds: float
    grid: CycleGrid | None
    rounds: tuple[int, int]
    instruments: tuple[Instrument, ...]
    drummed: bool
    tonic_hz: float

    @property
    def drum(self) -> str:
        """What the drum is called: what the cycle's facts say, else the school's."""
        return str(self.grid.cycle.facts.get("drum", self.school.drum)) if self.grid else self.school.drum


def arrange(
    tradition: Tradition, wishes: PerformanceRequest, seconds: float, rng: np.random.Generator
) -> Arrangement:
    """Draw what the wishes leave open. UsageError where they cannot be met in `seconds`."""
    school = style_of(tradition.slug)
    if wishes.ornament is not None:
        tradition, school = favor_ornament(tradition, school, tradition.ornament(wishes.ornament))
    mode = tradition.mode(wishes.mode) if wishes.mode else choose_uniform(tradition.modes, rng)
    form, cycle, count, rounds, free_seconds = draw_form(tradition, school, wishes, seconds, rng)
    metred = seconds - free_seconds
    tail = tail_seconds(metred)
    grid = CycleGrid(cycle, free_seconds, (metred - tail) / count / cycle.beats, count) if cycle else None
    ensemble = wishes.ensemble or int(rng.integers(1, 3 if form == "free" else 4))
    doubled = ensemble == 3 or (
        ensemble == 2 and (form == "free" or (school.form == "rounds" and rng.random() < 0.5))
    )
    drummed = grid is not None and bool(grid.cycle.strokes) and ensemble == (3 if doubled else 2)
    lead = INSTRUMENTS[str(choose_uniform(school.lead_instruments, rng))]
    second = INSTRUMENTS[
        str(choose_uniform([name for name in school.accompanying_instruments if name != lead.name], rng))
    ]
    low, high = lead.tonic_hz
    return Arrangement(
        tradition, school, mode, form, ensemble, seconds, free_seconds, grid, rounds,
        (lead, second) if doubled else (lead,), drummed, low * (high / low) ** float(rng.random()),
    )  # fmt: skip


def favor_ornament(
    tradition: Tradition, school: PerformanceStyle, ornament: OrnamentDefinition
) -> tuple[Tradition, PerformanceStyle]:
    """The tradition without the ornaments that are played at this one's moment, and the school that always plays it."""
    rivals = next(shapes for shapes in (ONSET_ORNAMENTS, SUSTAINED_ORNAMENTS) if ornament.shape in shapes)
    kept = tuple(one for one in tradition.ornaments if one is ornament or one.shape not in rivals)
    manner = replace(school.manner, ornaments={**school.manner.ornaments, ornament.shape: 1.0})
    return replace(tradition, ornaments=kept), replace(school, manner=manner)


def draw_form(
    tradition: Tradition,
    school: PerformanceStyle,
    wishes: PerformanceRequest,
    seconds: float,
    rng: np.random.Generator,
) -> tuple[str, Cycle | None, int, tuple[int, int], float]:
    """Form, cycle, number of cycles, cycles of (section, refrain), and length of the free part."""
    metred_only = bool(wishes.window_seconds or wishes.cycle or wishes.ensemble == 3)
    forms = [wishes.form] if wishes.form else [form for form in FORMS if form != "free" or not metred_only]
    if wishes.window_seconds:
        forms = ["composition"]
    for form in (forms[at] for at in rng.permutation(len(forms))):
        if form == "free":
            return form, None, 0, (1, 1), seconds
        drawn = max(SHORTEST_FREE_SECONDS, float(rng.uniform(0.25, 0.45)) * seconds)
        for free_seconds in (drawn, SHORTEST_FREE_SECONDS) if form == "full" else (0.0,):
            found = draw_cycle(tradition, school, wishes, seconds - free_seconds, rng)
            if found is not None:
                return form, *found, free_seconds
    raise UsageError(unsupported_reason(tradition, wishes, seconds))


def unsupported_reason(tradition: Tradition, wishes: PerformanceRequest, seconds: float) -> str:
    """One line on why nothing fits, and what would."""
    what = f"form={wishes.form!r}" if wishes.form else "a composition"
    cycle = f" in {tradition.cycle(wishes.cycle).name}" if wishes.cycle else ""
    window = f" with its refrain twice back in {wishes.window_seconds:g} s" if wishes.window_seconds else ""
    if not any(c.strokes for c in tradition.cycles):
        return f"{tradition.name} has no cycle with strokes: ask for form='free'"
    short = f"{seconds:g} s are too short, or the cycle too long, for {what}{cycle}{window}"
    return f"{short}: give more seconds or a shorter cycle"


def draw_cycle(
    tradition: Tradition,
    school: PerformanceStyle,
    wishes: PerformanceRequest,
    seconds: float,
    rng: np.random.Generator,
) -> tuple[Cycle, int, tuple[int, int]] | None:
    """A cycle that fits, how many of it, and how many of them a section and the refrain take; None if none does."""
    cycles = [tradition.cycle(wishes.cycle)] if wishes.cycle else [c for c in tradition.cycles if c.strokes]
    choices = ((1, 1),) if school.form == "mukhra" else ((1, 1), (2, 1), (3, 1), (2, 2))
    playing = seconds - tail_seconds(seconds)
    if playing <= 0:
        return None
    for at in rng.permutation(len(cycles)):
        cycle = cycles[at]
        for choice in rng.permutation(len(choices)):
            own, refrain = choices[choice]
            # Any window holds WINDOW_RETURNS whole refrains where it is as long as that many periods and one refrain.
            period, share = (1, 1) if school.form == "mukhra" else (own + refrain, refrain)
            longest = np.inf
            if wishes.window_seconds:
                longest = wishes.window_seconds / (WINDOW_RETURNS * period + share)
            counts = fitting_cycle_counts(cycle, playing, school.tempo_range_bpm(cycle), period, longest)
            # One cycle is no return: unless asked for, or where nothing else fits, there are two refrains at least.
            counts = [count for count in counts if count >= 2 * period] or (counts if wishes.cycle else [])
            if counts:
                return cycle, log_uniform(counts, rng), (own, refrain)
    return None


def log_uniform(counts: list[int], rng: np.random.Generator) -> int:
    """One of the counts, drawn so that tempi are even on a log scale."""
    weights = 1.0 / np.array(counts)
    return counts[int(rng.choice(len(counts), p=weights / weights.sum()))]


def tail_seconds(seconds: float) -> float:
    """How long the closing note sounds."""
    return min(2.0, 0.12 * seconds)


def choose_uniform(things: Sequence[ItemT], rng: np.random.Generator) -> ItemT:
    """One of a sequence, evenly."""
    return things[int(rng.integers(len(things)))]


def build_score(arrangement: Arrangement, movement: MelodicMotion, rng: np.random.Generator) -> ScoreBuilder:
    """The tones and sections of the arrangement."""
    school, grid, score = arrangement.school, arrangement.grid, ScoreBuilder()
    course = school.register_course(arrangement.mode)
    free_name, section_name, refrain_name = school.section_names
    if arrangement.free_seconds:
        pause = 0.3 if grid else 0.0
        end = arrangement.free_seconds
        score.begin(free_name, "free", 0.0, end)
        score.tones += unmetered(movement, school.manner, course, 0.0, end - pause, free_name, rng)
    if grid and school.form == "mukhra":
        mukhra_form(score, movement, school.manner, grid, arrangement.seconds, rng)
    elif grid:
        names = (section_name, refrain_name)
        round_form(
            score, movement, school.manner, grid, course, names, arrangement.rounds, arrangement.seconds, rng
        )
    return score
