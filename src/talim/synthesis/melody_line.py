"""A melodic line as note events, and the parameters of its expressive performance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

BREATH_SECONDS = 0.02  # events with a shorter gap belong to one phrase


@dataclass(frozen=True)
class NoteEvent:
    """A main note: `cents` above the tonic, `part` of the form, `accent` 0..1, slurred to the previous note or not."""

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
    """Expression parameters of a tradition, tuned on pitch tracks of recordings (docs/reports/synthesis-realism.md).

    `ornaments` is the probability per shape that a sufficiently long note gets one. `transition_seconds` is the range
    of transitions between notes; `scoop_probability` and `drop_probability` are those that a phrase begins or ends off
    its note, by `slip_cents`. `drift_cents` (of a held pitch) and `scatter_cents` (of notes of one degree) are standard
    deviations. `slur_probability` is that of a note being bound to the previous one; a singer separates others by a
    consonant of `consonant_seconds`. `passing_seconds` and `held_seconds` are median note lengths of free parts,
    `pause_seconds` the range of pauses. Phrases turn about `reach_cents` away from their resting note, and
    `leap_probability` is that of a passing note being left out.
    """

    ornaments: Mapping[str, float]
    transition_seconds: tuple[float, float]
    scoop_probability: float
    drop_probability: float
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


def split_phrases(events: list[NoteEvent]) -> list[list[NoteEvent]]:
    """The events grouped into phrases without pauses."""
    groups: list[list[NoteEvent]] = []
    for event in events:
        if groups and event.onset_seconds - groups[-1][-1].end_seconds < BREATH_SECONDS:
            groups[-1].append(event)
        else:
            groups.append([event])
    return groups


def jitter_timing(events: list[NoteEvent], spread_seconds: float, rng: np.random.Generator) -> list[NoteEvent]:
    """The events with onsets shifted randomly by up to `spread_seconds`; ends of bound notes follow."""
    shifts = rng.uniform(-spread_seconds, spread_seconds, len(events))
    pairs = zip(events, shifts, strict=True)
    onsets = [max(0.0, event.onset_seconds + min(shift, 0.3 * event.seconds)) for event, shift in pairs]
    shifted = []
    for index, event in enumerate(events):
        end = event.end_seconds
        bound = index + 1 < len(events) and events[index + 1].onset_seconds - end < BREATH_SECONDS
        end = onsets[index + 1] if bound else end
        if end - onsets[index] > 0.03:
            shifted.append(replace(event, onset_seconds=onsets[index], seconds=end - onsets[index]))
        elif shifted and bound:
            shifted[-1] = replace(shifted[-1], seconds=end - shifted[-1].onset_seconds)
    return shifted
