"""Supported, contradicted or undecided: what a study's trials say of each claim.

Two trials are a pair if they differ in what is compared alone: base, genre, site, size and seed are the same. An effect
is the mean difference over pairs and recordings, both of them samples, so that it holds for places and sizes at large;
its t interval is widened for the number of claims (Bonferroni). "more" is supported if the interval lies above 0 and
its middle reaches the smallest difference of interest, contradicted if the interval lies below that difference; "no
more" is the reverse; "differ" is supported on either side of 0, contradicted if the interval lies within that
difference of 0. One part is enough to contradict a claim, so for this the interval is widened for the number of its
parts too. Anything else is undecided, and then the smallest effect that such a study would have seen is part of the
answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from talim.experiments.effects import Effect, pooled_effect, two_way_effect
from talim.experiments.hypotheses import ANY_LEVEL, Comparison, Contrast, Hypotheses, Hypothesis

PAIRING_FACTORS = {
    "base",
    "genre",
    "texture",
    "corpus",
    "settings",
}  # trials alike in these are judged on the same recordings
SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "undecided"


@dataclass(frozen=True)
class TrialMeasures:
    """One run: its factors, its seed, and each measure by recording (or by prompt, or once)."""

    factors: Mapping[str, Any]
    seed: int
    measures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def of(self, wanted: Mapping[str, Any]) -> bool:
        """Whether all these factors are the trial's own."""
        return all(_factors_equal(self.factors.get(name), value) for name, value in wanted.items())

    def values(self, comparison: Contrast) -> dict[str, float]:
        """The compared measure by recording, relative to the one it is taken `minus`; empty where it is missing."""
        found = dict(self.measures.get(comparison.measure, {}))
        if comparison.minus is None:
            return found
        other = self.measures.get(comparison.minus, {})
        return {name: value - other[name] for name, value in found.items() if name in other}


def _factors_equal(own: Any, wanted: Any) -> bool:
    """Equal; shares of a base are per cent that were divided, so they may differ in the last digit."""
    if own == wanted or wanted == ANY_LEVEL:
        return True
    return isinstance(own, float) and isinstance(wanted, float) and math.isclose(own, wanted, rel_tol=1e-6)


@dataclass(frozen=True)
class HypothesisTestResult:
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
        return row | effect_as_dict(self.effect, self.level)


def effect_as_dict(effect: Effect, level: float) -> dict[str, Any]:
    """An effect as it is written to JSON; what a single pair on a single recording leaves unknown is null."""
    low, high = effect.interval(level)
    row = {"mean": effect.mean, "low": low, "high": high, "level": level, "p": effect.chance}
    row |= {
        "pairs": effect.pairs,
        "recordings": effect.recordings,
        "smallest_visible": effect.min_detectable_effect(level),
    }
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()
    }


def test_hypotheses(
    trials: Sequence[TrialMeasures], claims: Hypotheses, further: Sequence[TrialMeasures] = ()
) -> list[dict[str, Any]]:
    """A row for every claim: "id", "says", "verdict", and the "findings" that it rests on.

    `further` trials are asked where the others have nothing to compare: what was planned first decides first.
    """
    level = 1 - (1 - claims.level) / len(claims.claims)
    return [_row(trials, further, claim, level) for claim in claims.claims]


def _row(
    trials: Sequence[TrialMeasures], further: Sequence[TrialMeasures], claim: Hypothesis, level: float
) -> dict[str, Any]:
    """A claim of several parts is supported if all are, contradicted if one is (intersection-union)."""
    parts = len(claim.comparisons)
    findings = [test_comparison(trials, each, level, parts) for each in claim.comparisons]
    findings = [
        test_comparison(further, found.comparison, level, parts)
        if found.effect is None and further
        else found
        for found in findings
    ]
    verdicts = {finding.verdict for finding in findings}
    verdict = CONTRADICTED if CONTRADICTED in verdicts else UNDECIDED if UNDECIDED in verdicts else SUPPORTED
    told = [finding.told() for finding in findings]
    return {"id": claim.id, "says": claim.says, "verdict": verdict, "findings": told}


def test_comparison(
    trials: Sequence[TrialMeasures], comparison: Comparison, level: float, parts: int = 1
) -> HypothesisTestResult:
    """The effect of one comparison and what follows from it, as one of a claim's `parts`."""
    try:
        effect = paired_effect(trials, comparison)
    except InsufficientData as why:
        return HypothesisTestResult(comparison, None, level, UNDECIDED, str(why))
    return HypothesisTestResult(comparison, effect, level, _verdict(effect, comparison, level, parts))


def _verdict(effect: Effect, comparison: Comparison, level: float, parts: int) -> str:
    low, high = effect.interval(level)
    surely_low, surely_high = effect.interval(1 - (1 - level) / parts)
    interest, mean = comparison.interest, effect.mean
    holds, fails = {
        "more": (low > 0 and mean >= interest, surely_high < interest),
        "no more": (high < interest, surely_low > 0 and mean >= interest),
        "differ": (
            (low > 0 or high < 0) and abs(mean) >= interest,
            -interest < surely_low and surely_high < interest,
        ),
    }[comparison.expect]
    return SUPPORTED if holds else CONTRADICTED if fails else UNDECIDED


class InsufficientData(Exception):  # noqa: N818 (it is an answer)
    """There is nothing to compare."""


def paired_effect(trials: Sequence[TrialMeasures], comparison: Contrast) -> Effect:
    """The mean paired difference; `Nothing` where no two trials can be paired."""
    chosen = [trial for trial in trials if trial.of(comparison.within)]
    if comparison.between is None:
        return _difference(chosen, comparison)
    first, second = (
        _difference([trial for trial in chosen if trial.of(group)], comparison)
        for group in comparison.between
    )
    mean = pooled_effect([first, second])  # its error is that of the mean of two, half of the difference's
    return Effect(first.mean - second.mean, 2 * mean.error, mean.freedom, mean.pairs, mean.recordings)


def _difference(trials: Sequence[TrialMeasures], comparison: Contrast) -> Effect:
    """The mean over pairs and recordings, in groups that share recordings, each group counting the same."""
    compared = set(comparison.this)
    paired: dict[tuple[Any, ...], list[dict[str, float]]] = {}
    for this, that in _pairs(trials, comparison, compared):
        mine, theirs = (trial.values(comparison) for trial in (this, that))
        row = {name: mine[name] - theirs[name] for name in sorted(set(mine) & set(theirs))}
        if row:
            paired.setdefault(_key(this, PAIRING_FACTORS - compared), []).append(row)
    parts = [two_way_effect(_table(group)) for _, group in sorted(paired.items(), key=str)]
    if not parts:
        asked = " and ".join(name for name in (comparison.measure, comparison.minus) if name)
        raise InsufficientData(f"no two trials differ so and have {asked}")
    return pooled_effect(parts)


def _pairs(
    trials: Sequence[TrialMeasures], comparison: Contrast, compared: set[str]
) -> Iterable[tuple[TrialMeasures, TrialMeasures]]:
    """Trials of `this` with those of `that` which have the same seed and all other factors alike."""
    others = {_matching_key(trial, compared): trial for trial in trials if trial.of(comparison.that)}
    for trial in trials:
        if trial.of(comparison.this) and (other := others.get(_matching_key(trial, compared))) is not None:
            yield trial, other


def _matching_key(trial: TrialMeasures, without: set[str]) -> tuple[Any, ...]:
    return (trial.seed, *_key(trial, set(trial.factors) - without))


def _key(trial: TrialMeasures, names: set[str]) -> tuple[Any, ...]:
    return tuple((name, trial.factors.get(name)) for name in sorted(names))


def _table(rows: Sequence[Mapping[str, float]]) -> np.ndarray:
    """Differences [pairs, recordings] of the recordings that every pair was judged on."""
    everywhere = sorted(set.intersection(*(set(row) for row in rows)))
    if not everywhere:
        raise InsufficientData("no recording was judged in every trial")
    return np.array([[row[name] for name in everywhere] for row in rows])
