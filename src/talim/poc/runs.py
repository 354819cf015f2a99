"""Trains and evaluates the runs of a proof of concept; what is finished is skipped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from talim import recipe as recipes
from talim.atomic_io import read_json
from talim.corpus.manifest import Corpus
from talim.errors import TalimError
from talim.evaluation.base_results import BaseResults
from talim.evaluation.predictor_comparison import BELOW, KEY
from talim.experiments.trial import train_and_evaluate
from talim.html.formatting import format_counted
from talim.poc import budget, state
from talim.poc.options import PocOptions, folder_name
from talim.poc.state import StageCache
from talim.progress import Progress
from talim.recipe import Recipe
from talim.reporting import run_results, sentences
from talim.run import Run
from talim.time_log import TimeLog


@dataclass(frozen=True)
class PocContext:
    """What all stages share: folder, options, corpus, reporter, finished stages, time used, results of the base."""

    out: Path
    options: PocOptions
    corpus: Corpus
    progress: Progress
    stage_cache: StageCache
    time_log: TimeLog
    prepare_seconds: float = 0.0  # of the corpus, counted against the time budget
    base_results: BaseResults = field(default_factory=BaseResults)

    @property
    def used_seconds(self) -> float:
        """Seconds used of the time budget, over all sessions."""
        return self.time_log.seconds + self.prepare_seconds

    def seconds_left(self) -> float:
        """Seconds left of the time budget; infinite without one."""
        hours = self.options.hours
        return float("inf") if hours is None else hours * 3600 - self.used_seconds


def run_all(
    context: PocContext, by_design: Mapping[str, Recipe], plan: Mapping[str, Any]
) -> tuple[dict[str, Run], dict[str, str], list[str]]:
    """Train and evaluate every recipe in a folder of its design's name; returns the runs, and failures with reasons.

    Where the time budget would be overrun, the designs that are left get fewer steps; the third value says so. A failed
    run does not stop the others; TalimError if all fail, `Interrupted` after Ctrl-C.
    """
    runs, failures, notes = {}, {}, []
    for number, (design, planned) in enumerate(by_design.items()):
        run = Run(context.out / folder_name(design))
        remaining = [*by_design.values()][number:]
        recipe = _recipe_within_budget(context, remaining, run, runs, plan)
        if recipe.training.steps < planned.training.steps:
            notes.append(
                f"{design} was trained in {recipe.training.steps} of "
                f"{format_counted(planned.training.steps, 'step')}, as training took "
                "longer than it was timed; its result is not to be compared with that of more steps."
            )
            context.progress.log(notes[-1])
        try:
            run_one(context, recipe, run, _training_seconds(context, [recipe, *remaining[1:]], runs, plan))
        except TalimError as error:
            if error.exit_code != 1:
                raise
            failures[design] = str(error)
            context.progress.log(f"{design} failed and is left out: {error}")
            continue
        if (steps := budget.steps_allowed(run)) < recipe.training.steps:
            notes.append(
                f"{design} was stopped after {steps} of {format_counted(recipe.training.steps, 'step')}, as "
                "its time was over; its "
                "result is not to be compared with that of more steps."
            )
        runs[design] = run
    if not runs:
        raise TalimError(next(iter(failures.values())))
    return runs, failures, notes


def _recipe_within_budget(
    context: PocContext, remaining: Sequence[Recipe], run: Run, finished: Mapping[str, Run], plan: Mapping[str, Any]
) -> Recipe:
    """The recipe of the next run: as it was begun, else as planned, else with fewer steps."""
    if run.recipe_file.is_file():  # begun in an earlier session
        corpus = {"corpus": remaining[0].corpus}
        return recipes.load([run.recipe_file], corpus)
    if context.options.hours is None:
        return remaining[0]
    return budget.shortened(remaining, plan, finished, _seconds_left(context))


def _training_seconds(
    context: PocContext, remaining: Sequence[Recipe], finished: Mapping[str, Run], plan: Mapping[str, Any]
) -> float | None:
    """Seconds that the next run may train; None without a time budget."""
    if context.options.hours is None:
        return None
    return budget.training_seconds(remaining, plan, finished, _seconds_left(context))


def _seconds_left(context: PocContext) -> float:
    """With what may be overrun."""
    return context.seconds_left() + budget.OVERRUN * 3600 * (context.options.hours or 0.0)


def run_one(context: PocContext, recipe: Recipe, run: Run, training_seconds: float | None = None) -> dict[str, Any]:
    """Train the run, within `training_seconds`, unless it is finished; evaluate it unless its scores are current.

    Returns the scores.
    """
    from talim.evaluation.evaluate import evaluate
    from talim.generation.generate import GenerationOptions

    options = context.options
    stage = f"evaluate {recipes.run_id(recipe, context.corpus.hash)}"
    key = f"{options.sample_seconds} {options.seed} {options.generation_options}"
    current = context.stage_cache.is_current(stage, key, run.scores)
    if run.finished:
        context.progress.log(f"{run.folder}: already trained")
    if not (run.finished and current):
        with context.time_log.counting(context.progress) as progress:

            def evaluate_run() -> None:
                if current:
                    return
                generation = GenerationOptions(**dict(options.generation_options))
                seconds, seed, device = options.sample_seconds, options.seed, options.device
                evaluate(
                    run.folder,
                    progress,
                    seconds=seconds,
                    seed=seed,
                    options=generation,
                    device=device,
                    metrics_cache=context.out / state.METRICS_CACHE,  # all runs are compared with the same music
                    base_results=context.base_results,
                )
                context.stage_cache.mark_done(stage, key)

            train_and_evaluate(recipe, run, evaluate_run, progress, device=options.device, seconds=training_seconds)
            if unchanged := sentences.unchanged_sentence(run_results.read_result(run.folder)):
                progress.log(f"{run.folder}: {unchanged}")
    return read_json(run.scores)


def held_out_loss_of(run: Run) -> dict[str, Any]:
    """The held-out losses in the run's scores: of base, adapter and predictors that need no model."""
    return read_json(run.scores)["held_out_loss"]


def ends_below_predictors(run: Run) -> bool:
    """Whether the loss is shown to end below the best predictor that needs no model."""
    return held_out_loss_of(run)[KEY]["verdict"] == BELOW


def loss_reduction_of(run: Run) -> dict[str, Any]:
    """The reduction of the held-out loss in the run's scores: mean, ci95, per_recording. Nothing is chosen by it."""
    return held_out_loss_of(run)["loss_reduction"]


def validation_reduction_of(run: Run) -> dict[str, Any] | None:
    """Likewise of the validation loss, by which designs and steps are compared; None without validation clips."""
    losses = read_json(run.scores).get("validation_loss")
    return losses["loss_reduction"] if losses else None
