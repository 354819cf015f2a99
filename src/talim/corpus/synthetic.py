"""Corpora of synthesized performances: FLAC files with a metadata.csv, beats and the seed of each performance."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from talim import audio
from talim.atomic_io import new_folder
from talim.beats_chords import BeatGrid
from talim.progress import Progress

DEFAULT_COUNT = 12
DEFAULT_SECONDS = 24.0
FIRST_SEED = 7000
_ROUNDING_SECONDS = 1e-3  # by which the start of a cycle and its first beat may differ
_COLUMNS = ("file_name", "text", "performer", "licence", "source", "consent", "beats", "seed")


def performance_beats(performance: Any) -> str:
    """The exact beats of a `synthesis.performer.Performance` as text; "" where it is unmetered.

    Performances of a tradition have ground truth, with the position of every beat in its cycle; the plain styles keep
    one tempo.
    """
    truth = performance.truth
    if truth is not None:
        beats, first_beats = truth.beats_seconds, truth.first_beats_seconds
        cycle = np.searchsorted(first_beats, beats + _ROUNDING_SECONDS, side="right") - 1
        first_index = np.searchsorted(beats, first_beats - _ROUNDING_SECONDS)
        positions = np.arange(beats.size) - first_index[cycle] + 1
        return str(BeatGrid(tuple(beats.tolist()), tuple(positions.tolist()))) if beats.size else ""
    tempo_bpm, beats_per_bar = (performance.facts.get(name) for name in ("tempo_bpm", "beats_per_bar"))
    return f"{tempo_bpm} bpm {beats_per_bar}/4" if tempo_bpm and beats_per_bar else ""


def perform_corpus(
    folder: Path,
    perform: Callable[[int, str, float], Any],
    progress: Progress,
    count: int = DEFAULT_COUNT,
    seconds: float = DEFAULT_SECONDS,
    style: str = "demo",
    first_seed: int = FIRST_SEED,
) -> None:
    """Write `count` performances with consecutive seeds, as `perform(seed, style, seconds)` renders them.

    `folder` appears complete or not at all. Prepared, each clip has its seed in `extra["seed"]`.
    """
    table = io.StringIO()
    rows: csv.DictWriter[str] = csv.DictWriter(table, _COLUMNS, lineterminator="\n")
    rows.writeheader()
    with new_folder(folder) as new:
        for number in range(count):
            seed = first_seed + number
            performance = perform(seed, style, seconds)
            name = f"piece-{number + 1:02d}.flac"
            audio.write(new / name, audio.Audio(np.atleast_2d(performance.samples), performance.rate_hz))
            rows.writerow(
                {
                    "file_name": name,
                    "text": performance.caption,
                    "performer": f"talim synthesizer, seed {seed}",
                    "licence": "CC0-1.0",
                    "source": "rendered by talim",
                    "consent": "not needed: no person performs",
                    "beats": performance_beats(performance),
                    "seed": str(seed),
                }
            )
            progress.step("synthesizing the corpus", number + 1, count)
        (new / "metadata.csv").write_text(table.getvalue(), encoding="utf-8")
