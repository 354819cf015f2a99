"""Seeded synthetic music of no tradition, on which nano-musicgen is trained beside equal-tempered music.

Continuous pitch, glides, vibrato, drones, free rhythm, any tuning (equal divisions of any period, just ratios, random
degrees), any timbre, noise, reverberation, bandwidths, levels and silence. It contains no raga, makam, tala, usul or
ornament of a tradition: pitches and rhythms are random, and nothing is read from `talim.traditions`. Captions describe
the audio; meaningless names occur in them, so that a decoder does not learn to react to unknown words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import signal

from research.pretraining.western_style import perform
from talim.synthesis import reverb
from talim.synthesis.instruments import CONTROL_SECONDS, FRAME, harmonics, running_mean, true_runs
from talim.synthesis.western_instruments import RATE_HZ, VOWELS

SEED_STREAM = 97  # keeps these random numbers apart from those of the other synthesisers
PARTIALS = 26
TONIC_HZ = (65.0, 420.0)
SUSTAINED = ("string", "reed", "flute", "voice", "organ", "brass")
PLUCKED = ("plucked string", "buzzing string", "muted string")
KINDS = (*SUSTAINED, *PLUCKED)
TUNINGS = (
    ("equal temperament", 0.22),
    ("equal divisions", 0.16),
    ("unusual period", 0.08),
    ("just ratios", 0.16),
    ("drawn degrees", 0.26),
    ("no fixed pitches", 0.12),
)
PIECE_TYPES = ("line", "texture", "noise", "degraded western")
PIECE_TYPE_PROBABILITIES = (0.76, 0.06, 0.04, 0.14)


@dataclass(frozen=True)
class BroadPiece:
    """A piece: `samples` float32 [T] at 16 kHz and its `caption`."""

    samples: np.ndarray
    caption: str


@dataclass(frozen=True)
class Tones:
    """A melodic line: onset and length of each tone in seconds, its pitch in cents, and its accent, 0 to 1."""

    onsets: np.ndarray
    lengths: np.ndarray
    cents: np.ndarray
    accents: np.ndarray


def render_piece(seed: int, seconds: float) -> BroadPiece:
    """The piece of a seed; equal arguments give equal samples."""
    rng = np.random.default_rng([seed, SEED_STREAM])
    piece_type = str(rng.choice(PIECE_TYPES, p=PIECE_TYPE_PROBABILITIES))
    if piece_type == "degraded western":
        played = perform(int(rng.integers(1 << 40)), "western", seconds)
        words, mix = [played.caption], played.samples.astype(np.float64)
    elif piece_type == "noise":
        words, mix = render_noise(seconds, rng)
    elif piece_type == "texture":
        words, mix = render_texture(seconds, rng)
    else:
        words, mix = render_music(seconds, rng)
    more, mix = degrade(mix, rng, certain=piece_type == "degraded western")
    return BroadPiece(mix, make_caption([*words, *more], rng))


def make_caption(words: list[str], rng: np.random.Generator) -> str:
    """A random choice of the words in random order, perhaps with meaningless names; at most 250 bytes."""
    parts = [word for word in words if word and rng.random() < 0.85]
    for _ in range(int(rng.choice((0, 1, 2, 3), p=(0.45, 0.3, 0.15, 0.1)))):
        parts.append(pseudo_words(rng))
    if rng.random() < 0.7:
        parts = [parts[at] for at in rng.permutation(len(parts))]
    if rng.random() < 0.04:
        parts = []
    return ", ".join(parts).encode()[:250].decode(errors="ignore")


def pseudo_words(rng: np.random.Generator) -> str:
    """One or two pseudo-words of random syllables."""
    starts, middles = ("b", "d", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "sh", "t", "v", "y", "z", ""), (
        "a", "e", "i", "o", "u", "aa", "ai", "ü", "ö", "ı", "au")  # fmt: skip
    words = []
    for _ in range(int(rng.integers(1, 3))):
        parts = int(rng.integers(1, 5))
        word = "".join(str(rng.choice(starts)) + str(rng.choice(middles)) for _ in range(parts))
        word += str(rng.choice(("", "n", "r", "k", "m", "l", "s")))
        words.append(word.capitalize() if rng.random() < 0.5 else word)
    return " ".join(words)


def log_uniform(low: float, high: float, rng: np.random.Generator) -> float:
    """A log-uniform random number."""
    return float(low * (high / low) ** rng.random())


# Pitches and rhythms


def draw_tuning(rng: np.random.Generator) -> tuple[str, np.ndarray, float]:
    """A tuning: its name, its degrees in cents from 0 up to the period, and the period in cents."""
    tuning = str(rng.choice([t for t, _ in TUNINGS], p=[p for _, p in TUNINGS]))
    period = 1200.0
    if tuning == "equal temperament":
        pool = np.arange(12) * 100.0
    elif tuning == "equal divisions":
        parts = int(rng.choice((5, 7, 8, 9, 10, 11, 13, 15, 17, 19, 22, 24, 31, 41, 53)))
        pool = np.arange(parts) * 1200.0 / parts
    elif tuning == "unusual period":
        period = float(rng.uniform(900, 2000))
        parts = int(rng.integers(5, 16))
        pool = np.arange(parts) * period / parts
    elif tuning == "just ratios":
        primes = np.array((2, 3, 5, 7, 11))
        exponents = rng.integers(-2, 3, size=(30, 5)) * (rng.random((30, 5)) < (1, 0.9, 0.5, 0.25, 0.1))
        pool = np.unique(np.round(1200 * (exponents @ np.log2(primes)) % 1200, 2))
        pool = np.concatenate([[0.0], pool[pool > 15]])
    elif tuning == "drawn degrees":
        gaps = rng.uniform(0.35, 2.2, size=int(rng.integers(5, 10)))
        pool = np.concatenate([[0.0], np.cumsum(gaps)[:-1] / gaps.sum() * 1200.0])
    else:
        pool = np.arange(0, 1200, 20.0)
    if tuning not in ("drawn degrees", "no fixed pitches") and pool.size > 5:
        count = int(rng.integers(5, min(pool.size, 9) + 1))
        pool = np.sort(np.concatenate([[0.0], rng.choice(pool[1:], count - 1, replace=False)]))
    return tuning, pool, period


def pitches_between(pool: np.ndarray, period: float, low: float, high: float) -> np.ndarray:
    """All degrees between two bounds in cents."""
    octaves = np.arange(np.floor(low / period), np.ceil(high / period) + 1) * period
    pitches = (octaves[:, None] + pool).ravel()
    return pitches[(pitches >= low - 1) & (pitches <= high + 1)]


def random_walk(count: int, pitches: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Indices into `pitches`, int64 [count]: a random walk of mostly small steps that turns back at the ends."""
    steady, reach = rng.uniform(0.0, 0.7), rng.uniform(0.6, 2.5)
    stay = rng.uniform(0.0, 0.25)
    at, direction, out = int(rng.integers(pitches.size)), 1, []
    homes = rng.choice(pitches.size, min(3, pitches.size), replace=False)
    for _ in range(count):
        out.append(at)
        if rng.random() < stay:
            continue
        if rng.random() > steady:
            direction = int(rng.choice((-1, 1)))
        at += direction * max(1, round(abs(rng.normal(0, reach))))
        if rng.random() < 0.12:
            at = int(rng.choice(homes))
        if not 0 <= at < pitches.size:
            direction, at = -direction, int(np.clip(at, 0, pitches.size - 1))
    return np.array(out)


def metred_rhythm(seconds: float, rng: np.random.Generator) -> tuple[str, np.ndarray, np.ndarray, float]:
    """Words, onsets, durations and beat in seconds of a metred line, whose rhythm repeats every few bars."""
    beat = 60 / log_uniform(40, 300, rng)
    beats = int(rng.integers(2, 17))
    cells = rng.choice((0.25, 1 / 3, 0.5, 1.0, 1.0, 1.5, 2.0, 3.0), size=4 * beats)
    while beat * np.median(cells) < 0.09:
        cells = cells * 2
    patterns = [rng.permutation(cells) for _ in range(int(rng.integers(1, 4)))]
    bars = [pattern[np.cumsum(pattern) <= beats] for pattern in patterns]
    bars = [np.append(bar, beats - bar.sum()) if beats - bar.sum() > 0.2 else bar for bar in bars]
    onsets, lengths, now, index = [], [], 0.0, 0
    order = rng.integers(len(bars), size=4)
    drift, swing = rng.normal(0, 0.03), rng.uniform(0, 0.012)
    while now < seconds:
        bar = bars[order[index % 4]]
        pace = beat * float(np.exp(drift * now / 10))
        starts = now + np.concatenate([[0.0], np.cumsum(bar)[:-1]]) * pace
        onsets.append(starts)
        lengths.append(bar * pace)
        now, index = now + beats * pace, index + 1
    starts, durations = np.concatenate(onsets), np.concatenate(lengths)
    starts = np.maximum(0.0, starts + swing * rng.standard_normal(starts.size))
    words = f"{round(60 / beat)} bpm" if rng.random() < 0.7 else "steady beat"
    return words, starts, durations, beat


def free_rhythm(seconds: float, rng: np.random.Generator) -> tuple[str, np.ndarray, np.ndarray, float]:
    """Words, onsets, durations and median duration in seconds of a line without a beat."""
    usual, spread, breath = log_uniform(0.12, 2.0, rng), rng.uniform(0.3, 1.0), rng.uniform(0.02, 0.2)
    onsets, lengths, now = [], [], float(rng.uniform(0, 0.5))
    pace = np.exp(np.cumsum(rng.normal(0, 0.15, size=600)))
    while now < seconds and len(onsets) < 500:
        length = float(np.clip(usual * np.exp(spread * rng.standard_normal()) * pace[len(onsets)], 0.06, 8.0))
        onsets.append(now)
        lengths.append(length)
        now += length + (log_uniform(0.1, 2.0, rng) if rng.random() < breath else 0.0)
    return "free rhythm", np.array(onsets), np.array(lengths), usual


def draw_line(seconds: float, pitches: np.ndarray, rng: np.random.Generator) -> tuple[str, Tones, float]:
    """Words on the rhythm, tones, and beat (or median duration) of a line; phrases repeat, exactly or varied."""
    words, onsets, lengths, beat = (metred_rhythm if rng.random() < 0.6 else free_rhythm)(seconds, rng)
    phrase = int(rng.integers(4, 17))
    motifs = [random_walk(phrase, pitches, rng) for _ in range(int(rng.integers(1, 5)))]
    fresh = rng.uniform(0.0, 0.7)
    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < onsets.size:
        if rng.random() < fresh:
            parts.append(random_walk(phrase, pitches, rng))
            continue
        motif = motifs[int(rng.integers(len(motifs)))]
        if rng.random() < 0.4:
            motif = np.clip(motif + int(rng.integers(-3, 4)), 0, pitches.size - 1)
        if rng.random() < 0.3:
            motif = np.where(rng.random(phrase) < 0.25, random_walk(phrase, pitches, rng), motif)
        parts.append(motif)
    cents = pitches[np.concatenate(parts)[: onsets.size]]
    detached = lengths * (1.0 if rng.random() < 0.6 else rng.uniform(0.3, 1.0))
    accents = np.clip(1 - 0.5 * rng.random() * rng.random(onsets.size), 0.3, 1.0)
    return words, Tones(onsets, np.minimum(detached, seconds - onsets), cents, accents), beat


@dataclass(frozen=True)
class Articulation:
    """How pitch moves between and within tones; `glides` and `bends` are probabilities per tone."""

    glide_seconds: tuple[float, float]
    glides: float
    shape: int
    vibrato_cents: float
    vibrato_hz: float
    vibrato_after: float
    drift_cents: float
    wander_cents: float
    scatter_cents: float
    bends: float


def draw_articulation(struck: bool, rng: np.random.Generator) -> tuple[list[str], Articulation]:
    """A random articulation, and words that describe it."""
    stiff = rng.random() < (0.55 if struck else 0.2)
    glides = 0.0 if stiff else float(rng.choice((0.3, 0.7, 1.0)))
    longest = log_uniform(0.03, 0.8, rng)
    depth = 0.0 if stiff or rng.random() < 0.35 else log_uniform(3, 110, rng)
    wander = 0.0 if stiff or rng.random() < 0.75 else log_uniform(20, 250, rng)
    bends = 0.0 if stiff or rng.random() < 0.5 else float(rng.uniform(0.05, 0.4))
    articulation = Articulation(
        (0.012, longest), glides, int(rng.integers(3)), depth, float(rng.uniform(3, 8.5)), float(rng.uniform(0, 0.4)),
        0.0 if stiff else log_uniform(0.5, 8, rng), wander, 0.0 if stiff else log_uniform(0.5, 14, rng), bends,
    )  # fmt: skip
    words = [
        "gliding" if glides and longest > 0.15 else "",
        "vibrato" if depth > 12 else "",
        "wandering pitch" if wander else "",
    ]
    return words, articulation


def pitch_curve(tones: Tones, articulation: Articulation, frames: int, rng: np.random.Generator) -> np.ndarray:
    """Pitch in cents every 5 ms [frames], NaN in rests."""
    cents = np.full(frames, np.nan)
    before: float | None = None
    starts = np.round(tones.onsets / CONTROL_SECONDS).astype(int)
    stops = np.minimum(np.round((tones.onsets + tones.lengths) / CONTROL_SECONDS).astype(int), frames)
    for at, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        size = stop - start
        if size < 3:
            continue
        target = float(tones.cents[at] + articulation.scatter_cents * rng.standard_normal())
        part, since = np.full(size, target), np.arange(size) * CONTROL_SECONDS
        if before is not None and rng.random() < articulation.glides and abs(before - target) < 1500:
            part += (before - target) * remaining_glide(size, articulation, rng)
        if rng.random() < articulation.bends:  # to another pitch, perhaps and back
            bend_cents = rng.choice((-1, 1)) * log_uniform(20, 400, rng)
            turns = rng.uniform(0.3, 3.0)
            part += bend_cents * 0.5 * (1 - np.cos(2 * np.pi * turns * since / max(since[-1], 0.05)))
        if articulation.vibrato_cents:
            rise = np.clip((since - articulation.vibrato_after) / 0.25, 0, 1)
            rate = articulation.vibrato_hz * float(rng.uniform(0.9, 1.1))
            part += articulation.vibrato_cents * rise * np.sin(2 * np.pi * rate * since + rng.uniform(0, 6.28))
        cents[start:stop] = part
        before = float(part[-1])
    grain = np.interp(np.arange(frames) / 20, np.arange(frames // 20 + 2), rng.standard_normal(frames // 20 + 2))
    cents += articulation.drift_cents * grain
    if articulation.wander_cents:
        knots = rng.standard_normal(frames // 60 + 2)
        cents += articulation.wander_cents * np.interp(np.arange(frames) / 60, np.arange(knots.size), knots)
    return cents


def remaining_glide(size: int, articulation: Articulation, rng: np.random.Generator) -> np.ndarray:
    """Remaining fraction of a glide, 1 to 0 during it and 0 afterwards [size]."""
    low, high = articulation.glide_seconds
    length = min(size, max(2, round(log_uniform(low, max(low * 1.01, high), rng) / CONTROL_SECONDS)))
    x = np.arange(length) / length
    left = (1 - x, 0.5 + 0.5 * np.cos(np.pi * x), np.exp(-4 * x) - np.exp(-4) * x)[articulation.shape]
    return np.concatenate([left, np.zeros(size - length)])


# Rendering


def level_curve(
    cents: np.ndarray, tones: Tones, struck: bool, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Level, 0 to 1, and seconds since the last attack, every 5 ms [frames]."""
    frames = cents.size
    starts = np.round(tones.onsets / CONTROL_SECONDS).astype(int)
    bound = rng.random(starts.size) < (0.2 if struck else rng.choice((0.1, 0.5, 0.9)))
    last = np.zeros(frames, int)
    level = np.interp(np.arange(frames), starts + 2, tones.accents)
    dip = 0 if struck else log_uniform(0.02, 0.12, rng) / CONTROL_SECONDS
    for start, tied in zip(starts, bound, strict=True):
        if start >= frames or tied:
            continue
        last[start] = start
        if dip:
            edge = slice(max(0, int(start - dip)), min(frames, int(start + dip)))
            window = np.hanning(2 * int(dip) + 1)[: edge.stop - edge.start]
            level[edge] *= 1 - rng.uniform(0.2, 0.95) * window
    since = (np.arange(frames) - np.maximum.accumulate(last)) * CONTROL_SECONDS
    if rng.random() < 0.5:
        knots = rng.normal(0, rng.uniform(0.1, 0.6), frames // 150 + 2)
        level *= np.exp(np.interp(np.arange(frames) / 150, np.arange(knots.size), knots))
    if rng.random() < 0.12:
        level *= 1 - rng.uniform(0.1, 0.8) * (
            0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(2, 9) * np.arange(frames) * CONTROL_SECONDS)
        )
    for start, stop in true_runs(np.isfinite(cents)):
        ramp = min(stop - start, 6 if not struck else 2)
        level[start : start + ramp] *= np.arange(1, ramp + 1) / ramp
        release = min(stop - start, 8)
        level[stop - release : stop] *= np.linspace(1, 0.05, release)
    return level, since


Timbre = Callable[[np.ndarray, np.ndarray], np.ndarray]


def draw_timbre(kind: str, rng: np.random.Generator) -> Timbre:
    """A random timbre: gains [F, PARTIALS] as a function of pitch [F] in hertz and seconds since the attack [F]."""
    k = np.arange(1, PARTIALS + 1)
    row = k ** -rng.uniform(0.4, 2.4) * np.exp(rng.normal(0, rng.uniform(0.1, 0.8), PARTIALS))
    if kind in ("reed", "organ") and rng.random() < 0.5:
        row[1::2] *= rng.uniform(0.03, 0.4)
    if kind == "flute":
        row *= np.exp(-rng.uniform(0.3, 1.5) * (k - 1))
    centres = np.exp(rng.uniform(np.log(250), np.log(4000), int(rng.integers(1, 5))))
    heights, widths = rng.uniform(0.5, 5, centres.size), rng.uniform(0.15, 0.8, centres.size)
    slow, fast = log_uniform(0.2, 4, rng), log_uniform(0.02, 0.8, rng)
    pluck_position, buzz, shift = (
        rng.uniform(0.06, 0.5),
        rng.uniform(0, 1.2) * (kind == "buzzing string"),
        rng.uniform(0.85, 1.3),
    )
    order = rng.integers(len(VOWELS), size=12)

    def gains(hz: np.ndarray, since: np.ndarray) -> np.ndarray:
        partial = hz[:, None] * k
        if kind == "voice":
            return running_mean(vowel_gains(partial, since, order, shift) / k**0.7, 12)
        octaves = np.log2(partial)
        body = 0.2 + sum(
            h * np.exp(-(((octaves - np.log2(c)) / w) ** 2)) for c, h, w in zip(centres, heights, widths, strict=True)
        )
        out = row * body
        if kind in PLUCKED:
            ring = np.exp(-since[:, None] * (slow + fast * k) * (4 if kind == "muted string" else 1))
            out = out * np.abs(np.sin(np.pi * k * pluck_position)) * ring
            if buzz:
                bloom = 700 + 2500 * np.exp(-2.5 * since[:, None])
                out = out + buzz * np.exp(-(((partial - bloom) / 700) ** 2)) / np.sqrt(k) * ring
        return out

    return gains


def vowel_gains(partial: np.ndarray, since: np.ndarray, order: np.ndarray, shift: float) -> np.ndarray:
    """Gains [F, PARTIALS] of `partial` in hertz, by the formants of vowels that change with each attack."""
    syllable = np.cumsum(np.concatenate([[0], np.diff(since) < 0]))
    out = np.zeros(partial.shape)
    for number in range(int(syllable[-1]) + 1):
        inside = syllable == number
        vowel = VOWELS[order[number % order.size]]
        out[inside] = 0.06 + sum(g / (1 + ((partial[inside] - shift * c) / (90 + 0.06 * c)) ** 2) for c, g in vowel)
    return out


def render_line(tones: Tones, cents: np.ndarray, tonic_hz: float, kind: str, rng: np.random.Generator) -> np.ndarray:
    """Samples of a line, float64 [F * 80], RMS 1 outside of rests."""
    struck = kind in PLUCKED
    level, since = level_curve(cents, tones, struck, rng)
    timbre, out = draw_timbre(kind, rng), np.zeros(cents.size * FRAME)
    for start, stop in true_runs(np.isfinite(cents)):
        hz = np.clip(tonic_hz * 2.0 ** (cents[start:stop] / 1200), 35, 3500)
        gains = timbre(hz, since[start:stop])
        gains = gains * np.clip((7400 - hz[:, None] * np.arange(1, PARTIALS + 1)) / 400, 0, 1)
        gains *= level[start:stop, None] / np.sqrt(0.5 * (gains**2).sum(1).max() + 1e-12)
        out[start * FRAME : stop * FRAME] = harmonics(hz, gains)
    if not struck and rng.random() < 0.8:
        breath = shaped_noise(out.size, rng.uniform(-0.8, 0.8), rng)
        out += 10 ** rng.uniform(-2.6, -0.9) * np.repeat(level * np.isfinite(cents), FRAME) * breath
    if struck:
        for start in np.round(tones.onsets * RATE_HZ).astype(int):
            click = rng.standard_normal(80) * np.exp(-np.arange(80) / 18) * 0.15
            segment = out[start : start + 80]
            segment += click[: segment.size]
    return normalise_rms(out)


def normalise_rms(samples: np.ndarray) -> np.ndarray:
    """Samples scaled to an RMS of 1 outside of silence."""
    sounding = samples[np.abs(samples) > 1e-3 * (np.abs(samples).max() + 1e-9)]
    return samples / (np.sqrt(np.mean(sounding**2)) + 1e-9) if sounding.size else samples


def shaped_noise(size: int, tilt: float, rng: np.random.Generator) -> np.ndarray:
    """Noise of a spectral tilt: low frequencies near -1, white at 0, high frequencies near 1; RMS 1, float64 [size]."""
    white = rng.standard_normal(size)
    return normalise_rms(signal.lfilter([1.0], [1.0, tilt], white) if abs(tilt) > 0.05 else white)


def struck_tone(hz: float, rng: np.random.Generator, seconds: float = 1.2) -> Callable[[float], np.ndarray]:
    """A random bar, bell or membrane: a function that gives one stroke, float64, for an accent from 0 to 1."""
    count = int(rng.integers(1, 7))
    ratios = np.sort(np.concatenate([[1.0], rng.uniform(1.3, 9.0, count)]))
    if rng.random() < 0.35:
        ratios = np.arange(1, count + 2) * (1 + 0.004 * rng.standard_normal(count + 1))
    gains = rng.uniform(0.1, 1.0, ratios.size) / ratios ** rng.uniform(0, 1.2)
    decays = log_uniform(1.0, 25, rng) * ratios ** rng.uniform(0.2, 1.2)
    bend, bend_seconds, snap = rng.choice((0.0, 0.0, 0.3, 1.0)), log_uniform(0.01, 0.06, rng), rng.uniform(0, 0.6)
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    phase = 2 * np.pi * hz * (t + bend * bend_seconds * (1 - np.exp(-t / bend_seconds)))
    tone = sum(
        g * np.sin(r * phase) * np.exp(-d * t) for r, g, d in zip(ratios, gains, decays, strict=True) if r * hz < 7500
    )
    tone = np.asarray(tone) * np.clip((seconds - t) / 0.1, 0, 1) if not np.isscalar(tone) else np.zeros(t.size)
    tone[:1600] += snap * rng.standard_normal(min(1600, t.size)) * np.exp(-t[:1600] / log_uniform(0.002, 0.02, rng))
    return lambda accent: accent * tone


def noise_burst(rng: np.random.Generator) -> Callable[[float], np.ndarray]:
    """A function that gives one stroke of noise in a random band."""
    low = log_uniform(80, 4000, rng)
    band = signal.butter(2, [low, min(7800.0, low * rng.uniform(1.5, 6))], "band", fs=RATE_HZ, output="sos")
    decay = log_uniform(0.006, 0.15, rng)
    size = int(min(0.6, 7 * decay) * RATE_HZ)
    hit = normalise_rms(signal.sosfilt(band, rng.standard_normal(size))) * np.exp(-np.arange(size) / (decay * RATE_HZ))
    return lambda accent: accent * hit


def render_percussion(seconds: float, beat: float, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    """Strokes of one to five timbres, in a repeated pattern or scattered; words and float64 [T], RMS 1."""
    low = log_uniform(45, 140, rng)
    kit = [struck_tone(low, rng, 0.8), struck_tone(log_uniform(120, 500, rng), rng, 0.7)]
    kit += [
        noise_burst(rng) if rng.random() < 0.6 else struck_tone(log_uniform(200, 2500, rng), rng, 0.6) for _ in range(3)
    ]
    kit = [kit[at] for at in rng.permutation(5)[: int(rng.integers(1, 6))]]
    track = np.zeros(round(seconds * RATE_HZ))
    if rng.random() < 0.8:
        while beat > 0.5:
            beat /= 2
        while beat < 0.1:
            beat *= 2
        steps = int(rng.integers(3, 25))
        pattern = np.where(rng.random(steps) < rng.uniform(0.3, 0.95), rng.integers(len(kit), size=steps), -1)
        weights = rng.uniform(0.3, 1.0, steps)
        strokes = [(n * beat, pattern[n % steps], weights[n % steps]) for n in range(int(seconds / beat))]
        words = "percussion"
    else:
        strokes, now = [], float(rng.uniform(0, 1))
        while now < seconds:
            strokes.append((now, int(rng.integers(len(kit))), float(rng.uniform(0.3, 1))))
            now += log_uniform(0.05, 2.5, rng)
        words = "scattered percussion"
    loose = rng.uniform(0, 0.012)
    for at, which, weight in strokes:
        if which >= 0:
            mix_in(
                track,
                kit[which](weight * float(rng.uniform(0.8, 1))),
                max(0.0, at + loose * rng.standard_normal()),
                1.0,
            )
    return words, normalise_rms(track)


def mix_in(track: np.ndarray, tone: np.ndarray, at_seconds: float, gain: float) -> None:
    """Add `tone` to `track` in place, cut at the end of the track."""
    start = round(at_seconds * RATE_HZ)
    segment = track[start : start + tone.size]
    segment += gain * tone[: segment.size]


def render_drone(seconds: float, tonic_hz: float, pool: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One to four low strings or pipes, sustained or plucked repeatedly; float64 [T], RMS 1."""
    frames = round(seconds / CONTROL_SECONDS)
    while tonic_hz > 170:
        tonic_hz /= 2
    pitches = rng.choice(np.concatenate([[0.0, 0.0, 1200.0], pool, pool + 1200]), int(rng.integers(1, 5)))
    struck = rng.random() < 0.6
    step, kind = log_uniform(0.25, 2.0, rng), str(rng.choice(PLUCKED if struck else ("reed", "organ", "string")))
    track = np.zeros(frames * FRAME)
    timbre = draw_timbre(kind, rng)
    for index, cents in enumerate(pitches):
        hz = tonic_hz * 2 ** ((cents + rng.normal(0, 3)) / 1200)
        if struck:
            length = min(frames, round(rng.uniform(1.5, 5) / CONTROL_SECONDS))
            since = np.arange(length) * CONTROL_SECONDS
            gains = timbre(np.full(length, hz), since) * np.clip((length - np.arange(length)) / 40, 0, 1)[:, None]
            gains *= np.minimum(1, np.arange(length)[:, None] / 3)
            gains /= np.sqrt(0.5 * (gains**2).sum(1).max() + 1e-12)
            tone = harmonics(np.full(length, hz), gains * (np.arange(1, PARTIALS + 1) * hz < 7400))
            for at in np.arange(index * step - 3 * step, seconds, step * len(pitches)):
                late = max(0.0, at + rng.normal(0, 0.02))
                mix_in(track, tone[max(0, round(-at * RATE_HZ)) :], late, float(rng.uniform(0.7, 1)))
        else:
            wave = 1 + 0.2 * np.sin(2 * np.pi * rng.uniform(0.05, 0.8) * np.arange(frames) * CONTROL_SECONDS)
            gains = timbre(np.full(frames, hz), np.zeros(frames)) * wave[:, None]
            gains /= np.sqrt(0.5 * (gains**2).sum(1).max() + 1e-12)
            track += harmonics(np.full(frames, hz), gains * (np.arange(1, PARTIALS + 1) * hz < 7400))
    return normalise_rms(track)


def render_chords(
    seconds: float, tonic_hz: float, pitches: np.ndarray, beat: float, rng: np.random.Generator
) -> np.ndarray:
    """A repeated progression of random chords of two to five tones; float64 [T], RMS 1."""
    frames = round(seconds / CONTROL_SECONDS)
    while beat < 0.8:
        beat *= 2
    beat *= float(rng.choice((1, 2, 4)))
    kind = str(rng.choice(("organ", "string", "plucked string", "muted string", "brass")))
    timbre, track = draw_timbre(kind, rng), np.zeros(frames * FRAME)
    row = [rng.choice(pitches, int(rng.integers(2, 6))) for _ in range(int(rng.integers(1, 5)))]
    length = min(frames, round(beat / CONTROL_SECONDS))
    since = np.arange(length) * CONTROL_SECONDS
    edge = np.minimum(1, np.minimum(np.arange(length) / 3, (length - np.arange(length)) / 8))[:, None]
    rendered: dict[float, np.ndarray] = {}
    for number in range(int(np.ceil(seconds / beat))):
        for at, cents in enumerate(row[number % len(row)]):
            if cents not in rendered:
                hz = np.full(length, np.clip(tonic_hz * 2 ** (cents / 1200), 40, 2000))
                gains = timbre(hz, since) * edge * (np.arange(1, PARTIALS + 1) * hz[0] < 7400)
                rendered[cents] = harmonics(hz, gains / np.sqrt(0.5 * (gains**2).sum(1).max() + 1e-12))
            mix_in(track, rendered[cents], number * beat + 0.01 * at, 1.0)
    return normalise_rms(track)


def render_music(seconds: float, rng: np.random.Generator) -> tuple[list[str], np.ndarray]:
    """One or two lines, perhaps with drone, chords and percussion; words and float64 [T]."""
    tuning, pool, period = draw_tuning(rng)
    tonic_hz = log_uniform(*TONIC_HZ, rng)
    low = -float(rng.choice((0, 300, 500, 700, 1200)))
    pitches = pitches_between(pool, period, low, float(rng.choice((700, 1200, 1700, 2000))))
    frames = round(seconds / CONTROL_SECONDS)
    rhythm, tones, beat = draw_line(seconds, pitches, rng)
    kind = str(rng.choice(KINDS, p=(0.13, 0.12, 0.1, 0.27, 0.05, 0.06, 0.12, 0.1, 0.05)))
    moved, articulation = draw_articulation(kind in PLUCKED, rng)
    cents = pitch_curve(tones, articulation, frames, rng)
    mix = render_line(tones, cents, tonic_hz, kind, rng)
    words = [kind, rhythm, tuning if rng.random() < 0.6 else "", *moved]
    if rng.random() < 0.35:
        text, second = second_line(seconds, tones, cents, articulation, tonic_hz, pitches, rng)
        mix, words = mix + rng.uniform(0.2, 0.9) * second, [*words, text]
    if rng.random() < 0.45:
        mix, words = mix + log_uniform(0.05, 0.7, rng) * render_drone(seconds, tonic_hz, pool, rng), [*words, "drone"]
    if rng.random() < 0.2:
        mix = mix + log_uniform(0.1, 0.8, rng) * render_chords(seconds, tonic_hz, pitches, beat, rng)
        words.append("chords")
    if rng.random() < 0.42:
        text, hits = render_percussion(seconds, beat, rng)
        mix, words = mix + log_uniform(0.15, 1.2, rng) * hits[: mix.size], [*words, text]
    return words, mix


def second_line(
    seconds: float,
    tones: Tones,
    cents: np.ndarray,
    articulation: Articulation,
    tonic_hz: float,
    pitches: np.ndarray,
    rng: np.random.Generator,
) -> tuple[str, np.ndarray]:
    """A second line: the first one delayed, perhaps an octave apart, or an independent one; words and float64 [T]."""
    kind = str(rng.choice(KINDS))
    if rng.random() < 0.55:
        lag = log_uniform(0.01, 0.3, rng) if rng.random() < 0.8 else rng.uniform(0.5, 3)
        follow = Tones(tones.onsets + lag, tones.lengths, tones.cents, tones.accents)
        inside = follow.onsets < seconds - 0.1
        follow = Tones(
            *(
                each[inside]
                for each in (
                    follow.onsets,
                    np.minimum(follow.lengths, seconds - follow.onsets),
                    follow.cents,
                    follow.accents,
                )
            )
        )
        other = pitch_curve(follow, articulation, cents.size, rng) + float(rng.choice((-1200, 0, 0, 0, 1200)))
        return f"followed by {kind}", render_line(follow, other, tonic_hz, kind, rng)
    _, follow, _ = draw_line(seconds, pitches, rng)
    _, own = draw_articulation(kind in PLUCKED, rng)
    return f"with {kind}", render_line(follow, pitch_curve(follow, own, cents.size, rng), tonic_hz, kind, rng)


def render_texture(seconds: float, rng: np.random.Generator) -> tuple[list[str], np.ndarray]:
    """Bells at random times, sweeps, or speech-like syllables; words and float64 [T]."""
    mix, words = np.zeros(round(seconds * RATE_HZ)), ["texture"]
    t = np.arange(mix.size) / RATE_HZ
    which = int(rng.integers(3))
    if which == 0:  # bells and blocks at random times
        for _ in range(int(rng.integers(5, 60))):
            hit = struck_tone(log_uniform(60, 3000, rng), rng, float(rng.uniform(0.3, 3)))(float(rng.uniform(0.2, 1)))
            mix_in(mix, hit, float(rng.uniform(0, seconds)), 1.0)
        words.append("bells and blocks")
    elif which == 1:  # many sliding tones at once
        for _ in range(int(rng.integers(2, 14))):
            knots = rng.uniform(np.log(60), np.log(4000)) + np.cumsum(
                rng.normal(0, rng.uniform(0, 0.2), int(seconds) + 2)
            )
            hz = np.clip(np.exp(np.interp(t, np.arange(knots.size), knots)), 40, 7000)
            mix += rng.uniform(0.2, 1) * np.sin(2 * np.pi * np.cumsum(hz) / RATE_HZ)
        words.append("sliding tones")
    else:  # speech-like: short syllables, falling pitch, hiss between
        pitches = np.arange(0, 700, 15.0)
        onsets, now = [], 0.0
        while now < seconds:
            onsets.append(now)
            now += log_uniform(0.09, 0.4, rng) + (0.5 if rng.random() < 0.1 else 0)
        starts = np.array(onsets)
        lengths = np.minimum(np.append(np.diff(starts), 0.2) * rng.uniform(0.5, 0.9, starts.size), seconds - starts)
        line = Tones(starts, lengths, pitches[random_walk(starts.size, pitches, rng)], rng.uniform(0.4, 1, starts.size))
        articulation = Articulation((0.05, 0.3), 1.0, 1, 0.0, 5.0, 0.0, 10.0, 60.0, 40.0, 0.5)
        curve = pitch_curve(line, articulation, round(seconds / CONTROL_SECONDS), rng)
        mix = render_line(line, curve, log_uniform(80, 230, rng), "voice", rng)
        hiss = noise_burst(rng)
        for start in starts[rng.random(starts.size) < 0.4]:
            mix_in(mix, hiss(float(rng.uniform(0.1, 0.6))), max(0.0, start - 0.05), 1.0)
        words.append("talking")
    return words, normalise_rms(mix)


def render_noise(seconds: float, rng: np.random.Generator) -> tuple[list[str], np.ndarray]:
    """Noise with a slowly varying level, or near silence; words and float64 [T]."""
    size = round(seconds * RATE_HZ)
    if rng.random() < 0.25:
        return ["silence"], 1e-4 * rng.standard_normal(size)
    mix = shaped_noise(size, rng.uniform(-0.97, 0.9), rng)
    knots = rng.normal(0, 0.7, int(seconds * 2) + 2)
    mix *= np.exp(np.interp(np.arange(size) * 2 / RATE_HZ, np.arange(knots.size), knots))
    return ["noise"], mix


# Recording conditions


def degrade(mix: np.ndarray, rng: np.random.Generator, certain: bool) -> tuple[list[str], np.ndarray]:
    """Reverberation, distortion, bandwidth, noise, silence and level: words and float32 [T] without clipping.

    With `certain` the bandwidth is limited or noise is added.
    """
    words: list[str] = []
    applied = rng.random(7) < (0.55, 0.3, 0.3, 0.45, 0.12, 0.08, 0.1)
    if certain and not applied[1:3].any():
        applied[int(rng.choice((1, 2)))] = True
    mix = normalise_rms(mix)
    if applied[0]:
        decay = log_uniform(0.1, 3.5, rng)
        mix = reverb.convolve_reverb(
            reverb.Reverb("", decay, float(rng.uniform(0.05, 0.7)), log_uniform(0.002, 0.03, rng)), mix, rng
        ).astype(np.float64)
        words.append("in a hall" if decay > 1.2 else "in a room" if rng.random() < 0.5 else "")
    if applied[5]:
        mix, words = np.tanh(rng.uniform(0.5, 4) * mix), [*words, "distorted"]
    if applied[1]:
        words.append(band_type := str(rng.choice(("muffled", "thin", "telephone"))))
        edges = {"muffled": (None, log_uniform(900, 5500, rng)), "thin": (log_uniform(120, 900, rng), None)}
        low, high = edges.get(band_type, (log_uniform(120, 400, rng), log_uniform(2500, 4500, rng)))
        for edge, filter_type in ((low, "high"), (high, "low")):
            if edge:
                mix = signal.sosfilt(
                    signal.butter(int(rng.integers(1, 5)), edge, filter_type, fs=RATE_HZ, output="sos"), mix
                )
        mix = normalise_rms(mix)
    if applied[2]:
        amount = 10 ** rng.uniform(-2.5, -0.6)
        mix = mix + amount * shaped_noise(mix.size, rng.uniform(-0.97, 0.6), rng)
        if rng.random() < 0.2:
            mix += (
                0.5 * amount * np.sin(2 * np.pi * float(rng.choice((50, 60, 100, 120))) * np.arange(mix.size) / RATE_HZ)
            )
        words.append("noisy recording" if amount > 0.02 or certain else "")
    elif rng.random() < 0.5:
        mix = mix + 10 ** rng.uniform(-4.5, -2.5) * shaped_noise(mix.size, rng.uniform(-0.9, 0.5), rng)
    mix = insert_silence(mix, applied[4], rng)
    if applied[6]:
        knots = rng.normal(0, 0.4, mix.size // (2 * RATE_HZ) + 2)
        mix = mix * np.exp(np.interp(np.arange(mix.size) / (2 * RATE_HZ), np.arange(knots.size), knots))
    rms = 10 ** rng.uniform(-2.2, -0.7) if applied[3] else 0.1
    if rms < 0.03 and rng.random() < 0.7:
        words.append("quiet")
    mix = mix * rms / (np.sqrt(np.mean(mix**2)) + 1e-9)
    peak = float(np.abs(mix).max()) + 1e-9
    return words, (mix * min(1.0, 0.98 / peak)).astype(np.float32)


def insert_silence(mix: np.ndarray, gap: bool, rng: np.random.Generator) -> np.ndarray:
    """With `gap`, the mix with a silent stretch and a fade."""
    if not gap:
        return mix
    size, out = mix.size, mix.copy()
    start = int(rng.choice((0, int(rng.uniform(0, size)), int(0.7 * size))))
    stop = min(size, start + int(rng.uniform(0.3, 6) * RATE_HZ))
    out[start:stop] = 0.0
    fade = min(size, int(log_uniform(0.02, 3, rng) * RATE_HZ))
    if rng.random() < 0.5:
        out[size - fade :] *= np.linspace(1, 0, fade)
    else:
        out[:fade] *= np.linspace(0, 1, fade)
    return out
