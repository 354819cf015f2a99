"""Real pitch tracks as trials of mode recognition: each with its true mode and its cross-validation group.

Reads the folders of the reference data: metadata.csv beside pitch/*.npz (cents from the tonic, hop_s).
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from talim.corpus.split_groups import SplitGroups
from talim.errors import TalimError
from talim.evaluation.recognize_mode import read_melody
from talim.traditions import note_transcription
from talim.traditions.mode_model import cents_distance
from talim.traditions.mode_recognition import EFFECTIVE_SAMPLE_SIZE, ModePosterior, ModeRecognizer
from talim.traditions.note_transcription import NoteSequence
from talim.traditions.tradition import Tradition

SAMPLE_SIZE_GRID = (5.0, 7.0, 10.0, 14.0, 20.0, 28.0, 40.0, 56.0)
HISTOGRAM_SPREAD_CENTS = 30.0
HISTOGRAM_STRAY = 0.1
ON_TONIC_CENTS = 50.0


@dataclass(frozen=True)
class ModeTrial:
    """One track: its recording, its cross-validation group, true mode, pitch and notes."""

    name: str
    recording: str
    group: str
    truth: int  # index into the tradition's modes
    cents: np.ndarray
    notes: NoteSequence


def load_trials(folder: Path, tradition: Tradition) -> tuple[list[ModeTrial], list[str]]:
    """Every track of a folder whose mode is in the tradition, and the names of the modes that are not."""
    table = folder / "metadata.csv"
    if not table.is_file():
        raise TalimError(f"{table}: no such file; give a folder with metadata.csv and pitch/*.npz")
    with open(table, encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    slugs = [mode.slug for mode in tradition.modes]
    groups = cross_validation_groups(rows)
    trials, unknown = [], []
    for row, group in zip(rows, groups, strict=True):
        name = row.get("raga") or row.get("makam") or ""
        try:
            truth = slugs.index(tradition.mode(name).slug)
        except TalimError:
            unknown.append(name)
            continue
        track = read_melody(folder / row["file"])
        cents = 1200 * np.log2(track.hz / track.tonic_hz) if track.tonic_hz else track.hz * np.nan
        notes = note_transcription.transcribe_notes(cents, track.hop_seconds)
        trials.append(ModeTrial(row["id"], row.get("recording_id") or row["id"], group, truth, cents, notes))
    return trials, unknown


def cross_validation_groups(rows: Sequence[dict[str, str]]) -> list[str]:
    """A group for each row: rows that share a recording, release or work, directly or through others."""
    clusters = SplitGroups()
    for n, row in enumerate(rows):
        for key in ("recording_id", "release_mbid", "release", "work_mbid"):
            for value in filter(None, (row.get(key) or "").split(",")):
                clusters.union(f"row {n}", f"{key} {value}")
    return [clusters.find(f"row {n}") for n in range(len(rows))]


def ranks(scores: np.ndarray, truths: Sequence[int]) -> np.ndarray:
    """The rank of each true mode, from 1; modes with the same score rank before it."""
    return np.array([int((row >= row[truth]).sum()) for row, truth in zip(scores, truths, strict=True)])


def histogram_scores(trials: Sequence[ModeTrial], tradition: Tradition) -> np.ndarray:
    """Baseline [trial, mode]: mean log likelihood of all pitches under Gaussians on the degrees of the scale."""
    grid_cents = np.arange(0.0, 1200.0, 5.0)
    logs = []
    for mode in tradition.modes:
        distance = cents_distance(grid_cents[:, None], np.array(mode.degrees_cents))
        density = np.exp(-0.5 * (distance / HISTOGRAM_SPREAD_CENTS) ** 2) / (
            HISTOGRAM_SPREAD_CENTS * np.sqrt(2 * np.pi)
        )
        logs.append(np.log((1 - HISTOGRAM_STRAY) * density.mean(1) + HISTOGRAM_STRAY / 1200))
    histograms = []
    for trial in trials:
        voiced = trial.cents[np.isfinite(trial.cents)]
        bins = np.round(voiced / 5.0).astype(int) % grid_cents.size
        histograms.append(np.bincount(bins, minlength=grid_cents.size) / voiced.size)
    return np.array(histograms) @ np.array(logs).T


def judgements(
    recognizer: ModeRecognizer, trials: Sequence[ModeTrial], *, tonic_known: bool = True, **settings: float
) -> list[ModePosterior]:
    """The posterior of each trial; `settings` are those of `ModeRecognizer.recognize`."""
    return [recognizer.recognize(trial.notes, tonic_known=tonic_known, **settings) for trial in trials]


def tonic_found(posteriors: Sequence[ModePosterior]) -> np.ndarray:
    """Whether the likeliest tonic of each posterior is the annotated one (within 50 cents, in any octave)."""
    at_cents = np.array([float(np.argmax(each.tonics)) * note_transcription.STEP_CENTS for each in posteriors])
    return np.abs(cents_distance(at_cents, 0.0)) <= ON_TONIC_CENTS


def held_out_scores(
    recognizer: ModeRecognizer, trials: Sequence[ModeTrial], folds: Sequence[str]
) -> tuple[np.ndarray, list[float]]:
    """Scores [trial, mode] with the effective sample size fitted without the trial's fold, and the fitted values.

    `folds` names the fold of each trial: its group, or its mode.
    """
    logs = np.array(
        [
            np.log([each.scores + 1e-300 for each in judgements(recognizer, trials, most_steps=size)])
            for size in SAMPLE_SIZE_GRID
        ]
    )
    truths = np.array([trial.truth for trial in trials])
    correct = logs[:, np.arange(len(trials)), truths]
    counts = Counter(trial.recording for trial in trials)
    weight = 1.0 / np.array([counts[trial.recording] for trial in trials])
    scores, fitted = np.empty(logs.shape[1:]), []
    for fold in sorted(set(folds)):
        out = np.array([name == fold for name in folds])
        best = (
            int(np.argmax((correct * weight)[:, ~out].sum(1)))
            if not out.all()
            else SAMPLE_SIZE_GRID.index(EFFECTIVE_SAMPLE_SIZE)
        )
        scores[out] = logs[best, out]
        fitted.append(SAMPLE_SIZE_GRID[best])
    return scores, fitted
