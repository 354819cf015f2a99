"""How many steps fit into the hours that are there: a few steps are timed first, on the real clips."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

from talim.corpus.manifest import Corpus
from talim.errors import UsageError
from talim.progress import Progress
from talim.recipe import Recipe, Training
from talim.training import batches, frozen_cache
from talim.training.trainer import attach_recipe_design

TIMED_STEPS = 3
TRAINING_TIME_FRACTION = 0.85  # the rest is for the judgement and the page
MAX_TRAINING_STEPS = 20_000
CHECKPOINT_SECONDS = 300.0


@dataclass(frozen=True)
class StepTiming:
    """Seconds one training step took, and seconds spent before the first one (loading, encoding).

    `encoding_seconds` of these are spent once: whoever comes next on the same corpus finds it done.
    """

    step_seconds: float
    startup_seconds: float
    encoding_seconds: float = 0.0

    @property
    def for_next_run(self) -> StepTiming:
        """Of the next run on the same corpus."""
        return StepTiming(self.step_seconds, max(0.0, self.startup_seconds - self.encoding_seconds))


def measure_step_timing(recipe: Recipe, progress: Progress, device: str = "auto") -> StepTiming:
    """Time some training steps of this recipe; encodes the corpus on the way, which is kept for later.

    Where a prefix is kept, the time to compute it is reckoned with what comes before.
    """
    from talim.backbones.load import load

    began = time.perf_counter()
    corpus, training = Corpus.load(Path(recipe.corpus)), recipe.training
    backbone = load(recipe.base, precision=training.precision, device=device)
    attach_recipe_design(backbone, recipe)
    backbone.enable_training(training.gradient_checkpointing, training.weighting)
    loaded = time.perf_counter()
    batches.encode_clips(corpus, corpus.held_out, backbone, progress, training.predict_music)
    learned = batches.training_subset(corpus, training.recordings_share, recipe.seed)
    items = batches.encode_clips(corpus, learned, backbone, progress, training.predict_music)
    encoding_seconds = time.perf_counter() - loaded
    cuts = [batches.fixed_crop(item, backbone, recipe.seed, training.clip_seconds) for item in items]
    kept, _ = frozen_cache.make_frozen_cache(recipe, corpus, backbone, Progress(), cuts)
    before_seconds = time.perf_counter() - began

    def step_seconds(step: int) -> float:
        start = time.perf_counter()
        batch = batches.training_batch(
            items,
            backbone,
            batch_size=training.batch_size,
            seed=recipe.seed,
            step=step,
            condition_dropout=0.0,
            clip_seconds=training.clip_seconds,
            crops=training.crops,
            prefix=kept,
        )
        backbone.loss(batch).mean.backward()
        if backbone.device.type == "cuda":
            torch.cuda.synchronize(backbone.device)
        return time.perf_counter() - start

    timed = range(1, TIMED_STEPS + 2)  # the first one warms up
    taken = [step_seconds(step) for step in timed]
    if kept is not None:
        before_seconds += sum(taken) + kept.seconds_to_fill(cuts, training.condition_dropout)
        taken = [step_seconds(step) for step in timed]  # now that theirs is there
    return StepTiming(median(taken[1:]), before_seconds, encoding_seconds)


def fit_steps_to_hours(training: Training, hours: float, pace: StepTiming) -> Training:
    """The training whose steps and looks fill `hours` less what came before; UsageError if none fits."""
    steps = steps_for_budget(training, hours * 3600, [pace])
    if steps < 1:
        needed = (pace.startup_seconds + pace.step_seconds) / TRAINING_TIME_FRACTION / 3600
        raise UsageError(
            f"--hours {hours:g} is too little: {needed:.2f} hours go by before the first step ends"
        )
    return with_steps(training, steps, pace)


def steps_for_budget(training: Training, seconds: float, paces: Sequence[StepTiming]) -> int:
    """How many steps each of several trainings may take, all the same number, one after the other; 0 if none fits."""
    left = (seconds - sum(pace.startup_seconds for pace in paces)) * TRAINING_TIME_FRACTION
    looks = training.evaluate_clips / training.batch_size / 3  # forward only: about a third of a step
    each = sum(pace.step_seconds * (1 + looks / training.evaluate_every) for pace in paces)
    return max(0, min(int(left / each), MAX_TRAINING_STEPS))


def with_steps(training: Training, steps: int, pace: StepTiming) -> Training:
    """The training with so many steps: its warm-up and looks among them, a checkpoint every few minutes."""
    checkpoint_every = max(1, min(training.checkpoint_every, int(CHECKPOINT_SECONDS / pace.step_seconds)))
    changed = {
        "steps": steps,
        "warmup_steps": min(training.warmup_steps, steps // 10),
        "evaluate_every": min(training.evaluate_every, max(1, steps // 4)),
        "checkpoint_every": checkpoint_every,
    }
    return training.model_copy(update=changed)
