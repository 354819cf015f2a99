"""Renders an arrangement: performed lines, drone, drum, reverb and the final level."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from talim.synthesis import drums
from talim.synthesis.arrangement import Arrangement
from talim.synthesis.forms import ScoreBuilder
from talim.synthesis.ground_truth import HOP_SECONDS, PlayedStroke, Voice
from talim.synthesis.instruments import CONTROL_SECONDS, Instrument, harmonics, synthesize_curve
from talim.synthesis.melodic_motion import MelodicMotion
from talim.synthesis.melody_line import NoteEvent, jitter_timing
from talim.synthesis.melody_performer import MelodyPerformer, PerformedLine
from talim.synthesis.ornaments import frame
from talim.synthesis.reverb import Reverb, convolve_reverb
from talim.synthesis.western_instruments import RATE_HZ, mix_in

LEVEL_RMS = 0.1
PEAK_LIMIT = 0.97
LEVELS = {"lead": 1.0, "second": 0.5, "drone": 0.16, "drum": 0.85}


def octave_shift_cents(instrument: Instrument, tonic_hz: float) -> float:
    """Octave transposition in cents that brings a tonic closest to the range of an instrument."""
    low, high = instrument.tonic_hz
    return 1200.0 * round(float(np.log2((low * high) ** 0.5 / tonic_hz)))


def perform_lines(
    arrangement: Arrangement, score: ScoreBuilder, motion: MelodicMotion, rng: np.random.Generator
) -> list[tuple[Instrument, PerformedLine]]:
    """The score performed by every melodic instrument: the lead as written, the second transposed and delayed."""
    style, seconds = arrangement.style, arrangement.seconds
    lines = []
    for index, instrument in enumerate(arrangement.instruments):
        events, line_motion = score.events, motion
        if index:
            shift = octave_shift_cents(instrument, arrangement.tonic_hz)
            line_motion = MelodicMotion(motion.mode, motion.lowest + shift, motion.highest + shift)
            events = [replace(event, cents=event.cents + shift) for event in events]
            events = delay(events, float(rng.uniform(*style.lag_seconds)), seconds)
        events = jitter_timing(events, 0.012 if index == 0 else 0.03, rng)
        ornaments = arrangement.tradition.ornaments
        player = MelodyPerformer(instrument, style.expression, ornaments, line_motion, rng, arrangement.ornamented)
        lines.append((instrument, player.play(events, seconds)))
    return lines


def delay(events: list[NoteEvent], lag_seconds: float, seconds: float) -> list[NoteEvent]:
    """The line delayed (or advanced), within the recording."""
    delayed = [replace(t, onset_seconds=max(0.0, t.onset_seconds + lag_seconds)) for t in events]
    inside = [t for t in delayed if t.onset_seconds < seconds - 0.05]
    return [replace(t, seconds=min(t.seconds, seconds - t.onset_seconds)) for t in inside]


def voice_ground_truth(instrument: Instrument, line: PerformedLine) -> Voice:
    """The ground truth of one line; its pitch track has every second control frame."""
    step = round(HOP_SECONDS / CONTROL_SECONDS)
    cents = line.curve.cents[::step].astype(np.float32)
    return Voice(instrument.name, instrument.family, cents, line.notes, line.ornaments)


def mix_down(
    arrangement: Arrangement,
    lines: list[tuple[Instrument, PerformedLine]],
    strokes: tuple[PlayedStroke, ...],
    reverb: Reverb,
    rng: np.random.Generator,
) -> np.ndarray:
    """All lines, drone and drum with reverb, float32 [T]: RMS of 0.1 or lower so that no sample exceeds 0.97."""
    size = round(arrangement.seconds * RATE_HZ)
    mix = np.zeros(size)
    for index, (instrument, line) in enumerate(lines):
        samples = normalize_rms(synthesize_curve(line.curve, arrangement.tonic_hz, instrument, rng))
        mix_in(mix, samples, 0.0, LEVELS["second" if index else "lead"])
    if arrangement.style.drone:
        mix_in(mix, normalize_rms(drone(arrangement, rng)), 0.0, LEVELS["drone"] * float(rng.uniform(0.6, 1.4)))
    if strokes:
        mix_in(mix, drumming(strokes, arrangement.tonic_hz, size, rng), 0.0, LEVELS["drum"])
    mix = convolve_reverb(reverb, mix, rng).astype(np.float64)
    rms, peak = float(np.sqrt(np.mean(mix**2))) + 1e-9, float(np.abs(mix).max()) + 1e-9
    return (mix * min(LEVEL_RMS / rms, PEAK_LIMIT / peak)).astype(np.float32)


def normalize_rms(samples: np.ndarray) -> np.ndarray:
    """Samples with an RMS of 1 over their non-silent part."""
    sounding = samples[np.abs(samples) > 1e-4]
    return samples / (float(np.sqrt(np.mean(sounding.astype(np.float64) ** 2))) + 1e-9) if sounding.size else samples


def drone(arrangement: Arrangement, rng: np.random.Generator) -> np.ndarray:
    """Tanpura: fifth (or fourth, or seventh, by the mode), upper tonic twice, lower tonic, repeated; float64 [T]."""
    mode = arrangement.mode
    has = {round(c / 100) for c in mode.degrees_cents}
    first = next((cents for step, cents in ((7, 702.0), (5, 498.0), (11, 1088.0)) if step in has), 1200.0)
    base_hz = arrangement.tonic_hz
    while base_hz > 175.0:
        base_hz /= 2
    strings = {cents: tanpura_string(base_hz / 2 * 2 ** (cents / 1200)) for cents in {first, 1200.0, 0.0}}
    track = np.zeros(round(arrangement.seconds * RATE_HZ))
    step = float(rng.uniform(0.75, 1.25))
    now, index = -float(rng.uniform(0.0, 4 * step)) - 3.0, 0
    while now < arrangement.seconds:
        string = strings[(first, 1200.0, 1200.0, 0.0)[index % 4]]
        skipped = max(0, -round(now * RATE_HZ))
        mix_in(track, string[skipped:], max(0.0, now), float(rng.uniform(0.8, 1.0)))
        now += step * float(rng.uniform(0.97, 1.03)) * (1.4 if index % 4 == 3 else 1.0)
        index += 1
    return track


def tanpura_string(hz: float, seconds: float = 5.0) -> np.ndarray:
    """One open string over a curved bridge: its harmonics swell in turn and decay slowly; float64 [T]."""
    since = np.arange(frame(seconds)) * CONTROL_SECONDS
    k = np.arange(1, 33)
    swell = np.exp(-(((np.log2(hz * k) - (10.9 - 0.9 * np.log2(1 + 2 * since[:, None]))) / 0.8) ** 2))
    fading = np.exp(-since[:, None] * (0.5 + 0.02 * k)) * np.clip((seconds - since[:, None]) / 0.5, 0, 1)
    gains = (0.25 / k + swell / np.sqrt(k)) * fading * np.minimum(1.0, since[:, None] / 0.015)
    return harmonics(np.full(since.size, hz), gains)


def drumming(strokes: tuple[PlayedStroke, ...], tonic_hz: float, size: int, rng: np.random.Generator) -> np.ndarray:
    """The strokes rendered, alternating two takes of each syllable; float64 [size]."""
    high_hz = tonic_hz
    while high_hz < 240.0:
        high_hz *= 2
    takes, track = dict[tuple[str, int], np.ndarray](), np.zeros(size)
    for index, stroke in enumerate(strokes):
        key = (stroke.syllable, index % 2)
        if key not in takes:
            takes[key] = drums.stroke(stroke.syllable, high_hz, rng)
        gain = (0.55 + 0.45 * stroke.weight) * float(rng.uniform(0.85, 1.0))
        mix_in(track, takes[key], stroke.onset_seconds, gain)
    return track
