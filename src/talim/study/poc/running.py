"""One design after the other: trained, judged, and each skipped where that is done."""

from __future__ import annotations

import gc
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from talim import recipe as recipes
from talim.corpus.manifest import Corpus
from talim.errors import TalimError
from talim.recipe import Recipe
from talim.run import Run, read_json
from talim.stages.progress import Progress
from talim.study.poc.book import Spent, Stamps
from talim.study.poc.wishes import Wishes, folder_name


@dataclass(frozen=True)
class Way:
    """What all stages share: where, on what, how it is told, what is done already, and the time spent."""

    out: Path
    wishes: Wishes
    corpus: Corpus
    progress: Progress
    stamps: Stamps
    spent: Spent
    prepared_seconds: float = 0.0  # that went by before there was a plan

    @property
    def used_seconds(self) -> float:
        """Of the hours."""
        return self.spent.seconds + self.prepared_seconds

    def seconds_left(self) -> float:
        """Of the hours; infinite where none were given."""
        hours = self.wishes.hours
        return float("inf") if hours is None else hours * 3600 - self.used_seconds


def train_all(way: Way, found: Mapping[str, Recipe]) -> tuple[dict[str, Run], dict[str, str]]:
    """Train and judge every recipe in a folder of its name; the runs, and why others broke.

    One that breaks does not stop the rest; TalimError where all do, `Stopped` after Ctrl-C.
    """
    runs, broken = {}, {}
    for name, recipe in found.items():
        run = Run(way.out / folder_name(name))
        try:
            train_one(way, recipe, run)
            judge_one(way, recipe, run)
        except TalimError as error:
            if error.exit_code != 1:
                raise
            broken[name] = str(error)
            way.progress.say(f"{name} broke and is left out: {error}")
            continue
        runs[name] = run
    if not runs:
        raise TalimError(next(iter(broken.values())))
    return runs, broken


def train_one(way: Way, recipe: Recipe, run: Run) -> None:
    """Train into the run's folder, or go on there; nothing where it is finished."""
    from talim.stages.stopping import Stopped
    from talim.stages.train import train

    if run.finished:
        way.progress.say(f"{run.folder}: finished; nothing to train")
        return
    try:
        with way.spent.counting(way.progress) as progress:
            train(recipe, run.folder, progress, way.wishes.device)
    except Stopped as stopped:
        raise stopped.within_another() from None
    finally:
        free_memory()


def judge_one(way: Way, recipe: Recipe, run: Run) -> dict[str, Any]:
    """The run's scores, made where they are not there or were made of other wishes."""
    from talim.stages.evaluate import evaluate
    from talim.stages.generate import Sampling

    wishes, name = way.wishes, recipes.run_id(recipe, way.corpus.hash)
    asked = f"{wishes.sample_seconds} {wishes.seed} {wishes.sampling}"
    if not way.stamps.holds(f"evaluate {name}", asked, run.scores):
        with way.spent.counting(way.progress) as progress:
            evaluate(
                run.folder,
                progress,
                seconds=wishes.sample_seconds,
                seed=wishes.seed,
                sampling=Sampling(**dict(wishes.sampling)),
                device=wishes.device,
            )
        way.stamps.set(f"evaluate {name}", asked)
        free_memory()
    return read_json(run.scores)


def fall_of(run: Run) -> dict[str, Any]:
    """The fall of the held-out loss, as it was judged."""
    return read_json(run.scores)["held_out_loss"]["fall"]


def free_memory() -> None:
    """Give the last stage's model back before the next one loads its own: models hold circles of references."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
