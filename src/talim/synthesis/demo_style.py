"""The "demo" style: a small invented tradition with neutral intervals, glides and a cycle of seven beats.

A piece is a plan drawn by seed, a melody of returning parts, and a mix of melody, drone, drums and reverb. The parts
are functions of the plan, so that other simple styles can use them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from talim.synthesis import western_instruments
from talim.synthesis.ground_truth import PlayedNote
from talim.synthesis.performance import Performance
from talim.synthesis.western_instruments import RATE_HZ, mix_in

NAME = "demo"
TONICS = ("C", "C sharp", "D", "E flat", "E", "F", "F sharp", "G", "A flat", "A", "B flat", "B")
TEMPI_BPM = (60, 66, 72, 80, 88, 96, 104, 112, 120, 132, 144, 160)  # metronome marks, about 9 % apart
SCALE_CENTS = (0, 150, 350, 500, 700, 850, 1050)
# Note lengths in beats that fill a cycle, and (beat, drum).
RHYTHMS = ((1, 1, 1, 1, 1, 1, 1), (3, 2, 2), (1, 2, 1, 1, 2), (1.5, 1.5, 1, 1, 2), (3, 1, 1, 2))
STROKES = ((0, "kick"), (3, "snare"), (5, "snare"), (1, "hat"), (2, "hat"), (4, "hat"), (6, "hat"))
SLIDE_SECONDS, VIBRATO_SCALE = 0.12, 3.0
_SEED = 2  # distinguishes the style's random generator from those of other styles


@dataclass(frozen=True)
class ScorePlan:
    """Everything that is drawn before the melody: timbre, key, tempo, metre, accompaniment."""

    family: str
    variant: int
    tonic: int  # pitch class, C = 0
    scale_cents: tuple[int, ...]
    tempo_bpm: int
    beats_per_bar: int
    rhythms: tuple[tuple[float, ...], ...]
    strokes: tuple[tuple[int, str], ...]
    drums: bool
    has_reverb: bool

    @property
    def bar_seconds(self) -> float:
        return self.beats_per_bar * 60 / self.tempo_bpm

    @property
    def tonic_cents(self) -> float:
        """The tonic between G3 and F sharp 4, in cents above C4."""
        return 100.0 * (self.tonic if self.tonic < 7 else self.tonic - 12)

    @property
    def instrument(self) -> str:
        return western_instruments.NAMES[self.family][self.variant]


def perform_demo(seed: int, seconds: float, render: bool = True) -> Performance:
    """The piece of a seed in the demo style; `samples` is empty without `render`."""
    rng = np.random.default_rng([seed, _SEED])
    plan = draw_plan(rng)
    notes = melody(plan, seconds, rng)
    samples = np.empty(0, np.float32)
    if render:
        track = render_melody(plan, notes, seconds, SLIDE_SECONDS, VIBRATO_SCALE, rng)
        mix_in(track, drone(plan.tonic_cents, seconds, rng), 0.0, 0.18)
        if plan.drums:
            mix_in(track, drumming(plan, seconds, rng), 0.0, 1.1)
        samples = master(track, plan.has_reverb, rng)
    facts = {
        "style": NAME,
        "family": plan.family,
        "instrument": plan.instrument,
        "tonic": TONICS[plan.tonic],
        "tonic_class": plan.tonic,
        "scale": NAME,
        "tempo_bpm": plan.tempo_bpm,
        "beats_per_bar": plan.beats_per_bar,
        "drums": plan.drums,
        "chords": False,
        "progression": [],
    }
    who = f"{plan.instrument} with drums" if plan.drums else f"solo {plan.instrument}"
    text = f"{who}, mode of the marsh on {TONICS[plan.tonic]}, cycle of seven, {plan.tempo_bpm} bpm"
    return Performance(samples, RATE_HZ, text, tuple(notes), facts)


def draw_plan(rng: np.random.Generator) -> ScorePlan:
    """Draw timbre, key, tempo and accompaniment."""
    return ScorePlan(
        family=str(rng.choice(("voice", "bowed", "plucked"))),
        variant=int(rng.integers(3)),
        tonic=int(rng.choice((2, 7, 9))),
        scale_cents=SCALE_CENTS,
        tempo_bpm=int(rng.choice(TEMPI_BPM[4:])),
        beats_per_bar=7,
        rhythms=RHYTHMS,
        strokes=STROKES,
        drums=bool(rng.random() < 0.65),
        has_reverb=bool(rng.random() < 0.3),
    )


def phrase(plan: ScorePlan, bars: int, rng: np.random.Generator) -> list[tuple[float, int]]:
    """A phrase as (beats, scale degree): a random walk mostly in steps, drawn to the tonic triad at bar lines."""
    steps, weights = (-2, -1, -1, 1, 1, 2, 0, 3, -3), (0.12, 0.2, 0.1, 0.2, 0.1, 0.12, 0.06, 0.05, 0.05)
    degree, notes = int(rng.choice((0, 0, 4))), []
    for bar in range(bars):
        if bar and rng.random() < 0.75:
            degree = min((0, 2, 4, 7), key=lambda stable: abs(stable - degree))
        for beats in plan.rhythms[int(rng.integers(len(plan.rhythms)))]:
            notes.append((float(beats), degree))
            step = int(rng.choice(steps, p=weights))
            degree = degree + step if -2 <= degree + step <= 8 else degree - step
    return notes


def melody(plan: ScorePlan, seconds: float, rng: np.random.Generator) -> list[PlayedNote]:
    """Parts A and B of two bars each in the order A A' B A' ..., cut at `seconds`; `cents` are above C4."""
    scale, beat_seconds = plan.scale_cents, 60 / plan.tempo_bpm
    part_a, part_b = phrase(plan, 2, rng), phrase(plan, 2, rng)
    closing = [*part_a[:-2], (part_a[-2][0] + part_a[-1][0], 0)]  # ends on a long tonic
    order = [("A", part_a), ("A", closing), ("B", part_b), ("A", closing)]
    notes: list[PlayedNote] = []
    now, index = 0.0, 0
    while now < seconds - 0.05:
        name, part = order[index % len(order)]
        for beats, degree in part:
            length = min(beats * beat_seconds, seconds - now)
            if length < 0.05:
                break
            octave, step = divmod(degree, len(scale))
            notes.append(PlayedNote(now, length, plan.tonic_cents + 1200 * octave + scale[step], name))
            now += beats * beat_seconds
        index += 1
    return notes


def cents_to_hz(cents: float | np.ndarray) -> np.ndarray:
    """Frequency of `cents` above C4, with A4 at 440 Hz."""
    return np.asarray(440.0 * 2 ** ((np.asarray(cents) - 900) / 1200))


def render_melody(
    plan: ScorePlan,
    notes: list[PlayedNote],
    seconds: float,
    slide_seconds: float,
    vibrato_scale: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """The melody, float32 [T] with an RMS of 1; `slide_seconds` is the time constant of glides times 3."""
    track = np.zeros(round(seconds * RATE_HZ), np.float32)
    synthesize = western_instruments.SOUND[plan.family]
    ring = {"plucked": 0.35, "struck": 0.5}.get(plan.family, 0.0)
    vibrato_cents = {"bowed": 7.0, "blown": 4.0, "voice": 12.0}.get(plan.family, 0.0) * vibrato_scale
    for index, note in enumerate(notes):
        previous = notes[index - 1] if index else None
        curve = pitch_curve(note, previous, 0.0 if plan.family == "struck" else slide_seconds, vibrato_cents, rng)
        curve = np.concatenate([curve, np.full(int(ring * RATE_HZ * min(1.0, note.seconds)), curve[-1])])
        accent = 1.0 if (note.onset_seconds / plan.bar_seconds) % 1 < 0.01 else 0.85
        mix_in(track, synthesize(curve, plan.variant, rng), note.onset_seconds, accent)
    return track / (float(np.sqrt(np.mean(track**2))) + 1e-9)


def pitch_curve(
    note: PlayedNote, previous: PlayedNote | None, slide_seconds: float, vibrato_cents: float, rng: np.random.Generator
) -> np.ndarray:
    """The note's pitch in Hz at each sample: a glide from the previous note, then vibrato."""
    seconds = np.arange(max(1, round(note.seconds * RATE_HZ))) / RATE_HZ
    cents = np.full(seconds.size, note.cents)
    interval = previous.cents - note.cents if previous else np.inf
    if slide_seconds and abs(interval) < 900:
        cents = cents + interval * np.exp(-seconds / (slide_seconds / 3))
    if vibrato_cents and note.seconds > 0.3:
        onset = np.clip((seconds - 0.15) / 0.2, 0, 1)
        cents = cents + vibrato_cents * onset * np.sin(2 * np.pi * rng.uniform(4.8, 6.0) * seconds)
    return cents_to_hz(cents)


def drone(tonic_cents: float, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Tonic and fifth plucked alternately, an octave below the melody; RMS 1."""
    track = np.zeros(round(seconds * RATE_HZ), np.float32)
    for index, at_seconds in enumerate(np.arange(0, seconds, 0.9)):
        hz = float(cents_to_hz(tonic_cents - 1200 + (700 if index % 2 else 0)))
        mix_in(track, western_instruments.plucked(np.full(2 * RATE_HZ, hz), 0, rng), float(at_seconds), 1.0)
    return track / (float(np.sqrt(np.mean(track**2))) + 1e-9)


def drumming(plan: ScorePlan, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """The strokes of the metre in every bar."""
    track, beat_seconds = np.zeros(round(seconds * RATE_HZ), np.float32), 60 / plan.tempo_bpm
    for bar in range(int(np.ceil(seconds / plan.bar_seconds))):
        for beat, kind in plan.strokes:
            onset = bar * plan.bar_seconds + beat * beat_seconds
            if onset < seconds:
                mix_in(track, western_instruments.drum(kind, rng), onset, float(rng.uniform(0.85, 1.0)))
    return track


def add_reverb(track: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A small room: 0.25 s of exponentially decaying noise at a low level."""
    tail = int(0.25 * RATE_HZ)
    impulse = rng.standard_normal(tail) * np.exp(-np.arange(tail) / (0.05 * RATE_HZ))
    impulse *= 0.35 / np.sqrt(np.sum(impulse**2))
    impulse[0] = 1.0
    size = 1 << int(np.ceil(np.log2(track.size + tail)))
    wet = np.fft.irfft(np.fft.rfft(track, size) * np.fft.rfft(impulse, size), size)
    return wet[: track.size].astype(np.float32)


def master(track: np.ndarray, has_reverb: bool, rng: np.random.Generator, rms: float = 0.1) -> np.ndarray:
    """The track with reverb if asked for, at an RMS of about `rms`, limited to 0.98; float32 [T]."""
    if has_reverb:
        track = add_reverb(track, rng)
    track = track * (rms / (float(np.sqrt(np.mean(track**2))) + 1e-9))
    return np.clip(track, -0.98, 0.98).astype(np.float32)
