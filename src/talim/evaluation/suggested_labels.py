"""Suggested labels for a folder of recordings without any: mode, tonic and tempo, as columns that nothing reads.

`talim prepare` uses no column whose name begins with PREFIX; who agrees with one renames it.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from talim.atomic_io import write_text
from talim.audio.read import list_audio_files, read_part
from talim.corpus.columns import SUGGESTION_PREFIX as PREFIX
from talim.errors import TalimError, UsageError
from talim.evaluation.recognize_mode import recognize_mode, resolve_tradition
from talim.metrics import rhythm
from talim.progress import Progress
from talim.traditions.tradition import load_all_builtin

RATE_HZ = 16_000
TEMPO_SECONDS = 60.0  # of a recording that are listened to for its tempo
MIN_COHERENCE = (
    0.62  # of onsets with a beat: below it no tempo is suggested; how often it is right: docs/guides/modes.md
)
NUM_OTHERS = 2
FILE, TRADITION, PROBABILITY, OTHERS, TONIC, TEMPO = (
    "file_name",
    f"{PREFIX}tradition",
    f"{PREFIX}mode_probability",
    f"{PREFIX}other_modes",
    f"{PREFIX}tonic_hz",
    f"{PREFIX}tempo_bpm",
)


def suggest_labels(
    folder: Path, tradition: str | None = None, progress: Progress | None = None
) -> list[dict[str, str]]:
    """A row for each recording in a folder and below it: its name there, and what can be told of it.

    A recording of which nothing can be told has its name alone, and a log line says why. TalimError for a folder
    without recordings.
    """
    progress = progress or Progress()
    files = list_audio_files(folder)
    if not files:
        raise TalimError(f"{folder}: no recordings here (talim prepare --help lists the formats)")
    words = {one.slug: one.mode_word for one in ([resolve_tradition(tradition)] if tradition else load_all_builtin())}
    rows = []
    for number, file in enumerate(files, start=1):
        row = {FILE: file.relative_to(folder).as_posix()}
        try:
            found = recognize_mode(file, tradition, progress=progress)
            row |= _mode_cells(found["modes"], words, tradition and next(iter(words)))
            row[TONIC] = f"{found['tonic_hz']:.1f}"
            if tempo := suggested_tempo(file):
                row[TEMPO] = f"{tempo:.0f}"
        except TalimError as error:
            progress.log(f"no suggestion: {error}")
        rows.append(row)
        progress.step("listening", number, len(files))
    return rows


def suggested_tempo(file: Path) -> float | None:
    """Beats per minute of the first minute, up to a factor of two; None where onsets keep to no beat."""
    samples = read_part(file, 0.0, TEMPO_SECONDS).mono().resample(RATE_HZ).samples[0]
    bpm = rhythm.tempo_bpm(samples, RATE_HZ)
    if not np.isfinite(bpm):
        return None
    coherence = rhythm.beat_phase_coherence(rhythm.onset_strength(samples, RATE_HZ), 60 / bpm)
    return bpm if coherence >= MIN_COHERENCE else None


def check_new(out: Path) -> None:
    """UsageError for a file that is there already: nothing is overwritten."""
    if os.path.lexists(out):
        raise UsageError(f"--suggest {out}: there already; nothing is overwritten: give the name of a new file")


def write_suggestions(out: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Write the rows as a new CSV file; UsageError for one that is there already."""
    check_new(out)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    last = [column for column in (PROBABILITY, OTHERS, TONIC, TEMPO) if column in columns]
    text = io.StringIO()
    table = csv.DictWriter(text, [*(column for column in columns if column not in last), *last], restval="")
    table.writeheader()
    table.writerows(rows)
    write_text(out, text.getvalue())


def suggestions_message(out: Path, folder: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    """What was written, what it does, and how it is confirmed."""
    described = sum(len(row) > 1 for row in rows)
    likely = sum(float(row.get(PROBABILITY, 0)) >= 0.5 for row in rows)
    if not described:
        return f"{out}: the names of {len(rows)} recordings alone; of none could anything be told (reasons above)."
    modes = [name for name in dict.fromkeys(name for row in rows for name in row) if _is_mode(name)]
    example = modes[0] if modes else TONIC
    return (
        f"{out}: suggestions for {described} of {len(rows)} recordings, {likely} of them with a mode that is more "
        f"likely than not. Nothing reads these columns. Listen, correct, and confirm one by renaming it ({example} "
        f"becomes {example.removeprefix(PREFIX)}), delete the cells that are wrong, and keep the table as "
        f"{folder / 'metadata.csv'} or copy the column there."
    )


def _is_mode(column: str) -> bool:
    return column not in (FILE, TRADITION, PROBABILITY, OTHERS, TONIC, TEMPO)


def _mode_cells(modes: Sequence[Mapping[str, Any]], words: Mapping[str, str], only: str | None) -> dict[str, str]:
    """The best mode in the column of its tradition's word (suggested_raga), its probability, and the next ones."""
    best, *others = modes
    slug = only or best["tradition"]
    next_ones = [f"{mode['name']} {mode['score']:.0%}" for mode in others[:NUM_OTHERS]]
    cells = {TRADITION: slug, f"{PREFIX}{words[slug]}": best["name"]}
    return cells | {PROBABILITY: f"{best['score']:.2f}", OTHERS: "; ".join(next_ones)}
