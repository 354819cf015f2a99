"""One design after the other: trained, judged, and each skipped where that is done."""

from __future__ import annotations

import gc
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from talim import recipe as recipes
from talim.atomic_io import read_json
from talim.corpus.manifest import Corpus
from talim.errors import TalimError
from talim.poc.options import PocOptions, folder_name
from talim.poc.state import StageCache, TimeLog
from talim.progress import Progress
from talim.recipe import Recipe
from talim.run import Run


@dataclass(frozen=True)
class PocContext:
    """What all stages share: where, on what, how it is told, what is done already, and the time spent."""

    out: Path
    wishes: PocOptions
    corpus: Corpus
    progress: Progress
    stages: StageCache
    spent: TimeLog
    prepared_seconds: float = 0.0  # that went by before there was a plan

    @property
    def used_seconds(self) -> float:
        """Of the hours."""
        return self.spent.seconds + self.prepared_seconds

    def seconds_left(self) -> float:
        """Of the hours; infinite where none were given."""
        hours = self.wishes.hours
        return float("inf") if hours is None else hours * 3600 - self.used_seconds


def train_all(way: PocContext, found: Mapping[str, Recipe]) -> tuple[dict[str, Run], dict[str, str]]:
    """Train and judge every recipe in a folder of its name; the runs, and why others broke.

    One that breaks does not stop the rest; TalimError where all do, `Stopped` after Ctrl-C.
    """
    runs, broken = {}, {}
    for name, recipe in found.items():
        run = Run(way.out / folder_name(name))
        try:
            train_one(way, recipe, run)
            evaluate_one(way, recipe, run)
        except TalimError as error:
            if error.exit_code != 1:
                raise
            broken[name] = str(error)
            way.progress.log(f"{name} broke and is left out: {error}")
            continue
        runs[name] = run
    if not runs:
        raise TalimError(next(iter(broken.values())))
    return runs, broken


def train_one(way: PocContext, recipe: Recipe, run: Run) -> None:
    """Train into the run's folder, or go on there; nothing where it is finished."""
    from talim.interrupts import Interrupted
    from talim.training.train import train

    if run.finished:
        way.progress.log(f"{run.folder}: finished; nothing to train")
        return
    try:
        with way.spent.counting(way.progress) as progress:
            train(recipe, run.folder, progress, way.wishes.device)
    except Interrupted as stopped:
        raise stopped.for_outer_command() from None
    finally:
        free_memory()


def evaluate_one(way: PocContext, recipe: Recipe, run: Run) -> dict[str, Any]:
    """The run's scores, made where they are not there or were made of other wishes."""
    from talim.evaluation.evaluate import evaluate
    from talim.generation.generate import GenerationOptions

    wishes, name = way.wishes, recipes.run_id(recipe, way.corpus.hash)
    asked = f"{wishes.sample_seconds} {wishes.seed} {wishes.sampling}"
    if not way.stages.is_current(f"evaluate {name}", asked, run.scores):
        with way.spent.counting(way.progress) as progress:
            evaluate(
                run.folder,
                progress,
                seconds=wishes.sample_seconds,
                seed=wishes.seed,
                options=GenerationOptions(**dict(wishes.sampling)),
                device=wishes.device,
            )
        way.stages.set(f"evaluate {name}", asked)
        free_memory()
    return read_json(run.scores)


def loss_reduction_of(run: Run) -> dict[str, Any]:
    """The fall of the held-out loss, as it was judged."""
    return read_json(run.scores)["held_out_loss"]["loss_reduction"]


def free_memory() -> None:
    """Give the last stage's model back before the next one loads its own: models hold circles of references."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
