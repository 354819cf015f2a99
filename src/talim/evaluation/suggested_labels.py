"""Suggested labels for a folder of recordings without any: mode, tonic, tempo, cycle, instruments; all unread.

`talim prepare` uses no column whose name begins with PREFIX; who agrees with one renames it.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from talim.atomic_io import write_text
from talim.audio import AudioError
from talim.audio.read import list_audio_files, read_middle, read_part
from talim.corpus.metadata import SUGGESTION_OR, recording_columns
from talim.corpus.metadata import SUGGESTION_PREFIX as PREFIX
from talim.errors import TalimError, UsageError
from talim.evaluation.instruments_by_clap import InstrumentClassifier, InstrumentsByClap
from talim.evaluation.recognize_mode import best_guess, recognize_mode, resolve_tradition
from talim.evaluation.suggested_instruments import suggest_instruments
from talim.html.formatting import format_counted
from talim.metrics import rhythm
from talim.metrics.clap import load_clap_if_available
from talim.progress import Progress
from talim.traditions.cycle_recognition import recognize_cycle
from talim.traditions.fitted_modes import FittedModes
from talim.traditions.tradition import Tradition, load_all_builtin

RATE_HZ = 16_000
TEMPO_SECONDS = 60.0  # of a recording that are listened to for its tempo
MIN_COHERENCE = (
    0.62  # of onsets with a beat: below it no tempo is suggested; how often it is right: docs/guides/modes.md
)
LIKELY_MODE = 0.5  # below it no mode is suggested, which a confirmed column would take over for every recording
NUM_OTHERS = 2
CYCLE_TRADITIONS = ("hindustani",)  # where a suggested cycle was measured to be better than the commonest one
MIN_CYCLE_PROBABILITY = 0.25  # below it no cycle is suggested; how often it is right: docs/reports/cycle-fit.md
MIN_CYCLE_CONTRAST = 0.1  # below it the onsets are an even pulse
CYCLE_SECONDS = 40.0  # in the middle of a recording, which are listened to for its cycle
FILE, TRADITION, PROBABILITY, OTHERS, TONIC, TEMPO, CYCLE_PROBABILITY, OTHER_CYCLES, INSTRUMENTS, INSTRUMENTS_FROM = (
    "file_name",
    f"{PREFIX}tradition",
    f"{PREFIX}mode_probability",
    f"{PREFIX}other_modes",
    f"{PREFIX}tonic_hz",
    f"{PREFIX}tempo_bpm",
    f"{PREFIX}cycle_probability",
    f"{PREFIX}other_cycles",
    f"{PREFIX}instruments",
    f"{PREFIX}instruments_from",
)
LAST = (PROBABILITY, OTHERS, TONIC, TEMPO, CYCLE_PROBABILITY, OTHER_CYCLES, INSTRUMENTS, INSTRUMENTS_FROM)


def suggest_labels(
    folder: Path, tradition: str | None = None, progress: Progress | None = None, fitted: Sequence[FittedModes] = ()
) -> list[dict[str, str]]:
    """A row for each recording in a folder and below it: its name there, and what can be told of it.

    A recording of which nothing can be told has its name alone, and a log line says why. TalimError for a folder
    without recordings.
    """
    progress = progress or Progress()
    files = list_audio_files(folder)
    if not files:
        raise TalimError(f"{folder}: no recordings here (talim prepare --help lists the formats)")
    known = {one.slug: one for one in ([resolve_tradition(tradition)] if tradition else load_all_builtin())}
    instruments, rows = suggest_instruments(folder, files, progress), []
    by_sound = _instrument_classifier(progress) if len(instruments) < len(files) else None
    for number, file in enumerate(files, start=1):
        row = {FILE: file.relative_to(folder).as_posix()}
        try:
            found = recognize_mode(file, tradition, progress=progress, fitted=fitted)
            slug = next(iter(known)) if tradition else found["modes"][0]["tradition"]
            row |= _mode_cells(found, known[slug])
            row[TONIC] = f"{found['tonic_hz']:.1f}"
            if tempo := suggested_tempo(file):
                row[TEMPO] = f"{tempo:.0f}"
            row |= suggested_cycle(file, known[slug])
        except TalimError as error:
            progress.log(f"no suggestion: {error}")
        if named := instruments.get(file) or _instruments_by_sound(by_sound, file):
            row |= {INSTRUMENTS: named.names, INSTRUMENTS_FROM: named.origin}
        rows.append(row)
        progress.step("listening", number, len(files))
    return rows


def _instrument_classifier(progress: Progress) -> InstrumentClassifier | None:
    """CLAP, if its weights are whole on this machine; else a line that says what it would be for."""
    clap = load_clap_if_available()
    if isinstance(clap, str):
        progress.log(
            "note: instruments are taken from tags, tables and the names of files alone; guessing them from the sound "
            "needs a listening model, CLAP (800 MB, optional), which is not on this machine: docs/guides/modes.md"
        )
        return None
    return InstrumentClassifier(clap)


def _instruments_by_sound(classifier: InstrumentClassifier | None, file: Path) -> InstrumentsByClap | None:
    if classifier is None:
        return None
    try:
        return classifier(file)
    except AudioError:
        return None  # why it cannot be read was told with its mode


def suggested_tempo(file: Path) -> float | None:
    """Beats per minute of the first minute, up to a factor of two; None where onsets keep to no beat."""
    samples = read_part(file, 0.0, TEMPO_SECONDS).mono().resample(RATE_HZ).samples[0]
    bpm = rhythm.tempo_bpm(samples, RATE_HZ)
    if not np.isfinite(bpm):
        return None
    coherence = rhythm.phase_length(rhythm.onset_strength(samples, RATE_HZ), 60 / bpm)
    return bpm if coherence >= MIN_COHERENCE else None


def suggested_cycle(file: Path, tradition: Tradition) -> dict[str, str]:
    """The cells of the cycle of the middle of a recording, the probability and the next ones; none where it is unsure.

    Cycles of the same strokes are named together. None in a tradition that is not one of CYCLE_TRADITIONS.
    """
    if tradition.slug not in CYCLE_TRADITIONS:
        return {}
    samples = read_middle(file, CYCLE_SECONDS).mono().resample(RATE_HZ).samples[0]
    strength = rhythm.onset_strength(samples, RATE_HZ)
    ranked = recognize_cycle(strength, rhythm.tempo_bpm(samples, RATE_HZ), tradition.cycles)
    if not ranked or ranked[0].probability < MIN_CYCLE_PROBABILITY or ranked[0].contrast < MIN_CYCLE_CONTRAST:
        return {}
    best, *others = [(SUGGESTION_OR.join(cycle.name for cycle in each.cycles), each.probability) for each in ranked]
    cells = {f"{PREFIX}{tradition.cycle_word}": best[0], CYCLE_PROBABILITY: f"{best[1]:.2f}"}
    return cells | {OTHER_CYCLES: "; ".join(f"{name} {each:.0%}" for name, each in others[:NUM_OTHERS])}


def check_new(out: Path) -> None:
    """UsageError for a file that is there already: nothing is overwritten."""
    if os.path.lexists(out):
        raise UsageError(f"--suggest {out}: there already; nothing is overwritten: give the name of a new file")


def write_suggestions(out: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Write the rows as a new CSV file; UsageError for one that is there already."""
    check_new(out)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    last = [column for column in LAST if column in columns]
    text = io.StringIO()
    table = csv.DictWriter(text, [*(column for column in columns if column not in last), *last], restval="")
    table.writeheader()
    table.writerows(rows)
    write_text(out, text.getvalue())


def suggestions_message(out: Path, folder: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    """What was written, what it does, and how it is confirmed."""
    described = sum(len(row) > 1 for row in rows)
    likely = sum(float(row.get(PROBABILITY, 0)) >= LIKELY_MODE for row in rows)
    if not described:
        return (
            f"{out}: the names of {format_counted(len(rows), 'recording')} alone; of none could anything "
            "be told (reasons above)."
        )
    # the column of the mode, which its tradition has a word for, stands after the tradition's
    modes = [name for row in rows for before, name in pairwise(row) if before == TRADITION and name != PROBABILITY]
    example = [*modes, *(column for column in (TONIC, INSTRUMENTS) if any(column in row for row in rows))][0]
    return (
        f"{out}: suggestions for {described} of {format_counted(len(rows), 'recording')}, {likely} of them "
        "with a mode that is more "
        f"likely than not. Nothing reads these columns. Listen, correct, and confirm one by renaming it ({example} "
        f"becomes {example.removeprefix(PREFIX)}), delete what is wrong (of several names joined by or, all but one), "
        f"and keep the table as {folder / 'metadata.csv'} or copy the column there."
    )


def _mode_cells(found: dict[str, Any], tradition: Tradition) -> dict[str, str]:
    """The best mode in the column of its tradition's word (suggested_raga), its probability, and the next ones.

    Modes that the recording does not tell apart are joined by "or", with their probability together. Where no table
    has a column of that word, the mode is in suggested_mode and the word in suggested_mode_kind. What is less likely
    than not is among the others only.
    """
    guess, score = best_guess(found)
    likely = score >= LIKELY_MODE
    guessed = {row["slug"] for row in found.get("alike") or found["modes"][:1]} if likely else set()
    shown = [mode for mode in found["modes"] if mode["slug"] not in guessed][: NUM_OTHERS + (not likely)]
    word, named = tradition.mode_word, {}
    if likely and word in recording_columns().names:
        named = {f"{PREFIX}{word}": guess}
    elif likely:
        named = {f"{PREFIX}mode": guess, f"{PREFIX}mode_kind": word}
    cells = {TRADITION: tradition.slug, **named, PROBABILITY: f"{score:.2f}"}
    return cells | {OTHERS: "; ".join(f"{mode['name']} {mode['score']:.0%}" for mode in shown)}
