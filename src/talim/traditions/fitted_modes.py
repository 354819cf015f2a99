"""What labelled recordings add to the facts about modes: how each mode's melodies move, and where they stay.

For every mode the histograms of intervals (`note_transcription.interval_histogram`) and of degrees at the beginning,
in the middle and at the end of its recordings are summed. A mode's densities are then those of its facts with the
weight of `FitShape.facts_recordings` recordings, and the measured ones with the weight of their number: the mean of a
Dirichlet posterior whose prior are the facts. Modes without recordings keep their facts.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from talim.atomic_io import new_file
from talim.errors import TalimError
from talim.traditions.note_transcription import (
    CLASSES,
    INTERVALS_CENTS,
    STEP_CENTS,
    NoteSequence,
    degree_histograms,
    interval_histogram,
)

PARTS = 3  # beginning, middle and end: makams differ in their course (seyir) where they share a scale
FORMAT = 1


@dataclass(frozen=True)
class FitShape:
    """How counts of recordings become densities; chosen on training folds only (docs/reports/makam-folds.md)."""

    facts_recordings: float = 1.0  # weight of a mode's facts, in recordings
    off_scale_fraction: float = 0.1  # of intervals, uniformly distributed, so that none is impossible
    off_scale_time_fraction: float = 0.05  # likewise of the time
    interval_smoothing_cents: float = 20.0  # standard deviation


DEFAULT_FIT_SHAPE = FitShape()


@dataclass(frozen=True)
class ModeCounts:
    """Sums over the recordings of one mode: `intervals` [pitch class, interval], `degrees` [PARTS, pitch class]."""

    recordings: int
    intervals: np.ndarray
    degrees: np.ndarray

    def transition_density(self, facts: np.ndarray, shape: FitShape = DEFAULT_FIT_SHAPE) -> np.ndarray:
        """`mode_model.transition_density` [pitch class, interval] of the facts, updated by the recordings."""
        counts = gaussian_filter(self.intervals, shape.interval_smoothing_cents / STEP_CENTS, mode="wrap")
        prior = shape.facts_recordings / CLASSES  # each pitch class has its share of the facts' weight
        density = (counts / STEP_CENTS + prior * facts) / (counts.sum(1, keepdims=True) + prior)
        return (1.0 - shape.off_scale_fraction) * density + shape.off_scale_fraction / 1200.0

    def degree_density(self, facts: np.ndarray, shape: FitShape = DEFAULT_FIT_SHAPE) -> np.ndarray:
        """`mode_model.degree_density` [pitch class] of the facts, updated part by part: [PARTS, pitch class]."""
        density = (self.degrees + shape.facts_recordings * facts) / (self.recordings + shape.facts_recordings)
        return (1.0 - shape.off_scale_time_fraction) * density + shape.off_scale_time_fraction / CLASSES


@dataclass(frozen=True)
class FittedModes:
    """The counts of each mode of one tradition, by the mode's slug."""

    tradition: str
    modes: Mapping[str, ModeCounts] = field(default_factory=dict)

    @property
    def recordings(self) -> int:
        return sum(counts.recordings for counts in self.modes.values())


def fit_modes(tradition: str, melodies: Iterable[tuple[str, NoteSequence]]) -> FittedModes:
    """The counts of recordings given as (slug of the mode, notes in cents above the tonic)."""
    modes: dict[str, ModeCounts] = {}
    for slug, notes in melodies:
        intervals, degrees = interval_histogram(notes), degree_histograms(notes, PARTS)
        before = modes.get(slug)
        modes[slug] = (
            ModeCounts(before.recordings + 1, before.intervals + intervals, before.degrees + degrees)
            if before
            else ModeCounts(1, intervals, degrees)
        )
    return FittedModes(tradition, modes)


def save_fitted(fitted: FittedModes, path: Path) -> None:
    """Write an .npz; the file appears complete or not at all."""
    slugs = sorted(fitted.modes)
    counts = [fitted.modes[slug] for slug in slugs]
    with new_file(path) as new, open(new, "wb") as stream:
        np.savez_compressed(
            stream,
            format=FORMAT,
            tradition=fitted.tradition,
            slugs=np.array(slugs, dtype=str),
            recordings=np.array([each.recordings for each in counts], dtype=np.int64),
            intervals=np.array([each.intervals for each in counts], dtype=np.float32),
            degrees=np.array([each.degrees for each in counts], dtype=np.float32),
        )


def load_fitted(path: Path) -> FittedModes:
    """Read and check an .npz of `save_fitted`; TalimError, in one line, for anything else."""
    hint = "make it with talim modes CORPUS --fit FILE.npz"
    try:
        with np.load(path, allow_pickle=False) as archive:
            values = {key: archive[key] for key in archive.files}
    except FileNotFoundError:
        raise TalimError(f"{path}: no such file; {hint}") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise TalimError(f"{path}: cannot be read as fitted modes: {error}; {hint}") from error
    keys = {"format", "tradition", "slugs", "recordings", "intervals", "degrees"}
    if missing := sorted(keys - values.keys()):
        raise TalimError(f"{path}: is no file of fitted modes (no {missing[0]!r} in it); {hint}")
    if values["format"].size != 1 or values["format"].item() != FORMAT:
        raise TalimError(f"{path}: was written by another version of talim; {hint}")
    count = values["slugs"].size
    shapes = {
        "recordings": (count,),
        "intervals": (count, CLASSES, INTERVALS_CENTS.size),
        "degrees": (count, PARTS, CLASSES),
    }
    for key, shape in shapes.items():
        array = values[key]
        numeric = array.dtype.kind in "fiu" and np.isfinite(array).all() and (array >= 0).all()
        if array.shape != shape or not numeric:
            raise TalimError(f"{path}: {key!r} must be numbers of 0 and more of shape {shape}; {hint}")
    rows = zip(values["slugs"].tolist(), values["recordings"], values["intervals"], values["degrees"], strict=True)
    modes = {slug: ModeCounts(int(n), steps.astype(float), degrees.astype(float)) for slug, n, steps, degrees in rows}
    return FittedModes(str(values["tradition"].item()), modes)
