"""A melody before it is sung: tones in time, and the manner in which a tradition moves between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

BREATH_SECONDS = 0.02  # tones closer than this belong to one breath


@dataclass(frozen=True)
class NoteEvent:
    """A main note of the line: `cents` above the tonic, the `part` it belongs to, `accent` 0..1, slurred or not."""

    onset_seconds: float
    seconds: float
    cents: float
    part: str
    accent: float = 0.85
    slurred: bool = True

    @property
    def end_seconds(self) -> float:
        return self.onset_seconds + self.seconds


@dataclass(frozen=True)
class ExpressionParameters:
    """How a tradition's players move, as numbers tuned on real pitch tracks (docs/performer.md).

    `ornaments` is the chance, per shape, that a tone which has the time for it gets one. `transition_seconds` is the
    range of the way from tone to tone, `scoop` and `fall` the chances that a breath begins or ends off its note, by
    `slip_cents`. `drift_cents` is how far a held pitch wanders and `scatter_cents` how far tones of one degree lie
    apart (standard deviations). `slurs` is the chance that a tone is bound to the one before; a singer parts others by
    a consonant of `consonant_seconds`. In the free parts `passing_seconds` and `held_seconds` are medians,
    `pause_seconds` is the range of a breath everywhere. Phrases reach `reach_cents` away from where they rest, and
    `leaps` is the chance that a passing note of them is left out.
    """

    ornaments: Mapping[str, float]
    transition_seconds: tuple[float, float]
    scoop_probability: float
    fall: float
    slip_cents: tuple[float, float]
    drift_cents: float
    scatter_cents: float
    slur_probability: float
    consonant_seconds: tuple[float, float]
    passing_seconds: float
    held_seconds: float
    pause_seconds: tuple[float, float]
    reach_cents: float
    leap_probability: float


def split_phrases(tones: list[NoteEvent]) -> list[list[NoteEvent]]:
    """The tones in groups without a pause inside."""
    groups: list[list[NoteEvent]] = []
    for tone in tones:
        if groups and tone.onset_seconds - groups[-1][-1].end_seconds < BREATH_SECONDS:
            groups[-1].append(tone)
        else:
            groups.append([tone])
    return groups


def jitter_timing(tones: list[NoteEvent], spread_seconds: float, rng: np.random.Generator) -> list[NoteEvent]:
    """The same tones in another player's timing: onsets moved by up to `spread_seconds`, ends moved with them."""
    if not tones:
        return []
    shifts = rng.uniform(-spread_seconds, spread_seconds, len(tones))
    onsets = [
        max(0.0, tone.onset_seconds + min(shift, 0.3 * tone.seconds))
        for tone, shift in zip(tones, shifts, strict=True)
    ]
    moved = []
    for index, tone in enumerate(tones):
        end = tone.end_seconds
        bound = index + 1 < len(tones) and tones[index + 1].onset_seconds - end < BREATH_SECONDS
        end = onsets[index + 1] if bound else end
        if end - onsets[index] > 0.03:
            moved.append(replace(tone, onset_seconds=onsets[index], seconds=end - onsets[index]))
        elif moved and bound:
            moved[-1] = replace(moved[-1], seconds=end - moved[-1].onset_seconds)
    return moved
