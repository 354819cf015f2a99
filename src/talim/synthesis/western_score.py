"""What will be played: a plan drawn by seed, and a melody of returning parts; no sound yet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from talim.synthesis import western_instruments

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
class ScorePlan:
    """What a piece will be, drawn before a note is played."""

    family: str
    variant: int
    tonic: int
    scale: str
    tempo_bpm: int
    beats_per_bar: int
    drums: bool
    chords: bool
    has_reverb: bool

    @property
    def bar_seconds(self) -> float:
        return self.beats_per_bar * 60 / self.tempo_bpm

    @property
    def tonic_cents(self) -> float:
        """The tonic between G3 and F sharp 4, in cents above C4."""
        return 100.0 * (self.tonic if self.tonic < 7 else self.tonic - 12)


def draw_plan(rng: np.random.Generator, style: str) -> ScorePlan:
    """Draw instrument, key, tempo, metre and company."""
    foreign = style == "demo"
    return ScorePlan(
        family=str(rng.choice(("voice", "bowed", "plucked") if foreign else western_instruments.FAMILIES)),
        variant=int(rng.integers(3)),
        tonic=int(rng.choice((2, 7, 9)) if foreign else rng.integers(12)),
        scale="demo" if foreign else str(rng.choice(("major", "minor"))),
        tempo_bpm=int(rng.choice(TEMPI_BPM[4:] if foreign else TEMPI_BPM)),
        beats_per_bar=7 if foreign else int(rng.choice((4, 4, 4, 3))),
        drums=bool(rng.random() < 0.65),
        chords=bool(not foreign and rng.random() < 0.5),
        has_reverb=bool(rng.random() < 0.3),
    )


def phrase(plan: ScorePlan, bars: int, rng: np.random.Generator) -> list[tuple[float, int]]:
    """A phrase as (beats, scale degree) pairs: a walk that prefers steps, on the tonic triad where bars begin."""
    rhythms = BARS[plan.beats_per_bar]
    degree, out = int(rng.choice((0, 0, 4))), []
    for bar in range(bars):
        if bar and rng.random() < 0.75:
            degree = min((0, 2, 4, 7), key=lambda home: abs(home - degree))
        for beats in rhythms[int(rng.integers(len(rhythms)))]:
            out.append((float(beats), degree))
            step = int(
                rng.choice(
                    (-2, -1, -1, 1, 1, 2, 0, 3, -3), p=(0.12, 0.2, 0.1, 0.2, 0.1, 0.12, 0.06, 0.05, 0.05)
                )
            )
            degree = degree + step if -2 <= degree + step <= 8 else degree - step
    return out


def melody(plan: ScorePlan, seconds: float, rng: np.random.Generator) -> list[Note]:
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


def caption(plan: ScorePlan, style: str, rng: np.random.Generator) -> str:
    """The words that belong to the piece: instrument, company, key, metre, tempo."""
    name = western_instruments.NAMES[plan.family][plan.variant]
    company = [word for word, on in (("chords", plan.chords), ("drums", plan.drums)) if on]
    who = f"{name} with {' and '.join(company)}" if company else f"solo {name}"
    if style == "demo":
        return f"{who}, mode of the marsh on {TONICS[plan.tonic]}, cycle of seven, {plan.tempo_bpm} bpm"
    metre = ", waltz" if plan.beats_per_bar == 3 else ""
    key = f"{TONICS[plan.tonic]} {plan.scale}"
    shapes = (f"{who}, {key}, {plan.tempo_bpm} bpm{metre}", f"{plan.tempo_bpm} bpm, {key}, {who}{metre}")
    return shapes[int(rng.integers(len(shapes)))]


def triad(scale: str, degree: int) -> tuple[int, bool]:
    """Root of the triad on a scale's `degree`, in semitones above the tonic, and whether its third is minor."""
    cents = SCALES_CENTS[scale]
    third = (cents[(degree + 2) % len(cents)] - cents[degree]) % 1200
    return cents[degree] // 100, third == 300


def facts(plan: ScorePlan, style: str, progression: tuple[int, ...] = ()) -> dict[str, object]:
    """The truth the piece was played from, for scores that need one; `progression` is a chord's degree a bar."""
    return {
        "style": style,
        "family": plan.family,
        "instrument": western_instruments.NAMES[plan.family][plan.variant],
        "tonic": TONICS[plan.tonic],
        "tonic_class": plan.tonic,
        "scale": plan.scale,
        "tempo_bpm": plan.tempo_bpm,
        "beats_per_bar": plan.beats_per_bar,
        "drums": plan.drums,
        "chords": plan.chords,
        "progression": list(progression),
    }
