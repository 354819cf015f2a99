"""Controls of a study: whether its data could have shown a difference at all, judged before any verdict or advice.

What each control asks and what passes it: docs/guides/compare-designs.md. One that cannot be computed has not passed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np

from talim.evaluation.intervals import CONFIDENCE_LEVEL, Effect, two_way_effect, wilson_interval
from talim.experiments.effects import WeightedGroup, effect_of_groups, mean_by_seed
from talim.experiments.hypotheses import Contrast
from talim.experiments.hypothesis_tests import compared_trials, paired_effect
from talim.experiments.learning_curves import (
    FLAT_FRACTION,
    STEEP_FRACTION,
    growth_at_twice_the_steps,
    mean_curve,
    plateau_fraction,
)
from talim.experiments.results import COST_MEASURES, BaseModelResults, TrialResult
from talim.experiments.tuning import RATE as LEARNING_RATE
from talim.experiments.tuning import TunedFamily, family_of
from talim.html.formatting import format_ci, format_counted, format_number, format_p_value, format_percent
from talim.recordings_needed import HELD_OUT_TO_COMPARE

UNIGRAM, LAST_TOKEN, CURVE, RATE = "unigram", "last token", "curve", "rate"
INSERTED, EQUAL, SEPARATION = "planted", "equal", "separation"
LOSS = "loss_reduction"
SCORE = "score."
PREDICTORS = {  # the measure for bases of tokens and of latents, each with its name
    UNIGRAM: {"unigram_loss": "a guess by how often each sound occurs (unigram)", "constant_loss": "the best constant"},
    LAST_TOKEN: {
        "last_token_loss": "a guess that the last sound goes on (unigram with last token)",
        "linear_loss": "the best linear prediction",
    },
}
MIN_RATES = 3  # of a tuning grid: with fewer, no rate lies inside
MIN_SEEDS = 4  # of an equal pair: two halves of two
MAX_SPLITS = 60  # of one design's seeds into halves; of more, as many are drawn
FALSE_DIFFERENCES = 0.05  # the nominal rate at the 95 % level
SEPARATION_P = 0.05  # of real music against the base
EDGE_FRACTION = 0.02  # of a score's range: nearer to its floor or ceiling it cannot move
TableKey = tuple[str, str, str]  # base, corpus, settings
Answer = Callable[[Effect], str]  # what an effect says about a question, with its margin and its level


@dataclass(frozen=True)
class Control:
    """One control: of which base, corpus and measure ("": all measures), whether it passed, its figure and the reason.

    `passed` is None where it could not be computed, which does not count as passed. `value` passes on the right side of
    `threshold`; `low` and `high` are its interval where it has one.
    """

    name: str
    base: str
    corpus: str
    passed: bool | None
    value: float | None
    threshold: float | None
    reason: str
    measure: str = ""
    relative_to: str = ""
    low: float | None = None
    high: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON values; numbers that are not finite are None."""
        values = asdict(self)
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


@dataclass(frozen=True)
class ControlData:
    """What controls need besides the compared trials: those of control grids, and the record of the tuning."""

    trials: Sequence[TrialResult] = ()
    tuning: Sequence[TunedFamily] = ()


@dataclass(frozen=True)
class ChangeWithSteps:
    """By how much a difference would change at twice the steps, and whether the answer would change with it."""

    change: float
    changes_answer: bool


@dataclass(frozen=True)
class Question:
    """What is asked of trials: a measure of the `sides` that are compared, at a level of confidence.

    `others` are further trials that the answer rests on, without having to lie below the predictors. `with_steps` is
    what longer training would change about the answer; None where no curve tells it, or no effect of interest is known.
    """

    sides: Sequence[Sequence[TrialResult]]
    measure: str = LOSS
    relative_to: str | None = None
    confidence: float = CONFIDENCE_LEVEL
    others: Sequence[TrialResult] = ()
    with_steps: ChangeWithSteps | None = None
    tables: Mapping[TableKey, list[TrialResult]] = field(init=False)

    def __post_init__(self) -> None:
        trials = {id(trial): trial for side in (*self.sides, self.others) for trial in side}
        object.__setattr__(self, "tables", _by_table(trials.values()))

    @property
    def designs(self) -> list[tuple[TableKey, str, list[TrialResult]]]:
        """Each table's designs with their trials."""
        return [
            (key, design, [trial for trial in trials if trial.design == design])
            for key, trials in self.tables.items()
            for design in dict.fromkeys(trial.design for trial in trials)
        ]

    def control(self, name: str, passed: bool | None, reason: str, key: TableKey | None = None, **more: Any) -> Control:
        """A control about one of the tables, or about all."""
        keys = [key] if key else list(self.tables)
        base, corpus = (", ".join(dict.fromkeys(each[n] for each in keys)) for n in (0, 1))
        values: dict[str, Any] = {"value": None, "threshold": None} | more
        return Control(name, base, corpus, passed, reason=reason, **values)

    def control_of_measure(self, name: str, passed: bool | None, reason: str, **more: Any) -> Control:
        """A control about this measure."""
        found = self.control(name, passed, reason, **more)
        return replace(found, measure=self.measure, relative_to=self.relative_to or "")


def _by_table(trials: Iterable[TrialResult]) -> dict[TableKey, list[TrialResult]]:
    tables: dict[TableKey, list[TrialResult]] = {}
    for trial in trials:
        tables.setdefault((trial.base, trial.corpus, trial.settings_hash), []).append(trial)
    return tables


def predictor_control(name: str, question: Question, data: ControlData) -> Control:
    """Whether each side's mean loss is shown to lie below a predictor's on each corpus; the worst of them is told."""
    worst: tuple[float, TableKey, str, str, Effect] | None = None
    for trials in (group for side in question.sides for group in _by_table(side).items()):
        key, found = trials[0], _margin(name, trials[1])
        if found is None:
            reason = (
                f"{_designs(trials[1])} {_has(trials[1])} no loss of this predictor: run the study into a new folder."
            )
            return question.control(name, None, reason, key, threshold=0.0)
        predictor, effect = found
        low = effect.interval()[0]
        order = low if math.isfinite(low) else -math.inf
        if worst is None or order < worst[0]:
            worst = order, key, predictor, _designs(trials[1]), effect
    if worst is None:
        return question.control(name, None, "No trial has finished.", threshold=0.0)
    _, key, predictor, designs, effect = worst
    low, high = effect.interval()
    figure = f"{format_number(abs(effect.mean))} {'below' if effect.mean > 0 else 'above'} {predictor}"
    ends = f" (interval of the margin {format_ci(low, high)})" if math.isfinite(low) else ""
    more = {"value": effect.mean, "threshold": 0.0, "low": low, "high": high}
    if low > 0:
        return question.control(name, True, f"The loss of {designs} ends {figure}{ends}.", key, **more)
    if effect.mean <= 0:
        cure = "the fall is calibration; train longer, or take a base that knows more of this music."
        return question.control(name, False, f"The loss of {designs} ends {figure}{ends}: {cure}", key, **more)
    cure = "that is not shown; hold out more recordings, or train more seeds."
    passed = False if math.isfinite(low) else None
    return question.control(name, passed, f"The loss of {designs} ends {figure}{ends}: {cure}", key, **more)


def _margin(name: str, trials: Sequence[TrialResult]) -> tuple[str, Effect] | None:
    """The predictor that the trials' base has, and how far their mean loss ends below it."""
    for measure, text in PREDICTORS[name].items():
        rows = [(trial.seed, trial.values(measure, "adapted_loss")) for trial in trials]
        if all(row for _, row in rows) and (effect := effect_of_groups([WeightedGroup(trials[0].corpus, 1.0, rows)])):
            return text, effect
    return None


def curve_control(question: Question, data: ControlData) -> Control:
    """Whether the last fifth of the steps brought less than 2 % of the gain; the design that is worst is told.

    Curves that are not flat pass where longer training would not change the answer: what it would bring, of the same
    order for all designs, cancels in their difference. Of a curve that is nearly straight nobody knows that.
    """
    worst: tuple[float, TableKey, str] = -math.inf, ("", "", ""), ""
    for key, design, trials in question.designs:
        share = _last_fifth(trials)
        if share is None:
            curves = [trial.curve for trial in trials if len(trial.curve) > 1]
            rising = any(not curve[-1][1] < curve[0][1] for curve in curves)
            reason = f"{design} has no curve that tells: evaluate ten times, with training.eval_every."
            if rising:
                reason = f"The validation loss of {design} did not fall: tune its learning rate with tune:."
            return question.control(CURVE, False if rising else None, reason, key, threshold=FLAT_FRACTION)
        if share > worst[0]:
            worst = share, key, design
    share, key, design = worst
    if not design:
        return question.control(CURVE, None, "No trial has finished.", threshold=FLAT_FRACTION)
    figure = f"The last fifth of the steps brought {format_percent(share)} of the gain of {design}"
    reason, passed = f"{figure}, the least converged design.", share < FLAT_FRACTION
    if not passed:
        reason = f"{figure}: give training.steps twice as many."
    if not passed and (expected := question.with_steps) is not None:
        passed = share < STEEP_FRACTION and not expected.changes_answer
        effect = f"the difference would change by {format_number(expected.change)}"
        answer = "not the answer" if passed else "the answer may change"
        reason = f"{figure}, which is not flat. With twice the steps {effect}, and {answer}"
        reason += "." if passed else ": give training.steps twice as many."
    return question.control(CURVE, passed, reason, key, value=share, threshold=FLAT_FRACTION)


def _last_fifth(trials: Sequence[TrialResult]) -> float | None:
    """`plateau_fraction` of the mean curve of a design's trials; None where one has no curve, or they do not tell."""
    curves = [trial.curve for trial in trials]
    return plateau_fraction(mean_curve(curves)) if all(curves) else None


def rate_control(question: Question, data: ControlData) -> Control:
    """Whether each design was trained with a learning rate that lies inside the grid from which it was chosen."""
    inside, problem, missing = [], "", False
    for key, design, trials in question.designs:
        family = family_of(data.tuning, key[0], key[1], design)
        text = _rate_problem(design, trials, family)
        inside.append(not text)
        problem, missing = problem or text, missing or bool(text and family is None)
    if not inside:
        return question.control(RATE, None, "No trial has finished.", threshold=1.0)
    value = float(np.mean(inside))
    reason = problem or "Every design has the learning rate that tuning chose for it, and it lies inside the grid."
    passed = None if missing and not any(inside) else not problem
    return question.control(RATE, passed, reason, value=None if passed is None else value, threshold=1.0)


def _rate_problem(design: str, trials: Sequence[TrialResult], family: TunedFamily | None) -> str:
    """Why a design's learning rate is not known to lie inside its grid; empty if it does."""
    if family is None or any(LEARNING_RATE not in trial.tuned for trial in trials):
        return f"The learning rate of {design} was not tuned: add tune: to the study."
    chosen = family.chosen.get(LEARNING_RATE)
    if any(not math.isclose(trial.tuned[LEARNING_RATE], chosen or 0.0, rel_tol=1e-6) for trial in trials):
        return f"{design} was trained with another learning rate than the tuning chose: run its trials again."
    grid = f"{family.rates[0]:g} to {family.rates[-1]:g}" if family.rates else "none"
    if len(family.rates) < MIN_RATES:
        return f"Only {format_counted(len(family.rates), 'learning rate')} of {design} was tried: give three or more."
    if chosen is None or not family.rates[0] < chosen < family.rates[-1]:
        return f"The best learning rate of {design} is an end of its grid ({grid}): give a wider grid in tune:."
    return ""


def inserted_control(question: Question, data: ControlData) -> Control:
    """Whether a difference that was put in is found in this measure, on all corpora together."""
    effects = _inserted_effects(question, data.trials)
    if not effects:
        known = any(each.control == INSERTED for each in data.trials)
        what = "no planted difference for all of these corpora in this measure" if known else "no planted difference"
        cure = "add a grid with control: planted and steps_fraction: 0.5 for the same designs, corpora and seeds"
        return question.control_of_measure(INSERTED, None, f"The study has {what}: {cure}.", threshold=0.0)
    confidence = 1 - (1 - question.confidence) / len(effects)
    found = {text: effect for text, effect in effects.items() if effect.interval(confidence)[0] > 0}
    text, effect = min(found.items() or effects.items(), key=lambda item: item[1].mean if found else -item[1].mean)
    low, high = effect.interval(confidence)
    figure = f"{text}: {format_number(effect.mean)} ({format_ci(low, high)})"
    reason = f"A planted difference is found, {figure}."
    if not found:
        cure = "train more seeds or hold out more recordings"
        if high < 0:
            cure = "it goes the other way, so this measure does not show what was planted; choose another measure"
        reason = f"No planted difference is found, {figure}: {cure}."
    more = {"value": effect.mean, "threshold": 0.0, "low": low, "high": high}
    return question.control_of_measure(INSERTED, bool(found), reason, **more)


def _inserted_effects(question: Question, trials: Sequence[TrialResult]) -> dict[str, Effect]:
    """By what was planted: how much better the trials without it are, over all tables; only what all tables have."""
    own = {(key, trial.design, trial.seed): trial for key, group in question.tables.items() for trial in group}
    rows: dict[str, dict[TableKey, list[tuple[int, dict[str, float]]]]] = {}
    for altered in (trial for trial in trials if trial.control == INSERTED):
        key = altered.base, altered.corpus, altered.settings_hash
        if (partner := own.get((key, altered.design, altered.seed))) is None:
            continue
        values, other = (each.values(question.measure, question.relative_to) for each in (partner, altered))
        lower = partner.directions.get(question.measure) == "lower_is_better" and not question.relative_to
        if row := {name: (-1 if lower else 1) * (values[name] - other[name]) for name in values if name in other}:
            rows.setdefault(altered.inserted, {}).setdefault(key, []).append((altered.seed, row))
    effects = {}
    for text, by_table in rows.items():
        groups = [WeightedGroup(key[1], 1 / len(by_table), rows) for key, rows in by_table.items()]
        if len(groups) == len(question.tables) and (effect := effect_of_groups(groups)):
            effects[text] = effect
    return effects


def equal_control(question: Question, data: ControlData) -> Control:
    """Whether the halves of each design's seeds are told apart no more often than they may be by chance."""
    more = [trial for trial in data.trials if trial.control == EQUAL]
    false, tried, independent, most = 0, 0, 0, 0
    for key, design, trials in question.designs:
        same = [t for t in more if (t.base, t.corpus, t.settings_hash) == key and t.design == design]
        rows = [(t.seed, t.values(question.measure, question.relative_to)) for t in (*trials, *same)]
        means = mean_by_seed((seed, row) for seed, row in rows if row)
        table = np.array([[*row.values()] for row in means.values()])
        most = max(most, len(table))
        if len(table) >= MIN_SEEDS:
            differences = [table[list(first)] - table[list(second)] for first, second in halves(len(table))]
            false += sum(_excludes_zero(two_way_effect(each)) for each in differences)
            tried, independent = tried + len(differences), independent + len(table) - 1
    if not tried:
        cure = "add seeds to its grid, or a grid with control: equal and other seeds"
        reason = f"{format_counted(most, 'seed')} of a design cannot be split into two halves of two: {cure}."
        return question.control_of_measure(EQUAL, None, reason, threshold=FALSE_DIFFERENCES)
    rate = false / tried
    low, high = wilson_interval(rate * independent, independent)
    passed = low <= FALSE_DIFFERENCES
    figure = (
        f"{false} of {format_counted(tried, 'equal pair')} (halves of the seeds of one design) are told apart at 95 %, "
        f"{format_percent(rate)} (interval {format_ci(low, high, format_percent)})"
    )
    reason = f"{figure}." if passed else f"{figure}: the intervals are too narrow for these data; train more seeds."
    values = {"value": rate, "threshold": FALSE_DIFFERENCES, "low": low, "high": high}
    return question.control_of_measure(EQUAL, passed, reason, **values)


def halves(count: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Pairs of disjoint halves of `count` seeds (4 or more), at most MAX_SPLITS drawn; an odd count leaves one out."""
    half, numbers = count // 2, range(count)
    if math.comb(count, half) <= 10 * MAX_SPLITS:
        found = [
            (first, second)
            for first in combinations(numbers, half)
            for second in combinations([n for n in numbers if n not in first], half)
            if first[0] < second[0]
        ]
    else:
        rng, found = np.random.default_rng(0), []
        for _ in range(MAX_SPLITS):
            order = rng.permutation(count).tolist()
            found.append((tuple(order[:half]), tuple(order[half : 2 * half])))
    if len(found) > MAX_SPLITS:
        drawn = np.random.default_rng(0).choice(len(found), MAX_SPLITS, replace=False)
        found = [found[n] for n in sorted(drawn.tolist())]
    return found


def _excludes_zero(effect: Effect, confidence: float = CONFIDENCE_LEVEL) -> bool:
    low, high = effect.interval(confidence)
    return low > 0 or high < 0


def separation_control(question: Question, data: ControlData) -> Control:
    """Whether a measure moves at all: a score between real music and the base, a loss by what training does to it."""
    if question.measure.startswith(SCORE):
        return _score_separation(question)
    by_design: dict[str, list[WeightedGroup]] = {}
    for key, design, trials in question.designs:
        rows = [(t.seed, row) for t in trials if (row := _change_by_training(t, question))]
        if mean_by_seed(rows):
            by_design.setdefault(design, []).append(WeightedGroup(key[1], 1.0, rows))
    if not by_design:
        reason = "No trial has this measure."
        return question.control_of_measure(SEPARATION, None, reason, threshold=0.0)
    effects = {
        design: effect
        for design, groups in by_design.items()
        if (effect := effect_of_groups([replace(group, weight=1 / len(groups)) for group in groups]))
    }
    confidence = 1 - (1 - CONFIDENCE_LEVEL) / len(effects)

    def nearest_end(effect: Effect) -> float:
        """How far the interval stays away from 0; negative if it contains it."""
        low, high = effect.interval(confidence)
        return max(low, -high) if math.isfinite(low) else -math.inf

    design = max(effects, key=lambda name: nearest_end(effects[name]))
    effect = effects[design]
    low, high = effect.interval(confidence)
    passed = nearest_end(effect) > 0 if math.isfinite(low) else None
    figure = f"{design} changes it by {format_number(effect.mean)} ({format_ci(low, high)}) from the base's 0"
    reason = f"The measure can be moved: {figure}."
    if not passed:
        cure = "train longer, hold out more recordings or train more seeds"
        reason = f"No design is shown to move this measure at all, {figure}: {cure}."
    more = {"value": effect.mean, "threshold": 0.0, "low": low, "high": high}
    return question.control_of_measure(SEPARATION, passed, reason, **more)


def _change_by_training(trial: TrialResult, question: Question) -> dict[str, float]:
    """The measure by recording; of a loss, by how much it fell."""
    if question.measure.endswith("_loss") and question.relative_to is None:
        return trial.values("base_loss", question.measure)
    return trial.values(question.measure, question.relative_to)


def _score_separation(question: Question) -> Control:
    """Of a score: real held-out music against the untrained base, and whether it stands at its floor or ceiling."""
    name, alpha = question.measure.removeprefix(SCORE), SEPARATION_P
    worst: tuple[float, TableKey, str] | None = None
    for key, trials in question.tables.items():
        facts = [trial.scores[name] for trial in trials if name in trial.scores]
        p_values = [p for each in facts if (p := each.get("separation_p")) is not None]
        if not p_values:
            cure = f"hold out {HELD_OUT_TO_COMPARE} recordings or more, and run the study into a new folder"
            reason = f"It is not known whether this score tells real music from the base on {key[1]}: {cure}."
            return question.control_of_measure(SEPARATION, None, reason, threshold=alpha)
        values = [value for trial in trials for value in trial.measures.get(question.measure, {}).values()]
        if edge := _edge(float(np.mean(values)), facts[0]):
            reason = f"The score stands at its {edge} on {key[1]}, where nothing can move it: choose another score."
            return question.control_of_measure(SEPARATION, False, reason, value=float(np.mean(values)))
        p_value = float(np.median(p_values))
        real, base = (_mean_fact(facts, fact) for fact in ("reference", "baseline"))
        text = f"real music {format_number(real)} and the base {format_number(base)} on {key[1]}"
        if worst is None or p_value > worst[0]:
            worst = p_value, key, text
    if worst is None:
        return question.control_of_measure(SEPARATION, None, "No trial has this score.", threshold=alpha)
    p_value, _, text = worst
    passed = p_value <= alpha
    reason = f"The score tells {text} apart (p {format_p_value(p_value)})."
    if not passed:
        cure = "hold out more recordings and generate more clips, or choose another score"
        reason = f"The score does not tell {text} apart (p {format_p_value(p_value)}): {cure}."
    return question.control_of_measure(SEPARATION, passed, reason, value=p_value, threshold=alpha)


def _mean_fact(facts: Sequence[Mapping[str, float | None]], name: str) -> float | None:
    values = [value for each in facts if (value := each.get(name)) is not None]
    return float(np.mean(values)) if values else None


def _edge(value: float, facts: Mapping[str, float | None]) -> str:
    """`floor` or `ceiling` where a mean stands at the least or greatest possible value of its score, else empty."""
    floor, ceiling = facts.get("floor"), facts.get("ceiling")
    near = EDGE_FRACTION * (ceiling - floor) if floor is not None and ceiling is not None else 0.0
    if floor is not None and value <= floor + near:
        return "floor"
    return "ceiling" if ceiling is not None and value >= ceiling - near else ""


def _designs(trials: Sequence[TrialResult]) -> str:
    names = list(dict.fromkeys(trial.design for trial in trials))
    return " and ".join(names) if len(names) < 3 else f"{len(names)} designs"


def _has(trials: Sequence[TrialResult]) -> str:
    return "has" if len({trial.design for trial in trials}) == 1 else "have"


ControlFunction = Callable[[Question, ControlData], Control]
OF_A_MEASURE: tuple[ControlFunction, ...] = (inserted_control, equal_control, separation_control)


def run_controls(questions: Sequence[Question], data: ControlData) -> list[Control]:
    """All controls that the answers to questions about the same trials rest on; none for costs."""
    learnt = [question for question in questions if question.measure not in COST_MEASURES]
    if not learnt:
        return []
    curves = [curve_control(question, data) for question in learnt]
    found = [predictor_control(name, learnt[0], data) for name in PREDICTORS]
    found += [next((curve for curve in curves if not curve.passed), curves[0]), rate_control(learnt[0], data)]
    return found + [control(question, data) for question in learnt for control in OF_A_MEASURE]


def table_controls(
    table: BaseModelResults, measures: Sequence[tuple[str, str | None]], data: ControlData
) -> list[Control]:
    """The controls of all trials of one base and corpus, for the measures (and what is subtracted) that they have."""
    known = [each for each in measures if any(trial.values(*each) for trial in table.trials)]
    questions = [Question([table.trials], *each) for each in dict.fromkeys([(LOSS, None), *known])]
    return run_controls(questions, data)


def comparison_controls(
    trials: Sequence[TrialResult],
    contrast: Contrast,
    data: ControlData,
    confidence: float = CONFIDENCE_LEVEL,
    answer: Answer | None = None,
) -> list[Control]:
    """The controls that a comparison rests on: of the trials that it pairs, in its measure, at its confidence.

    `answer` says what an effect of this contrast tells; without it curves have to be flat.
    """
    pairs = compared_trials(trials, contrast)
    if not pairs:
        return []
    sides = [[pair[n] for pair in pairs] for n in (0, 1)]
    with_steps = None if answer is None else _change_of_a_contrast(sides, contrast, answer)
    question = Question(sides, contrast.measure, contrast.relative_to, confidence, with_steps=with_steps)
    return run_controls([question], data)


def _change_of_a_contrast(
    sides: Sequence[Sequence[TrialResult]], contrast: Contrast, answer: Answer
) -> ChangeWithSteps | None:
    """What twice the steps would change, pair by pair as the effect is computed itself.

    The answer is taken to change unless it is the same with this change and with its double: as much as four
    times the steps would bring, or twice the steps if the expectation is half of what comes.
    """
    trials = [trial for side in sides for trial in side]
    grown = _grown(trials)
    if grown is None:
        return None
    effect, change = paired_effect(trials, contrast), paired_effect(grown, contrast).mean
    answers = {answer(replace(effect, mean=effect.mean + times * change)) for times in (0, 1, 2)}
    return ChangeWithSteps(change, len(answers) > 1)


def _grown(trials: Sequence[TrialResult]) -> list[TrialResult] | None:
    """The trials, each measure replaced by what twice the steps would add to it; None where a curve does not tell.

    A measure is expected to grow by the same fraction as the gain on the validation side: `growth_at_twice_the_steps`
    of the mean curve of the design's seeds on the corpus.
    """
    rows = []
    for _, _, group in Question([trials]).designs:
        share = _last_fifth(group)
        if share is None:
            return None
        growth = growth_at_twice_the_steps(share)
        for trial in group:
            measures = {
                name: {key: growth * (value - _of_the_base(trial, name)) for key, value in row.items()}
                for name, row in trial.measures.items()
            }
            rows.append(trial.model_copy(update={"measures": measures}))
    return rows


def _of_the_base(trial: TrialResult, measure: str) -> float:
    """A measure before training: a score's own value, 0 of what is a difference from the base."""
    return trial.scores.get(measure.removeprefix(SCORE), {}).get("baseline") or 0.0


def choice_controls(
    tables: Sequence[BaseModelResults],
    designs: Sequence[str],
    decisive: Sequence[str],
    margins: Mapping[str, float],
    data: ControlData,
) -> list[Control]:
    """The controls that the choice between `designs` rests on; `margins` are those of its measures.

    The `decisive` designs, of which the first is the chosen one, must beat the predictors.
    """
    trials = {design: [t for table in tables for t in table.of_design(design)] for design in designs}
    sides, others = [trials[design] for design in decisive], [t for group in trials.values() for t in group]
    grown = _grown(others)
    questions = []
    for measure, margin in margins.items():
        change = None if grown is None else _change_of_a_choice(grown, decisive[0], measure)
        with_steps = None if change is None else ChangeWithSteps(change, change > margin / 2)
        questions.append(Question(sides, measure, others=others, with_steps=with_steps))
    return run_controls(questions, data)


def _change_of_a_choice(grown: Sequence[TrialResult], chosen: str, measure: str) -> float | None:
    """By how much twice the steps would bring another design more than the chosen one, at most; negative: none."""
    gains: dict[str, list[float]] = {}
    for _, design, trials in Question([grown]).designs:
        sign = -1 if trials[0].directions.get(measure) == "lower_is_better" else 1
        means = mean_by_seed((trial.seed, row) for trial in trials if (row := trial.values(measure)))
        mean = float(np.mean([[*row.values()] for row in means.values()])) if means else math.nan
        gains.setdefault(design, []).append(sign * mean)
    changes = {design: float(np.mean(values)) for design, values in gains.items()}
    others = [change - changes[chosen] for design, change in changes.items() if design != chosen]
    return max(others) if others and all(math.isfinite(each) for each in others) else None


def not_passed(controls: Sequence[Control]) -> list[Control]:
    """The controls that failed or could not be computed."""
    return [control for control in controls if not control.passed]


def untestable_reason(controls: Sequence[Control]) -> str:
    """Why nothing can be tested and what would make it testable: each control that did not pass, with its reason."""
    reasons = dict.fromkeys(f"{control.name}: {control.reason}" for control in not_passed(controls))
    return " ".join(reason[0].upper() + reason[1:] for reason in reasons)
