"""Makam recognition on 1000 recordings of 20 makams and ten published folds, beside what was published on them.

python -m research.validation.makam_folds --pitch DIR --folds folds.json --out docs/reports/makam-folds.md

DIR is the `data` folder of MTG/otmm_makam_recognition_dataset, folds.json that of
sertansenturk/makam_recognition_experiments. Neither is part of the project.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.special import logsumexp

from talim.atomic_io import write_text
from talim.errors import TalimError
from talim.evaluation.intervals import wilson_interval
from talim.progress import Progress, default
from talim.traditions import note_transcription
from talim.traditions.fitted_modes import PARTS, FitShape, FittedModes, ModeCounts, fit_modes
from talim.traditions.mode_model import cents_distance
from talim.traditions.mode_recognition import DEGREE_WEIGHT, EFFECTIVE_SAMPLE_SIZE, ModeRecognizer, tonic_log_prob
from talim.traditions.note_transcription import CLASSES, STEP_CENTS, NoteSequence, degree_histograms, interval_histogram
from talim.traditions.tradition import Tradition, load

PAGE = Path("docs/reports/makam-folds.md")
HOP_SECONDS = 128 / 44100  # of the pitch tracks
ON_TONIC_CENTS = 25.0
GIVEN_TONIC_CENTS = 25.0  # how far a given tonic may be moved to fit the notes
LOWEST_HZ = 20.0  # below: unvoiced
FACTS_GRID, SMOOTHING_GRID, DEGREE_GRID, SIZE_GRID = (
    (0.3, 1.0, 3.0),
    (10.0, 20.0, 30.0),
    (0.1, 0.3, 1.0),
    (10.0, 20.0, 40.0),
)
PUBLISHED = {"makam, tonic given": "71.8 %", "tonic, makam given": "95.8 %", "both unknown": "63.6 %"}


@dataclass(frozen=True)
class FoldTrial:
    """One recording: its fold, the makam's slug, and its notes in cents above the annotated tonic."""

    name: str
    fold: int
    makam: str
    notes: NoteSequence


@dataclass(frozen=True)
class Settings:
    """One point of the grid that is searched inside the training folds."""

    shape: FitShape
    degree_weight: float
    sample_size: float


def read_trials(
    pitch: Path, folds: Path, tradition: Tradition, progress: Progress
) -> tuple[list[FoldTrial], list[str]]:
    """Every recording of the folds whose pitch track is there, and the names of those without."""
    content = json.loads(folds.read_text(encoding="utf-8"))
    rows = [(row, int(number)) for number, sides in content for row in sides["testing"]]
    trials, missing = [], []
    for count, (row, fold) in enumerate(rows, start=1):
        file = pitch / row["mode"] / f"{row['source']}.pitch"
        if not file.is_file():
            missing.append(row["source"])
            continue
        hz = np.array(file.read_text().split(), float)
        cents = 1200 * np.log2(np.where(hz > LOWEST_HZ, hz, np.nan) / float(row["tonic"]))
        notes = note_transcription.transcribe_notes(cents, HOP_SECONDS)
        trials.append(FoldTrial(row["source"], fold, tradition.mode(row["mode"]).slug, notes))
        progress.step("pitch tracks", count, len(rows))
    if not trials:
        raise TalimError(f"{pitch}: none of the recordings of {folds} is here; give the data set's folder `data`")
    return trials, missing


def fit(trials: Sequence[FoldTrial], tradition: Tradition) -> FittedModes:
    """What these recordings add to the facts."""
    return fit_modes(tradition.slug, ((trial.makam, trial.notes) for trial in trials))


def search_grid() -> list[Settings]:
    """All settings that are tried inside the training folds."""
    points = itertools.product(FACTS_GRID, SMOOTHING_GRID, DEGREE_GRID, SIZE_GRID)
    return [
        Settings(FitShape(facts_recordings=facts, interval_smoothing_cents=smoothing), degree, size)
        for facts, smoothing, degree, size in points
    ]


class Histograms:
    """The histograms of all recordings, read once, and the counts of any set of folds."""

    def __init__(self, trials: Sequence[FoldTrial], tradition: Tradition) -> None:
        self.trials, self.tradition = trials, tradition
        self.makams = [mode.slug for mode in tradition.modes]
        self.truths = np.array([self.makams.index(trial.makam) for trial in trials])
        self.folds = np.array([trial.fold for trial in trials])
        self.intervals = np.array([interval_histogram(trial.notes).ravel() for trial in trials], np.float32)
        self.degrees = np.array([degree_histograms(trial.notes, PARTS).ravel() for trial in trials], np.float32)
        self._by_fold = {
            fold: fit([t for t in trials if t.fold == fold], tradition) for fold in sorted(set(self.folds))
        }

    def without(self, *folds: int) -> FittedModes:
        """The counts of all recordings outside these folds."""
        return add_counts([fitted for fold, fitted in self._by_fold.items() if fold not in folds])

    def log_likelihoods(self, recognizer: ModeRecognizer, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean log density of the steps, and of the degrees, of some recordings at their tonic: [row, makam] each."""
        steps = recognizer.step_log_density.reshape(len(self.makams), -1)
        degrees = recognizer.degree_log_density.reshape(len(self.makams), -1)
        return self.intervals[rows] @ steps.T, self.degrees[rows] @ degrees.T.astype(np.float32)


def add_counts(parts: Sequence[FittedModes]) -> FittedModes:
    """The counts of several disjoint sets of recordings."""
    modes: dict[str, ModeCounts] = {}
    for slug, counts in itertools.chain.from_iterable(part.modes.items() for part in parts):
        if before := modes.get(slug):
            total = before.recordings + counts.recordings
            counts = ModeCounts(total, before.intervals + counts.intervals, before.degrees + counts.degrees)
        modes[slug] = counts
    return FittedModes(parts[0].tradition, modes)


def choose_settings(data: Histograms, progress: Progress) -> dict[int, Settings]:
    """For every fold the settings that are best on the other nine, each recognised without its own fold and this one.

    Best is the largest number of makams recognised, tonic given; among equals, which differ in how sure they are, the
    highest mean log posterior of the true makam.
    """
    folds = sorted(set(data.folds.tolist()))
    settings, pairs = search_grid(), list(itertools.combinations(folds, 2))
    recognised = {fold: np.zeros(len(settings), int) for fold in folds}
    log_posteriors = {fold: np.zeros(len(settings)) for fold in folds}
    shapes = list(dict.fromkeys(each.shape for each in settings))
    for count, (first, second) in enumerate(pairs, start=1):
        fitted = data.without(first, second)
        for shape in shapes:
            recognizer = ModeRecognizer([data.tradition], fitted=[fitted], fit_shape=shape, use_mode_counts=False)
            for out, tested in ((first, second), (second, first)):
                rows = np.flatnonzero(data.folds == tested)
                steps, degrees = data.log_likelihoods(recognizer, rows)
                for index, each in enumerate(settings):
                    if each.shape == shape:
                        logs = each.sample_size * (steps + each.degree_weight * degrees)
                        logs = logs - np.asarray(logsumexp(logs, axis=1, keepdims=True))
                        log_posteriors[out][index] += logs[np.arange(rows.size), data.truths[rows]].sum()
                        recognised[out][index] += int((logs.argmax(1) == data.truths[rows]).sum())
        progress.step("settings inside the training folds", count, len(pairs))
    return {fold: settings[int(np.lexsort((log_posteriors[fold], recognised[fold]))[-1])] for fold in folds}


@dataclass(frozen=True)
class Outcome:
    """Which recordings are right, bool [recording] each."""

    makam: np.ndarray  # tonic given
    in_three: np.ndarray
    tonic: np.ndarray  # makam given
    both: np.ndarray  # neither given
    tonic_of_both: np.ndarray
    makam_of_both: np.ndarray


def recognise(recognizers: Mapping[int, ModeRecognizer], data: Histograms, sizes: Mapping[int, float]) -> Outcome:
    """Every recording by the recogniser of its fold, in the three protocols."""
    off_cents = np.abs(cents_distance(np.arange(CLASSES) * STEP_CENTS, 0.0))
    given = np.where(off_cents <= GIVEN_TONIC_CENTS, 0.0, -np.inf)
    rows = []
    for trial, truth in zip(data.trials, data.truths, strict=True):
        recognizer = recognizers[trial.fold]
        likelihood = sizes[trial.fold] * recognizer.fit(trial.notes) + recognizer.prior
        free = likelihood + tonic_log_prob(trial.notes)[:, None]
        with_tonic = logsumexp(likelihood + given[:, None], axis=0)
        rank = int((with_tonic >= with_tonic[truth]).sum())
        tonic, makam = np.unravel_index(int(free.argmax()), free.shape)
        on_tonic = off_cents <= ON_TONIC_CENTS
        rows.append(
            (
                rank == 1,
                rank <= 3,
                on_tonic[free[:, truth].argmax()],
                on_tonic[tonic] and makam == truth,
                on_tonic[tonic],
                makam == truth,
            )
        )
    return Outcome(*np.array(rows).T)


def table_row(name: str, outcome: Outcome) -> str:
    """One line of the page's table."""
    cells = (outcome.makam, outcome.in_three, outcome.tonic, outcome.both, outcome.tonic_of_both, outcome.makam_of_both)
    return " | ".join([f"| {name}", *(_percent(each) for each in cells)]) + " |"


def _percent(right: np.ndarray) -> str:
    low, high = wilson_interval(int(right.sum()), right.size)
    return f"{100 * right.mean():.1f} % ({100 * low:.0f} to {100 * high:.0f})"


def restricted(tradition: Tradition, trials: Sequence[FoldTrial]) -> Tradition:
    """The tradition with the makams of these recordings only."""
    makams = {trial.makam for trial in trials}
    return replace(tradition, modes=tuple(mode for mode in tradition.modes if mode.slug in makams))


def confusion(recognizers: Mapping[int, ModeRecognizer], data: Histograms) -> list[str]:
    """For each makam, how many of its recordings were recognised and as what the others, tonic given."""
    lines = ["| makam | recordings | recognised | most often taken for |", "|---|---|---|---|"]
    best = np.array([recognizers[t.fold].fit(t.notes)[0].argmax() for t in data.trials])
    for index, mode in enumerate(data.tradition.modes):
        own = data.truths == index
        wrong = Counter(data.tradition.modes[other].name for other in best[own] if other != index)
        taken = ", ".join(f"{name} {count}" for name, count in wrong.most_common(3))
        lines.append(f"| {mode.name} | {own.sum()} | {(best[own] == index).sum()} | {taken} |")
    return lines


def report(trials: Sequence[FoldTrial], missing: Sequence[str], tradition: Tradition, progress: Progress) -> str:
    """The whole page, as Markdown."""
    twenty = restricted(tradition, trials)
    data, all_data = Histograms(trials, twenty), Histograms(trials, tradition)
    chosen = choose_settings(data, progress)
    sizes = {fold: each.sample_size for fold, each in chosen.items()}
    default_sizes = dict.fromkeys(chosen, EFFECTIVE_SAMPLE_SIZE)
    fitted = {fold: data.without(fold) for fold in chosen}

    def of_folds(one: Tradition) -> dict[int, ModeRecognizer]:
        return {
            fold: ModeRecognizer(
                [one],
                fitted=[fitted[fold]],
                fit_shape=each.shape,
                degree_weight=each.degree_weight,
                use_mode_counts=False,
            )
            for fold, each in chosen.items()
        }

    def of_facts(one: Tradition, use_mode_counts: bool = False) -> dict[int, ModeRecognizer]:
        return dict.fromkeys(chosen, ModeRecognizer([one], use_mode_counts=use_mode_counts))

    learnt = of_folds(twenty)
    rows = [
        table_row("facts alone, 20 makams", recognise(of_facts(twenty), data, default_sizes)),
        table_row("facts alone, all makams", recognise(of_facts(tradition, False), all_data, default_sizes)),
        table_row(
            "facts alone, all makams, as often as in the repertoire",
            recognise(of_facts(tradition, True), all_data, default_sizes),
        ),
        table_row("facts and training folds, 20 makams", recognise(learnt, data, sizes)),
        table_row("facts and training folds, all makams", recognise(of_folds(tradition), all_data, sizes)),
        table_row("the same, makams of the recordings exchanged", recognise(of_shuffled(data, chosen), data, sizes)),
    ]
    used = Counter(chosen.values())
    settings = "\n".join(
        f"| {count} | {each.shape.facts_recordings:g} | {each.shape.interval_smoothing_cents:g} | "
        f"{each.degree_weight:g} | {each.sample_size:g} |"
        for each, count in used.most_common()
    )
    names = "".join(f"\n- {name}" for name in missing)
    lost = f"{len(missing)} recordings of the folds have no pitch track in the data set any more:\n{names}"
    return PAGE_TEXT.format(
        count=len(trials),
        lost=lost if missing else "All recordings of the folds are there.",
        all=len(tradition.modes),
        rows="\n".join(rows),
        published=", ".join(PUBLISHED.values()),
        settings=settings,
        default=f"{DEGREE_WEIGHT:g} and {EFFECTIVE_SAMPLE_SIZE:g}",
        confusion="\n".join(confusion(learnt, data)),
    )


def of_shuffled(data: Histograms, chosen: Mapping[int, Settings]) -> dict[int, ModeRecognizer]:
    """The control: recognisers of training folds whose recordings have one another's makam."""
    makams = np.random.default_rng(0).permutation([trial.makam for trial in data.trials]).tolist()
    mixed = [replace(trial, makam=makam) for trial, makam in zip(data.trials, makams, strict=True)]
    exchanged = Histograms(mixed, data.tradition)
    return {
        fold: ModeRecognizer(
            [data.tradition], fitted=[exchanged.without(fold)], fit_shape=each.shape, use_mode_counts=False
        )
        for fold, each in chosen.items()
    }


PAGE_TEXT = """# Makam recognition on ten published folds

{count} recordings of 20 makams (pitch tracks of `MTG/otmm_makam_recognition_dataset`), in the ten stratified folds of
`sertansenturk/makam_recognition_experiments`, with the tonics that the folds name. Neither is part of the project.
{lost}

```sh
python -m research.validation.makam_folds --pitch DATA --folds folds.json
```

Each cell is the fraction of recordings, with its 95 % interval (Wilson). *Tonic given*: at most 25 cents off. *Makam
given*: the tonic is found within 25 cents, in any octave. Chance for a makam is 5 % among 20.

| system | makam, tonic given | among three | tonic, makam given | both, neither given | its tonic | its makam |
|---|---|---|---|---|---|---|
{rows}

The best published figures on these folds are {published} (makam with the tonic given, tonic with the
makam given, both; Karakurt, Şentürk, Serra: MORTY, DLfM 2016), each the best of 1728 settings on the test folds.

*Facts alone* learnt from no recording. Their degree weights are counts over 2200 scores, which may hold works that are
performed here. *Facts and training folds* adds the histograms of intervals and degrees of the nine other folds
(`talim.traditions.fitted_modes`, `talim modes --fit`); of the {all} candidates of the whole list 20 have recordings.
*Exchanged*: the same with the makams of the training recordings exchanged at random; it shows what a fit without
information reaches.

Settings were chosen inside the nine training folds, each recording recognised without its own fold, by the number of
makams recognised, tonic given, and among equals by the mean log posterior of the true one:

| folds | weight of the facts, in recordings | smoothing of intervals, in cents | weight of degrees | sample size |
|---|---|---|---|---|
{settings}

What is not in this grid was set once, with all folds in view: three parts, the smoothing of degrees (25 cents), 0.1 of
intervals and 0.05 of the time off the scale, and, for facts alone, {default} for
the weight of degrees and the sample size.

## By makam

Facts and training folds, 20 makams, tonic given:

{confusion}
"""


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description="Makam recognition on the published folds.")
    parser.add_argument("--pitch", type=Path, required=True, help="folder with MAKAM/*.pitch")
    parser.add_argument("--folds", type=Path, required=True, help="folds.json")
    parser.add_argument("--out", type=Path, default=PAGE, help="the page to write, Markdown")
    options = parser.parse_args()
    tradition, progress = load("makam"), default()
    trials, missing = read_trials(options.pitch, options.folds, tradition, progress)
    write_text(options.out, report(trials, missing, tradition, progress))


if __name__ == "__main__":
    main()
