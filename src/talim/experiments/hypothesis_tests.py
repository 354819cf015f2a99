"""Decides hypotheses on a study's trials: supported, contradicted or undecided, or not testable with these trials.

Two trials are a pair if they differ in the compared factors alone. Pairs that share a seed (of several sites or sizes,
or with one control) are not independent: their mean is one value of that seed. Several bases on one corpus share its
recordings, so they are averaged by seed and recording. An effect is the mean difference over seeds and recordings, both
random; docs/guides/compare-designs.md lists the intervals and the rules of each verdict.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from talim.evaluation.intervals import Effect
from talim.experiments.effects import WeightedGroup, effect_of_groups
from talim.experiments.hypotheses import Comparison, Contrast, Hypotheses, Hypothesis
from talim.experiments.results import COST_MEASURES, TrialResult

# Trials that are equal in these factors are in one table.
SAME_TABLE = {"base", "genre", "texture", "corpus", "settings"}
SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "undecided"
NOT_TESTABLE = "not testable here"
# Why a comparison of these trials at this confidence can show nothing; empty if it can
Obstacle = Callable[[Sequence[TrialResult], Comparison, float, int], str]


class InsufficientData(Exception):  # noqa: N818 (it is an answer, not a fault)
    """There are no trials to compare."""


@dataclass(frozen=True)
class HypothesisTestResult:
    """The outcome of one comparison, with the `reason` why it is not testable.

    `effect` is None where there is nothing to compare.
    """

    comparison: Comparison
    effect: Effect | None
    confidence: float
    verdict: str
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The comparison, its verdict and its effect as JSON values."""
        row: dict[str, Any] = self.comparison.model_dump(exclude_defaults=True) | {"verdict": self.verdict}
        if self.reason:
            row["reason"] = self.reason
        return row if self.effect is None else row | effect_as_dict(self.effect, self.confidence)


def effect_as_dict(effect: Effect, confidence: float) -> dict[str, Any]:
    """An effect as JSON values; what a single seed on a single recording leaves unknown is None."""
    low, high = effect.interval(confidence)
    row = {
        "mean": effect.mean,
        "low": low,
        "high": high,
        "confidence": confidence,
        "p": effect.p_value,
        "pairs": effect.pairs,
        "seeds": effect.seeds,  # of each corpus: what is independent
        "recordings": effect.recordings,
        "min_detectable_effect": effect.min_detectable_effect(confidence),
    }
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}


def decide_hypotheses(
    trials: Sequence[TrialResult],
    hypotheses: Hypotheses,
    additional: Sequence[Sequence[TrialResult]] = (),
    obstacle: Obstacle | None = None,
) -> list[dict[str, Any]]:
    """A row for each hypothesis: "id", "statement", "verdict", "reason", and "results", one for each comparison.

    For a comparison for which `trials` have no data, the first of the `additional` studies that has some is used. A
    comparison that has an `obstacle`, or no data, is not testable; without that argument the verdicts are those of the
    statistics alone.
    """
    confidence = 1 - (1 - hypotheses.confidence) / len(hypotheses.claims)
    return [_decide((trials, *additional), claim, confidence, obstacle) for claim in hypotheses.claims]


def _decide(
    sources: Sequence[Sequence[TrialResult]], claim: Hypothesis, confidence: float, obstacle: Obstacle | None
) -> dict[str, Any]:
    """Contradicted if one comparison is, supported if all are (an intersection-union test)."""
    count, results = len(claim.comparisons), []
    for comparison in claim.comparisons:
        found = [decide_comparison(each, comparison, confidence, count) for each in sources if each]
        used = next((n for n, result in enumerate(found) if result.effect is not None), 0)
        result = found[used] if found else decide_comparison((), comparison, confidence, count)
        if obstacle is not None:
            trials = [each for each in sources if each][used] if found else ()
            reason = result.reason or obstacle(trials, comparison, confidence, count)
            result = replace(result, verdict=NOT_TESTABLE, reason=reason) if reason else result
        results.append(result)
    verdicts = {result.verdict for result in results}
    verdict = next((each for each in (CONTRADICTED, NOT_TESTABLE, UNDECIDED) if each in verdicts), SUPPORTED)
    reasons = dict.fromkeys(result.reason for result in results if result.verdict == NOT_TESTABLE)
    row = {"id": claim.id, "statement": claim.statement, "verdict": verdict}
    sentences = [f"{reason[0].upper()}{reason[1:].removesuffix('.')}." for reason in reasons if reason]
    reason = " ".join(sentences) if verdict == NOT_TESTABLE else ""
    return row | {"reason": reason, "results": [result.as_dict() for result in results]}


def decide_comparison(
    trials: Sequence[TrialResult], comparison: Comparison, confidence: float, comparisons: int = 1
) -> HypothesisTestResult:
    """The effect of one of a hypothesis's `comparisons`, and its verdict by the statistics alone."""
    try:
        effect = paired_effect(trials, comparison)
    except InsufficientData as reason:
        return HypothesisTestResult(comparison, None, confidence, UNDECIDED, str(reason))
    verdict = verdict_of(effect, comparison, confidence, comparisons)
    return HypothesisTestResult(comparison, effect, confidence, verdict)


def verdict_of(effect: Effect, comparison: Comparison, confidence: float, comparisons: int) -> str:
    """The verdict that an effect gives on one of a hypothesis's `comparisons`."""
    low, high = effect.interval(confidence)
    wide_low, wide_high = effect.interval(1 - (1 - confidence) / comparisons)
    smallest = comparison.smallest_effect
    # that there is no difference may only be said where the smallest one of interest would have been seen
    sees = effect.min_detectable_effect(1 - (1 - confidence) / comparisons) <= smallest
    supported, contradicted = {
        "greater": (low > 0 and high >= smallest, wide_high < (smallest if sees else 0)),
        "not_greater": (high < (smallest if sees else 0), wide_low > 0 and wide_high >= smallest),
        "different": (
            (low > 0 and high >= smallest) or (high < 0 and low <= -smallest),
            sees and -smallest < wide_low and wide_high < smallest,
        ),
    }[comparison.hypothesis]
    return SUPPORTED if supported else CONTRADICTED if contradicted else UNDECIDED


def compared_trials(trials: Sequence[TrialResult], contrast: Contrast) -> list[tuple[TrialResult, TrialResult]]:
    """The pairs of treatment and control trials that have the contrast's measures."""
    selected = _selected(trials, contrast)
    groups = contrast.interaction or ({},)
    names = [name for name in (contrast.measure, contrast.relative_to) if name]
    return [
        pair
        for group in groups
        for pair in _pairs([trial for trial in selected if trial.matches(group)], contrast, set(contrast.treatment))
        if all(name in trial.measures for name in names for trial in pair)
    ]


def paired_effect(trials: Sequence[TrialResult], contrast: Contrast) -> Effect:
    """The mean paired difference; InsufficientData if no two trials can be paired."""
    selected = _selected(trials, contrast)
    sides = [({}, 1.0)] if contrast.interaction is None else [*zip(contrast.interaction, (1.0, -1.0), strict=True)]
    groups = [
        group
        for levels, sign in sides
        for group in _paired_differences([trial for trial in selected if trial.matches(levels)], contrast, sign)
    ]
    if (effect := effect_of_groups(groups)) is None:
        raise InsufficientData("no recording was evaluated in every trial")
    return effect


def _paired_differences(trials: Sequence[TrialResult], contrast: Contrast, sign: float) -> list[WeightedGroup]:
    """The pairs of each base and corpus, all with the same weight; InsufficientData without any."""
    compared = set(contrast.treatment)
    groups: dict[tuple[Any, ...], list[tuple[TrialResult, dict[str, float]]]] = {}
    for treated, control in _pairs(trials, contrast, compared):
        values, reference = (trial.values(contrast.measure, contrast.relative_to) for trial in (treated, control))
        if row := {name: values[name] - reference[name] for name in values if name in reference}:
            groups.setdefault(_key(treated, SAME_TABLE - compared), []).append((treated, row))
    if not groups:
        measures = " and ".join(name for name in (contrast.measure, contrast.relative_to) if name)
        raise InsufficientData(f"no two trials differ in this alone and have {measures}")
    return [
        WeightedGroup(pairs[0][0].corpus, sign / len(groups), [(treated.seed, row) for treated, row in pairs])
        for _, pairs in sorted(groups.items(), key=str)
    ]


def _pairs(
    trials: Sequence[TrialResult], contrast: Contrast, compared: set[str]
) -> Iterable[tuple[TrialResult, TrialResult]]:
    """Treatment trials with the control trials of the same seed and all other factors; of costs, on one machine."""
    costs = contrast.measure in COST_MEASURES
    controls = {_pair_key(trial, compared): trial for trial in trials if trial.matches(contrast.control)}
    for trial in trials:
        pair = controls.get(_pair_key(trial, compared))
        if pair is None or (costs and pair.cost.machine != trial.cost.machine):
            continue
        if pair is not trial and trial.matches(contrast.treatment):  # any level is its own, too
            yield trial, pair


def _pair_key(trial: TrialResult, compared: set[str]) -> tuple[Any, ...]:
    free = {"size_fraction"} if trial.factors.get("width") else set[str]()
    return (trial.seed, *_key(trial, set(trial.all_factors) - compared - free))


def _selected(trials: Sequence[TrialResult], contrast: Contrast) -> list[TrialResult]:
    """The trials that a contrast is about: those that are sized by width only if it names the width."""
    named = {*contrast.where, *contrast.treatment}.union(*(contrast.interaction or ()))
    return [
        trial
        for trial in trials
        if trial.matches(contrast.where) and ("width" in named or not trial.factors.get("width"))
    ]


def _key(trial: TrialResult, names: set[str]) -> tuple[Any, ...]:
    return tuple((name, trial.all_factors.get(name)) for name in sorted(names))
