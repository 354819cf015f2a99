"""Keeps to the time budget: the time of an evaluation and of the whole, and shorter runs where time runs out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from talim.atomic_io import read_json
from talim.backbones.registry import is_miniature
from talim.corpus.manifest import Corpus
from talim.html.formatting import format_counted, format_duration
from talim.poc.options import PocOptions
from talim.recipe import Recipe, Training
from talim.run import Run
from talim.training.time_budget import TRAINING_TIME_FRACTION, StepTiming

NUM_PROMPTS = 3  # of an evaluation: each is generated with and without the adapter
TIMED_MUSIC_SECONDS, TIMED_SAMPLING_STEPS = 1.0, 4
SCORES_SECONDS = 1.0  # of a CPU core for all scores of a clip of ten seconds
COPY_SECONDS = 0.25  # of a CPU core to look for a clip in fifty training clips
CONTINUED = 4  # clips that are measured of each phrase: with and without the adapter, the recording, another one
NULL_CLIPS = 10  # that are looked for beside the others, to know how similar clips are by chance
PAGE_SECONDS, LARGER_BASE_SECONDS = 15.0, 60.0  # of a CPU core: drawing the page; planning the larger base
MAX_REAL_CLIPS = 60  # of held-out music, in the scores
OVERRUN = 0.05  # of the budget, which may be passed rather than give designs unequal numbers of steps
RETRY_FACTOR = 1.25  # of the time that would do: a machine that is slower at the next try must not refuse again
RESERVE = 0.03  # of the budget, for the report


def measure_evaluation(recipe: Recipe, corpus: Corpus, options: PocOptions, timing: StepTiming) -> tuple[float, float]:
    """Seconds that one evaluation will take, and those of it in which music is generated.

    A second of music is generated, and the rest follows from its length.
    """
    from talim.backbones.load import load
    from talim.experiments.trial import free_memory

    backbone = load(recipe.base, precision=recipe.training.precision, device=options.device)
    backbone.model.eval()
    caption = corpus.held_out[0].caption if corpus.held_out else ""
    chosen = {**backbone.options, **dict(options.generation_options)}
    new_seconds = options.sample_seconds  # of the samples; and of the continuations, which are as many
    new_seconds += min(new_seconds, max((clip.seconds for clip in corpus.held_out), default=0.0))
    factor = new_seconds / TIMED_MUSIC_SECONDS
    if backbone.target_kind != "tokens":  # a diffusion model makes its whole window in each of its steps
        factor = chosen["sampling_steps"] / TIMED_SAMPLING_STEPS
        chosen["sampling_steps"] = TIMED_SAMPLING_STEPS
    start = time.perf_counter()
    backbone.generate_tokens([caption] * NUM_PROMPTS, TIMED_MUSIC_SECONDS, options.seed, **chosen)
    generating = 2 * (time.perf_counter() - start) * factor
    del backbone
    free_memory()
    batches = (len(corpus.held_out) + len(corpus.validation)) / recipe.training.batch_size
    losses = 2 * batches * timing.step_seconds / 3  # forward only: about a third of a step
    scored = min(MAX_REAL_CLIPS, len(corpus.held_out)) + 2 * NUM_PROMPTS
    copies = (scored + NULL_CLIPS) * COPY_SECONDS * max(1.0, len(corpus.train) / 50)
    scores = (scored + CONTINUED * NUM_PROMPTS) * SCORES_SECONDS * options.sample_seconds / 10
    return timing.startup_seconds + losses + generating + scores + copies, generating


def seconds_for_training(budget_seconds: float, timings: Sequence[StepTiming], evaluations: float) -> float:
    """What to give `steps_for_budget` so that training gets all that evaluations, starts and the report leave."""
    startup = sum(timing.startup_seconds for timing in timings)
    return startup + max(0.0, budget_seconds * (1 - RESERVE) - startup - evaluations) / TRAINING_TIME_FRACTION


def closing_seconds(options: PocOptions) -> float:
    """Seconds after the last evaluation: the plan of the larger base, where one is named, and the page."""
    return PAGE_SECONDS + LARGER_BASE_SECONDS * (options.larger_base and is_miniature(options.base))


def run_seconds(training: Training, timing: StepTiming, evaluation_seconds: float) -> float:
    """Seconds of one training and its evaluation."""
    return timing.startup_seconds + steps_seconds(training, timing) + evaluation_seconds


def steps_seconds(training: Training, timing: StepTiming) -> float:
    """Seconds of the steps of one training, with the validation between them."""
    return training.steps * _seconds_per_step(training, timing.step_seconds)


def _seconds_per_step(training: Training, step_seconds: float) -> float:
    """With the share of the evaluations during training, which are forward only: about a third of a step."""
    return step_seconds * (1 + training.eval_clips / training.batch_size / 3 / training.eval_every)


@dataclass(frozen=True)
class Division:
    """What a time budget is divided among: designs of equal steps, and what is trained beside them.

    `short` are the trainings that try learning rates, timed as parts of a design's step; `short_evaluation_seconds` is
    that of each. `curve` are the trainings of the learning curve, which are evaluated by their loss alone.
    """

    training: Training
    designs: Sequence[StepTiming]
    evaluation_seconds: float
    short: Sequence[StepTiming] = ()
    short_evaluation_seconds: float = 0.0
    curve: Sequence[StepTiming] = ()

    def steps(self, seconds: float, *, short: bool = False, curve: bool = False) -> int:
        """The steps of each design in `seconds`, with or without the short trainings and the learning curve."""
        from talim.training.time_budget import steps_for_budget

        runs = [*self.designs, *(self.short if short else ()), *(self.curve if curve else ())]
        evaluations = len(self.designs) * self.evaluation_seconds
        evaluations += len(self.short) * self.short_evaluation_seconds if short else 0.0
        return steps_for_budget(self.training, seconds_for_training(seconds, runs, evaluations), runs)


def least_seconds(enough: Callable[[float], bool], seconds: float) -> float:
    """The least time, from `seconds` on, that is enough; at most 5 % and a second more than that."""
    while not enough(seconds):
        seconds = max(seconds, 0.0) * 1.05 + 1.0
    return seconds


def estimate_text(
    seconds: float,
    parts: tuple[float, float, float],
    trainings: int,
    curve_runs: int,
    short: str = "",
    left_seconds: float | None = None,
) -> str:
    """What is still to come, in a line, before anything is trained.

    `parts` of the `seconds` are training steps, evaluation of the designs, and of that the generation of music.

    `short`: how many trainings try learning rates; `left_seconds`: what a time budget still has.
    """
    rates = f", {short} short ones that try learning rates" if short else ""
    curve = f" and {curve_runs} for the learning curve" if curve_runs else ""
    of_budget = "" if left_seconds is None else f" of the {format_duration(left_seconds)} that are left"
    what = f"{format_counted(trainings, 'training')}{rates}{curve} with evaluation and the page"
    about = f"about {format_duration(seconds)}{of_budget} while the machine is as free as now"
    in_steps, evaluating, generating = map(format_duration, parts)
    evaluation = f"{evaluating} in evaluation ({generating} generating)"
    return f"{what}: {about}, {in_steps} of them in training steps and {evaluation}"


def shortened(
    remaining: Sequence[Recipe], plan: Mapping[str, Any], finished: Mapping[str, Run], seconds_left: float
) -> Recipe:
    """The first of the `remaining`, with fewer steps if all of them would not fit into `seconds_left`.

    The measured times of the finished runs count, not the first timing: the machine may have become slower. No run gets
    more steps than a finished one, so that designs stay comparable.
    """
    from talim.training.time_budget import with_steps

    recipe, timings = remaining[0], _timings_of_all(remaining, plan)
    if not timings:
        return recipe
    slowdown = slowdown_of(timings_of(plan), finished.items(), recipe.training)
    seconds = [StepTiming(each.step_seconds * slowdown, each.startup_seconds * slowdown) for each in timings]
    fixed = sum(timing.startup_seconds for timing in seconds) + len(remaining) * _evaluation(plan, finished)
    rows = zip(remaining, seconds, strict=True)
    per_step = sum(_seconds_per_step(each.training, timing.step_seconds) for each, timing in rows)
    steps = int(max(0.0, seconds_left - fixed) / per_step)
    steps = min([steps, *(steps_allowed(run) for run in finished.values() if run.recipe_file.is_file())])
    if steps >= recipe.training.steps:
        return recipe
    training = with_steps(recipe.training, max(1, steps), seconds[0])
    return recipe.model_copy(update={"training": training})


def time_spent(used_seconds: float, prepare_seconds: float, runs: Sequence[Run]) -> dict[str, Any]:
    """Machine time of all sessions: "seconds" of the whole, and of its parts "preparing", "training", "evaluating".

    Parts are those of what is there now; what an interruption made necessary twice is in the whole alone. "designs" is
    how many were trained.
    """
    training = sum(float(read_json(run.cost)["wall_seconds"]) for run in runs)
    evaluating = sum(run.evaluation_seconds or 0.0 for run in runs)
    whole = max(used_seconds, prepare_seconds + training + evaluating)
    parts = {"preparing": prepare_seconds, "training": training, "evaluating": evaluating}
    # to milliseconds: shown in seconds, a design's training is the same as in its own cost.json
    return {"seconds": round(whole, 3), "designs": len(runs), **{key: round(each, 3) for key, each in parts.items()}}


def steps_allowed(run: Run) -> int:
    """The steps that a finished run was given: those of its recipe, or those it took until its time was over."""
    cost = read_json(run.cost)
    return int(cost["steps"]) if cost.get("stopped_for_time") else run.recipe.training.steps


def training_seconds(
    remaining: Sequence[Recipe], plan: Mapping[str, Any], finished: Mapping[str, Run], seconds_left: float
) -> float | None:
    """Seconds that the first of the `remaining` may train: its foreseen share of `seconds_left`, less its evaluation.

    So a machine that becomes slower while it trains ends the run, not the budget. None where nothing was timed.
    """
    timings = _timings_of_all(remaining, plan)
    if not timings:
        return None
    evaluation = _evaluation(plan, finished)
    rows = zip(remaining, timings, strict=True)
    foreseen = [run_seconds(each.training, timing, evaluation) for each, timing in rows]
    return max(0.0, seconds_left * foreseen[0] / sum(foreseen) - evaluation)


def timings_of(plan: Mapping[str, Any]) -> dict[str, StepTiming]:
    """What was timed before the trainings, by design; empty where nothing was."""
    return {design: StepTiming(**values) for design, values in (plan.get("timings") or {}).items()}


def _timings_of_all(recipes: Sequence[Recipe], plan: Mapping[str, Any]) -> list[StepTiming]:
    """The plan's timing of each recipe's design; empty where one was not timed."""
    timings, designs = timings_of(plan), [str(recipe.design) for recipe in recipes]
    return [timings[each] for each in designs] if timings.keys() >= {*designs} else []


def slowdown_of(timings: Mapping[str, StepTiming], finished: Iterable[tuple[str, Run]], training: Training) -> float:
    """Measured over timed seconds of training, over finished runs and their designs; 1 without any."""
    measured = expected = 0.0
    for design, run in finished:
        cost = read_json(run.cost)
        if design in timings and cost.get("wall_seconds"):
            measured += float(cost["wall_seconds"])
            expected += float(cost["steps"]) * _seconds_per_step(training, timings[design].step_seconds)
    return measured / expected if expected else 1.0


def _evaluation(plan: Mapping[str, Any], finished: Mapping[str, Run]) -> float:
    """Seconds of an evaluation: the longest that was measured, else the estimate."""
    measured = [seconds for run in finished.values() if (seconds := run.evaluation_seconds) is not None]
    return max(measured, default=float(plan.get("evaluation_seconds") or 0.0))
