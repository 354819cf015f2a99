"""Additive synthesis of the traditions' instruments from pitch and level curves with a control frame every 5 ms.

The phase is continuous over a phrase, so that glides and shakes are smooth; plucked strings are struck again within it.
Harmonics are summed by sin(k x) = 2 cos(x) sin((k-1) x) - sin((k-2) x), with gains interpolated between frames.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from talim.synthesis.western_instruments import RATE_HZ, VOWELS

CONTROL_SECONDS = 0.005
FRAME = round(CONTROL_SECONDS * RATE_HZ)
CEILING_HZ = 7400.0
BLOCK_FRAMES = 160
RAMP = np.arange(FRAME) / FRAME


@dataclass(frozen=True)
class Instrument:
    """Timbre and playing technique of an instrument.

    `tonic_hz` is its range of tonics; `transition` scales the time of transitions between notes (0: it cannot slide);
    `ring_seconds` is the decay after a phrase.
    """

    name: str
    family: str
    tonic_hz: tuple[float, float]
    transition: float
    attack_seconds: float
    ring_seconds: float
    timbre_parameters: tuple[float, ...]

    @property
    def struck(self) -> bool:
        return self.family == "plucked"


INSTRUMENTS = {
    instrument.name: instrument
    for instrument in (
        Instrument("male voice", "voice", (116, 165), 1.0, 0.05, 0.06, (1.0,)),
        Instrument("female voice", "voice", (185, 245), 1.0, 0.05, 0.06, (1.17,)),
        Instrument("voice", "voice", (130, 245), 1.0, 0.05, 0.06, (1.08,)),
        Instrument("sarangi", "bowed", (130, 175), 1.0, 0.05, 0.09, (420, 1100, 2600, 1.0)),
        Instrument("violin", "bowed", (185, 300), 0.9, 0.04, 0.08, (500, 1300, 3000, 0.9)),
        Instrument("kemençe", "bowed", (210, 330), 1.0, 0.04, 0.07, (650, 1500, 2900, 1.1)),
        Instrument("fiddle", "bowed", (160, 280), 0.9, 0.04, 0.08, (450, 1200, 2400, 1.0)),
        Instrument("bansuri", "blown", (220, 340), 0.8, 0.05, 0.05, (0.02, 1, 0.32, 0.14, 0.05, 0.03)),
        Instrument("shehnai", "blown", (230, 300), 0.8, 0.03, 0.05, (0.01, 0.5, 0.9, 1, 0.8, 0.6, 0.4, 0.3, 0.2)),
        Instrument("ney", "blown", (220, 330), 0.8, 0.06, 0.06, (0.05, 1, 0.75, 0.3, 0.12, 0.1, 0.04)),
        Instrument("clarinet", "blown", (190, 280), 0.8, 0.03, 0.05, (0.01, 1, 0.06, 0.6, 0.06, 0.3, 0.05, 0.14)),
        Instrument("flute", "blown", (230, 340), 0.7, 0.04, 0.05, (0.02, 1, 0.35, 0.12, 0.05, 0.02)),
        Instrument("harmonium", "blown", (130, 240), 0.25, 0.03, 0.05, (0.0, 0.6, 0.7, 0.5, 0.45, 0.3, 0.25, 0.2)),
        Instrument("sitar", "plucked", (130, 150), 0.7, 0.004, 0.5, (0.09, 0.45, 0.10, 1.0)),
        Instrument("sarod", "plucked", (120, 140), 0.8, 0.004, 0.35, (0.17, 0.9, 0.22, 0.3)),
        Instrument("tanbur", "plucked", (140, 220), 0.4, 0.004, 0.4, (0.12, 0.7, 0.16, 0.5)),
        Instrument("ud", "plucked", (125, 200), 0.5, 0.004, 0.25, (0.23, 1.7, 0.40, 0.1)),
        Instrument("kanun", "plucked", (200, 330), 0.0, 0.003, 0.4, (0.14, 1.1, 0.20, 0.2)),
        Instrument("lute", "plucked", (130, 220), 0.3, 0.004, 0.3, (0.2, 1.3, 0.30, 0.2)),
    )
}  # fmt: skip


@dataclass(frozen=True)
class SynthesisControls:
    """A line every 5 ms: `cents` above the tonic (NaN if silent), `level` 0..1, seconds since the last attack."""

    cents: np.ndarray
    level: np.ndarray
    seconds_since_attack: np.ndarray
    attacks: tuple[tuple[int, float], ...]  # (frame, strength)


def synthesize_curve(
    curve: SynthesisControls, tonic_hz: float, instrument: Instrument, rng: np.random.Generator
) -> np.ndarray:
    """The curve [F] rendered, float32 [F * 80]; its loudest note has an RMS near 1."""
    out = np.zeros(curve.cents.size * FRAME)
    timbre = TIMBRE_BUILDERS[instrument.family](instrument, rng)
    for start, stop in true_runs(np.isfinite(curve.cents)):
        hz = tonic_hz * 2.0 ** (curve.cents[start:stop] / 1200.0)
        gains = timbre(hz, curve.seconds_since_attack[start:stop])
        gains *= np.clip((CEILING_HZ - hz[:, None] * np.arange(1, gains.shape[1] + 1)) / 400.0, 0.0, 1.0)
        gains *= curve.level[start:stop, None] / np.sqrt(0.5 * (gains**2).sum(axis=1).max() + 1e-12)
        out[start * FRAME : stop * FRAME] = harmonics(hz, gains)
    add_breath_noise(out, curve, instrument, rng)
    return out.astype(np.float32)


def harmonics(hz: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """Sum over k of gains[:, k] sin(k phase), with pitch [F] and gains [F, K] interpolated; float64 [F * 80]."""
    out = np.empty(hz.size * FRAME)
    following = np.append(hz[1:], hz[-1])
    ahead = np.vstack([gains[1:], np.zeros((1, gains.shape[1]))])
    turned = 0.0
    for start in range(0, hz.size, BLOCK_FRAMES):
        part = slice(start, start + BLOCK_FRAMES)
        speed = hz[part, None] + (following[part] - hz[part])[:, None] * RAMP
        phase = turned + 2 * np.pi / RATE_HZ * np.cumsum(speed).reshape(speed.shape)
        turned = float(phase[-1, -1]) % (2 * np.pi)
        twice, before, now = 2 * np.cos(phase), np.zeros_like(phase), np.sin(phase)
        total, product = np.zeros_like(phase), np.empty_like(phase)
        slopes = ahead[part] - gains[part]
        audible = np.flatnonzero((gains[part] > 1e-5).any(axis=0) | (ahead[part] > 1e-5).any(axis=0))
        for k in range(int(audible[-1]) + 1 if audible.size else 0):
            np.multiply(RAMP, slopes[:, k : k + 1], out=product)
            product += gains[part, k : k + 1]
            product *= now
            total += product
            np.multiply(twice, now, out=product)
            product -= before
            before, now, product = now, product, before
        out[start * FRAME : start * FRAME + total.size] = total.ravel()
    return out


TimbreFunction = Callable[[np.ndarray, np.ndarray], np.ndarray]


def sung(instrument: Instrument, rng: np.random.Generator) -> TimbreFunction:
    """Vowel formants that change from syllable to syllable."""
    order = rng.permutation(len(VOWELS))

    def gains(hz: np.ndarray, since: np.ndarray) -> np.ndarray:
        k = np.arange(1, 31)
        partial = hz[:, None] * k
        syllable = np.cumsum(np.concatenate([[0], np.diff(since) < 0]))
        out = np.zeros(partial.shape)
        for number in range(int(syllable[-1]) + 1):
            inside = syllable == number
            vowel = VOWELS[order[number % len(order)]]
            shape = sum(
                g / (1 + ((partial[inside] - instrument.timbre_parameters[0] * c) / (90 + 0.06 * c)) ** 2)
                for c, g in vowel
            )
            out[inside] = (0.06 + shape) / k**0.7
        return running_mean(out, 12)

    return gains


def bowed(instrument: Instrument, rng: np.random.Generator) -> TimbreFunction:
    """All harmonics through three resonances of the body."""
    *centres, bright = instrument.timbre_parameters
    shift = float(rng.uniform(0.94, 1.06))

    def gains(hz: np.ndarray, since: np.ndarray) -> np.ndarray:
        k = np.arange(1, 27)
        octaves = np.log2(hz[:, None] * k)
        body = sum(np.exp(-((2.2 * (octaves - np.log2(c * shift))) ** 2)) for c in centres)
        return (0.3 + body) / k ** (1.25 - 0.25 * bright)

    return gains


def blown(instrument: Instrument, rng: np.random.Generator) -> TimbreFunction:
    """Fixed harmonic gains, duller at high pitch."""
    row = np.array(instrument.timbre_parameters[1:]) * rng.uniform(0.85, 1.15, len(instrument.timbre_parameters) - 1)
    k = np.arange(1, row.size + 1)

    def gains(hz: np.ndarray, since: np.ndarray) -> np.ndarray:
        dull = np.clip(np.log2(hz / 300.0), 0.0, 2.0)[:, None]
        return row * np.exp(-0.25 * dull * (k - 1))

    return gains


def plucked(instrument: Instrument, rng: np.random.Generator) -> TimbreFunction:
    """A string whose high harmonics decay faster; with a curved bridge they swell after the stroke."""
    pluck_position, slow, fast, buzz = instrument.timbre_parameters
    pluck_position *= float(rng.uniform(0.9, 1.1))

    def gains(hz: np.ndarray, since: np.ndarray) -> np.ndarray:
        k = np.arange(1, 29)
        ringing = np.exp(-since[:, None] * (slow + fast * k))
        row = np.abs(np.sin(np.pi * k * pluck_position)) / k
        bloom = 900.0 + 2200.0 * np.exp(-2.5 * since[:, None])
        band = np.exp(-(((hz[:, None] * k - bloom) / 700.0) ** 2))
        return (row + 0.25 * buzz * band / np.sqrt(k)) * ringing

    return gains


TIMBRE_BUILDERS = {"voice": sung, "bowed": bowed, "blown": blown, "plucked": plucked}
NOISE_LEVELS = {"voice": 0.012, "bowed": 0.015, "blown": 0.02, "plucked": 0.0}


def add_breath_noise(
    out: np.ndarray, curve: SynthesisControls, instrument: Instrument, rng: np.random.Generator
) -> None:
    """Add breath or bow noise, and the plectrum's click at every stroke, in place."""
    amount = NOISE_LEVELS[instrument.family]
    if instrument.family == "blown":
        amount += instrument.timbre_parameters[0]
    if amount:
        noise = rng.standard_normal(out.size + 1)
        noise = noise[1:] - 0.6 * noise[:-1]
        out += amount * np.repeat(curve.level, FRAME) * noise
    if instrument.struck:
        for frame, strength in curve.attacks:
            click = 0.12 * strength * rng.standard_normal(64) * np.exp(-np.arange(64) / 16)
            target = out[frame * FRAME : frame * FRAME + 64]
            target += click[: target.size]


def running_mean(rows: np.ndarray, width: int) -> np.ndarray:
    """Running mean over `width` frames along the first axis [F, K], padded with the first and last rows."""
    half = width // 2
    padded = np.concatenate([np.repeat(rows[:1], half, 0), rows, np.repeat(rows[-1:], width - half, 0)])
    sums = np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(padded, axis=0)])
    return (sums[width:] - sums[:-width])[: rows.shape[0]] / width


def true_runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """(start, stop) of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
