"""A tradition performed: drawn, played, rendered, and told in words and facts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from talim.traditions.arranging import Arrangement, Wishes, arrange, score_of
from talim.traditions.movement import Movement
from talim.traditions.player import Played
from talim.traditions.rendering import lines, mixed, voice_of
from talim.traditions.rooms import ROOMS, Room
from talim.traditions.sounds import Instrument
from talim.traditions.tradition import Tradition
from talim.traditions.truth import Truth


@dataclass(frozen=True)
class Piece:
    """A performance before it is sound: what was decided, who plays what, its truth and its caption."""

    plan: Arrangement
    players: list[tuple[Instrument, Played]]
    truth: Truth
    caption: str


def play(seed: int, tradition: Tradition, seconds: float, wishes: Wishes) -> Piece:
    """The piece that the seed stands for, not rendered. UsageError where the wishes cannot be met."""
    rng = np.random.default_rng([seed, *tradition.slug.encode()])
    plan = arrange(tradition, wishes, seconds, rng)
    movement = Movement(plan.mode, *plan.school.register_cents)
    score = score_of(plan, movement, rng)
    players = lines(plan, score, movement, rng)
    grid = plan.grid
    truth = Truth(
        tradition=tradition.slug,
        mode=plan.mode.slug,
        cycle=grid.cycle.slug if grid else None,
        tonic_hz=plan.tonic_hz,
        tempo_bpm=60 / grid.beat_seconds if grid else None,
        cycle_beats=grid.cycle.beats if grid else None,
        voices=tuple(voice_of(instrument, played) for instrument, played in players),
        sections=tuple(score.sections),
        first_beats_seconds=grid.first_beats_seconds() if grid else np.empty(0),
        beats_seconds=grid.beats_seconds() if grid else np.empty(0),
        strokes=grid.strokes() if grid and plan.drummed else (),
    )
    return Piece(plan, players, truth, caption(plan, rng))


def render(seed: int, piece: Piece) -> tuple[np.ndarray, dict[str, object]]:
    """The piece as samples float32 [T] at 16 kHz, and its facts; the sound has a generator of its own."""
    rng = np.random.default_rng([seed, 1, *piece.plan.tradition.slug.encode()])
    room = ROOMS[int(rng.integers(len(ROOMS)))]
    samples = mixed(piece.plan, piece.players, piece.truth.strokes, room, rng)
    return samples, facts(piece.plan, piece.truth, room)


def company(plan: Arrangement) -> list[str]:
    """Everybody who is heard, the leading player first."""
    names = [instrument.name for instrument in plan.instruments]
    return names + [plan.drum] * plan.drummed + [plan.school.drone] * bool(plan.school.drone)


def caption(plan: Arrangement, rng: np.random.Generator) -> str:
    """The words that belong to the piece; of a free part no cycle and no tempo is claimed."""
    lead, *others = company(plan)
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


def facts(plan: Arrangement, truth: Truth, room: Room) -> dict[str, object]:
    """The truth in short, as plain values."""
    return {
        "style": plan.tradition.slug,
        "mode": plan.mode.slug,
        "cycle": truth.cycle,
        "form": plan.form,
        "ensemble": plan.ensemble,
        "instruments": company(plan),
        "tonic_hz": plan.tonic_hz,
        "tempo_bpm": truth.tempo_bpm,
        "room": room.name,
    }
