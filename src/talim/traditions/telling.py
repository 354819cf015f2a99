"""A tradition performed: drawn, played, rendered, and told in words and facts."""

from __future__ import annotations

import numpy as np

from talim.traditions.arranging import Arrangement, Wishes, arrange, score_of
from talim.traditions.movement import Movement
from talim.traditions.rendering import lines, mixed, voice_of
from talim.traditions.rooms import ROOMS, Room
from talim.traditions.tradition import Tradition
from talim.traditions.truth import Truth


def perform_tradition(
    seed: int, tradition: Tradition, seconds: float, wishes: Wishes
) -> tuple[np.ndarray, str, dict[str, object], Truth]:
    """Samples float32 [T] at 16 kHz, caption, facts and truth of the performance that the seed stands for.

    Two generators: one for the music, one for its sound, so that another instrument's noise moves no note.
    """
    rng = np.random.default_rng([seed, *tradition.slug.encode()])
    timbre = np.random.default_rng([seed, 1, *tradition.slug.encode()])
    plan = arrange(tradition, wishes, seconds, rng)
    movement = Movement(plan.mode, *plan.school.register_cents)
    score = score_of(plan, movement, rng)
    players = lines(plan, score, movement, rng)
    strokes = plan.grid.strokes() if plan.grid and plan.drummed else ()
    room = ROOMS[int(timbre.integers(len(ROOMS)))]
    samples = mixed(plan, players, strokes, room, timbre)
    truth = Truth(
        tradition=tradition.slug,
        mode=plan.mode.slug,
        cycle=plan.grid.cycle.slug if plan.grid else None,
        tonic_hz=plan.tonic_hz,
        tempo_bpm=60 / plan.grid.beat_seconds if plan.grid else None,
        cycle_beats=plan.grid.cycle.beats if plan.grid else None,
        voices=tuple(voice_of(instrument, played) for instrument, played in players),
        sections=tuple(score.sections),
        first_beats_seconds=plan.grid.first_beats_seconds() if plan.grid else np.empty(0),
        beats_seconds=plan.grid.beats_seconds() if plan.grid else np.empty(0),
        strokes=strokes,
    )
    return samples, caption(plan, rng), facts(plan, truth, room), truth


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
