"""Sensitivity of structure scores on real music with annotated sections and first beats.

A track is a minute of the last annotated section of a recording with at least two, in which first beats are marked.
*Refrain deleted*: the third of a cycle before each first beat except the first is removed, where the refrain (mukhda)
returns. *Sections mixed*: every second stretch of ten seconds is taken from the recording's first section, which has
another tempo, cycle and composition in the same raga.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from research.validation import degradations
from research.validation.degradations import HOP_SECONDS
from talim.atomic_io import write_json
from talim.evaluation.recognize_mode import read_melody
from talim.metrics import melodic_ngrams, structure

SECONDS = 60.0
STRETCH_SECONDS = 10.0
REFRAIN_FRACTION = 1 / 3  # of a cycle
MIN_FIRST_BEATS = 5  # within the minute
SectionScores = dict[str, dict[str, float | None]]


@dataclass(frozen=True)
class SectionTrial:
    """A minute of a recording's last section and one of its first, in cents, and the first beats within the former."""

    name: str
    last: np.ndarray
    first: np.ndarray
    first_beats_seconds: np.ndarray


def recordings(folder: Path) -> Iterator[SectionTrial]:
    """Every recording of a folder (metadata.csv, pitch, annotations) with two sections and enough first beats."""
    with open(folder / "metadata.csv", encoding="utf-8", newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["section_no"]]
    for name in dict.fromkeys(row["recording_id"] for row in rows):
        sections = [row for row in rows if row["recording_id"] == name]
        last, first = sections[-1], sections[0]
        if last["section_no"] == first["section_no"]:
            continue
        annotation = json.loads((folder / "annotations" / f"{name}.json").read_text("utf-8"))
        beats = np.array(annotation["sama_s"], float) - float(last["t0_s"])
        beats = beats[(beats >= 0) & (beats < SECONDS)]
        if beats.size >= MIN_FIRST_BEATS:
            yield SectionTrial(name[:8], _minute(folder / last["file"]), _minute(folder / first["file"]), beats)


def _minute(file: Path) -> np.ndarray:
    """The first minute of a track in cents above its tonic, one value every 10 ms."""
    track = read_melody(file)
    cents = 1200 * np.log2(track.hz / track.tonic_hz)
    frames = np.arange(round(SECONDS / HOP_SECONDS)) * HOP_SECONDS / track.hop_seconds
    return cents[np.minimum(np.round(frames).astype(int), cents.size - 1)]


def without_refrain(cents: np.ndarray, first_beats_seconds: np.ndarray) -> np.ndarray:
    """The contour without the refrain before each first beat except the first."""
    keep = np.ones(cents.size, bool)
    lead = REFRAIN_FRACTION * float(np.median(np.diff(first_beats_seconds)))
    for beat in first_beats_seconds[1:]:
        keep[round((beat - lead) / HOP_SECONDS) : round(beat / HOP_SECONDS)] = False
    return cents[keep]


def alternate_segments(cents: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The contour with every second stretch of ten seconds taken from `other`."""
    mixed, size = cents[: other.size].copy(), round(STRETCH_SECONDS / HOP_SECONDS)
    for start in range(size, mixed.size, 2 * size):
        mixed[start : start + size] = other[start : start + size]
    return mixed


def measures(cents: np.ndarray, cycle_seconds: float) -> dict[str, float | None]:
    """The structure scores; None where one cannot be measured."""
    scores = {
        "repetition_rate": structure.repetition_rate(cents, HOP_SECONDS),
        "novelty": structure.novelty(cents, HOP_SECONDS),
        "cycle_recurrence": structure.recurrence_at_lag(cents, HOP_SECONDS, cycle_seconds),
        "ngram_repetition": melodic_ngrams.ngram_repetition(melodic_ngrams.melodic_ngrams(cents, HOP_SECONDS)),
    }
    return {name: value if np.isfinite(value) else None for name, value in scores.items()}


def degraded_measures(track: SectionTrial) -> SectionScores:
    """The scores, clean, after each degradation, and after transforms that no structure score should respond to."""
    changes: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "clean": lambda cents: cents,
        "refrain deleted": lambda cents: without_refrain(cents, track.first_beats_seconds),
        "sections mixed": lambda cents: alternate_segments(cents, track.first),
        "looped": degradations.loop_segment,
        "an octave higher": lambda cents: cents + 1200,
        "offset of 1 s": lambda cents: cents[round(1 / HOP_SECONDS) :],
    }
    cycle_seconds = float(np.median(np.diff(track.first_beats_seconds)))
    return {name: measures(change(track.last), cycle_seconds) for name, change in changes.items()}


def measure(work: Path, folder: Path) -> None:
    """Measure the tracks that the work folder does not hold yet, as `sections-*.json`."""
    for track in recordings(folder):
        file = work / f"sections-{track.name}.json"
        if not file.is_file():
            write_json(file, degraded_measures(track))
