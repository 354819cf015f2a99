"""Tries learning rates for each kind of design, in short trainings scored on validation clips, before the comparison.

What a grid is, when its best value lies inside, and how it grows is that of a study's `tune:`. Each short training that
has ended is a line of DIR/tuning/trials.jsonl, found by the id of its recipe, so an interrupted search goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from talim import recipe as recipes
from talim.atomic_io import append_jsonl, read_json, read_jsonl, write_json
from talim.backbones import resolve
from talim.corpus.manifest import Corpus
from talim.errors import DivergedError, TalimError
from talim.experiments.preliminary_rules import MAX_RATE, RATE, TuningRule, family_name
from talim.experiments.trial import delete_artifacts, train_and_evaluate
from talim.experiments.tuning import RECORD, GridSearch, TunedCandidate, TunedFamily, read_tuning, search_grid
from talim.html.formatting import format_count, format_counted, format_number, format_setting
from talim.poc import budget
from talim.poc.options import STEPS, PocOptions, hours_option
from talim.poc.runs import PocContext
from talim.recipe import Recipe, Training
from talim.reporting.sentences import FEW_STEPS
from talim.run import Run
from talim.training.time_budget import StepTiming, with_steps

FACTORS = (0.3, 1.0, 3.0)  # of the recipe's rate
MAX_GROWTH = 2  # rates that may be added, where the best is the least or the greatest
RESERVED = len(FACTORS) + 1  # short trainings of each kind that the time budget leaves room for
STEPS_FRACTION = 0.25  # of a design's steps, in a short training
MIN_STEPS = FEW_STEPS  # of a design: a quarter of fewer shows little
SEED_OFFSET = 100  # of the short trainings, so that rates are not chosen for the seed of the comparison
FOLDER, LOG = "tuning", "trials.jsonl"


@dataclass(frozen=True)
class KindOfDesign:
    """The designs of one kind, in the order in which they were given; the middle one is trained for all of them."""

    name: str
    recipes: tuple[Recipe, ...]

    @property
    def recipe(self) -> Recipe:
        return self.recipes[len(self.recipes) // 2]

    @cached_property
    def rule(self) -> TuningRule:
        rate, seed = self.recipe.training.peak_rate, (self.recipe.seed + SEED_OFFSET) % 2**31
        rates = tuple(sorted({min(MAX_RATE, float(f"{rate * factor:.3g}")) for factor in FACTORS}))
        return TuningRule(learning_rate=rates, seeds=(seed,), max_growth=MAX_GROWTH)

    @property
    def grids(self) -> dict[str, tuple[float, ...]]:
        return self.rule.grids(self.recipe.design)


def kinds_of_designs(by_design: Mapping[str, Recipe]) -> list[KindOfDesign]:
    """The kinds among designs that share all other settings but the rate; each is tried around its middle design's."""
    by_name: dict[str, list[Recipe]] = {}
    for recipe in by_design.values():
        by_name.setdefault(family_name(recipe.design, ("kind",)), []).append(recipe)
    return [KindOfDesign(name, tuple(own)) for name, own in by_name.items()]


def with_default_rates(by_design: Mapping[str, Recipe], corpus: Corpus) -> dict[str, Recipe]:
    """The recipes, on one base, each with the learning rate for its design and the corpus, unless it names one."""
    from talim.planning.base_facts import base_model_facts
    from talim.training.train import with_default_rate

    if all(recipe.training.learning_rate is not None for recipe in by_design.values()):
        return dict(by_design)  # without a look at the base's files
    base = next(iter(by_design.values())).base
    resolve.described(resolve.resolve_source(base))  # dimensions of a base on the Hub are in its files
    sites = base_model_facts(base).shape.sites()
    return {design: with_default_rate(recipe, corpus, sites) for design, recipe in by_design.items()}


def objection(options: PocOptions, corpus: Corpus, training: Training) -> str:
    """Why rates are not tried, whatever the time budget; empty if they may be."""
    if not options.tune:
        return "talim poc tries others first unless it gets --no-tune"
    if RATE in dict(options.settings):
        return f"it was given with --set {RATE}"
    if not corpus.validation:
        return "there are no validation clips to compare rates on; with more recordings there are"
    if options.hours is None and training.steps < MIN_STEPS:
        return (
            f"a quarter of {format_counted(training.steps, 'step')} shows little; "
            f"with --set {STEPS}={MIN_STEPS} or more others are tried"
        )
    return ""


def short_timings(by_design: Mapping[str, Recipe], timings: Mapping[str, StepTiming]) -> list[StepTiming]:
    """The short trainings to leave room for: a step of theirs is a part of a design's, and the base is loaded twice."""
    of_kinds = [timings[str(kind.recipe.design)] for kind in kinds_of_designs(by_design)]
    return [StepTiming(each.step_seconds * STEPS_FRACTION, 2 * each.startup_seconds) for each in of_kinds] * RESERVED


def evaluation_seconds(corpus: Corpus, training: Training, timing: StepTiming) -> float:
    """Seconds of the validation loss of a short training: forward only, about a third of a step."""
    return len(corpus.validation) / training.batch_size * timing.step_seconds / 3


def least_steps(min_steps: int) -> int:
    """The least steps of each design beside which rates are tried; `min_steps` is the gate's."""
    return max(MIN_STEPS, min_steps)


def too_little_time(division: budget.Division, min_steps: int, seconds: float, given: float) -> str:
    """Why a budget of `given` seconds, with `seconds` of it left, has no time for it, and the hours that would do."""
    least = least_steps(min_steps)
    needed = budget.least_seconds(lambda left: division.steps(left, short=True) >= least, seconds)
    hours = hours_option((given + needed - seconds) * budget.RETRY_FACTOR)["en"]
    return (
        f"in this time {format_counted(division.steps(seconds, short=True), 'step')} would be left for each design, "
        f"and {least} are needed; {hours} would do"
    )


def count_of_trainings(by_design: Mapping[str, Recipe]) -> str:
    """How many short trainings there will be: "9 to 15"."""
    sizes = [len(kind.rule.learning_rate) for kind in kinds_of_designs(by_design)]
    return f"{sum(sizes)} to {sum(sizes) + MAX_GROWTH * len(sizes)}"


def try_rates(
    context: PocContext, plan: Mapping[str, Any], by_design: Mapping[str, Recipe], min_steps: int
) -> tuple[TunedFamily, ...]:
    """Try rates for each kind, as far as the time allows, and write DIR/tuning.json; the choices that were made.

    No short training begins, or goes on, that would leave each design too few: `least_steps`.
    """
    search = _Search(context, plan, by_design, least_steps(min_steps))
    kinds = kinds_of_designs(by_design)
    for growth in range(MAX_GROWTH + 1):  # all kinds reach the same growth before one goes on
        for kind in kinds:
            search.go_on(kind, growth)
    families = tuple(family for kind in kinds if (family := search.family(kind)))
    for family in families:
        context.progress.log(f"learning rate: {_chosen(family)}, of {_tried(family)}")
    rows = [family.model_dump(mode="json") for family in families]
    write_json(context.out / RECORD, {"families": rows, "untried": search.ended})
    return families


def tuned_recipes(by_design: Mapping[str, Recipe], families: Sequence[TunedFamily]) -> dict[str, Recipe]:
    """The recipes with the rate that was chosen for their kind, if one was."""
    rates = {design: family.chosen[RATE] for family in families for design in family.designs}
    return {
        design: recipe.with_learning_rate(rates[design]) if design in rates else recipe
        for design, recipe in by_design.items()
    }


def short_runs(out: Path, by_design: Mapping[str, Recipe]) -> list[tuple[str, Run]]:
    """The finished short trainings of these designs, each with its design."""
    return [
        (line["design"], run)
        for line in _read_lines(out).values()
        if line["design"] in by_design and (run := Run(_folder(out, line["id"]))).cost.is_file()
    ]


def summary(plan: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """{"families", "note"}: what was tried and chosen, and that in sentences, or why no rates were tried."""
    families = read_tuning(out)
    rates = {design: (recipe.get("training") or {}).get("learning_rate") for design, recipe in plan["recipes"].items()}
    return {
        "families": [family.model_dump(mode="json") for family in families],
        "note": _note(plan, families, {design: rate for design, rate in rates.items() if rate}, _reasons(out)),
    }


def _note(
    plan: Mapping[str, Any], families: Sequence[TunedFamily], rates: Mapping[str, float], ended: Mapping[str, str]
) -> str:
    if "short_steps" not in plan or not (families or ended):
        if not rates:
            return ""
        different, first = set(rates.values()), next(iter(rates.values()))
        each = ", ".join(f"{design} {format_setting(rate)}" for design, rate in rates.items())
        one = f"All trainings had the learning rate {format_setting(first)}."
        several = f"The designs had learning rates of their own: {each}."
        return (
            f"{one if len(different) == 1 else several} No other rate was tried: "
            f"{plan['rates_untried']}. Another one may give a lower loss, and another order of the designs."
        )
    steps = format_counted(plan["short_steps"], "step")
    text = ""
    if families:
        text = (
            f"The learning rate of each kind was chosen by the loss on validation clips, in short trainings of {steps} "
            f"and one seed (longer ones may want a lower rate): {'; '.join(map(_chosen, families))}."
        )
    kept = "".join(f" Of {kind} no other rate was chosen: {reason}." for kind, reason in ended.items())
    return f"{text}{kept}".strip()


def _chosen(family: TunedFamily) -> str:
    """The rate that was chosen; the others with their losses are rows of a table."""
    edge = "" if family.inside else f" (the best may lie beyond: {family.note})"
    return f"{family.family} {format_setting(family.chosen[RATE])}{edge}"


def _tried(family: TunedFamily) -> str:
    """Every rate with its loss, for the log."""
    return ", ".join(
        f"{format_setting(rate)} {'diverged' if loss is None else format_number(loss)}"
        for rate, loss in zip(family.rates, family.losses, strict=True)
    )


def _folder(out: Path, identity: str) -> Path:
    """Deeper than a report looks for runs: it is about those that were compared."""
    return out / FOLDER / "runs" / identity


def _read_lines(out: Path) -> dict[str, dict[str, Any]]:
    file = out / FOLDER / LOG
    return {line["id"]: line for line in read_jsonl(file)} if file.is_file() else {}


def _reasons(out: Path) -> dict[str, str]:
    file = out / RECORD
    return read_json(file).get("untried", {}) if file.is_file() else {}


@dataclass
class _Search:
    """The short trainings of all kinds: what they found, and why those of a kind ended early."""

    context: PocContext
    plan: Mapping[str, Any]
    by_design: Mapping[str, Recipe]
    least_steps: int
    losses: dict[str, dict[tuple[float, ...], float | None]] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)
    timings: dict[str, StepTiming] = field(init=False)

    def __post_init__(self) -> None:
        self.timings = budget.timings_of(self.plan)

    def go_on(self, kind: KindOfDesign, growth: int) -> None:
        """Train with every rate that is missing of the kind's grid, which has grown at most `growth` times."""
        losses = self.losses.setdefault(kind.name, {})
        while kind.name not in self.ended:
            missing = search_grid(kind.grids, losses, growth).missing
            if not missing:
                return
            try:
                losses[missing[0]] = self._loss(kind, missing[0][0], in_grid=growth == 0)
            except _OutOfTimeError as reason:
                self.ended[kind.name] = str(reason)
            except TalimError as error:
                if error.exit_code != 1:
                    raise
                self.ended[kind.name] = f"a short training failed ({error})"
                self.context.progress.log(f"{kind.name}: {self.ended[kind.name]}")

    def family(self, kind: KindOfDesign) -> TunedFamily | None:
        """The choice for a kind, from the largest grid that was tried whole; None, with the reason in `ended`."""
        found = self._found(kind)
        if found is None or found.best is None:
            self.ended.setdefault(kind.name, found.note if found else "no rates were tried")
            return None
        note = found.note
        if (reason := self.ended.pop(kind.name, "")) and not found.inside:
            note = f"{note.partition('; bound')[0]}; {reason}"
        corpus = self.context.corpus.folder.name
        losses = self.losses[kind.name]
        return TunedFamily(
            base=kind.recipe.base,
            group=corpus,
            family=kind.name,
            corpora=(corpus,),
            designs=tuple(str(recipe.design) for recipe in kind.recipes),
            representative=str(kind.recipe.design),
            tuned_on=(corpus,),
            seeds=kind.rule.seeds,
            candidates=tuple(TunedCandidate(values={RATE: point[0]}, loss=losses[point]) for point in found.points),
            chosen={RATE: found.best[0]},
            inside=found.inside,
            note=note,
        )

    def _found(self, kind: KindOfDesign) -> GridSearch | None:
        for growth in range(MAX_GROWTH, -1, -1):
            found = search_grid(kind.grids, self.losses[kind.name], growth)
            if not found.missing:
                return found
        return None

    def _loss(self, kind: KindOfDesign, rate: float, *, in_grid: bool) -> float | None:
        """The validation loss of a short training; None if it diverged. _OutOfTimeError if its time is over."""
        recipe = self._short_recipe(kind, rate)
        identity = recipes.run_id(recipe, self.context.corpus.hash)
        if (line := _read_lines(self.context.out).get(identity)) is not None:
            return line["loss"]
        seconds = self._seconds_for(recipe, in_grid)
        run = Run(_folder(self.context.out, identity))
        loss, error = None, ""
        with self.context.time_log.counting(self.context.progress) as progress:
            steps = format_counted(recipe.training.steps, "step")
            progress.log(f"trying the learning rate {format_setting(rate)} of {kind.name}: {steps}")
            try:
                loss = train_and_evaluate(
                    recipe,
                    run,
                    lambda: self._validation_loss(run, progress),
                    progress,
                    device=self.context.options.device,
                    seconds=seconds,
                )
            except DivergedError as diverged:
                error = str(diverged)
        row: dict[str, Any] = {"id": identity, "design": str(recipe.design), "rate": rate, "loss": loss}
        append_jsonl(self.context.out / FOLDER / LOG, row | ({"error": error} if error else {}))
        delete_artifacts(run)
        return loss

    def _validation_loss(self, run: Run, progress: Any) -> float:
        from talim.evaluation.held_out_loss import validation_loss

        if read_json(run.cost).get("stopped_for_time"):
            raise _OutOfTimeError(f"its time was over within {format_count(run.recipe.training.steps)} steps")
        losses = validation_loss(run.folder, progress, self.context.options.device)["per_recording"]
        return sum(losses.values()) / len(losses)

    def _short_recipe(self, kind: KindOfDesign, rate: float) -> Recipe:
        # its only use is to place checkpoints
        timing = self.timings.get(str(kind.recipe.design), StepTiming(1e-3, 0.0))
        training = with_steps(kind.recipe.training, self.plan["short_steps"], timing)
        training = training.model_copy(update={"learning_rate": rate})
        return kind.recipe.model_copy(update={"training": training, "seed": kind.rule.seeds[0]})

    def _seconds_for(self, recipe: Recipe, in_grid: bool) -> float | None:
        """Seconds that a short training may take; None without a budget. _OutOfTimeError if it would take longer.

        Growth leaves every design the steps that rates are tried for at all; the first grid, half of them.
        """
        hours, timing = self.context.options.hours, self.timings.get(str(recipe.design))
        if hours is None or timing is None:
            return None
        corpus, evaluation = self.context.corpus, float(self.plan["evaluation_seconds"])
        steps = self.least_steps // 2 if in_grid else self.least_steps
        kept = budget.RESERVE * hours * 3600
        for each in self.by_design.values():
            training = each.training.model_copy(update={"steps": steps})
            kept += budget.run_seconds(training, self.timings.get(str(each.design), timing), evaluation)
        loss_seconds = timing.startup_seconds + evaluation_seconds(corpus, recipe.training, timing)
        spare = self.context.seconds_left() - kept - loss_seconds
        if budget.run_seconds(recipe.training, timing, 0.0) > spare:
            raise _OutOfTimeError("no time was left to try more")
        return spare


class _OutOfTimeError(TalimError):
    """The time budget has no room for another short training."""
