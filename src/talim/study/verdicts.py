"""Supported, contradicted or undecided: what a study's trials say of each claim.

Two trials are a pair if they differ in what is compared alone: base, genre, site, size and seed are the same. An effect
is the mean difference over pairs and recordings, both of them samples, so that it holds for places and sizes at large;
its t interval is widened for the number of claims (Bonferroni). "more" is supported if the interval lies above 0 and
its middle reaches the smallest difference of interest, contradicted if the interval lies below that difference; "no
more" is the reverse. Anything else is undecided, and then the smallest effect that such a study would have seen is part
of the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from talim.study.claims import Claim, Claims, Comparison
from talim.study.effects import Effect, crossed, together

SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "undecided"
REVERSE = {SUPPORTED: CONTRADICTED, CONTRADICTED: SUPPORTED, UNDECIDED: UNDECIDED}


@dataclass(frozen=True)
class Trial:
    """One run: its factors, its seed, and each measure by recording (or by prompt, or once)."""

    factors: Mapping[str, Any]
    seed: int
    measures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def of(self, wanted: Mapping[str, Any]) -> bool:
        """Whether all these factors are the trial's own."""
        return all(self.factors.get(name) == value for name, value in wanted.items())


@dataclass(frozen=True)
class Finding:
    """What one comparison gave. `effect` is None where there is nothing to compare, and `why` says why."""

    comparison: Comparison
    effect: Effect | None
    level: float
    verdict: str
    why: str = ""

    def told(self) -> dict[str, Any]:
        """As it is written to JSON."""
        row: dict[str, Any] = self.comparison.model_dump(exclude_defaults=True) | {"verdict": self.verdict}
        if self.effect is None:
            return row | {"why": self.why}
        low, high = self.effect.interval(self.level)
        row |= {"mean": self.effect.mean, "low": low, "high": high, "level": self.level}
        row |= {"p": self.effect.chance, "pairs": self.effect.pairs, "recordings": self.effect.recordings}
        return row | {"smallest_visible": self.effect.visible(self.level)}


def judge(trials: Sequence[Trial], claims: Claims) -> list[dict[str, Any]]:
    """A row for every claim: "id", "says", "verdict", and the "findings" that it rests on."""
    level = 1 - (1 - claims.level) / len(claims.claims)
    return [_row(claim, [find(trials, each, level) for each in claim.comparisons]) for claim in claims.claims]


def _row(claim: Claim, findings: Sequence[Finding]) -> dict[str, Any]:
    """A claim of several parts is supported if all are, contradicted if one is (intersection-union)."""
    verdicts = {finding.verdict for finding in findings}
    verdict = CONTRADICTED if CONTRADICTED in verdicts else UNDECIDED if UNDECIDED in verdicts else SUPPORTED
    told = [finding.told() for finding in findings]
    return {"id": claim.id, "says": claim.says, "verdict": verdict, "findings": told}


def find(trials: Sequence[Trial], comparison: Comparison, level: float) -> Finding:
    """The effect of one comparison and what follows from it."""
    try:
        effect = effect_of(trials, comparison)
    except Nothing as why:
        return Finding(comparison, None, level, UNDECIDED, str(why))
    low, high = effect.interval(level)
    more = UNDECIDED
    if low > 0 and effect.mean >= comparison.interest:
        more = SUPPORTED
    elif high < comparison.interest:
        more = CONTRADICTED
    return Finding(comparison, effect, level, more if comparison.expect == "more" else REVERSE[more])


class Nothing(Exception):  # noqa: N818 (it is an answer)
    """There is nothing to compare."""


def effect_of(trials: Sequence[Trial], comparison: Comparison) -> Effect:
    """The mean paired difference; `Nothing` where no two trials can be paired."""
    chosen = [trial for trial in trials if trial.of(comparison.within)]
    if comparison.between is None:
        return _difference(chosen, comparison)
    first, second = (
        _difference([trial for trial in chosen if trial.of(group)], comparison)
        for group in comparison.between
    )
    mean = together([first, second])  # its error is that of the mean of two, half of the difference's
    return Effect(first.mean - second.mean, 2 * mean.error, mean.freedom, mean.pairs, mean.recordings)


def _difference(trials: Sequence[Trial], comparison: Comparison) -> Effect:
    """The mean over pairs and recordings, in groups that share recordings, each group counting the same."""
    compared = set(comparison.this)
    paired: dict[tuple[Any, ...], list[dict[str, float]]] = {}
    for this, that in _pairs(trials, comparison, compared):
        mine, theirs = (trial.measures.get(comparison.measure, {}) for trial in (this, that))
        row = {name: mine[name] - theirs[name] for name in sorted(set(mine) & set(theirs))}
        if row:  # trials of one base, genre and texture are judged on the same recordings
            paired.setdefault(_key(this, {"base", "genre", "texture"} - compared), []).append(row)
    parts = [crossed(_table(group)) for _, group in sorted(paired.items(), key=str)]
    if not parts:
        raise Nothing(f"no two trials differ so and have {comparison.measure}")
    return together(parts)


def _pairs(
    trials: Sequence[Trial], comparison: Comparison, compared: set[str]
) -> Iterable[tuple[Trial, Trial]]:
    """Trials of `this` with those of `that` which have the same seed and all other factors alike."""
    others = {_whole(trial, compared): trial for trial in trials if trial.of(comparison.that)}
    for trial in trials:
        if trial.of(comparison.this) and (other := others.get(_whole(trial, compared))) is not None:
            yield trial, other


def _whole(trial: Trial, without: set[str]) -> tuple[Any, ...]:
    return (trial.seed, *_key(trial, set(trial.factors) - without))


def _key(trial: Trial, names: set[str]) -> tuple[Any, ...]:
    return tuple((name, trial.factors.get(name)) for name in sorted(names))


def _table(rows: Sequence[Mapping[str, float]]) -> np.ndarray:
    """Differences [pairs, recordings] of the recordings that every pair was judged on."""
    everywhere = sorted(set.intersection(*(set(row) for row in rows)))
    if not everywhere:
        raise Nothing("no recording was judged in every trial")
    return np.array([[row[name] for name in everywhere] for row in rows])
