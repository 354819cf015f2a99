"""Designs side by side: one number per design, seed and recording, what they differ by, and how sure that is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from talim.experiments.effects import Effect, two_way_effect
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

    def level(self, design: str) -> Effect:
        """A design's own mean with its error over seeds and recordings."""
        return two_way_effect(self.values[self.designs.index(design)])

    def spread(self) -> ErrorComponents:
        """The error of a difference between any two of the designs, estimated from all of them.

        Each design, with its own luck by seed and by recording, is one draw: the mean squares of the interactions
        design x seed, design x recording and of the rest give Var(difference) = 2 (MS_ds + MS_dr - MS_rest) / (seeds x
        recordings), which for two designs is `effects.crossed`, with Satterthwaite's degrees of freedom. It is never
        taken to be less than what the larger of the first two gives alone.
        """
        y = self.values
        designs, seeds, recordings = y.shape
        if designs < 2 or seeds * recordings < 2:
            return ErrorComponents(float("nan"), 1.0, float("nan"), float("nan"))
        y = y - y.mean(axis=0)  # seeds and recordings on their own are the same for all designs
        own = y.mean(axis=(1, 2), keepdims=True)
        by_seed, by_recording = y.mean(axis=2, keepdims=True) - own, y.mean(axis=1, keepdims=True) - own
        rest = y - own - by_seed - by_recording
        freedom = (designs - 1) * np.array([seeds - 1, recordings - 1, (seeds - 1) * (recordings - 1)])
        sums = [
            recordings * np.square(by_seed).sum(),
            seeds * np.square(by_recording).sum(),
            np.square(rest).sum(),
        ]
        squares = np.array([total / n if n else 0.0 for total, n in zip(sums, freedom, strict=True)])
        larger = int(np.argmax(squares[:2]))
        both = float(squares[0] + squares[1] - squares[2]) if freedom.all() else 0.0
        if both <= squares[larger]:
            both, degrees = float(squares[larger]), float(freedom[larger])
        else:
            known = freedom > 0
            degrees = both**2 / float((np.square(squares[known]) / freedom[known]).sum())
        scale = 2 / (seeds * recordings)
        error = float(np.sqrt(scale * both))
        return ErrorComponents(error, max(degrees, 1.0), float(scale * squares[0]), float(scale * squares[1]))


@dataclass(frozen=True)
class ErrorComponents:
    """Standard error of a difference, its degrees of freedom, and the parts of its square by seeds and recordings."""

    error: float
    freedom: float
    by_seeds: float
    by_recordings: float

    def quantile(self, chance: float) -> float:
        """How far above 0 a difference comes by luck with this chance (one-sided)."""
        return self.error * float(stats.t.isf(chance, self.freedom))

    def exceedance(self, differences: np.ndarray) -> np.ndarray:
        """One-sided p values of differences, against there being none above 0."""
        if self.error == 0:
            return np.where(np.asarray(differences) > 0, 0.0, 1.0)
        return stats.t.sf(np.asarray(differences) / self.error, self.freedom)


def crossed_table(table: BaseModelResults, measure: str, minus: str | None = None) -> CrossedTable | None:
    """The measure's field in a table: the seeds that leave most in it, the recordings that all of it has; else None."""
    cells: dict[str, dict[int, dict[str, float]]] = {}
    for row in table.rows:
        found = dict(row.trial.measures.get(measure, {}))
        if minus is not None:
            other = row.trial.measures.get(minus, {})
            found = {name: value - other[name] for name, value in found.items() if name in other}
        if found:
            cells.setdefault(row.design, {})[row.seed] = found
    designs, seeds = _largest_full_table(cells)
    if not designs:
        return None
    kept = [cells[design][seed] for design in designs for seed in seeds]
    recordings = sorted(set.intersection(*(set(cell) for cell in kept)))
    if not recordings:
        return None
    order = [design for design in table.designs if design in designs]
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


def pool_tables(fields: Sequence[CrossedTable]) -> tuple[list[str], np.ndarray, ErrorComponents]:
    """Designs that all fields have, their mean over the fields, and the error of a difference of two such means."""
    everywhere = [d for d in fields[0].designs if all(d in field.designs for field in fields)]
    means = np.mean([[field.means[field.designs.index(d)] for d in everywhere] for field in fields], axis=0)
    parts = [field.spread() for field in fields]
    squares = np.array([part.error**2 for part in parts])
    total, count = float(squares.sum()), len(parts)
    freedom = np.array([part.freedom for part in parts])
    weight = float((np.square(squares) / freedom).sum())
    degrees = total**2 / weight if weight > 0 else float(freedom.sum())
    by_seeds, by_recordings = (
        sum(getattr(part, name) for part in parts) / count**2 for name in ("by_seeds", "by_recordings")
    )
    return everywhere, means, ErrorComponents(float(np.sqrt(total)) / count, degrees, by_seeds, by_recordings)


def bootstrap_means(
    fields: Sequence[CrossedTable], designs: Sequence[str], rng: np.random.Generator
) -> np.ndarray:
    """Means of designs if seeds and recordings were drawn again with replacement, float [RESAMPLES, designs]."""
    total = np.zeros((RESAMPLES, len(designs)))
    for field in fields:
        chosen = field.values[[field.designs.index(design) for design in designs]]
        _, seeds, recordings = chosen.shape
        of_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES) / seeds
        of_recordings = (
            rng.multinomial(recordings, np.full(recordings, 1 / recordings), RESAMPLES) / recordings
        )
        total += np.einsum("dsr,bs,br->bd", chosen, of_seeds, of_recordings, optimize=True)
    return total / len(fields)
