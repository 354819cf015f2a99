"""Suggests the next step after a recommendation: more seeds or recordings, a larger adapter, a hybrid, listeners."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import stats

from talim.design.expression import is_peft
from talim.evaluation.intervals import POWER
from talim.experiments.recommend import (
    BY_CORPUS,
    DEMONSTRATED,
    NOTHING,
    WITHHELD,
    Candidate,
    MeasureComparison,
    Recommendation,
)
from talim.html.formatting import format_counted
from talim.recordings_needed import HELD_OUT_TO_COMPARE

MIN_SEEDS = 3


@dataclass(frozen=True)
class SuggestedStep:
    """One next step: "seeds", "recordings", "extend", "hybrid", "listen" or "run"; and the reason."""

    kind: str
    reason: str


def next_steps(found: Recommendation) -> list[SuggestedStep]:
    """What would make the recommendation more certain or the design better, the most useful first."""
    if found.outcome in (WITHHELD, BY_CORPUS):  # the controls, or the corpora, say what is next
        return []
    if found.outcome == NOTHING:
        return [SuggestedStep("run", "No design within the limits has results: run the study, or raise the limits.")]
    steps = _more_data_steps(found)
    if found.outcome == DEMONSTRATED and not steps:
        steps += _better_design_steps(found)
    return steps or [SuggestedStep("listen", "The numbers decide no more: let people listen (talim listen).")]


def _more_data_steps(found: Recommendation) -> list[SuggestedStep]:
    """More seeds or recordings, if the recommendation depends on too few of them."""
    tables = found.comparisons[0].tables
    seeds, recordings = min(len(t.seeds) for t in tables), min(len(t.recordings) for t in tables)
    steps = []
    if seeds < 2:
        reason = f"With one seed the variance between seeds is unknown. Train {MIN_SEEDS} or more."
        steps.append(SuggestedStep("seeds", reason))
    if recordings < 2:
        reason = "With one held-out recording the variance between recordings is unknown."
        steps.append(SuggestedStep("recordings", f"{reason} Hold out {HELD_OUT_TO_COMPARE} or more."))
    settled = found.outcome == DEMONSTRATED and found.within_margin == found.design
    if steps or not found.unresolved or settled:
        return steps
    worst = max(found.comparisons, key=lambda each: _data_growth_factor(each, len(found.candidates)))
    factor = _data_growth_factor(worst, len(found.candidates))
    if factor <= 1:
        return []
    # scores of generated audio have one value per trial, so only seeds can be added
    by_seeds = worst.errors.by_seeds >= worst.errors.by_recordings
    kind = "seeds" if by_seeds or worst.objective.measure.startswith("score.") else "recordings"
    label = "seeds" if kind == "seeds" else "held-out recordings"
    count = min(len(getattr(table, kind)) for table in worst.tables)
    unresolved = f"{format_counted(len(found.unresolved), 'design')} {'is' if len(found.unresolved) == 1 else 'are'}"
    reason = (
        f"{unresolved} shown to be neither as good as the best nor worse, and most of the error "
        f"comes from the {label}: about {math.ceil(count * factor)} instead of {count} would decide it with 80 % power."
    )
    return [SuggestedStep(kind, reason)]


def _data_growth_factor(comparison: MeasureComparison, candidates: int) -> float:
    """The factor by which the data would have to grow to show with 80 % power that an equal design is non-inferior."""
    if math.isnan(comparison.errors.error) or comparison.margin <= 0:
        return 1.0
    df = max(comparison.errors.df, 2.0)
    quantiles = stats.t.isf(0.05 / candidates, df) + stats.t.ppf(POWER, df)
    return float((quantiles * comparison.errors.error / comparison.margin) ** 2)


def _better_design_steps(found: Recommendation) -> list[SuggestedStep]:
    """If the best design is better than the recommended one: a hybrid if it trains the base, else a larger size."""
    best, chosen = found.candidate(found.best), found.candidate(found.design)
    if chosen.gap_low <= 0:
        return []
    kind, site = best.factors.get("kind"), best.factors.get("site")
    if "full" in str(kind) and "full" not in str(chosen.factors.get("kind")):
        mixes = not is_peft(str(chosen.factors.get("kind")))
        example = f"{found.design}+full@post" if mixes else "conv@all:2.7%+full@post"
        reason = f"{best.design} trains the base itself and is significantly better than {chosen.design}"
        return [SuggestedStep("hybrid", f"{reason}: add a part of the base to the adapter, such as {example}.")]
    alike = [
        each for each in found.candidates if all(each.factors.get(n) == best.factors.get(n) for n in ("kind", "site"))
    ]
    sizes = sorted(size for each in alike if (size := _size(each)))
    if len(sizes) > 1 and _size(best) == sizes[-1]:
        reason = f"{best.design} is significantly better than {chosen.design}, and no larger {kind}@{site} was tried"
        return [SuggestedStep("extend", f"{reason}: add larger sizes to the study.")]
    return []


def _size(candidate: Candidate) -> float:
    size = candidate.factors.get("size_fraction")
    return size if isinstance(size, float) else 0.0
