"""How large an effect is, and how sure that is: over trials and recordings at once, and over many questions at once.

Pairs of trials that differ in one thing are judged on the same recordings, so what they differ by is a table of pairs
by recordings. Both are samples: other seeds, and other recordings, would have given other numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

POWER = 0.8


@dataclass(frozen=True)
class Effect:
    """A mean with its standard error, in the unit of what was averaged."""

    mean: float
    error: float  # the mean's standard error; nan where a single number leaves it unknown
    freedom: float  # degrees of freedom of that error
    pairs: int
    recordings: int

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The t interval that covers the true mean in `level` of such studies; (nan, nan) if it is unknown."""
        half = self.error * float(stats.t.ppf((1 + level) / 2, self.freedom))
        return self.mean - half, self.mean + half

    @property
    def chance(self) -> float:
        """How often a mean at least as far from 0 arises where there is no effect (two-sided p, 0 to 1)."""
        if self.error == 0:
            return float(self.mean == 0)
        return float(2 * stats.t.sf(abs(self.mean) / self.error, self.freedom))

    def min_detectable_effect(self, level: float = 0.95) -> float:
        """The smallest true effect that such a study tells from 0 in four of five cases, its sign known."""
        quantiles = stats.t.ppf([(1 + level) / 2, POWER], self.freedom)
        return float(self.error * quantiles.sum())


def two_way_effect(differences: np.ndarray) -> Effect:
    """The mean of differences, float [pairs, recordings], both of them samples.

    Its variance is (MS_pairs + MS_recordings - MS_rest) / (pairs * recordings), the expected mean squares of a crossed
    random-effects design solved for the grand mean, with Satterthwaite's degrees of freedom (Satterthwaite 1946;
    Clark 1973). It is never taken to be less than what the larger of the first two gives alone. With one pair, or one
    recording, only the other one is taken to be a sample, and the report must say so. ValueError for anything missing.
    """
    table = np.asarray(differences, float)
    if table.ndim != 2 or not table.size or not np.isfinite(table).all():
        raise ValueError("differences must be a full table [pairs, recordings] of finite numbers")
    pairs, recordings = table.shape
    mean = float(table.mean())
    if pairs == 1 or recordings == 1:
        flat = table.ravel()
        error = float(flat.std(ddof=1) / np.sqrt(flat.size)) if flat.size > 1 else float("nan")
        return Effect(mean, error, max(flat.size - 1, 1), pairs, recordings)
    by_pair, by_recording = table.mean(1), table.mean(0)
    rest = table - by_pair[:, None] - by_recording[None] + mean
    squares = np.array(
        [
            recordings * by_pair.var(ddof=1),
            pairs * by_recording.var(ddof=1),
            float(np.square(rest).sum()) / ((pairs - 1) * (recordings - 1)),
        ]
    )
    freedom = np.array([pairs - 1, recordings - 1, (pairs - 1) * (recordings - 1)])
    both = float(squares[0] + squares[1] - squares[2])
    larger = int(np.argmax(squares[:2]))
    if both <= squares[larger]:
        return Effect(mean, _root(squares[larger] / table.size), float(freedom[larger]), pairs, recordings)
    spread = float((np.square(squares) / freedom).sum())
    return Effect(mean, _root(both / table.size), max(both**2 / spread, 1.0), pairs, recordings)


def pooled_effect(parts: Sequence[Effect]) -> Effect:
    """The mean of effects in groups that share no recordings (genres, bases), each counting the same."""
    if not parts:
        raise ValueError("no effect to take the mean of")
    variances = np.array([part.error**2 for part in parts])
    total = float(variances.sum())
    freedom = np.array([part.freedom for part in parts])
    spread = float((np.square(variances) / freedom).sum())
    return Effect(
        float(np.mean([part.mean for part in parts])),
        _root(total) / len(parts),
        total**2 / spread if spread > 0 else float(freedom.sum()),
        sum(part.pairs for part in parts),
        sum(part.recordings for part in parts),
    )


def holm_adjusted(chances: Sequence[float]) -> list[float]:
    """Adjusted p values of questions asked together: the chance of any false answer stays below each (Holm 1979)."""
    order = np.argsort(chances)
    adjusted = np.empty(len(chances))
    worst = 0.0
    for rank, index in enumerate(order):
        worst = max(worst, min(1.0, (len(chances) - rank) * float(chances[index])))
        adjusted[index] = worst
    return adjusted.tolist()


def _root(value: float) -> float:
    return float(np.sqrt(max(value, 0.0)))
