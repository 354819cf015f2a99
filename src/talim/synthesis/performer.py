"""A seeded performer: pieces with returning parts, harmony and drums, each note of which is on record.

Styles: "western" is generic equal-tempered music, what the nano base models are trained on; "study" is a codec's
exercise book (any pitch, glides, drones, noise); "demo" is a small imagined tradition with neutral intervals,
glides and a seven-beat cycle, foreign to the base models, for the demonstration. These three never change: models
were trained on their samples. A tradition ("hindustani", "makam", or a folder of one's own) is performed from its
facts, with its whole truth beside the sound.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from talim.errors import UsageError
from talim.synthesis import performance, western_instruments
from talim.synthesis.arrangement import PerformanceRequest
from talim.synthesis.ground_truth import GroundTruth
from talim.synthesis.western_instruments import RATE_HZ
from talim.synthesis.western_score import (
    CHORDS,
    SCALES_CENTS,
    STROKES,
    Note,
    ScorePlan,
    caption,
    draw_plan,
    facts,
    melody,
)
from talim.traditions.tradition import Tradition, list_builtin, load

STYLES = ("western", "study", "demo")
SHORTEST_SECONDS = 1.0  # of a tradition's performance: less holds no phrase


@dataclass(frozen=True)
class Performance:
    """A rendered piece: `samples` float32 [T] at `rate_hz`, its `caption`, and the truth it was played from.

    `notes` are the leading melody in cents above C4. `truth` is there for traditions, None for the three styles.
    """

    samples: np.ndarray
    rate_hz: int
    caption: str
    notes: tuple[Note, ...]
    facts: dict[str, object] = field(default_factory=dict)
    truth: GroundTruth | None = None


def perform(
    seed: int,
    style: str | Path | Tradition = "western",
    seconds: float = 10.0,
    wishes: PerformanceRequest | None = None,
) -> Performance:
    """Play the piece that `seed` stands for; the same arguments give the same samples.

    `style` is one of STYLES, a shipped tradition, a tradition's folder or a loaded `Tradition`; `wishes` (mode, cycle,
    form, ensemble, window) go with traditions only. UsageError for what cannot be played.
    """
    if not (np.isfinite(seconds) and seconds > 0):
        raise UsageError(f"a performance needs a positive length, not {seconds} s")
    if not isinstance(style, str) or style not in STYLES:
        return tradition_performance(seed, style, seconds, wishes or PerformanceRequest())
    if wishes is not None and wishes != PerformanceRequest():
        raise UsageError(
            f"the style {style!r} takes no wishes; they go with {', '.join(list_builtin())} or a folder"
        )
    rng = _make_rng(seed, style)
    if style == "study":
        return codec_exercise(rng, seconds)
    plan = draw_plan(rng, style)
    notes = melody(plan, seconds, rng)
    samples, progression = synthesize(plan, notes, seconds, style, rng)
    known = facts(plan, style, progression)
    return Performance(samples, RATE_HZ, caption(plan, style, rng), tuple(notes), known)


def western_notes(seed: int, style: str = "western", seconds: float = 10.0) -> tuple[Note, ...]:
    """The melody that `perform` would play with the same arguments in a plain style, without rendering its sound."""
    rng = _make_rng(seed, style)
    return tuple(melody(draw_plan(rng, style), seconds, rng))


def _make_rng(seed: int, style: str) -> np.random.Generator:
    return np.random.default_rng([seed, STYLES.index(style)])


def performance_ground_truth(
    seed: int, style: str | Path | Tradition, seconds: float = 10.0, wishes: PerformanceRequest | None = None
) -> GroundTruth:
    """The truth of what `perform` would play with the same arguments in a tradition, without rendering its sound."""
    return compose_piece(seed, style, seconds, wishes or PerformanceRequest()).truth


def tradition_performance(
    seed: int, style: str | Path | Tradition, seconds: float, wishes: PerformanceRequest
) -> Performance:
    """A performance in a tradition, from its facts."""
    piece = compose_piece(seed, style, seconds, wishes)
    samples, known = performance.render_piece(seed, piece)
    above_c4 = 1200 * float(np.log2(piece.truth.tonic_hz / cents_to_hz(0.0)))
    lead = piece.truth.voices[0].notes
    notes = tuple(Note(n.onset_seconds, n.seconds, n.cents + above_c4, n.part) for n in lead)
    return Performance(samples, RATE_HZ, piece.caption, notes, known, piece.truth)


def compose_piece(
    seed: int, style: str | Path | Tradition, seconds: float, wishes: PerformanceRequest
) -> performance.SymbolicPerformance:
    """What is played, before it is sound. UsageError where the style is no tradition or the time is too short."""
    if isinstance(style, str) and style not in list_builtin() and not Path(style).is_dir():
        names = ", ".join((*STYLES, *list_builtin()))
        raise UsageError(f"no style {style!r}: choose one of {names}, or a tradition's folder")
    if not (np.isfinite(seconds) and seconds >= SHORTEST_SECONDS):
        raise UsageError(
            f"a performance in a tradition needs {SHORTEST_SECONDS:g} s or more, not {seconds:g} s"
        )
    tradition = style if isinstance(style, Tradition) else load(style)
    return performance.plan_piece(seed, tradition, seconds, wishes)


def cents_to_hz(cents: float | np.ndarray) -> np.ndarray:
    """Frequency of `cents` above C4 where A4 is 440 Hz."""
    return np.asarray(440.0 * 2 ** ((np.asarray(cents) - 900) / 1200))


def pitch_curve(
    plan: ScorePlan, note: Note, before: Note | None, style: str, rng: np.random.Generator
) -> np.ndarray:
    """The note's pitch in Hz for each sample: steady, with the family's vibrato, gliding in the demo's style."""
    frames = max(1, round(note.seconds * RATE_HZ))
    seconds = np.arange(frames) / RATE_HZ
    cents = np.full(frames, note.cents)
    slide = {"demo": 0.12, "western": 0.03 if plan.family == "voice" else 0.0}[style]
    if before is not None and slide and abs(before.cents - note.cents) < 900 and plan.family != "struck":
        cents = cents + (before.cents - note.cents) * np.exp(-seconds / (slide / 3))
    depth = {"bowed": 7.0, "blown": 4.0, "voice": 12.0}.get(plan.family, 0.0) * (
        3.0 if style == "demo" else 1.0
    )
    if depth and note.seconds > 0.3:
        onset = np.clip((seconds - 0.15) / 0.2, 0, 1)
        cents = cents + depth * onset * np.sin(2 * np.pi * rng.uniform(4.8, 6.0) * seconds)
    return cents_to_hz(cents)


def mix_in(track: np.ndarray, sound: np.ndarray, at_seconds: float, gain: float) -> None:
    """Mix `sound` into `track` in place, cut at the track's end."""
    start = round(at_seconds * RATE_HZ)
    room = track[start : start + sound.size]
    room += gain * sound[: room.size]


def synthesize(
    plan: ScorePlan, notes: list[Note], seconds: float, style: str, rng: np.random.Generator
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Melody, then company under it, then a room; float32 [T] with an RMS near 0.1 and no clipping.

    Beside it the degrees on which the chords stand, one a bar, over and over; none where there are no chords.
    """
    progression: tuple[int, ...] = ()
    track = np.zeros(round(seconds * RATE_HZ), np.float32)
    sound = western_instruments.SOUND[plan.family]
    ring = {"plucked": 0.35, "struck": 0.5}.get(plan.family, 0.0)
    for index, note in enumerate(notes):
        curve = pitch_curve(plan, note, notes[index - 1] if index else None, style, rng)
        curve = np.concatenate([curve, np.full(int(ring * RATE_HZ * min(1.0, note.seconds)), curve[-1])])
        accent = 1.0 if (note.onset_seconds / plan.bar_seconds) % 1 < 0.01 else 0.85
        mix_in(track, sound(curve, plan.variant, rng), note.onset_seconds, accent)
    melody_level = float(np.sqrt(np.mean(track**2))) + 1e-9
    track /= melody_level
    if plan.chords:
        rows = CHORDS[plan.scale]
        progression = rows[int(rng.integers(len(rows)))]
        mix_in(track, harmony(plan, progression, seconds, rng), 0.0, 0.28)
    if style == "demo":
        mix_in(track, drone(plan, seconds, rng), 0.0, 0.18)
    if plan.drums:
        mix_in(track, drumming(plan, seconds, rng), 0.0, 1.1)
    if plan.has_reverb:
        track = add_room(track, rng)
    track *= 0.1 / (float(np.sqrt(np.mean(track**2))) + 1e-9)
    return np.clip(track, -0.98, 0.98).astype(np.float32), progression


def harmony(plan: ScorePlan, row: tuple[int, ...], seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Soft triads an octave under the melody, one a bar, on the degrees of `row`; RMS about 1."""
    scale = SCALES_CENTS[plan.scale]
    track = np.zeros(round(seconds * RATE_HZ), np.float32)
    for bar in range(int(np.ceil(seconds / plan.bar_seconds))):
        for offset in (0, 2, 4):
            octave, step = divmod(row[bar % 4] + offset, 7)
            cents = plan.tonic_cents - 1200 + 1200 * octave + scale[step]
            curve = np.full(int(plan.bar_seconds * RATE_HZ), float(cents_to_hz(cents)))
            mix_in(track, western_instruments.plucked(curve, 1, rng), bar * plan.bar_seconds, 1.0)
    return track / (float(np.sqrt(np.mean(track**2))) + 1e-9)


def drone(plan: ScorePlan, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Tonic and fifth plucked in turn, under the melody; RMS 1."""
    track = np.zeros(round(seconds * RATE_HZ), np.float32)
    for index, at in enumerate(np.arange(0, seconds, 0.9)):
        cents = plan.tonic_cents - 1200 + (700 if index % 2 else 0)
        mix_in(
            track,
            western_instruments.plucked(np.full(2 * RATE_HZ, float(cents_to_hz(cents))), 0, rng),
            float(at),
            1.0,
        )
    return track / (float(np.sqrt(np.mean(track**2))) + 1e-9)


def drumming(plan: ScorePlan, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """The metre's strokes, bar after bar."""
    track, beat = np.zeros(round(seconds * RATE_HZ), np.float32), 60 / plan.tempo_bpm
    for bar in range(int(np.ceil(seconds / plan.bar_seconds))):
        for at, kind in STROKES[plan.beats_per_bar]:
            onset = bar * plan.bar_seconds + at * beat
            if onset < seconds:
                mix_in(track, western_instruments.drum(kind, rng), onset, float(rng.uniform(0.85, 1.0)))
    return track


def add_room(track: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A small room: a quarter of a second of decaying noise, mixed in at a low level."""
    tail = int(0.25 * RATE_HZ)
    impulse = rng.standard_normal(tail) * np.exp(-np.arange(tail) / (0.05 * RATE_HZ))
    impulse *= 0.35 / np.sqrt(np.sum(impulse**2))
    impulse[0] = 1.0
    size = 1 << int(np.ceil(np.log2(track.size + tail)))
    wet = np.fft.irfft(np.fft.rfft(track, size) * np.fft.rfft(impulse, size), size)
    return wet[: track.size].astype(np.float32)


def codec_exercise(rng: np.random.Generator, seconds: float) -> Performance:
    """A codec's exercise: one or two gliding voices of any pitch, perhaps over a drone, perhaps in noise."""
    track, notes = np.zeros(round(seconds * RATE_HZ), np.float32), []
    for voice in range(int(rng.integers(1, 3))):
        family, variant, now = str(rng.choice(western_instruments.FAMILIES)), int(rng.integers(3)), 0.0
        cents = float(rng.uniform(-1400, 1300))
        while now < seconds - 0.06:
            length = min(float(rng.choice((0.12, 0.25, 0.5, 1.0, 2.0))), seconds - now)
            aim = float(np.clip(cents + rng.normal(0, 350), -1700, 1900))
            glide = (
                np.linspace(cents, aim, int(length * RATE_HZ))
                if rng.random() < 0.5
                else np.full(int(length * RATE_HZ), aim)
            )
            wobble = rng.choice((0.0, 8.0, 30.0, 60.0)) * np.sin(
                2 * np.pi * rng.uniform(3, 7) * np.arange(glide.size) / RATE_HZ
            )
            mix_in(
                track,
                western_instruments.SOUND[family](cents_to_hz(glide + wobble), variant, rng),
                now,
                0.5**voice,
            )
            if voice == 0:
                notes.append(Note(now, length, aim, "exercise"))
            now, cents = now + length * (1.0 if rng.random() < 0.9 else 1.4), aim
    track /= float(np.sqrt(np.mean(track**2))) + 1e-9
    if rng.random() < 0.4:
        plan = ScorePlan("plucked", 0, 0, "major", 60, 4, False, False, False)
        mix_in(track, drone(plan, seconds, rng)[: int(seconds * RATE_HZ)], 0.0, float(rng.uniform(0.1, 0.5)))
    if rng.random() < 0.4:
        plan = draw_plan(rng, "western")
        mix_in(track, drumming(plan, seconds, rng), 0.0, float(rng.uniform(0.3, 1.5)))
    track += float(10 ** rng.uniform(-4, -1.7)) * rng.standard_normal(track.size).astype(np.float32)
    if rng.random() < 0.5:
        track = add_room(track, rng)
    track *= float(10 ** rng.uniform(-1.7, -0.8)) / (float(np.sqrt(np.mean(track**2))) + 1e-9)
    return Performance(
        np.clip(track, -0.98, 0.98).astype(np.float32), RATE_HZ, "an exercise of glides", tuple(notes)
    )
