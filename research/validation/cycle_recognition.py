"""Accuracy of cycle recognition: how often the true tala or usul has the best, or one of the three best, cycle fits.

    python -m research.validation.cycle_recognition DATA

DATA holds `makam/` (SymbTr scores and metadata.csv) and `hindustani/` (pitch tracks, annotations, metadata.csv). In
scores every note is an onset; in pitch tracks an onset is where voicing begins or pitch has moved by 80 cents in 60 ms,
and the matras divide each annotated cycle from sam to sam into equal parts.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from talim.traditions.cycle_fit import CycleScore, cycle_score
from talim.traditions.schema import Cycle
from talim.traditions.tradition import load

CONTROL_ROWS = ("8", "35", "51", "53", "54", "55")  # grace notes have no duration; the others are not notes


def score_onsets(path: Path, pulse: float) -> np.ndarray:
    """Note onsets of a SymbTr score in pulses of its usul."""
    at, onsets = 0.0, []
    for row in csv.DictReader(path.open(encoding="utf-8"), delimiter="\t"):
        if row["Kod"] in CONTROL_ROWS or int(row["Payda"] or 0) == 0:
            continue
        if int(row["Koma53"]) > 0:
            onsets.append(at / pulse)
        at += int(row["Pay"]) / int(row["Payda"])
    return np.array(onsets)


def scores(data: Path) -> Iterator[tuple[Cycle, np.ndarray, float]]:
    """Usul, onsets and beat of every score whose usul has strokes."""
    makam = load("makam")
    for row in csv.DictReader((data / "metadata.csv").open(encoding="utf-8")):
        usul = makam.cycle(row["usul"])
        if usul.strokes:
            yield usul, score_onsets(data / row["file"], 1 / int(row["usul_mertebe"])), 1.0


def melody_onsets(cents: np.ndarray, hop_seconds: float) -> np.ndarray:
    """Where voicing begins or pitch has moved, in seconds, at least 0.1 s apart."""
    lag, last, onsets = max(1, round(0.06 / hop_seconds)), -1.0, []
    for frame in range(lag, cents.size):
        current, previous, lagged = cents[frame], cents[frame - 1], cents[frame - lag]
        begins = np.isfinite(current) and (not np.isfinite(previous) or abs(current - lagged) > 80)
        if begins and frame * hop_seconds - last > 0.1:
            last = frame * hop_seconds
            onsets.append(last)
    return np.array(onsets)


def matras(annotation: dict, start: float, end: float, beats: int) -> np.ndarray:
    """Times of the matras of the longest run of adjoining whole cycles that overlap start..end."""
    lengths = [
        tempo["avart_s"]
        for section, tempo in zip(annotation["sections"], annotation["tempo"], strict=False)
        if section["start"] - 1 <= start < section["start"] + section["duration"] - 1
    ]
    if not lengths or not lengths[0]:
        return np.zeros(0)
    runs: list[list[float]] = [[]]
    for sam, following in pairwise(annotation["sama_s"]):
        if abs((following - sam) / lengths[0] - 1) < 0.25 and following > start and sam < end:
            runs[-1] = [*(runs[-1] or [sam]), following]
        elif runs[-1]:
            runs.append([])
    run = max(runs, key=len)
    if len(run) < 2:
        return np.zeros(0)
    return np.concatenate([*(np.linspace(a, b, beats, endpoint=False) for a, b in pairwise(run)), run[-1:]])


def sung(data: Path) -> Iterator[tuple[Cycle, np.ndarray, np.ndarray]]:
    """Tala, melody onsets and matras of every metrical pitch track."""
    hindustani = load("hindustani")
    for row in csv.DictReader((data / "metadata.csv").open(encoding="utf-8")):
        if not row["tala"]:
            continue
        tala, track = hindustani.cycle(row["tala"]), np.load(data / row["file"])
        annotation = json.loads((data / "annotations" / f"{row['recording_id']}.json").read_text("utf-8"))
        start = float(row["t0_s"])
        beats = matras(annotation, start, start + float(row["duration_s"]), round(tala.beats))
        if beats.size:
            yield tala, melody_onsets(track["cents"], float(track["hop_s"])) + start, beats


def rank_cycles(
    onset_seconds: np.ndarray, cycles: Sequence[Cycle], beat_seconds: float | np.ndarray
) -> list[tuple[Cycle, CycleScore]]:
    """The cycles with strokes, the best fit first, without those that are too long for the onsets."""
    scored = [(c, cycle_score(onset_seconds, None, c, beat_seconds)) for c in cycles if c.strokes]
    return sorted((pair for pair in scored if np.isfinite(pair[1].fit)), key=lambda pair: -pair[1].fit)


def report(name: str, items: Iterator[tuple[Cycle, np.ndarray, float | np.ndarray]], slug: str) -> None:
    """Print one row of the table."""
    cycles = load(slug).cycles
    patterns = len({cycle.strokes for cycle in cycles if cycle.strokes})
    ranks, first_beat_correct, fits, chances = [], [], [], []
    for truth, onsets, beats in items:
        ranked = rank_cycles(onsets, cycles, beats)
        score = {cycle.slug: score for cycle, score in ranked}.get(truth.slug)
        if score is None:
            continue
        ranks.append(list(dict.fromkeys(cycle.strokes for cycle, _ in ranked)).index(truth.strokes))
        first_beat_correct.append(score.first_beat == 0)
        fits.append(score.fit)
        chances.append(1 / truth.beats)
    rank = np.array(ranks)
    print(
        f"| {name} | {rank.size} | {patterns} | {np.mean(rank == 0):.0%} ({1 / patterns:.0%}) | "
        f"{np.mean(rank < 3):.0%} ({3 / patterns:.0%}) | {np.mean(first_beat_correct):.0%} ({np.mean(chances):.0%}) | "
        f"{np.median(fits):.2f} |"
    )


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit("usage: python -m research.validation.cycle_recognition DATA")
    root = Path(sys.argv[1])
    print("| onsets | items | candidate cycles | top 1 (chance) | top 3 (chance) | first beat correct | median fit |")
    print("|---|---|---|---|---|---|---|")
    report("notes of SymbTr scores", scores(root / "makam"), "makam")
    report("melody of sung pitch tracks", sung(root / "hindustani"), "hindustani")
