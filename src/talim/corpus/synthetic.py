"""TODO docstring."""

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

RECORDINGS = 12

SECONDS = 24.0

FIRST_SEED = 7000

ROUNDING_SECONDS = 1e-3  # by which a cycle's beginning and its first beat may differ


def performance_beats(piece: Any) -> str:
    """A performance's beats in their written form, known exactly; nothing where nothing is metred.

    Of a tradition's performance every beat has its place in the cycle; the three plain styles keep one tempo.
    """
    if piece.truth is not None:
        beats, firsts = piece.truth.beats_seconds, piece.truth.first_beats_seconds
        begun = np.searchsorted(firsts, beats + ROUNDING_SECONDS, side="right") - 1
        counts = np.arange(beats.size) - np.searchsorted(beats, firsts - ROUNDING_SECONDS)[begun] + 1
        return str(BeatGrid(tuple(beats.tolist()), tuple(counts.tolist()))) if beats.size else ""
    tempo_bpm, metre = (piece.facts.get(name) for name in ("tempo_bpm", "beats_per_bar"))
    return f"{tempo_bpm} bpm {metre}/4" if tempo_bpm and metre else ""


def perform_corpus(
    folder: Path,
    perform: Callable[[int, str, float], Any],
    progress: Progress,
    count: int = RECORDINGS,
    seconds: float = SECONDS,
    style: str = "demo",
    first_seed: int = FIRST_SEED,
) -> None:
    """Write `count` performances of a style as FLAC with a metadata.csv, all or nothing."""
    table = io.StringIO()
    columns = ("file_name", "text", "performer", "licence", "source", "consent", "beats")
    rows: csv.DictWriter[str] = csv.DictWriter(table, columns, lineterminator="\n")
    rows.writeheader()
    with new_folder(folder) as made:
        for number in range(count):
            piece = perform(first_seed + number, style, seconds)
            name = f"piece-{number + 1:02d}.flac"
            audio.write(made / name, audio.Audio(np.atleast_2d(piece.samples), piece.rate_hz))
            facts = {"performer": f"talim's performer, seed {first_seed + number}", "licence": "CC0-1.0"}
            facts |= {"source": "rendered by talim", "consent": "not needed: no person is heard"}
            known = {"beats": performance_beats(piece), **facts}
            rows.writerow({"file_name": name, "text": piece.caption, **known})
            progress.step("performing the built-in corpus", number + 1, count)
        (made / "metadata.csv").write_text(table.getvalue(), encoding="utf-8")
