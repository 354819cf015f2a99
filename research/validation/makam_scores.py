"""Makam recognition from scores of 13 makams, leaving one out, beside what was published for it.

python -m research.validation.makam_scores --scores DIR --out docs/reports/makam-scores.md

DIR is the folder `txt` of MTG/SymbTr, which is not part of the project.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import sparse

from research.docs import markdown
from talim.atomic_io import write_text
from talim.corpus.importers.symbtr import COMMA_CENTS, read_score
from talim.corpus.split_groups import SplitGroups
from talim.errors import TalimError
from talim.evaluation.intervals import wilson_interval
from talim.progress import Progress, default
from talim.traditions import mode_model
from talim.traditions.fitted_modes import PARTS, ModeCounts
from talim.traditions.mode_recognition import DEGREE_WEIGHT, OFF_SCALE_TIME_FRACTION
from talim.traditions.note_transcription import CLASSES, NoteSequence, degree_histograms, interval_histogram
from talim.traditions.tradition import Tradition, load

PAGE = Path("docs/reports/makam-scores.md")
# The most frequent makams of the collection; the last one differs between the two lists.
COMMON = ("hicaz", "nihavent", "ussak", "rast", "huzzam", "segah", "huseyni", "mahur", "hicazkar", "kurdilihicazkar",
          "muhayyer", "saba")  # fmt: skip
LISTS = {"with Beyâti": (*COMMON, "beyati"), "with Acemaşîrân": (*COMMON, "acemasiran")}
SHARED_NOTES = 20  # in a row, at the same pitches: two scores hold the same work, or one an excerpt of the other
MIN_SHARED_PITCHES = 4  # among them
SMALLEST_WEIGHT = 0.015  # of the time, of a note that is counted, as in the shipped usage statistics
HEIGHT_SPREAD_CENTS = 50.0  # added to the spread of a makam's heights
HEIGHT_GRID = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1)  # weight of the heights against the steps; 0: not used
DRAWS = 2000
EXCHANGES = 5
Model = Callable[[int, np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class ScoreTrial:
    """One score: its makam's slug, its last note in commas as written, and its notes in cents above that note."""

    name: str
    makam: str
    last_commas: int
    notes: NoteSequence


def read_trials(folder: Path, makams: Sequence[str], tradition: Tradition, progress: Progress) -> list[ScoreTrial]:
    """The scores of these makams, by their file names; TalimError where a makam has fewer than two."""
    files = [file for file in sorted(folder.glob("*.txt")) if file.name.split("--")[0] in makams]
    trials = []
    for count, file in enumerate(files, start=1):
        score = read_score(file)
        last = round(53 * np.log2(score.karar_hz / 440.0))
        makam = tradition.mode(file.name.split("--")[0]).slug
        trials.append(ScoreTrial(file.stem, makam, last, score.melody()))
        progress.step("scores", count, len(files))
    counts = Counter(file.name.split("--")[0] for file in files)
    if lacking := [makam for makam in makams if counts[makam] < 2]:
        raise TalimError(f"{folder}: fewer than two scores of {', '.join(lacking)}; give the folder txt of SymbTr")
    return trials


def shared_works(trials: Sequence[ScoreTrial]) -> list[str]:
    """A group for each score: scores that have SHARED_NOTES notes in a row in common, directly or through others."""
    groups = SplitGroups()
    for trial in trials:
        pitches = (np.round(trial.notes.cents / COMMA_CENTS).astype(int) + trial.last_commas).tolist()
        groups.union(trial.name, trial.name)
        for start in range(len(pitches) - SHARED_NOTES + 1):
            passage = pitches[start : start + SHARED_NOTES]
            if len(set(passage)) >= MIN_SHARED_PITCHES:
                groups.union(trial.name, f"passage {passage}")
    return [groups.find(trial.name) for trial in trials]


class ScoreHistograms:
    """The histograms of all scores, above the written final of each makam and above their own last note."""

    def __init__(self, trials: Sequence[ScoreTrial], tradition: Tradition) -> None:
        self.trials = trials
        names = {trial.makam for trial in trials}
        self.modes = [mode for mode in tradition.modes if mode.slug in names]
        slugs = [mode.slug for mode in self.modes]
        self.truths = np.array([slugs.index(trial.makam) for trial in trials])
        self.finals = [self._final(makam) for makam in range(len(slugs))]
        offsets = {final: [COMMA_CENTS * (each.last_commas - final) for each in trials] for final in set(self.finals)}
        self._at_final = {final: self._histograms(cents) for final, cents in offsets.items()}
        self._at_last = self._histograms([0.0] * len(trials))

    def _final(self, makam: int) -> int:
        """The written final of a makam, in commas: the last note of more than half of its scores."""
        lasts = Counter(self.trials[row].last_commas % 53 for row in np.flatnonzero(self.truths == makam).tolist())
        final, count = lasts.most_common(1)[0]
        if count <= lasts.total() / 2 + 1:
            raise TalimError(f"the scores of {self.modes[makam].name} end on too many notes to tell its final")
        return final

    def _histograms(self, offsets: Sequence[float]) -> tuple[sparse.csr_matrix, np.ndarray]:
        notes = [replace(t.notes, cents=t.notes.cents + cents) for t, cents in zip(self.trials, offsets, strict=True)]
        steps = sparse.vstack([sparse.csr_matrix(interval_histogram(each).ravel()) for each in notes])
        return sparse.csr_matrix(steps), np.array([degree_histograms(each, PARTS).ravel() for each in notes])

    def of(self, makam: int, as_written: bool = True) -> tuple[sparse.csr_matrix, np.ndarray]:
        """Histograms of steps and degrees [score, ...] above the final of a makam, or above each score's last note."""
        return self._at_final[self.finals[makam]] if as_written else self._at_last

    def counts(self, makam: int, rows: np.ndarray) -> ModeCounts:
        """What `fit_modes` counts in these scores, as scores of a makam."""
        steps, degrees = self.of(makam)
        summed = np.asarray(steps[rows].sum(0)).reshape(CLASSES, -1)
        return ModeCounts(rows.size, summed, degrees[rows].sum(0).reshape(PARTS, CLASSES))

    def weights(self, makam: int, rows: np.ndarray) -> dict[float, float]:
        """The share of time on each comma above the final (cents: share), as in the usage statistics."""
        seconds = np.zeros(53)
        for row in rows:
            trial = self.trials[row]
            commas = np.round(trial.notes.cents / COMMA_CENTS).astype(int) + trial.last_commas - self.finals[makam]
            np.add.at(seconds, commas % 53, trial.notes.seconds)
        shares = seconds / max(seconds.sum(), 1e-12)
        return {comma * COMMA_CENTS: float(share) for comma, share in enumerate(shares) if share >= SMALLEST_WEIGHT}

    def facts(self, makam: int, weights: dict[float, float] | None) -> tuple[np.ndarray, np.ndarray]:
        """The densities of the facts about a makam, of steps and degrees, as `ModeRecognizer` has them."""
        degrees = mode_model.degree_density(self.modes[makam], weights)
        degrees = (1.0 - OFF_SCALE_TIME_FRACTION) * degrees + OFF_SCALE_TIME_FRACTION / CLASSES
        return mode_model.transition_density(self.modes[makam], weights), np.broadcast_to(degrees, (PARTS, CLASSES))


def of_weights(data: ScoreHistograms) -> Model:
    """Models of the facts and the degree weights counted in the training scores."""
    return lambda makam, rows: data.facts(makam, data.weights(makam, rows))


def of_fit(data: ScoreHistograms) -> Model:
    """Models of the facts, updated by the training scores as by recordings."""
    facts = [data.facts(makam, None) for makam in range(len(data.modes))]

    def model(makam: int, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        counts = data.counts(makam, rows)
        return counts.transition_density(facts[makam][0]), counts.degree_density(facts[makam][1][0])

    return model


def leave_out(
    data: ScoreHistograms, model: Model, groups: np.ndarray, labels: np.ndarray | None = None, as_written: bool = True
) -> np.ndarray:
    """The log likelihood of every makam [score, makam], each score's group of `groups` [score] left out of training.

    `labels` [score] are the makams of the training scores, the true ones unless given.
    """
    labels = data.truths if labels is None else labels

    def log_likelihood(makam: int, training: np.ndarray, tested: np.ndarray) -> np.ndarray:
        steps, degrees = model(makam, training)
        histograms = data.of(makam, as_written)
        logs = histograms[0][tested] @ np.log(steps).ravel()
        return logs + DEGREE_WEIGHT * histograms[1][tested] @ np.log(degrees).ravel()

    everything = np.arange(groups.size)
    scores = np.stack([log_likelihood(m, everything[labels == m], everything) for m in range(len(data.modes))], axis=1)
    for group in np.unique(groups):
        tested = everything[groups == group]
        for makam in np.unique(labels[tested]):
            training = everything[(labels == makam) & (groups != group)]
            scores[tested, makam] = log_likelihood(int(makam), training, tested)
    return scores


def heights(data: ScoreHistograms) -> np.ndarray:
    """The mean height of each part of a score above A4, in cents as written: [score, PARTS]."""
    rows = []
    for trial in data.trials:
        seconds = np.minimum(trial.notes.seconds, 1.0)
        part = np.minimum((PARTS * (np.cumsum(seconds) - seconds / 2) / seconds.sum()).astype(int), PARTS - 1)
        cents = trial.notes.cents + COMMA_CENTS * trial.last_commas
        inside = [(part == n) if (part == n).any() else np.ones(part.size, bool) for n in range(PARTS)]
        rows.append([np.average(cents[each], weights=seconds[each]) for each in inside])
    return np.array(rows)


def height_logs(data: ScoreHistograms, groups: np.ndarray) -> np.ndarray:
    """The log density of the heights of each score in every makam [score, makam], its group left out."""
    found, result = heights(data), np.zeros((groups.size, len(data.modes)))
    for group in np.unique(groups):
        tested = np.flatnonzero(groups == group)
        for makam in range(len(data.modes)):
            training = found[(data.truths == makam) & (groups != group)]
            spread = np.eye(PARTS) * HEIGHT_SPREAD_CENTS**2
            spread += np.cov(training.T) if len(training) > 1 else 0.0
            off = found[tested] - training.mean(0)
            square = np.einsum("si,ij,sj->s", off, np.linalg.inv(spread), off)
            result[tested, makam] = -0.5 * square - 0.5 * np.linalg.slogdet(spread)[1]
    return result


def with_heights(scores: np.ndarray, logs: np.ndarray, data: ScoreHistograms, groups: np.ndarray) -> np.ndarray:
    """Scores and heights; in each tenth of the works their weight is the best one on the other nine."""
    _, number = np.unique(groups, return_inverse=True)
    right = np.array([(scores + weight * logs).argmax(1) == data.truths for weight in HEIGHT_GRID])
    result = scores.copy()
    for tenth in range(10):
        tested = number % 10 == tenth
        weight = HEIGHT_GRID[int(right[:, ~tested].sum(1).argmax())]
        result[tested] += weight * logs[tested]
    return result


def mean_recall(right: np.ndarray, truths: np.ndarray, groups: np.ndarray) -> tuple[float, float, float]:
    """The mean over makams of the fraction recognised, with its 95 % interval (bootstrap over the works)."""
    makams = np.unique(truths)
    _, number = np.unique(groups, return_inverse=True)
    hits, total = np.zeros((2, number.max() + 1, makams.size))
    np.add.at(total, (number, np.searchsorted(makams, truths)), 1.0)
    np.add.at(hits, (number, np.searchsorted(makams, truths)), right.astype(float))
    draws = np.random.default_rng(0).multinomial(len(total), np.full(len(total), 1 / len(total)), DRAWS)
    drawn = np.nanmean((draws @ hits) / np.maximum(draws @ total, 1e-12), axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(np.mean(hits.sum(0) / total.sum(0))), float(low), float(high)


def table_row(name: str, chosen: np.ndarray, data: ScoreHistograms, works: np.ndarray) -> list[str]:
    """One line: recall by makam, and all scores together."""
    right = chosen == data.truths
    recall, *limits = mean_recall(right, data.truths, works)
    low, high = wilson_interval(int(right.sum()), right.size)
    return [
        name,
        f"{100 * recall:.1f} % ({100 * limits[0]:.0f} to {100 * limits[1]:.0f})",
        f"{100 * right.mean():.1f} % ({100 * low:.0f} to {100 * high:.0f})",
    ]


def exchanged_row(data: ScoreHistograms, works: np.ndarray) -> list[str]:
    """The control: fitted on scores that have one another's makam; mean and range of EXCHANGES draws."""
    recalls, fractions = [], []
    for draw in range(EXCHANGES):
        labels = np.random.default_rng(draw).permutation(data.truths)
        right = leave_out(data, of_fit(data), works, labels).argmax(1) == data.truths
        recalls.append(100 * mean_recall(right, data.truths, works)[0])
        fractions.append(100 * right.mean())
    cells = [f"{np.mean(each):.1f} % ({min(each):.0f} to {max(each):.0f})" for each in (recalls, fractions)]
    return [f"control: fitted, makams of the scores exchanged, mean and range of {EXCHANGES} draws", *cells]


def measure(trials: Sequence[ScoreTrial], tradition: Tradition) -> tuple[list[list[str]], list[list[str]]]:
    """The rows of the systems and their controls, and those of the confusions of the fitted one."""
    data = ScoreHistograms(trials, tradition)
    works, alone = np.array(shared_works(trials)), np.array([trial.name for trial in trials])
    shipped = [
        dict(tradition.usage[mode.slug].weights) if mode.slug in tradition.usage else None for mode in data.modes
    ]
    fitted = leave_out(data, of_fit(data), works)
    most = np.full(len(trials), np.bincount(data.truths).argmax())
    systems = {
        "facts alone": leave_out(data, lambda makam, _: data.facts(makam, None), works),
        "facts, degree weights counted without the score's work": leave_out(data, of_weights(data), works),
        "fitted on the other scores": leave_out(data, of_fit(data), alone),
        "fitted without the score's work": fitted,
        "the same, heights of the three parts too": with_heights(fitted, height_logs(data, works), data, works),
        "fitted without the score's work, last note as tonic": leave_out(data, of_fit(data), works, as_written=False),
        "control: shipped degree weights, which counted the score itself": leave_out(
            data, lambda makam, _: data.facts(makam, shipped[makam]), works
        ),
    }
    rows = [table_row(name, scores.argmax(1), data, works) for name, scores in systems.items()]
    rows.append(exchanged_row(data, works))
    rows.append(table_row("control: always the most frequent makam", most, data, works))
    return rows, confusion(fitted.argmax(1), data)


def confusion(chosen: np.ndarray, data: ScoreHistograms) -> list[list[str]]:
    """For each makam its scores, how many were recognised, and as what the others."""
    lines = []
    for index, mode in enumerate(data.modes):
        own = data.truths == index
        wrong = Counter(data.modes[other].name for other in chosen[own] if other != index)
        taken = ", ".join(f"{name} {count}" for name, count in wrong.most_common(3))
        lines.append([mode.name, str(own.sum()), str((chosen[own] == index).sum()), taken])
    return lines


def report(folder: Path, tradition: Tradition, progress: Progress) -> str:
    """The whole page, as Markdown."""
    lines = [OPENING]
    head = ("system", "mean recall of 13 makams", "of all scores")
    for name, makams in LISTS.items():
        trials = read_trials(folder, makams, tradition, progress)
        rows, confusions = measure(trials, tradition)
        works = len(set(shared_works(trials)))
        lines += [f"## Thirteen makams, {name}", "", f"{len(trials)} scores of {works} works.", ""]
        lines += [*markdown.table(head, rows), "", "Fitted without the score's work, as written:", ""]
        lines += [*markdown.table(("makam", "scores", "recognised", "most often taken for"), confusions), ""]
    return "\n".join(lines).rstrip() + "\n"


OPENING = f"""# Makam recognition from scores

Scores of MTG/SymbTr (version 2.4.3, `Koma53`: the pitch as played), as melody lines, grace notes left out, recognised
by the model of `talim modes`. The collection is not part of the project.

```sh
python -m research.validation.makam_scores --scores SymbTr/txt
```

Published on this collection: recall 88.7 %, and **90.9 %** with a hierarchy of makams and features of tonic, pitch
level and melodic progression (Ünal, Bozkurt, Karaosmanoğlu, *A hierarchical approach to makam classification of Turkish
makam music, using symbolic data*, Journal of New Music Research 43(1), 2014): 13 makams, leave one out, n-grams of the
notes as written, on the collection as it was then (1700 pieces in 2012, 2200 now). The names of its 13 makams and their
counts could not be read here; twelve are taken to be the most frequent ones, and both candidates for the thirteenth are
measured.

*As written*: the notes are taken at their written pitch, as in the published system, and every makam at its own written
final. *Last note as tonic*: the score may be transposed. *Fitted*: `talim.traditions.fitted_modes`, as for recordings,
with its default settings and those of `talim modes`, which were chosen on recordings of other data
([the folds](makam-folds.md)); no setting was chosen on scores, but for the weight of the heights: in each tenth of the
works the best one on the other nine. *Work*: scores that share {SHARED_NOTES} notes in a row are left out together; the
collection holds some interludes also as scores of their own. *Heights*: the mean written pitch of the beginning, the
middle and the end. *Exchanged*: models of mixed makams are alike, so that a draw sends all scores of one scale to one
makam; hence its range. The makams have the same prior. Intervals are 95 %: bootstrap over works, and Wilson. Chance is
8 %.
"""


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description="Makam recognition from scores.")
    parser.add_argument("--scores", type=Path, required=True, help="folder txt of SymbTr")
    parser.add_argument("--out", type=Path, default=PAGE, help="the page to write, Markdown")
    options = parser.parse_args()
    write_text(options.out, report(options.scores, load("makam"), default()))


if __name__ == "__main__":
    main()
