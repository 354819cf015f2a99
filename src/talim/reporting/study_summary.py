"""All values of a study's report: the content of study.json, from which the page is rendered."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from talim.atomic_io import to_jsonable
from talim.evaluation.intervals import NOT_NEGATIVE, UNBOUNDED, Effect, two_way_effect, within
from talim.experiments.advice import Advice, advise
from talim.experiments.comparison import (
    CONFIDENCE,
    EFFECT_MEASURES,
    DesignSummary,
    MainEffectQuestion,
    factor_questions,
    summarize_designs,
)
from talim.experiments.controls import (
    Control,
    ControlData,
    comparison_controls,
    not_passed,
    table_controls,
    untestable_reason,
)
from talim.experiments.effects import pooled_effect
from talim.experiments.goals import GOALS, SelectionCriteria
from talim.experiments.hypotheses import Comparison, Hypotheses
from talim.experiments.hypothesis_tests import NOT_TESTABLE, decide_hypotheses, effect_as_dict, verdict_of
from talim.experiments.learning_curves import mean_curve, plateau_fraction
from talim.experiments.next_steps import next_steps
from talim.experiments.recommend import MeasureComparison, Recommendation
from talim.experiments.results import COST_MEASURES, BaseModelResults, StudyResults, TrialResult
from talim.experiments.tuning import read_tuning
from talim.reporting import study_sentences

SEED = 0  # of the resamples
DIGITS = 6  # significant digits of every number
FULL_FINETUNE = "full@all"
COPY_SCORES = ("score.copied_sound", "score.copied_tokens")  # fractions of the generated clips


def study_summary(
    study: StudyResults,
    criteria: SelectionCriteria,
    hypotheses: Hypotheses | None = None,
    units: Mapping[str, str] | None = None,
    additional: Sequence[StudyResults] = (),
) -> dict[str, Any]:
    """A study as JSON values; what is unknown is None.

    `units` are those of the losses, by base; hypotheses are decided on `additional` studies if this one has no data.
    """
    data = ControlData(study.controls, read_tuning(study.folder))
    compared = [each for claim in hypotheses.claims for each in claim.comparisons] if hypotheses else []
    measures = _controlled_measures(compared)
    controls = {table.name: table_controls(table, measures, data) for table in study.tables}
    bases = [
        _base_summary(tables, criteria, (units or {}).get(base, ""), data)
        for base in study.bases
        for tables in comparable_tables(study.of_base(base))
    ]
    rows = _hypotheses([study, *additional], hypotheses) if hypotheses else []
    all_controls = [control for found in controls.values() for control in found]
    value = {
        "name": study.folder.resolve().name,
        "confidence": CONFIDENCE,
        "criteria": vars(criteria) | {"limits": dict(criteria.limits)},
        "trials": len(study.trials),
        "bases": bases,
        "summary": study_sentences.summary(bases[0], criteria) if bases else None,
        "caveats": study_sentences.caveats(study),
        "copies": _copies(study),
        "controls": [control.as_dict() for control in all_controls],
        "control_trials": len(study.controls),
        "verdicts": [{name: row[name] for name in ("id", "verdict", "reason")} for row in rows],
        "hypotheses": rows,
        "failed": [_trial(trial) | {"error": trial.error} for trial in study.failed],
        "excluded": [
            _trial(trial) | {"settings": trial.settings_hash, "precision": trial.precision} for trial in study.excluded
        ],
    }
    return to_jsonable(value, DIGITS)


def _controlled_measures(comparisons: Sequence[Comparison]) -> list[tuple[str, str | None]]:
    """The measures, and what is subtracted, that hypotheses, goals and factor effects rest on."""
    of_claims = [(each.measure, each.relative_to) for each in comparisons if each.measure not in COST_MEASURES]
    of_goals = [(each.measure, None) for objectives in GOALS.values() for each in objectives]
    return list(dict.fromkeys([*((each[0], each[1]) for each in EFFECT_MEASURES), *of_claims, *of_goals]))


def _hypotheses(studies: Sequence[StudyResults], hypotheses: Hypotheses) -> list[dict[str, Any]]:
    """The verdicts, none where a control has not passed; each comparison has the `controls` that it rests on.

    They are those of the study whose trials are compared: another one may have tuned the same design to another rate.
    """
    controls: dict[int, list[Control]] = {}
    sources = [each.trials for each in studies]
    data_of = {
        id(trials): ControlData(each.controls, read_tuning(each.folder))
        for trials, each in zip(sources, studies, strict=True)
    }

    def obstacle(trials: Sequence[TrialResult], comparison: Comparison, confidence: float, comparisons: int) -> str:
        answer = partial(verdict_of, comparison=comparison, confidence=confidence, comparisons=comparisons)
        controls[id(comparison)] = comparison_controls(trials, comparison, data_of[id(trials)], confidence, answer)
        return untestable_reason(controls[id(comparison)])

    rows = decide_hypotheses(sources[0], hypotheses, sources[1:], obstacle)
    for claim, row in zip(hypotheses.claims, rows, strict=True):
        for comparison, result in zip(claim.comparisons, row["results"], strict=True):
            result["controls"] = [control.as_dict() for control in controls.get(id(comparison), ())]
    return rows


def comparable_tables(tables: Sequence[BaseModelResults]) -> list[list[BaseModelResults]]:
    """A base's tables that are summarized together, as they have most designs in common; usually all of them.

    Where other designs were tried on other corpora (solo and ensemble, say), each table joins those with which it
    shares most, unless a single design or less than half of those that are compared would be left. The table with most
    designs comes first.
    """
    groups: list[tuple[list[BaseModelResults], set[str]]] = []
    for table in sorted(tables, key=lambda each: -len(each.designs)):
        designs = {*table.designs}
        group, common = max(groups, key=lambda each: len(each[1] & designs), default=([], set[str]()))
        shared = len(common & designs)
        if shared > 1 and 2 * shared >= len(common):
            group.append(table)
            common &= designs
        else:
            groups.append(([table], designs))
    return [sorted(group, key=tables.index) for group, _ in groups]


def _copies(study: StudyResults) -> dict[str, Any]:
    """The number of trials whose audio was checked for copied training material, and those with copies."""
    checked, copies = 0, []
    for trial in study.trials:
        fractions = [trial.measures[name]["run"] for name in COPY_SCORES if name in trial.measures]
        checked += COPY_SCORES[0] in trial.measures  # runs of tokens miss most copies, so their absence clears nothing
        if any(fractions):
            copies.append(_trial(trial) | {"copied_fraction": max(fractions)})
    return {"checked": checked, "copies": copies}


def _trial(trial: TrialResult) -> dict[str, Any]:
    return {name: getattr(trial, name) for name in ("id", "base", "corpus", "design", "seed")}


def _base_summary(
    tables: Sequence[BaseModelResults], criteria: SelectionCriteria, unit: str, data: ControlData
) -> dict[str, Any]:
    """Comparable tables of a base: their factor effects, and a recommendation for each goal, over all and for each."""
    groups: list[Sequence[BaseModelResults]] = [tables, *([table] for table in tables)] if len(tables) > 1 else [tables]
    goals = [criteria.goal, *(goal for goal in GOALS if goal != criteria.goal)]
    recommendations = []
    for goal in goals:
        rng = np.random.default_rng
        rows = [_recommendation(advise(g, replace(criteria, goal=goal), rng(SEED), data), g) for g in groups]
        choices = {row["corpora"][0]: row["design"] or NOT_TESTABLE for row in rows[1:]}
        texts = [study_sentences.recommendation_text(row | {"choices": choices}) for row in rows]
        recommendations += [row | {"choices": choices, "text": text} for row, text in zip(rows, texts, strict=True)]
    trials = [trial for table in tables for trial in table.trials]
    return {
        "base": tables[0].base,
        "unit": unit,
        "training": _training(trials),
        "overall": [_design(row, tables) for row in summarize_designs(tables, np.random.default_rng(SEED))],
        "tables": [_table(table) for table in tables],
        "questions": [_question(question, trials, data) for question in factor_questions(tables, criteria.tolerance)],
        "recommendations": recommendations,
    }


def _training(trials: Sequence[TrialResult]) -> dict[str, Any]:
    """How many trials were trained, and their seconds together; None where one was not measured."""
    seconds = [trial.cost.seconds for trial in trials]
    known = [each for each in seconds if each is not None]
    return {"trials": len(trials), "seconds": sum(known) if len(known) == len(trials) else None}


def _table(table: BaseModelResults) -> dict[str, Any]:
    rows = summarize_designs([table], np.random.default_rng(SEED))
    return {
        "corpus": table.corpus,
        "genre": table.genre,
        "texture": table.trials[0].factors.get("texture"),
        "settings": table.settings,
        "seeds": sorted({trial.seed for trial in table.trials}),
        "recordings": max((effect.recordings for row in rows for effect in row.measures.values()), default=0),
        "designs": [_design(row, [table]) | _curve(table.of_design(row.design)) for row in rows],
        "directions": {name: way for trial in table.trials for name, way in trial.directions.items()},
    }


def _curve(trials: Sequence[TrialResult]) -> dict[str, Any]:
    """The mean learning curve of a design's trials, and the part of its gain in the last fifth; empty without one."""
    curve = mean_curve([trial.curve for trial in trials])
    return {"curve": curve, "last_fifth": plateau_fraction(curve)} if curve else {}


def _design(row: DesignSummary, tables: Sequence[BaseModelResults]) -> dict[str, Any]:
    return {
        "design": row.design,
        **{name: row.factors.get(name) for name in ("kind", "site", "size_fraction")},
        "seeds": row.seeds,
        "costs": dict(row.costs),
        "fronts": row.fronts,
        "front_fractions": dict(row.front_fractions or {}),
        "measures": {name: _effect(effect, _bounds(name, tables)) for name, effect in row.measures.items()},
    }


def _bounds(measure: str, tables: Sequence[BaseModelResults]) -> tuple[float, float]:
    """The values that a measure can have: a loss is never below 0, and a score within its range."""
    if measure.endswith("_loss"):
        return NOT_NEGATIVE
    name = measure.removeprefix("score.")
    facts = next((trial.scores[name] for table in tables for trial in table.trials if name in trial.scores), {})
    floor, ceiling = facts.get("floor"), facts.get("ceiling")
    # the floor of a distance is what the base's codec leaves; the distance itself may be less, to 0
    return UNBOUNDED[0] if floor is None else min(floor, 0.0), UNBOUNDED[1] if ceiling is None else ceiling


def _effect(effect: Effect, bounds: tuple[float, float]) -> dict[str, Any]:
    """A mean with its 95 % interval."""
    low, high = within(effect.interval(CONFIDENCE), bounds)
    return {"mean": effect.mean, "low": low, "high": high, "trials": effect.seeds, "recordings": effect.recordings}


def _question(question: MainEffectQuestion, trials: Sequence[TrialResult], data: ControlData) -> dict[str, Any]:
    """A factor effect; not testable where a control of the trials that it compares has not passed."""
    failed = not_passed(comparison_controls(trials, question.contrast, data, CONFIDENCE, question.answer_for))
    return {
        **{name: getattr(question, name) for name in ("factor", "label", "meaning")},
        "answer": NOT_TESTABLE if failed else question.answer,
        "not_passed": [control.name for control in failed],
        "reason": untestable_reason(failed),
        **question.contrast.model_dump(exclude_none=True, exclude_defaults=True),
        **effect_as_dict(question.effect, CONFIDENCE),
        "p_holm": question.adjusted_p,
    }


def _recommendation(advice: Advice, tables: Sequence[BaseModelResults]) -> dict[str, Any]:
    found = advice.recommendation
    reference, best_mean = _reference(found, tables), None
    if found.comparisons:  # the best design's own mean over the tables, with equal weights
        means = [table.design_effect(found.best) for table in found.comparisons[0].tables]
        best_mean = _effect(pooled_effect(means), _bounds(found.comparisons[0].objective.measure, tables))
    percents = (trial.trained_percent for table in tables for trial in table.of_design(found.design))
    return {
        "goal": found.criteria.goal,
        "corpora": [table.corpus for table in tables],
        **{name: getattr(found, name) for name in ("outcome", "design", "best", "within_margin", "unresolved")},
        "objectives": [_comparison(each) for each in found.comparisons],
        "best_mean": best_mean,
        "missing": list(found.missing),
        "excluded": dict(found.excluded),
        "candidates": [
            vars(each) | {"costs": dict(each.costs), "factors": dict(each.factors)} for each in found.candidates
        ],
        "trained_percent": next(percents, None),
        "reference": reference,
        "cost_ratios": cost_ratios(tables, found.design, reference) if reference else {},
        "next_steps": [vars(step) for step in next_steps(found)],
        "not_passed": list(dict.fromkeys(control.name for control in not_passed(advice.controls))),
        "reason": untestable_reason(advice.controls),
        "interaction": vars(advice.interaction) if advice.interaction else None,
    }


def _comparison(comparison: MeasureComparison) -> dict[str, Any]:
    return {
        "measure": comparison.objective.measure,
        "higher_is_better": comparison.objective.higher_is_better,
        "margin": comparison.margin,
        "error": comparison.errors.error,
        "df": comparison.errors.df,
        "means": dict(zip(comparison.designs, comparison.means.tolist(), strict=True)),
    }


def cost_ratios(tables: Sequence[BaseModelResults], design: str, reference: str) -> dict[str, Any]:
    """Ratios of a design's time and memory to those of another, with 95 % intervals over seeds; empty if unknown."""
    ratios: dict[str, Any] = {}
    for measure in ("log_seconds", "log_memory"):
        parts = []
        for table in tables:
            own, other = (_by_seed(table.of_design(each), measure) for each in (design, reference))
            if shared := sorted(own.keys() & other.keys()):  # on one machine
                parts.append(two_way_effect(np.array([[own[key] - other[key]] for key in shared])))
        if parts:
            effect = pooled_effect(parts)
            low, high = effect.interval(CONFIDENCE)
            name = measure.removeprefix("log_")
            ratios[name] = {"ratio": math.exp(effect.mean), "low": math.exp(low), "high": math.exp(high)}
    return ratios


def _by_seed(trials: Sequence[TrialResult], measure: str) -> dict[tuple[int, str], float]:
    """A measure of cost, which a trial has once, by seed and machine."""
    return {
        (trial.seed, trial.cost.machine): next(iter(values.values()))
        for trial in trials
        if (values := trial.measures.get(measure))
    }


def _reference(found: Recommendation, tables: Sequence[BaseModelResults]) -> str:
    """The design whose costs are the unit of the ratios: full fine-tuning, else the best design; "" if neither."""
    designs = {design for table in tables for design in table.designs}
    candidates = (each for each in (FULL_FINETUNE, found.best) if each in designs and each != found.design)
    return next(candidates, "")
