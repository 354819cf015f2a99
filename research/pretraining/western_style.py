"""The "western" and "study" styles, on which the miniature models were trained: their samples never change.

"western" is generic equal-tempered music with keys, chords and drums; "study" is a codec's exercise book: any pitch,
glides, drones, noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from talim.errors import UsageError
from talim.synthesis import western_instruments
from talim.synthesis.demo_style import (
    TEMPI_BPM,
    TONICS,
    ScorePlan,
    add_reverb,
    cents_to_hz,
    drone,
    drumming,
    master,
    melody,
    mix_in,
    render_melody,
)
from talim.synthesis.ground_truth import PlayedNote
from talim.synthesis.performance import Performance
from talim.synthesis.western_instruments import RATE_HZ

STYLES = ("western", "study")
SCALES_CENTS = {"major": (0, 200, 400, 500, 700, 900, 1100), "minor": (0, 200, 300, 500, 700, 800, 1000)}
CHORDS = {  # scale degrees of the roots, one a bar
    "major": ((0, 3, 4, 0), (0, 5, 3, 4), (0, 4, 5, 3), (0, 3, 0, 4)),
    "minor": ((0, 3, 4, 0), (0, 5, 2, 6), (0, 6, 5, 4), (0, 3, 6, 0)),
}
BARS = {  # note lengths in beats that fill a bar
    4: ((1, 1, 1, 1), (2, 1, 1), (1, 1, 2), (0.5, 0.5, 1, 1, 1), (1, 0.5, 0.5, 2), (1.5, 0.5, 1, 1), (2, 2),
        (0.5, 0.5, 0.5, 0.5, 1, 1)),
    3: ((1, 1, 1), (2, 1), (1, 0.5, 0.5, 1), (1.5, 0.5, 1), (0.5, 0.5, 1, 1)),
}  # fmt: skip
BAR_STROKES = {  # (beat, drum)
    4: ((0, "kick"), (1, "hat"), (1, "snare"), (2, "kick"), (3, "hat"), (3, "snare")),
    3: ((0, "kick"), (1, "hat"), (2, "hat"), (2, "snare")),
}


@dataclass(frozen=True)
class WesternPlan(ScorePlan):
    """A plan in a major or minor key, perhaps with chords."""

    scale: str
    chords: bool


def perform(seed: int, style: str = "western", seconds: float = 10.0) -> Performance:
    """The piece of a seed in one of STYLES; equal arguments give equal samples."""
    rng = _make_rng(seed, style)
    if style == "study":
        return codec_exercise(rng, seconds)
    plan = draw_plan(rng)
    notes = melody(plan, seconds, rng)
    samples, progression = synthesize(plan, notes, seconds, rng)
    return Performance(samples, RATE_HZ, caption(plan, rng), tuple(notes), facts(plan, progression))


def western_notes(seed: int, seconds: float = 10.0) -> tuple[PlayedNote, ...]:
    """The melody of `perform` with the same arguments in the western style, without rendering."""
    rng = _make_rng(seed, "western")
    return tuple(melody(draw_plan(rng), seconds, rng))


def western_caption(seed: int) -> tuple[str, dict[str, object]]:
    """Caption and facts of a plan in the western style, without a melody."""
    rng = _make_rng(seed, "western")
    plan = draw_plan(rng)
    return caption(plan, rng), facts(plan)


def _make_rng(seed: int, style: str) -> np.random.Generator:
    if style not in STYLES:
        raise UsageError(f"no style {style!r}: choose one of {', '.join(STYLES)}")
    return np.random.default_rng([seed, STYLES.index(style)])


def draw_plan(rng: np.random.Generator) -> WesternPlan:
    """Draw timbre, key, tempo, metre and accompaniment."""
    family, variant = str(rng.choice(western_instruments.FAMILIES)), int(rng.integers(3))
    tonic, scale = int(rng.integers(12)), str(rng.choice(("major", "minor")))
    tempo_bpm, beats = int(rng.choice(TEMPI_BPM)), int(rng.choice((4, 4, 4, 3)))
    drums, chords, has_reverb = (bool(rng.random() < p) for p in (0.65, 0.5, 0.3))
    rhythms, strokes = BARS[beats], BAR_STROKES[beats]
    return WesternPlan(
        family, variant, tonic, SCALES_CENTS[scale], tempo_bpm, beats, rhythms, strokes, drums, has_reverb,
        scale=scale, chords=chords,
    )  # fmt: skip


def synthesize(
    plan: WesternPlan, notes: list[PlayedNote], seconds: float, rng: np.random.Generator
) -> tuple[np.ndarray, tuple[int, ...]]:
    """(samples float32 [T], degrees of the chords, one a bar and repeated; empty without chords)."""
    progression: tuple[int, ...] = ()
    track = render_melody(plan, notes, seconds, 0.03 if plan.family == "voice" else 0.0, 1.0, rng)
    if plan.chords:
        rows = CHORDS[plan.scale]
        progression = rows[int(rng.integers(len(rows)))]
        mix_in(track, harmony(plan, progression, seconds, rng), 0.0, 0.28)
    if plan.drums:
        mix_in(track, drumming(plan, seconds, rng), 0.0, 1.1)
    return master(track, plan.has_reverb, rng), progression


def harmony(plan: WesternPlan, progression: tuple[int, ...], seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Soft triads an octave under the melody, one a bar, on the degrees of `progression`; RMS about 1."""
    track = np.zeros(round(seconds * RATE_HZ), np.float32)
    for bar in range(int(np.ceil(seconds / plan.bar_seconds))):
        for offset in (0, 2, 4):
            octave, step = divmod(progression[bar % 4] + offset, 7)
            cents = plan.tonic_cents - 1200 + 1200 * octave + plan.scale_cents[step]
            curve = np.full(int(plan.bar_seconds * RATE_HZ), float(cents_to_hz(cents)))
            mix_in(track, western_instruments.plucked(curve, 1, rng), bar * plan.bar_seconds, 1.0)
    return track / (float(np.sqrt(np.mean(track**2))) + 1e-9)


def triad(scale: str, degree: int) -> tuple[int, bool]:
    """Root of the triad on a scale's `degree`, in semitones above the tonic, and whether its third is minor."""
    cents = SCALES_CENTS[scale]
    third = (cents[(degree + 2) % len(cents)] - cents[degree]) % 1200
    return cents[degree] // 100, third == 300


def caption(plan: WesternPlan, rng: np.random.Generator) -> str:
    """The caption: instrument, accompaniment, key, metre, tempo."""
    accompaniment = [word for word, on in (("chords", plan.chords), ("drums", plan.drums)) if on]
    who = f"{plan.instrument} with {' and '.join(accompaniment)}" if accompaniment else f"solo {plan.instrument}"
    metre = ", waltz" if plan.beats_per_bar == 3 else ""
    key = f"{TONICS[plan.tonic]} {plan.scale}"
    texts = (f"{who}, {key}, {plan.tempo_bpm} bpm{metre}", f"{plan.tempo_bpm} bpm, {key}, {who}{metre}")
    return texts[int(rng.integers(len(texts)))]


def facts(plan: WesternPlan, progression: tuple[int, ...] = ()) -> dict[str, object]:
    """The plan as plain values; `progression` is the degree of each bar's chord."""
    return {
        "style": "western",
        "family": plan.family,
        "instrument": plan.instrument,
        "tonic": TONICS[plan.tonic],
        "tonic_class": plan.tonic,
        "scale": plan.scale,
        "tempo_bpm": plan.tempo_bpm,
        "beats_per_bar": plan.beats_per_bar,
        "drums": plan.drums,
        "chords": plan.chords,
        "progression": list(progression),
    }


def codec_exercise(rng: np.random.Generator, seconds: float) -> Performance:
    """One or two gliding voices of any pitch, perhaps with a drone, drums, noise and reverb."""
    track, notes = np.zeros(round(seconds * RATE_HZ), np.float32), []
    for voice in range(int(rng.integers(1, 3))):
        family, variant, now = str(rng.choice(western_instruments.FAMILIES)), int(rng.integers(3)), 0.0
        cents = float(rng.uniform(-1400, 1300))
        while now < seconds - 0.06:
            length = min(float(rng.choice((0.12, 0.25, 0.5, 1.0, 2.0))), seconds - now)
            target = float(np.clip(cents + rng.normal(0, 350), -1700, 1900))
            start = cents if rng.random() < 0.5 else target
            glide = np.linspace(start, target, int(length * RATE_HZ))
            depth = rng.choice((0.0, 8.0, 30.0, 60.0))
            vibrato = depth * np.sin(2 * np.pi * rng.uniform(3, 7) * np.arange(glide.size) / RATE_HZ)
            tone = western_instruments.SOUND[family](cents_to_hz(glide + vibrato), variant, rng)
            mix_in(track, tone, now, 0.5**voice)
            if voice == 0:
                notes.append(PlayedNote(now, length, target, "exercise"))
            now, cents = now + length * (1.0 if rng.random() < 0.9 else 1.4), target
    track /= float(np.sqrt(np.mean(track**2))) + 1e-9
    if rng.random() < 0.4:
        mix_in(track, drone(0.0, seconds, rng)[: int(seconds * RATE_HZ)], 0.0, float(rng.uniform(0.1, 0.5)))
    if rng.random() < 0.4:
        mix_in(track, drumming(draw_plan(rng), seconds, rng), 0.0, float(rng.uniform(0.3, 1.5)))
    track += float(10 ** rng.uniform(-4, -1.7)) * rng.standard_normal(track.size).astype(np.float32)
    if rng.random() < 0.5:
        track = add_reverb(track, rng)
    samples = master(track, False, rng, float(10 ** rng.uniform(-1.7, -0.8)))
    return Performance(samples, RATE_HZ, "an exercise of glides", tuple(notes))
