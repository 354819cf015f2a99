"""A seeded performer: pieces with returning parts, harmony and drums, each note of which is on record.

Styles: "western" is generic equal-tempered music, what the nano base models are trained on; "study" is a codec's
exercise book (any pitch, glides, drones, noise); "demo" is a small imagined tradition with neutral intervals,
glides and a seven-beat cycle, foreign to the base models, for the demonstration.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from talim.traditions import instruments
from talim.traditions.instruments import RATE_HZ

STYLES = ("western", "study", "demo")
TONICS = ("C", "C sharp", "D", "E flat", "E", "F", "F sharp", "G", "A flat", "A", "B flat", "B")
TEMPI_BPM = (60, 66, 72, 80, 88, 96, 104, 112, 120, 132, 144, 160)  # metronome marks, about 9 % apart
SCALES_CENTS = {
    "major": (0, 200, 400, 500, 700, 900, 1100),
    "minor": (0, 200, 300, 500, 700, 800, 1000),
    "demo": (0, 150, 350, 500, 700, 850, 1050),
}
CHORDS = {  # scale degrees of the roots, one a bar
    "major": ((0, 3, 4, 0), (0, 5, 3, 4), (0, 4, 5, 3), (0, 3, 0, 4)),
    "minor": ((0, 3, 4, 0), (0, 5, 2, 6), (0, 6, 5, 4), (0, 3, 6, 0)),
}
BARS = {  # note lengths in beats that fill a bar
    4: ((1, 1, 1, 1), (2, 1, 1), (1, 1, 2), (0.5, 0.5, 1, 1, 1), (1, 0.5, 0.5, 2), (1.5, 0.5, 1, 1), (2, 2),
        (0.5, 0.5, 0.5, 0.5, 1, 1)),
    3: ((1, 1, 1), (2, 1), (1, 0.5, 0.5, 1), (1.5, 0.5, 1), (0.5, 0.5, 1, 1)),
    7: ((1, 1, 1, 1, 1, 1, 1), (3, 2, 2), (1, 2, 1, 1, 2), (1.5, 1.5, 1, 1, 2), (3, 1, 1, 2)),
}  # fmt: skip
STROKES = {  # (beat, drum)
    4: ((0, "kick"), (1, "hat"), (1, "snare"), (2, "kick"), (3, "hat"), (3, "snare")),
    3: ((0, "kick"), (1, "hat"), (2, "hat"), (2, "snare")),
    7: ((0, "kick"), (3, "snare"), (5, "snare"), (1, "hat"), (2, "hat"), (4, "hat"), (6, "hat")),
}


@dataclass(frozen=True)
class Note:
    """One melody note: `onset_seconds`, `seconds`, `cents` above C4 (261.63 Hz), and the `part` it belongs to."""

    onset_seconds: float
    seconds: float
    cents: float
    part: str


@dataclass(frozen=True)
class Performance:
    """A rendered piece: `samples` float32 [T] at `rate_hz`, its `caption`, and the truth it was played from."""

    samples: np.ndarray
    rate_hz: int
    caption: str
    notes: tuple[Note, ...]
    facts: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What a piece will be, drawn before a note is played."""

    family: str
    variant: int
    tonic: int
    scale: str
    tempo_bpm: int
    beats_per_bar: int
    drums: bool
    chords: bool
    reverberant: bool

    @property
    def bar_seconds(self) -> float:
        return self.beats_per_bar * 60 / self.tempo_bpm

    @property
    def tonic_cents(self) -> float:
        """The tonic between G3 and F sharp 4, in cents above C4."""
        return 100.0 * (self.tonic if self.tonic < 7 else self.tonic - 12)


def perform(seed: int, style: str = "western", seconds: float = 10.0) -> Performance:
    """Play the piece that `seed` stands for; the same arguments give the same samples."""
    if style not in STYLES:
        raise ValueError(f"no style {style!r}: choose one of {', '.join(STYLES)}")
    if not seconds > 0:
        raise ValueError(f"a performance needs a positive length, not {seconds} s")
    rng = np.random.default_rng([seed, STYLES.index(style)])
    if style == "study":
        return exercise(rng, seconds)
    plan = draw_plan(rng, style)
    notes = melody(plan, seconds, rng)
    samples = render(plan, notes, seconds, style, rng)
    return Performance(samples, RATE_HZ, caption(plan, style, rng), tuple(notes), facts(plan, style))


def draw_plan(rng: np.random.Generator, style: str) -> Plan:
    """Draw instrument, key, tempo, metre and company."""
    foreign = style == "demo"
    return Plan(
        family=str(rng.choice(("voice", "bowed", "plucked") if foreign else instruments.FAMILIES)),
        variant=int(rng.integers(3)),
        tonic=int(rng.choice((2, 7, 9)) if foreign else rng.integers(12)),
        scale="demo" if foreign else str(rng.choice(("major", "minor"))),
        tempo_bpm=int(rng.choice(TEMPI_BPM[4:] if foreign else TEMPI_BPM)),
        beats_per_bar=7 if foreign else int(rng.choice((4, 4, 4, 3))),
        drums=bool(rng.random() < 0.65),
        chords=bool(not foreign and rng.random() < 0.5),
        reverberant=bool(rng.random() < 0.3),
    )


def phrase(plan: Plan, bars: int, rng: np.random.Generator) -> list[tuple[float, int]]:
    """A phrase as (beats, scale degree) pairs: a walk that prefers steps, on the tonic triad where bars begin."""
    rhythms = BARS[plan.beats_per_bar]
    degree, out = int(rng.choice((0, 0, 4))), []
    for bar in range(bars):
        if bar and rng.random() < 0.75:
            degree = min((0, 2, 4, 7), key=lambda home: abs(home - degree))
        for beats in rhythms[int(rng.integers(len(rhythms)))]:
            out.append((float(beats), degree))
            step = int(rng.choice((-2, -1, -1, 1, 1, 2, 0, 3, -3), p=(0.12, 0.2, 0.1, 0.2, 0.1, 0.12, 0.06, 0.05, 0.05)))
            degree = degree + step if -2 <= degree + step <= 8 else degree - step
    return out


def melody(plan: Plan, seconds: float, rng: np.random.Generator) -> list[Note]:
    """Parts A and B of two bars each, in the order A A' B A ..., until the time is full."""
    scale, beat = SCALES_CENTS[plan.scale], 60 / plan.tempo_bpm
    part_a, part_b = phrase(plan, 2, rng), phrase(plan, 2, rng)
    homeward = [*part_a[:-2], (part_a[-2][0] + part_a[-1][0], 0)]  # comes home, and stays
    order = [("A", part_a), ("A", homeward), ("B", part_b), ("A", homeward)]
    notes: list[Note] = []
    now, index = 0.0, 0
    while now < seconds - 0.05:
        name, part = order[index % len(order)]
        for beats, degree in part:
            length = min(beats * beat, seconds - now)
            if length < 0.05:
                break
            octave, step = divmod(degree, len(scale))
            notes.append(Note(now, length, plan.tonic_cents + 1200 * octave + scale[step], name))
            now += beats * beat
        index += 1
    return notes


def hz(cents: float | np.ndarray) -> np.ndarray:
    """Frequency of `cents` above C4 where A4 is 440 Hz."""
    return np.asarray(440.0 * 2 ** ((np.asarray(cents) - 900) / 1200))


def pitch_curve(plan: Plan, note: Note, before: Note | None, style: str, rng: np.random.Generator) -> np.ndarray:
    """The note's pitch in Hz for each sample: steady, with the family's vibrato, gliding in the demo's style."""
    frames = max(1, int(round(note.seconds * RATE_HZ)))
    seconds = np.arange(frames) / RATE_HZ
    cents = np.full(frames, note.cents)
    slide = {"demo": 0.12, "western": 0.03 if plan.family == "voice" else 0.0}[style]
    if before is not None and slide and abs(before.cents - note.cents) < 900 and plan.family != "struck":
        cents = cents + (before.cents - note.cents) * np.exp(-seconds / (slide / 3))
    depth = {"bowed": 7.0, "blown": 4.0, "voice": 12.0}.get(plan.family, 0.0) * (3.0 if style == "demo" else 1.0)
    if depth and note.seconds > 0.3:
        onset = np.clip((seconds - 0.15) / 0.2, 0, 1)
        cents = cents + depth * onset * np.sin(2 * np.pi * rng.uniform(4.8, 6.0) * seconds)
    return hz(cents)


def add(track: np.ndarray, sound: np.ndarray, at_seconds: float, gain: float) -> None:
    """Mix `sound` into `track` in place, cut at the track's end."""
    start = int(round(at_seconds * RATE_HZ))
    room = track[start : start + sound.size]
    room += gain * sound[: room.size]


def render(plan: Plan, notes: list[Note], seconds: float, style: str, rng: np.random.Generator) -> np.ndarray:
    """Melody, then company under it, then a room; float32 [T] with an RMS near 0.1 and no clipping."""
    track = np.zeros(int(round(seconds * RATE_HZ)), np.float32)
    sound = instruments.SOUND[plan.family]
    ring = {"plucked": 0.35, "struck": 0.5}.get(plan.family, 0.0)
    for index, note in enumerate(notes):
        curve = pitch_curve(plan, note, notes[index - 1] if index else None, style, rng)
        curve = np.concatenate([curve, np.full(int(ring * RATE_HZ * min(1.0, note.seconds)), curve[-1])])
        accent = 1.0 if (note.onset_seconds / plan.bar_seconds) % 1 < 0.01 else 0.85
        add(track, sound(curve, plan.variant, rng), note.onset_seconds, accent)
    melody_level = float(np.sqrt(np.mean(track**2))) + 1e-9
    track /= melody_level
    if plan.chords:
        add(track, harmony(plan, seconds, rng), 0.0, 0.28)
    if style == "demo":
        add(track, drone(plan, seconds, rng), 0.0, 0.18)
    if plan.drums:
        add(track, drumming(plan, seconds, rng), 0.0, 1.1)
    if plan.reverberant:
        track = room(track, rng)
    track *= 0.1 / (float(np.sqrt(np.mean(track**2))) + 1e-9)
    return np.clip(track, -0.98, 0.98).astype(np.float32)


def harmony(plan: Plan, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Soft triads an octave under the melody, one a bar; RMS about 1."""
    scale, roots = SCALES_CENTS[plan.scale], CHORDS[plan.scale]
    row = roots[int(rng.integers(len(roots)))]
    track = np.zeros(int(round(seconds * RATE_HZ)), np.float32)
    for bar in range(int(np.ceil(seconds / plan.bar_seconds))):
        for offset in (0, 2, 4):
            octave, step = divmod(row[bar % 4] + offset, 7)
            cents = plan.tonic_cents - 1200 + 1200 * octave + scale[step]
            curve = np.full(int(plan.bar_seconds * RATE_HZ), float(hz(cents)))
            add(track, instruments.plucked(curve, 1, rng), bar * plan.bar_seconds, 1.0)
    return track / (float(np.sqrt(np.mean(track**2))) + 1e-9)


def drone(plan: Plan, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Tonic and fifth plucked in turn, under the melody; RMS 1."""
    track = np.zeros(int(round(seconds * RATE_HZ)), np.float32)
    for index, at in enumerate(np.arange(0, seconds, 0.9)):
        cents = plan.tonic_cents - 1200 + (700 if index % 2 else 0)
        add(track, instruments.plucked(np.full(2 * RATE_HZ, float(hz(cents))), 0, rng), float(at), 1.0)
    return track / (float(np.sqrt(np.mean(track**2))) + 1e-9)


def drumming(plan: Plan, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """The metre's strokes, bar after bar."""
    track, beat = np.zeros(int(round(seconds * RATE_HZ)), np.float32), 60 / plan.tempo_bpm
    for bar in range(int(np.ceil(seconds / plan.bar_seconds))):
        for at, kind in STROKES[plan.beats_per_bar]:
            onset = bar * plan.bar_seconds + at * beat
            if onset < seconds:
                add(track, instruments.drum(kind, rng), onset, float(rng.uniform(0.85, 1.0)))
    return track


def room(track: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A small room: a quarter of a second of decaying noise, mixed in at a low level."""
    tail = int(0.25 * RATE_HZ)
    impulse = rng.standard_normal(tail) * np.exp(-np.arange(tail) / (0.05 * RATE_HZ))
    impulse *= 0.35 / np.sqrt(np.sum(impulse**2))
    impulse[0] = 1.0
    size = 1 << int(np.ceil(np.log2(track.size + tail)))
    wet = np.fft.irfft(np.fft.rfft(track, size) * np.fft.rfft(impulse, size), size)
    return wet[: track.size].astype(np.float32)


def caption(plan: Plan, style: str, rng: np.random.Generator) -> str:
    """The words that belong to the piece: instrument, company, key, metre, tempo."""
    name = instruments.NAMES[plan.family][plan.variant]
    company = [word for word, on in (("chords", plan.chords), ("drums", plan.drums)) if on]
    who = f"{name} with {' and '.join(company)}" if company else f"solo {name}"
    if style == "demo":
        return f"{who}, mode of the marsh on {TONICS[plan.tonic]}, cycle of seven, {plan.tempo_bpm} bpm"
    metre = ", waltz" if plan.beats_per_bar == 3 else ""
    key = f"{TONICS[plan.tonic]} {plan.scale}"
    shapes = (f"{who}, {key}, {plan.tempo_bpm} bpm{metre}", f"{plan.tempo_bpm} bpm, {key}, {who}{metre}")
    return shapes[int(rng.integers(len(shapes)))]


def facts(plan: Plan, style: str) -> dict[str, object]:
    """The truth the piece was played from, for scores that need one."""
    return {
        "style": style,
        "family": plan.family,
        "instrument": instruments.NAMES[plan.family][plan.variant],
        "tonic": TONICS[plan.tonic],
        "tonic_class": plan.tonic,
        "scale": plan.scale,
        "tempo_bpm": plan.tempo_bpm,
        "beats_per_bar": plan.beats_per_bar,
        "drums": plan.drums,
        "chords": plan.chords,
    }


def exercise(rng: np.random.Generator, seconds: float) -> Performance:
    """A codec's exercise: one or two gliding voices of any pitch, perhaps over a drone, perhaps in noise."""
    track, notes = np.zeros(int(round(seconds * RATE_HZ)), np.float32), []
    for voice in range(int(rng.integers(1, 3))):
        family, variant, now = str(rng.choice(instruments.FAMILIES)), int(rng.integers(3)), 0.0
        cents = float(rng.uniform(-1400, 1300))
        while now < seconds - 0.06:
            length = min(float(rng.choice((0.12, 0.25, 0.5, 1.0, 2.0))), seconds - now)
            aim = float(np.clip(cents + rng.normal(0, 350), -1700, 1900))
            glide = np.linspace(cents, aim, int(length * RATE_HZ)) if rng.random() < 0.5 else np.full(int(length * RATE_HZ), aim)
            wobble = rng.choice((0.0, 8.0, 30.0, 60.0)) * np.sin(2 * np.pi * rng.uniform(3, 7) * np.arange(glide.size) / RATE_HZ)
            add(track, instruments.SOUND[family](hz(glide + wobble), variant, rng), now, 0.5**voice)
            if voice == 0:
                notes.append(Note(now, length, aim, "exercise"))
            now, cents = now + length * (1.0 if rng.random() < 0.9 else 1.4), aim
    track /= float(np.sqrt(np.mean(track**2))) + 1e-9
    if rng.random() < 0.4:
        plan = Plan("plucked", 0, 0, "major", 60, 4, False, False, False)
        add(track, drone(plan, seconds, rng)[: int(seconds * RATE_HZ)], 0.0, float(rng.uniform(0.1, 0.5)))
    if rng.random() < 0.4:
        plan = draw_plan(rng, "western")
        add(track, drumming(plan, seconds, rng), 0.0, float(rng.uniform(0.3, 1.5)))
    track += float(10 ** rng.uniform(-4, -1.7)) * rng.standard_normal(track.size).astype(np.float32)
    if rng.random() < 0.5:
        track = room(track, rng)
    track *= float(10 ** rng.uniform(-1.7, -0.8)) / (float(np.sqrt(np.mean(track**2))) + 1e-9)
    return Performance(np.clip(track, -0.98, 0.98).astype(np.float32), RATE_HZ, "an exercise of glides", tuple(notes))
