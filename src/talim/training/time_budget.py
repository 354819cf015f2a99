"""How many training steps fit into a time budget: a few steps are timed first, on the real clips."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

from talim.corpus.manifest import Corpus
from talim.progress import Progress, counted
from talim.recipe import Recipe, Training
from talim.training import batches, frozen_cache
from talim.training.trainer import attach_recipe_design

TIMED_STEPS = 3
TRAINING_TIME_FRACTION = 0.85  # of the budget; the rest is for evaluation and the report
MAX_TRAINING_STEPS = 20_000
CHECKPOINT_SECONDS = 300.0


@dataclass(frozen=True)
class StepTiming:
    """Seconds per training step, and seconds before the first one (loading, encoding, filling the frozen cache).

    `encoding_seconds` is the part of `startup_seconds` that later runs on the same corpus do not need.
    """

    step_seconds: float
    startup_seconds: float
    encoding_seconds: float = 0.0

    @property
    def for_next_run(self) -> StepTiming:
        """The timing of a later run on the same corpus."""
        return StepTiming(self.step_seconds, max(0.0, self.startup_seconds - self.encoding_seconds))


def measure_step_timing(recipe: Recipe, progress: Progress, device: str = "auto") -> StepTiming:
    """Time some training steps of this recipe. The corpus's encoded clips stay cached."""
    from talim.backbones.load import load

    start = time.perf_counter()
    corpus, training = Corpus.load(Path(recipe.corpus)), recipe.training
    backbone = load(recipe.base, precision=training.precision, device=device)
    attach_recipe_design(backbone, recipe)
    backbone.enable_training(training.gradient_checkpointing, training.loss_weighting)
    encoding_start = time.perf_counter()
    subset = batches.training_subset(corpus, training.train_fraction, recipe.seed)
    _, items = (
        batches.encode_clips(corpus, clips, backbone, progress, training.predict_beats_chords, training.melody_from)
        for clips in ([*corpus.validation, *corpus.held_out], subset)
    )
    encoding_seconds = time.perf_counter() - encoding_start
    crops = [batches.fixed_crop(item, backbone, recipe.seed, training.crop_seconds) for item in items]
    cache, _ = frozen_cache.make_frozen_cache(recipe, corpus, backbone, Progress(), crops)
    startup_seconds = time.perf_counter() - start
    without_dropout = training.model_copy(update={"condition_dropout": 0.0})

    def step_seconds() -> list[float]:
        numbers = range(1, TIMED_STEPS + 2)  # the first one warms up
        title = f"timing steps of {recipe.design}"
        return [seconds_of(step) for step in counted(numbers, len(numbers), progress, title)]

    def seconds_of(step: int) -> float:
        step_start = time.perf_counter()
        batch = batches.training_batch(items, backbone, without_dropout, recipe.seed, step, cache)
        backbone.loss(batch).mean.backward()
        if backbone.device.type == "cuda":
            torch.cuda.synchronize(backbone.device)
        return time.perf_counter() - step_start

    seconds = step_seconds()
    if cache is not None:  # the first pass filled the entries of these steps: time them again
        startup_seconds += sum(seconds) + cache.seconds_to_fill(crops, training.condition_dropout)
        seconds = step_seconds()
    return StepTiming(median(seconds[1:]), startup_seconds, encoding_seconds)


def steps_for_budget(training: Training, seconds: float, timings: Sequence[StepTiming]) -> int:
    """How many steps each of several trainings, one after the other, may take; 0 if none fits."""
    available = (seconds - sum(timing.startup_seconds for timing in timings)) * TRAINING_TIME_FRACTION
    eval_steps = training.eval_clips / training.batch_size / 3  # forward only: about a third of a step
    all_step_seconds = sum(timing.step_seconds * (1 + eval_steps / training.eval_every) for timing in timings)
    return max(0, min(int(available / all_step_seconds), MAX_TRAINING_STEPS))


def with_steps(training: Training, steps: int, timing: StepTiming) -> Training:
    """The training with `steps` steps, warm-up and evaluations adapted, and a checkpoint every few minutes."""
    changes = {
        "steps": steps,
        "warmup_steps": min(training.warmup_steps, steps // 10),
        "eval_every": min(training.eval_every, max(1, steps // batches.ENOUGH_EVALUATIONS)),
        "checkpoint_every": max(1, min(training.checkpoint_every, int(CHECKPOINT_SECONDS / timing.step_seconds))),
    }
    return training.model_copy(update=changes)
