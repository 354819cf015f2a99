"""A tradition performed: drawn, played, rendered, and told in words and facts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from talim.synthesis.arrangement import Arrangement, PerformanceRequest, arrange, build_score
from talim.synthesis.ground_truth import GroundTruth
from talim.synthesis.instruments import Instrument
from talim.synthesis.melodic_motion import MelodicMotion
from talim.synthesis.melody_performer import PerformedLine
from talim.synthesis.mixdown import mix_down, perform_lines, voice_ground_truth
from talim.synthesis.reverb import REVERBS, Reverb
from talim.traditions.tradition import Tradition


@dataclass(frozen=True)
class SymbolicPerformance:
    """A performance before it is sound: what was decided, who plays what, its truth and its caption."""

    plan: Arrangement
    players: list[tuple[Instrument, PerformedLine]]
    truth: GroundTruth
    caption: str


def plan_piece(
    seed: int, tradition: Tradition, seconds: float, wishes: PerformanceRequest
) -> SymbolicPerformance:
    """The piece that the seed stands for, not rendered. UsageError where the wishes cannot be met."""
    rng = np.random.default_rng([seed, *tradition.slug.encode()])
    plan = arrange(tradition, wishes, seconds, rng)
    movement = MelodicMotion(plan.mode, *plan.school.register_cents)
    score = build_score(plan, movement, rng)
    players = perform_lines(plan, score, movement, rng)
    grid = plan.grid
    truth = GroundTruth(
        tradition=tradition.slug,
        mode=plan.mode.slug,
        cycle=grid.cycle.slug if grid else None,
        tonic_hz=plan.tonic_hz,
        tempo_bpm=60 / grid.beat_seconds if grid else None,
        cycle_beats=grid.cycle.beats if grid else None,
        voices=tuple(voice_ground_truth(instrument, played) for instrument, played in players),
        sections=tuple(score.sections),
        first_beats_seconds=grid.first_beats_seconds() if grid else np.empty(0),
        beats_seconds=grid.beats_seconds() if grid else np.empty(0),
        strokes=grid.strokes() if grid and plan.drummed else (),
    )
    return SymbolicPerformance(plan, players, truth, caption(plan, rng))


def render_piece(seed: int, piece: SymbolicPerformance) -> tuple[np.ndarray, dict[str, object]]:
    """The piece as samples float32 [T] at 16 kHz, and its facts; the sound has a generator of its own."""
    rng = np.random.default_rng([seed, 1, *piece.plan.tradition.slug.encode()])
    room = REVERBS[int(rng.integers(len(REVERBS)))]
    samples = mix_down(piece.plan, piece.players, piece.truth.strokes, room, rng)
    return samples, facts(piece.plan, piece.truth, room)


def ensemble_names(plan: Arrangement) -> list[str]:
    """Everybody who is heard, the leading player first."""
    names = [instrument.name for instrument in plan.instruments]
    return names + [plan.drum] * plan.drummed + [plan.school.drone] * bool(plan.school.drone)


def caption(plan: Arrangement, rng: np.random.Generator) -> str:
    """The words that belong to the piece; of a free part no cycle and no tempo is claimed."""
    lead, *others = ensemble_names(plan)
    who = f"{lead} with {' and '.join(others)}" if others else f"solo {lead}"
    what = f"{plan.tradition.mode_word} {plan.mode.name}"
    free_name = plan.school.section_names[0]
    if plan.grid is None:
        parts = [who, what, free_name]
    else:
        how = f"{plan.tradition.cycle_word} {plan.grid.cycle.name}, {round(60 / plan.grid.beat_seconds)} bpm"
        parts = [who, what, f"{free_name} and composition in {how}" if plan.free_seconds else how]
    if rng.random() < 0.5:
        parts = [parts[1], parts[0], *parts[2:]]
    return ", ".join(parts)


def facts(plan: Arrangement, truth: GroundTruth, room: Reverb) -> dict[str, object]:
    """The truth in short, as plain values."""
    return {
        "style": plan.tradition.slug,
        "mode": plan.mode.slug,
        "cycle": truth.cycle,
        "form": plan.form,
        "ensemble": plan.ensemble,
        "instruments": ensemble_names(plan),
        "tonic_hz": plan.tonic_hz,
        "tempo_bpm": truth.tempo_bpm,
        "room": room.name,
    }
