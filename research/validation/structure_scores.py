"""Structure damaged on real music whose sections and first beats are annotated: which scores of structure notice.

A track is a minute of the last annotated section of a recording that has two or more, in which first beats are marked.
Two damages. *Refrain deleted*: what leads up to each first beat but the first, a third of the cycle, is cut out, for
there a song's refrain comes back (the mukhda). *Sections mixed*: every second stretch of ten seconds is one of the
recording's first section instead, another tempo, cycle and composition in the same raga.
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
LEAD_SHARE = 1 / 3  # of a cycle
FEWEST_BEATS = 5  # first beats within the minute
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
        own = [row for row in rows if row["recording_id"] == name]
        last, first = own[-1], own[0]
        if last["section_no"] == first["section_no"]:
            continue
        told = json.loads((folder / "annotations" / f"{name}.json").read_text("utf-8"))
        beats = np.array(told["sama_s"], float) - float(last["t0_s"])
        beats = beats[(beats >= 0) & (beats < SECONDS)]
        if beats.size >= FEWEST_BEATS:
            yield SectionTrial(
                name[:8], _minute(folder / last["file"]), _minute(folder / first["file"]), beats
            )


def _minute(file: Path) -> np.ndarray:
    """The first minute of a track in cents above its tonic, a value every 10 ms."""
    track = read_melody(file)
    cents = 1200 * np.log2(track.hz / track.tonic_hz)
    at = np.arange(round(SECONDS / HOP_SECONDS)) * HOP_SECONDS / track.hop_seconds
    return cents[np.minimum(np.round(at).astype(int), cents.size - 1)]


def without_refrain(cents: np.ndarray, first_beats_seconds: np.ndarray) -> np.ndarray:
    """The contour without what leads up to each first beat but the first."""
    keep = np.ones(cents.size, bool)
    lead = LEAD_SHARE * float(np.median(np.diff(first_beats_seconds)))
    for beat in first_beats_seconds[1:]:
        keep[round((beat - lead) / HOP_SECONDS) : round(beat / HOP_SECONDS)] = False
    return cents[keep]


def alternate_segments(cents: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The contour with every second stretch of ten seconds from another one."""
    found, size = cents[: other.size].copy(), round(STRETCH_SECONDS / HOP_SECONDS)
    for start in range(size, found.size, 2 * size):
        found[start : start + size] = other[start : start + size]
    return found


def measures(cents: np.ndarray, cycle_seconds: float) -> dict[str, float | None]:
    """What tells of structure; None where it cannot be measured."""
    found = {
        "repetition_rate": structure.repetition_rate(cents, HOP_SECONDS),
        "novelty": structure.novelty(cents, HOP_SECONDS),
        "cycle_recurrence": structure.recurrence_at_lag(cents, HOP_SECONDS, cycle_seconds),
        "ngram_repetition": melodic_ngrams.ngram_repetition(melodic_ngrams.melodic_ngrams(cents, HOP_SECONDS)),
    }
    return {name: value if np.isfinite(value) else None for name, value in found.items()}


def damaged_measures(track: SectionTrial) -> SectionScores:
    """The measures, clean, after each damage, and after what no score of structure should notice."""
    ways: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "clean": lambda cents: cents,
        "refrain deleted": lambda cents: without_refrain(cents, track.first_beats_seconds),
        "sections mixed": lambda cents: alternate_segments(cents, track.first),
        "looped": degradations.loop_segment,
        "an octave higher": lambda cents: cents + 1200,
        "offset of 1 s": lambda cents: cents[round(1 / HOP_SECONDS) :],
    }
    cycle_seconds = float(np.median(np.diff(track.first_beats_seconds)))
    return {name: measures(way(track.last), cycle_seconds) for name, way in ways.items()}


def measure(work: Path, folder: Path) -> None:
    """Measure what the work folder does not hold, as `sections-*.json`."""
    for track in recordings(folder):
        file = work / f"sections-{track.name}.json"
        if not file.is_file():
            write_json(file, damaged_measures(track))
