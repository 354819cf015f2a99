"""Designs x seeds x recordings tables of one measure: means, the error of a difference, and bootstrap resamples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from talim.evaluation.intervals import Effect, mean_square_of_error, two_way_effect
from talim.experiments.effects import pooled_error
from talim.experiments.results import BaseModelResults

RESAMPLES = 2000


@dataclass(frozen=True)
class CrossedTable:
    """A measure of designs on the same seeds and recordings, float [designs, seeds, recordings]."""

    designs: Sequence[str]
    values: np.ndarray
    recordings: Sequence[str]
    seeds: Sequence[int]

    @property
    def means(self) -> np.ndarray:
        """Each design's mean, float [designs]."""
        return self.values.mean(axis=(1, 2))

    def design_effect(self, design: str) -> Effect:
        """A design's own mean with its error over seeds and recordings."""
        return two_way_effect(self.values[self.designs.index(design)])

    def error_components(self) -> ErrorComponents:
        """The error of a difference between any two of the designs, pooled over all of them.

        The mean squares of the interactions design x seed, design x recording and of the residual give
        Var(difference) = 2 (MS_ds + MS_dr - MS_residual) / (seeds x recordings), which for two designs equals
        `intervals.two_way_effect`, with Satterthwaite's degrees of freedom. It is at least what the larger of the first
        two gives alone.
        """
        y = self.values
        designs, seeds, recordings = y.shape
        if designs < 2 or seeds * recordings < 2:
            return ErrorComponents(float("nan"), 1.0, float("nan"), float("nan"))
        y = y - y.mean(axis=0)  # main effects of seeds and recordings are common to all designs
        own = y.mean(axis=(1, 2), keepdims=True)
        by_seed, by_recording = y.mean(axis=2, keepdims=True) - own, y.mean(axis=1, keepdims=True) - own
        residual = y - own - by_seed - by_recording
        df = (designs - 1) * np.array([seeds - 1, recordings - 1, (seeds - 1) * (recordings - 1)])
        sums = [recordings * np.square(by_seed).sum(), seeds * np.square(by_recording).sum(), np.square(residual).sum()]
        mean_squares = np.array([total / n if n else 0.0 for total, n in zip(sums, df, strict=True)])
        mean_square, error_df = mean_square_of_error(mean_squares, df)
        scale = 2 / (seeds * recordings)
        by_seeds, by_recordings = (float(scale * square) for square in mean_squares[:2])
        return ErrorComponents(float(np.sqrt(scale * mean_square)), error_df, by_seeds, by_recordings)


@dataclass(frozen=True)
class ErrorComponents:
    """Standard error of a difference, its degrees of freedom, and the variance components of seeds and recordings."""

    error: float
    df: float
    by_seeds: float
    by_recordings: float

    def quantile(self, p: float) -> float:
        """The difference that is exceeded by chance with probability `p` (one-sided)."""
        return self.error * float(stats.t.isf(p, self.df))

    def p_values(self, differences: np.ndarray) -> np.ndarray:
        """One-sided p values of differences against 0."""
        if self.error == 0:
            return np.where(np.asarray(differences) > 0, 0.0, 1.0)
        return stats.t.sf(np.asarray(differences) / self.error, self.df)


def crossed_table(results: BaseModelResults, measure: str) -> CrossedTable | None:
    """The largest full table of a measure, of the recordings that all of its trials have; None if there is none."""
    cells: dict[str, dict[int, dict[str, float]]] = {}
    for trial in results.trials:
        if values := trial.values(measure):
            cells.setdefault(trial.design, {})[trial.seed] = values
    designs, seeds = _largest_full_table(cells)
    names = [set(cells[design][seed]) for design in designs for seed in seeds]
    recordings = sorted(set.intersection(*names)) if names else []
    if not recordings:
        return None
    order = [design for design in results.designs if design in designs]
    values = [[[cells[d][s][name] for name in recordings] for s in seeds] for d in order]
    return CrossedTable(order, np.array(values, float), recordings, seeds)


def _largest_full_table(cells: dict[str, dict[int, dict[str, float]]]) -> tuple[list[str], list[int]]:
    """Designs and seeds of the largest full table; of equally large ones that with more designs."""
    counts = Counter(seed for by_seed in cells.values() for seed in by_seed)
    ranked = sorted(counts, key=lambda seed: (-counts[seed], seed))
    best: tuple[list[str], list[int]] = ([], [])
    for n in range(1, len(ranked) + 1):
        seeds = sorted(ranked[:n])
        designs = [design for design, by_seed in cells.items() if set(seeds) <= set(by_seed)]
        if len(designs) * n > len(best[0]) * len(best[1]):
            best = designs, seeds
    return best


def shared_designs(tables: Sequence[CrossedTable]) -> list[str]:
    """The designs that all tables have, in the order of the first."""
    return [design for design in tables[0].designs if all(design in table.designs for table in tables)]


def pool_tables(tables: Sequence[CrossedTable]) -> tuple[list[str], np.ndarray, ErrorComponents]:
    """Designs that all tables have, their mean over the tables, and the error of a difference of two such means."""
    shared = shared_designs(tables)
    means = np.mean([[table.means[table.designs.index(d)] for d in shared] for table in tables], axis=0)
    parts = [table.error_components() for table in tables]
    error, df = pooled_error([part.error for part in parts], [part.df for part in parts])
    by_seeds = sum(part.by_seeds for part in parts) / len(parts) ** 2
    by_recordings = sum(part.by_recordings for part in parts) / len(parts) ** 2
    return shared, means, ErrorComponents(error, df, by_seeds, by_recordings)


def bootstrap_means(tables: Sequence[CrossedTable], designs: Sequence[str], rng: np.random.Generator) -> np.ndarray:
    """Means of designs over resamples of seeds and recordings with replacement, float [RESAMPLES, designs]."""
    total = np.zeros((RESAMPLES, len(designs)))
    for table in tables:
        values = table.values[[table.designs.index(design) for design in designs]]
        _, seeds, recordings = values.shape
        seed_weights = rng.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES) / seeds
        recording_weights = rng.multinomial(recordings, np.full(recordings, 1 / recordings), RESAMPLES) / recordings
        total += np.einsum("dsr,bs,br->bd", values, seed_weights, recording_weights, optimize=True)
    return total / len(tables)
