"""Everything that a study's page shows, as plain values: what becomes study.json, and what the page is drawn from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from talim.atomic_io import to_jsonable
from talim.experiments.comparison import (
    LEVEL,
    DesignSummary,
    MainEffectQuestion,
    factor_questions,
    summarize_designs,
)
from talim.experiments.effects import Effect, pooled_effect, two_way_effect
from talim.experiments.goals import GOALS, SelectionCriteria
from talim.experiments.hypotheses import Hypotheses
from talim.experiments.hypothesis_tests import TrialMeasures, effect_as_dict, test_hypotheses
from talim.experiments.next_steps import next_steps
from talim.experiments.recommend import MeasureComparison, Recommendation, recommend
from talim.experiments.results import BaseModelResults, StudyResults, TrialResult
from talim.reporting import study_sentences

SEED = 0  # of the resamples
DIGITS = 6  # of every number on the page
FULL_FINETUNE = "full@all"
COPY_SCORES = ("score.copied_sound", "score.copied_tokens")  # shares of the clips that were played


def study_summary(
    study: StudyResults,
    wish: SelectionCriteria,
    claims: Hypotheses | None = None,
    units: Mapping[str, str] | None = None,
    further: Sequence[TrialMeasures] = (),
) -> dict[str, Any]:
    """All of a study in plain values; what cannot be known is null.

    `units` are those of the bases' losses; the claims are judged on `further` trials where the study has nothing to
    compare.
    """
    bases = [_base(study.of_base(base), wish, (units or {}).get(base, "")) for base in study.bases]
    value = {
        "name": study.folder.resolve().name,
        "level": LEVEL,
        "wish": {name: getattr(wish, name) for name in ("goal", "price", "limits", "margin_share", "level")},
        "trials": len(study.rows),
        "bases": bases,
        "summary": study_sentences.summary(bases[0], wish) if bases else None,
        "cautions": study_sentences.caveats(study),
        "copies": _copies(study),
        "verdicts": test_hypotheses(study.trials, claims, further) if claims else [],
        "failed": [_trial(row) | {"error": row.error} for row in study.failed],
        "aside": [_trial(row) | {"settings": row.settings_hash} for row in study.set_aside],
    }
    return to_jsonable(value, DIGITS)


def _copies(study: StudyResults) -> dict[str, Any]:
    """In how many trials what was played was searched for passages of the training recordings, and who had any."""
    searched, found = 0, []
    for row in study.rows:
        shares = [row.trial.measures[name]["run"] for name in COPY_SCORES if name in row.trial.measures]
        searched += bool(shares)
        if any(shares):
            found.append(_trial(row) | {"share": max(shares)})
    return {"searched": searched, "found": found}


def _trial(row: TrialResult) -> dict[str, Any]:
    return {"id": row.id, "base": row.base, "corpus": row.corpus, "design": row.design, "seed": row.seed}


def _base(tables: Sequence[BaseModelResults], wish: SelectionCriteria, unit: str) -> dict[str, Any]:
    """One base: its tables, what its factors do, what to take for each goal over all of its corpora and on each."""
    groups: list[Sequence[BaseModelResults]] = (
        [tables, *([table] for table in tables)] if len(tables) > 1 else [tables]
    )
    goals = [wish.goal, *(goal for goal in GOALS if goal != wish.goal)]
    advice = [
        _recommendation(recommend(group, replace(wish, goal=goal), np.random.default_rng(SEED)), group)
        for goal in goals
        for group in groups
    ]
    return {
        "base": tables[0].base,
        "unit": unit,
        "overall": [_design_summary(row) for row in summarize_designs(tables, np.random.default_rng(SEED))],
        "tables": [_table(table) for table in tables],
        "questions": [_question(question) for question in factor_questions(tables)],
        "advice": advice,
    }


def _table(table: BaseModelResults) -> dict[str, Any]:
    rows = summarize_designs([table], np.random.default_rng(SEED))
    return {
        "corpus": table.corpus,
        "genre": table.genre,
        "texture": table.rows[0].factors.get("texture"),
        "settings": table.settings,
        "seeds": sorted({row.seed for row in table.rows}),
        "recordings": max((each.recordings for row in rows for each in row.measures.values()), default=0),
        "designs": [_design_summary(row) for row in rows],
        "directions": {name: way for row in table.rows for name, way in row.directions.items()},
    }


def _design_summary(row: DesignSummary) -> dict[str, Any]:
    return {
        "design": row.design,
        **{name: row.factors.get(name) for name in ("kind", "site", "share")},
        "seeds": row.seeds,
        "prices": dict(row.prices),
        "frontiers": list(row.frontiers),
        "frontier_shares": dict(row.frontier_shares or {}),
        "measures": {name: effect_summary(effect) for name, effect in row.measures.items()},
    }


def effect_summary(effect: Effect) -> dict[str, Any]:
    """A mean with its 95 % interval."""
    low, high = effect.interval(LEVEL)
    return {
        "mean": effect.mean,
        "low": low,
        "high": high,
        "trials": effect.pairs,
        "recordings": effect.recordings,
    }


def _question(question: MainEffectQuestion) -> dict[str, Any]:
    contrast = question.contrast.model_dump(exclude_none=True, exclude_defaults=True)
    said = {
        "factor": question.factor,
        "named": question.named,
        "meaning": question.meaning,
        "answer": question.answer,
    }
    return said | contrast | effect_as_dict(question.effect, LEVEL) | {"p_holm": question.adjusted_p}


def _recommendation(found: Recommendation, tables: Sequence[BaseModelResults]) -> dict[str, Any]:
    reference = _reference(found, tables)
    value = {
        "goal": found.wish.goal,
        "corpora": [table.corpus for table in tables],
        "outcome": found.outcome,
        "design": found.design,
        "best": found.best,
        "likely": found.likely,
        "unresolved": found.ambiguous,
        "aims": [_measure_comparison(each) for each in found.judged],
        "best_level": _best_level(found),
        "missing": list(found.missing),
        "left_out": dict(found.left_out),
        "candidates": [vars(each) | {"prices": dict(each.prices)} for each in found.candidates],
        "percent": next((row.percent for table in tables for row in table.of(found.design)), None),
        "reference": reference,
        "ratios": compared_costs(tables, found.design, reference) if reference else {},
        "next": [vars(step) for step in next_steps(found)],
    }
    return value | {"said": study_sentences.recommendation_text(value)}


def _measure_comparison(judged: MeasureComparison) -> dict[str, Any]:
    return {
        "measure": judged.objective.measure,
        "more_is_better": judged.objective.more,
        "margin": judged.margin,
        "error": judged.spread.error,
        "freedom": judged.spread.freedom,
        "means": dict(zip(judged.designs, judged.means.tolist(), strict=True)),
    }


def _best_level(found: Recommendation) -> dict[str, Any] | None:
    """The best design's own mean over the tables, each counting the same."""
    if not found.judged:
        return None
    return effect_summary(pooled_effect([field.level(found.best) for field in found.judged[0].fields]))


def compared_costs(tables: Sequence[BaseModelResults], design: str, reference: str) -> dict[str, Any]:
    """Ratios of a design's time and memory to those of another, with 95 % intervals over seeds; empty if unknown."""
    ratios: dict[str, Any] = {}
    for name in ("log_seconds", "log_memory"):
        parts = []
        for table in tables:
            own, other = (_once(table.of(each), name) for each in (design, reference))
            shared = sorted(set(own) & set(other))
            if shared:
                parts.append(two_way_effect(np.array([[own[seed] - other[seed]] for seed in shared])))
        if parts:
            effect = pooled_effect(parts)
            low, high = effect.interval(LEVEL)
            ends = {"ratio": math.exp(effect.mean), "low": math.exp(low), "high": math.exp(high)}
            ratios[name.removeprefix("log_")] = ends
    return ratios


def _once(rows: Sequence[TrialResult], measure: str) -> dict[int, float]:
    """By seed, a measure that a run has once."""
    found = {row.seed: row.trial.measures.get(measure) for row in rows}
    return {seed: next(iter(values.values())) for seed, values in found.items() if values}


def _reference(found: Recommendation, tables: Sequence[BaseModelResults]) -> str:
    """What the costs stand beside: the whole base trained, else the best design, else nothing."""
    known = {design for table in tables for design in table.designs}
    for each in (FULL_FINETUNE, found.best):
        if each in known and each != found.design:
            return each
    return ""
