"""A performance, and how one in a tradition is composed, rendered and described."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from talim.synthesis.arrangement import Arrangement, PerformanceRequest, arrange, build_score
from talim.synthesis.ground_truth import GroundTruth, PlayedNote
from talim.synthesis.melodic_motion import MelodicMotion
from talim.synthesis.mixdown import mix_down, perform_lines, voice_ground_truth
from talim.synthesis.reverb import REVERBS
from talim.synthesis.western_instruments import RATE_HZ
from talim.traditions.tradition import Tradition

C4_HZ = 440.0 * 2 ** (-900 / 1200)


@dataclass(frozen=True)
class Performance:
    """A piece: `samples` float32 [T] at `rate_hz` (empty if not rendered), its caption, facts and ground truth.

    `notes` is the leading melody in cents above C4. `truth` is None in styles that are not a tradition.
    """

    samples: np.ndarray
    rate_hz: int
    caption: str
    notes: tuple[PlayedNote, ...]
    facts: dict[str, object] = field(default_factory=dict)
    truth: GroundTruth | None = None


def perform_tradition(
    seed: int, tradition: Tradition, seconds: float, request: PerformanceRequest, render: bool = True
) -> Performance:
    """The piece of a seed in a tradition. UsageError if the request cannot be met."""
    rng = np.random.default_rng([seed, *tradition.slug.encode()])
    arrangement = arrange(tradition, request, seconds, rng)
    motion = MelodicMotion(arrangement.mode, *arrangement.style.register_cents)
    score = build_score(arrangement, motion, rng)
    lines = perform_lines(arrangement, score, motion, rng)
    grid = arrangement.grid
    truth = GroundTruth(
        tradition=tradition.slug,
        mode=arrangement.mode.slug,
        cycle=grid.cycle.slug if grid else None,
        tonic_hz=arrangement.tonic_hz,
        tempo_bpm=60 / grid.beat_seconds if grid else None,
        cycle_beats=grid.cycle.beats if grid else None,
        voices=tuple(voice_ground_truth(instrument, line) for instrument, line in lines),
        sections=tuple(score.sections),
        first_beats_seconds=grid.first_beats_seconds() if grid else np.empty(0),
        beats_seconds=grid.beats_seconds() if grid else np.empty(0),
        strokes=grid.strokes() if grid and arrangement.drummed else (),
    )
    text = caption(arrangement, rng)
    # Rendering has its own generator, so that the ground truth does not depend on it.
    sound_rng = np.random.default_rng([seed, 1, *tradition.slug.encode()])
    reverb = REVERBS[int(sound_rng.integers(len(REVERBS)))]
    samples = np.empty(0, np.float32)
    if render:
        samples = mix_down(arrangement, lines, truth.strokes, reverb, sound_rng)
    above_c4 = 1200 * float(np.log2(truth.tonic_hz / C4_HZ))
    notes = tuple(PlayedNote(n.onset_seconds, n.seconds, n.cents + above_c4, n.part) for n in truth.voices[0].notes)
    facts: dict[str, object] = {
        "style": tradition.slug,
        "mode": truth.mode,
        "cycle": truth.cycle,
        "form": arrangement.form,
        "ensemble": arrangement.ensemble,
        "instruments": ensemble_names(arrangement),
        "tonic_hz": truth.tonic_hz,
        "tempo_bpm": truth.tempo_bpm,
        "reverb": reverb.name,
    }
    return Performance(samples, RATE_HZ, text, notes, facts, truth)


def ensemble_names(arrangement: Arrangement) -> list[str]:
    """All instruments, the lead first."""
    names = [instrument.name for instrument in arrangement.instruments]
    drum, drone = arrangement.drum, arrangement.style.drone
    return names + [drum] * arrangement.drummed + [drone] * bool(drone)


def caption(arrangement: Arrangement, rng: np.random.Generator) -> str:
    """The caption: instruments, mode, form, cycle and tempo; without cycle and tempo if there is only a free part."""
    lead, *others = ensemble_names(arrangement)
    who = f"{lead} with {' and '.join(others)}" if others else f"solo {lead}"
    mode = f"{arrangement.tradition.mode_word} {arrangement.mode.name}"
    free_name, grid = arrangement.style.section_names[0], arrangement.grid
    if grid is None:
        form = free_name
    else:
        form = f"{arrangement.tradition.cycle_word} {grid.cycle.name}, {round(60 / grid.beat_seconds)} bpm"
        form = f"{free_name} and composition in {form}" if arrangement.free_seconds else form
    return ", ".join([mode, who, form] if rng.random() < 0.5 else [who, mode, form])
