"""How often the true tala or usul is the best, and among the best three, by `talim.traditions.cycle_fit.best_cycles`.

    python benchmarks/cycles.py DATA

DATA holds `makam/` (SymbTr scores and metadata.csv) and `hindustani/` (pitch tracks, annotations, metadata.csv). For
scores an onset is a written note; for pitch tracks it is where voice begins or pitch has moved 80 cents in 60 ms,
on the annotated matras (each cycle from sam to sam in equal parts).
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

from talim.traditions.cycle_fit import best_cycles
from talim.traditions.schema import Cycle
from talim.traditions.tradition import load

CONTROL_ROWS = ("8", "35", "51", "53", "54", "55")  # grace notes take no time; the others are no notes


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
    """Where voice begins or pitch has moved, in seconds, at least 0.1 s apart."""
    lag, last, onsets = max(1, round(0.06 / hop_seconds)), -1.0, []
    for frame in range(lag, cents.size):
        now, before, earlier = cents[frame], cents[frame - 1], cents[frame - lag]
        begins = np.isfinite(now) and (not np.isfinite(before) or abs(now - earlier) > 80)
        if begins and frame * hop_seconds - last > 0.1:
            last = frame * hop_seconds
            onsets.append(last)
    return np.array(onsets)


def matras(annotation: dict, start: float, end: float, beats: int) -> np.ndarray:
    """Times of the matras of the longest run of adjoining whole cycles that touch start..end."""
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
    """Tala, melody onsets and matras of every metred pitch track."""
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


def report(name: str, items: Iterator[tuple[Cycle, np.ndarray, float | np.ndarray]], slug: str) -> None:
    """Print one row of the table."""
    cycles = load(slug).cycles
    patterns = len({cycle.strokes for cycle in cycles if cycle.strokes})
    places, begun, fits, luck = [], [], [], []
    for truth, onsets, beats in items:
        ranked = best_cycles(onsets, None, cycles, beats)
        score = {cycle.slug: score for cycle, score in ranked}.get(truth.slug)
        if score is None:
            continue
        places.append(list(dict.fromkeys(cycle.strokes for cycle, _ in ranked)).index(truth.strokes))
        begun.append(score.first_beat == 0)
        fits.append(score.fit)
        luck.append(1 / truth.beats)
    at = np.array(places)
    print(
        f"| {name} | {at.size} | {patterns} | {np.mean(at == 0):.0%} ({1 / patterns:.0%}) | "
        f"{np.mean(at < 3):.0%} ({3 / patterns:.0%}) | {np.mean(begun):.0%} ({np.mean(luck):.0%}) | "
        f"{np.median(fits):.2f} |"
    )


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit("usage: python benchmarks/cycles.py DATA")
    root = Path(sys.argv[1])
    print(
        "| onsets | items | cycles compared | best (chance) | best three (chance) | first beat right | median fit |"
    )
    print("|---|---|---|---|---|---|---|")
    report("notes of SymbTr scores", scores(root / "makam"), "makam")
    report("melody of sung pitch tracks", sung(root / "hindustani"), "hindustani")
