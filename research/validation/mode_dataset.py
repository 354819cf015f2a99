"""Real pitch tracks as trials of the recognition: each with its true mode, and what it must not be learnt from.

Reads the folders of the reference data: metadata.csv beside pitch/*.npz (cents from the tonic, hop_s).
"""

from __future__ import annotations

import csv
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
    """One track: its recording, the group that leaves together with it, its true mode, its pitch and its notes."""

    name: str
    recording: str
    group: str
    truth: int  # of the tradition's modes
    cents: np.ndarray
    heard: NoteSequence


def trials(folder: Path, tradition: Tradition) -> tuple[list[ModeTrial], list[str]]:
    """Every track of a folder whose mode the tradition knows, and the names of the modes it does not know."""
    table = folder / "metadata.csv"
    if not table.is_file():
        raise TalimError(f"{table}: no such file; give a folder with metadata.csv and pitch/*.npz")
    with open(table, encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    slugs = [mode.slug for mode in tradition.modes]
    groups = leaving_together(rows)
    found, strangers = [], []
    for row, group in zip(rows, groups, strict=True):
        said = row.get("raga") or row.get("makam") or ""
        try:
            truth = slugs.index(tradition.mode(said).slug)
        except TalimError:
            strangers.append(said)
            continue
        track = read_melody(folder / row["file"])
        cents = 1200 * np.log2(track.hz / track.tonic_hz) if track.tonic_hz else track.hz * np.nan
        heard = note_transcription.transcribe_notes(cents, track.hop_seconds)
        found.append(ModeTrial(row["id"], row.get("recording_id") or row["id"], group, truth, cents, heard))
    return found, strangers


def leaving_together(rows: Sequence[dict[str, str]]) -> list[str]:
    """A group for each row: rows share one if a recording, release or work of theirs is the same, over any chain."""
    clusters = SplitGroups()
    for n, row in enumerate(rows):
        for key in ("recording_id", "release_mbid", "release", "work_mbid"):
            for value in filter(None, (row.get(key) or "").split(",")):
                clusters.union(f"row {n}", f"{key} {value}")
    return [clusters.find(f"row {n}") for n in range(len(rows))]


def ranks(scores: np.ndarray, truths: Sequence[int]) -> np.ndarray:
    """The place of each true mode, from 1; modes with the same score stand before it."""
    return np.array([int((row >= row[truth]).sum()) for row, truth in zip(scores, truths, strict=True)])


def histogram_scores(found: Sequence[ModeTrial], tradition: Tradition) -> np.ndarray:
    """The plain baseline: the mean log likelihood of all pitches under bells on the scale's degrees, [trial, mode]."""
    grid_cents = np.arange(0.0, 1200.0, 5.0)
    logs = []
    for mode in tradition.modes:
        off = cents_distance(grid_cents[:, None], np.array(mode.degrees_cents))
        bells = np.exp(-0.5 * (off / HISTOGRAM_SPREAD_CENTS) ** 2) / (
            HISTOGRAM_SPREAD_CENTS * np.sqrt(2 * np.pi)
        )
        logs.append(np.log((1 - HISTOGRAM_STRAY) * bells.mean(1) + HISTOGRAM_STRAY / 1200))
    shares = []
    for trial in found:
        voiced = trial.cents[np.isfinite(trial.cents)]
        bins = np.round(voiced / 5.0).astype(int) % grid_cents.size
        shares.append(np.bincount(bins, minlength=grid_cents.size) / voiced.size)
    return np.array(shares) @ np.array(logs).T


def judgements(
    listener: ModeRecognizer, found: Sequence[ModeTrial], *, tonic_known: bool = True, **settings: float
) -> list[ModePosterior]:
    """What the listener makes of each trial."""
    return [listener.judge(trial.heard, tonic_known=tonic_known, **settings) for trial in found]


def tonic_found(judged: Sequence[ModePosterior]) -> np.ndarray:
    """Whether each judgement's likeliest tonic is the annotated one (within 50 cents, in any octave)."""
    at_cents = np.array([float(np.argmax(one.tonics)) * note_transcription.STEP_CENTS for one in judged])
    return np.abs(cents_distance(at_cents, 0.0)) <= ON_TONIC_CENTS


def held_out_scores(
    listener: ModeRecognizer, found: Sequence[ModeTrial], leaves: Sequence[str]
) -> tuple[np.ndarray, list[float]]:
    """Scores [trial, mode] where the one fitted number saw nothing of what leaves with the trial; and those numbers.

    `leaves` names, for each trial, what goes out with it: its group, or its mode.
    """
    logs = np.array(
        [
            np.log([one.scores + 1e-300 for one in judgements(listener, found, witnesses=w)])
            for w in SAMPLE_SIZE_GRID
        ]
    )
    truths = np.array([trial.truth for trial in found])
    right = logs[:, np.arange(len(found)), truths]
    weight = 1.0 / np.array([sum(other.recording == one.recording for other in found) for one in found])
    scores, chosen = np.empty(logs.shape[1:]), []
    for leaving in sorted(set(leaves)):
        out = np.array([name == leaving for name in leaves])
        best = (
            int(np.argmax((right * weight)[:, ~out].sum(1)))
            if not out.all()
            else SAMPLE_SIZE_GRID.index(EFFECTIVE_SAMPLE_SIZE)
        )
        scores[out] = logs[best, out]
        chosen.append(SAMPLE_SIZE_GRID[best])
    return scores, chosen
