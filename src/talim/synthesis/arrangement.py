"""Arrangement of a performance, drawn by seed: mode, cycle, form, instruments, tempo; and its score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from talim.errors import UsageError
from talim.synthesis.cycle_timing import CycleGrid, fitting_cycle_counts
from talim.synthesis.forms import MelodyComposer, ScoreBuilder
from talim.synthesis.instruments import INSTRUMENTS, Instrument
from talim.synthesis.melodic_motion import MelodicMotion
from talim.synthesis.ornaments import ONSET_ORNAMENTS, SUSTAINED_ORNAMENTS
from talim.synthesis.styles import PerformanceStyle, style_of
from talim.traditions.schema import Cycle, Mode, OrnamentDefinition
from talim.traditions.tradition import Tradition

ItemT = TypeVar("ItemT")
FORMS = ("free", "composition", "full")
SHORTEST_FREE_SECONDS = 5.0
WINDOW_RETURNS = 3  # complete refrains in every window: the first and two returns


@dataclass(frozen=True)
class PerformanceRequest:
    """Properties of a performance; those that are None are drawn by the seed. UsageError for invalid values.

    `form` is "free" (unmetred only), "composition" (metred only) or "full" (both). `ensemble` is 1 to 3 instruments
    without the drone. `window_seconds` makes cycle and refrain return at least twice within every window of that length
    and excludes the free part. `ornament` is played at every note where it fits, instead of competing ones. Without
    `ornaments` the piece of the seed is performed plain: the same notes at the same times, by the same instruments.
    Without `returns` themes and refrains are composed anew each time; form, tempo and instruments stay.
    """

    mode: str | None = None
    cycle: str | None = None
    form: str | None = None
    ensemble: int | None = None
    window_seconds: float | None = None
    ornament: str | None = None
    ornaments: bool = True
    returns: bool = True

    def __post_init__(self) -> None:
        if self.form is not None and self.form not in FORMS:
            raise UsageError(f"no form {self.form!r}: choose one of {', '.join(FORMS)}")
        if self.ensemble is not None and self.ensemble not in (1, 2, 3):
            raise UsageError(f"an ensemble has 1, 2 or 3 players, not {self.ensemble}")
        if self.window_seconds is not None and not self.window_seconds > 0:
            raise UsageError(f"a window needs a positive length, not {self.window_seconds} s")
        if self.window_seconds is not None and self.form not in (None, "composition"):
            raise UsageError(f"window_seconds asks for a composition: leave form={self.form!r} out")
        if self.ornament is not None and not self.ornaments:
            raise UsageError(f"ornament={self.ornament!r} is not played without ornaments: leave one of the two out")
        if self.window_seconds is not None and not self.returns:
            raise UsageError("window_seconds asks for returns: leave returns=False out")
        if self.form == "free" and (self.cycle is not None or self.ensemble == 3):
            raise UsageError("a free part has no cycle and no drum: leave cycle and ensemble=3 out")


@dataclass(frozen=True)
class Arrangement:
    """Everything that is drawn before the score."""

    tradition: Tradition
    style: PerformanceStyle
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
    ornamented: bool = True
    returns: bool = True

    @property
    def drum(self) -> str:
        """Name of the drum: that of the cycle's facts, else that of the style."""
        return str(self.grid.cycle.facts.get("drum", self.style.drum)) if self.grid else self.style.drum


def arrange(tradition: Tradition, request: PerformanceRequest, seconds: float, rng: np.random.Generator) -> Arrangement:
    """Draw what the request leaves open. UsageError if it cannot be met within `seconds`."""
    style = style_of(tradition.slug)
    if request.ornament is not None:
        tradition, style = favor_ornament(tradition, style, tradition.ornament(request.ornament))
    mode = tradition.mode(request.mode) if request.mode else choose_uniform(tradition.modes, rng)
    form, cycle, count, rounds, free_seconds = draw_form(tradition, style, request, seconds, rng)
    metred = seconds - free_seconds
    tail = tail_seconds(metred)
    grid = CycleGrid(cycle, free_seconds, (metred - tail) / count / cycle.beats, count) if cycle else None
    ensemble = request.ensemble or int(rng.integers(1, 3 if form == "free" else 4))
    doubled = ensemble == 3 or (ensemble == 2 and (form == "free" or (style.form == "rounds" and rng.random() < 0.5)))
    drummed = grid is not None and bool(grid.cycle.strokes) and ensemble == (3 if doubled else 2)
    lead = INSTRUMENTS[choose_uniform(style.lead_instruments, rng)]
    others = [name for name in style.accompanying_instruments if name != lead.name]
    second = INSTRUMENTS[choose_uniform(others, rng)]
    low, high = lead.tonic_hz
    return Arrangement(
        tradition, style, mode, form, ensemble, seconds, free_seconds, grid, rounds,
        (lead, second) if doubled else (lead,), drummed, low * (high / low) ** float(rng.random()),
        request.ornaments, request.returns,
    )  # fmt: skip


def favor_ornament(
    tradition: Tradition, style: PerformanceStyle, ornament: OrnamentDefinition
) -> tuple[Tradition, PerformanceStyle]:
    """The tradition without ornaments that compete with this one, and the style with its probability set to 1."""
    rivals = next(shapes for shapes in (ONSET_ORNAMENTS, SUSTAINED_ORNAMENTS) if ornament.shape in shapes)
    ornaments = tuple(o for o in tradition.ornaments if o is ornament or o.shape not in rivals)
    expression = replace(style.expression, ornaments={**style.expression.ornaments, ornament.shape: 1.0})
    return replace(tradition, ornaments=ornaments), replace(style, expression=expression)


def draw_form(
    tradition: Tradition, style: PerformanceStyle, request: PerformanceRequest, seconds: float, rng: np.random.Generator
) -> tuple[str, Cycle | None, int, tuple[int, int], float]:
    """(form, cycle, number of cycles, cycles per (section, refrain), seconds of the free part)."""
    metred_only = bool(request.window_seconds or request.cycle or request.ensemble == 3)
    forms = [request.form] if request.form else [form for form in FORMS if form != "free" or not metred_only]
    if request.window_seconds:
        forms = ["composition"]
    for form in (forms[at] for at in rng.permutation(len(forms))):
        if form == "free":
            return form, None, 0, (1, 1), seconds
        drawn = max(SHORTEST_FREE_SECONDS, float(rng.uniform(0.25, 0.45)) * seconds)
        for free_seconds in (drawn, SHORTEST_FREE_SECONDS) if form == "full" else (0.0,):
            fitting = draw_cycle(tradition, style, request, seconds - free_seconds, rng)
            if fitting is not None:
                return form, *fitting, free_seconds
    raise UsageError(unsupported_reason(tradition, request, seconds))


def unsupported_reason(tradition: Tradition, request: PerformanceRequest, seconds: float) -> str:
    """An error message: why no form fits, and what would."""
    what = f"form={request.form!r}" if request.form else "a composition"
    cycle = f" in {tradition.cycle(request.cycle).name}" if request.cycle else ""
    window = f" with two returns of the refrain in {request.window_seconds:g} s" if request.window_seconds else ""
    if not any(c.strokes for c in tradition.cycles):
        return f"{tradition.name} has no cycle with strokes: ask for form='free'"
    short = f"{seconds:g} s are too short, or the cycle too long, for {what}{cycle}{window}"
    return f"{short}: give more seconds or a shorter cycle"


def draw_cycle(
    tradition: Tradition, style: PerformanceStyle, request: PerformanceRequest, seconds: float, rng: np.random.Generator
) -> tuple[Cycle, int, tuple[int, int]] | None:
    """(cycle, number of cycles, cycles per (section, refrain)) that fit into `seconds`; None if no cycle fits."""
    cycles = [tradition.cycle(request.cycle)] if request.cycle else [c for c in tradition.cycles if c.strokes]
    choices = ((1, 1),) if style.form == "mukhra" else ((1, 1), (2, 1), (3, 1), (2, 2))
    playing = seconds - tail_seconds(seconds)
    if playing <= 0:
        return None
    for at in rng.permutation(len(cycles)):
        cycle = cycles[at]
        for choice in rng.permutation(len(choices)):
            section, refrain = choices[choice]
            # A window as long as n periods and a refrain contains at least n complete refrains.
            period, refrain_cycles = (1, 1) if style.form == "mukhra" else (section + refrain, refrain)
            longest = np.inf
            if request.window_seconds:
                longest = request.window_seconds / (WINDOW_RETURNS * period + refrain_cycles)
            counts = fitting_cycle_counts(cycle, playing, style.tempo_range_bpm(cycle), period, longest)
            # At least two refrains, unless a cycle is requested that fits only once.
            counts = [count for count in counts if count >= 2 * period] or (counts if request.cycle else [])
            if counts:
                weights = 1.0 / np.array(counts)  # counts are log-uniformly distributed
                count = counts[int(rng.choice(len(counts), p=weights / weights.sum()))]
                return cycle, count, (section, refrain)
    return None


def tail_seconds(seconds: float) -> float:
    """Seconds of the closing note."""
    return min(2.0, 0.12 * seconds)


def choose_uniform(items: Sequence[ItemT], rng: np.random.Generator) -> ItemT:
    return items[int(rng.integers(len(items)))]


def build_score(arrangement: Arrangement, motion: MelodicMotion, rng: np.random.Generator) -> ScoreBuilder:
    """The note events and sections of the arrangement."""
    style, grid, score = arrangement.style, arrangement.grid, ScoreBuilder()
    composer = MelodyComposer(motion, style.expression, rng, arrangement.returns)
    contour = style.register_contour(arrangement.mode)
    free_name, *names = style.section_names
    if end := arrangement.free_seconds:
        score.begin_section(free_name, "free", 0.0, end)
        score.events += composer.unmetered(contour, 0.0, end - 0.3 if grid else end, free_name)
    if grid and style.form == "mukhra":
        composer.mukhra_form(score, grid, arrangement.seconds)
    elif grid:
        composer.round_form(score, grid, contour, (names[0], names[1]), arrangement.rounds, arrangement.seconds)
    return score
