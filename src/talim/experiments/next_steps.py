"""What to do after a study's answer: more seeds, more recordings, a larger adapter, a hybrid, or people's ears."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import stats

from talim.designs.expression import parse
from talim.errors import UsageError
from talim.experiments.effects import POWER
from talim.experiments.recommend import DEMONSTRATED, NOTHING, MeasureComparison, Recommendation

MIN_SEEDS, MIN_RECORDINGS = 3, 5


@dataclass(frozen=True)
class SuggestedStep:
    """One next step of the staged plan: "seeds", "recordings", "extend", "hybrid", "listen" or "run"; and why."""

    kind: str
    why: str


def next_steps(found: Recommendation) -> list[SuggestedStep]:
    """What would make the answer surer or better, the most useful first."""
    if found.outcome == NOTHING:
        return [
            SuggestedStep(
                "run", "No design within the limits has results to judge: run the study, or raise the limits."
            )
        ]
    steps = _more_data_steps(found)
    if found.outcome == DEMONSTRATED and not steps:
        steps += _better_design_steps(found)
    if not steps:
        steps.append(
            SuggestedStep("listen", "The numbers have said what they can: let people hear it (talim listen).")
        )
    return steps


def _more_data_steps(found: Recommendation) -> list[SuggestedStep]:
    """More seeds or recordings, where the answer hangs on too few of them."""
    fields = found.judged[0].fields
    seeds, recordings = min(len(f.seeds) for f in fields), min(len(f.recordings) for f in fields)
    steps = []
    if seeds < 2:
        why = "One seed was trained: how much of a difference is that seed's luck cannot be known."
        steps.append(SuggestedStep("seeds", f"{why} Train {MIN_SEEDS} or more."))
    if recordings < 2:
        why = "One recording was held out: how much of a difference is that recording's own cannot be known."
        steps.append(SuggestedStep("recordings", f"{why} Hold out {MIN_RECORDINGS} or more."))
    if steps or not found.ambiguous or (found.outcome == DEMONSTRATED and found.likely == found.design):
        return steps
    worst = max(found.judged, key=lambda each: _data_growth_factor(each, len(found.candidates)))
    factor = _data_growth_factor(worst, len(found.candidates))
    if factor <= 1:
        return []
    many, few = (
        ("seeds", seeds)
        if worst.spread.by_seeds >= worst.spread.by_recordings
        else ("recordings", recordings)
    )
    if many == "recordings":
        few = min(len(f.recordings) for f in worst.fields)
    if worst.objective.measure.startswith("score."):
        many, few = "seeds", min(len(f.seeds) for f in worst.fields)
    about = math.ceil(few * factor)
    named = "seeds" if many == "seeds" else "held-out recordings"
    why = (
        f"{len(found.ambiguous)} designs can neither be called as good as the best nor worse, and most of that comes "
        f"from the {named}: about {about} of them instead of {few} would settle it in four cases of five."
    )
    return [SuggestedStep(many, why)]


def _data_growth_factor(judged: MeasureComparison, candidates: int) -> float:
    """By what factor the data would have to grow, so that an equal design is shown to be within the margin."""
    freedom = max(judged.spread.freedom, 2.0)
    asked = stats.t.isf(0.05 / candidates, freedom) + stats.t.ppf(POWER, freedom)
    if math.isnan(judged.spread.error) or judged.margin <= 0:
        return 1.0
    return float((asked * judged.spread.error / judged.margin) ** 2)


def _better_design_steps(found: Recommendation) -> list[SuggestedStep]:
    """Where more is to be had: the best design is the largest tried of its kind and place, or beyond adapters."""
    kind, site, size = _parts(found.best)
    alike = [parts for each in found.candidates if (parts := _parts(each.design))[:2] == (kind, site)]
    sizes = sorted(parts[2] for parts in alike if parts[2])
    chosen = found.candidate(found.design)
    if "full" in kind and "full" not in found.design and chosen.behind_low > 0:
        why = f"{found.best} trains the base itself and is ahead of {found.design} by more than chance"
        mixes = parse(found.design).peft_kind is None
        example = f"{found.design}+full@post" if mixes else "conv@all:2.7%+full@post"
        return [
            SuggestedStep("hybrid", f"{why}: try an adapter beside one part of the base, as in {example}.")
        ]
    if len(sizes) > 1 and size == sizes[-1] and chosen.behind_low > 0:
        why = f"{found.best} is ahead of {found.design} by more than chance, and no larger {kind}@{site} was tried"
        return [SuggestedStep("extend", f"{why}: extend the study upwards before calling a size enough.")]
    return []


def _parts(design: str) -> tuple[str, str, float]:
    try:
        parts = parse(design).parts
    except UsageError:
        return design, "", 0.0
    sized = [part.size.value for part in parts if part.size]
    return "+".join(p.kind for p in parts), "+".join(p.site for p in parts), sum(sized)
