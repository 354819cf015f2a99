"""A recipe on the tiny base and corpus, and one finished run that several tests look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from talim import recipe as recipes
from talim.recipe import Recipe
from talim.run import Run

QUICK = {
    "design": "linear@all:10%",
    "training.steps": 9,
    "training.batch_size": 3,
    "training.learning_rate": 0.05,
    "training.warmup_steps": 2,
    "training.evaluate_every": 3,
    "training.evaluate_clips": 4,
    "training.checkpoint_every": 2,
    "training.clip_seconds": 1.5,
    "training.precision": "fp32",
}


@pytest.fixture(scope="session")
def quick_recipe(tiny_base: Path, corpus_folder: Path) -> Any:
    """Makes a recipe of a second's work; keyword arguments change dotted keys (`__` stands for the dot)."""

    def make(**changes: Any) -> Recipe:
        changed = {key.replace("__", "."): value for key, value in changes.items()}
        return recipes.load((), {"base": str(tiny_base), "corpus": str(corpus_folder), **QUICK, **changed})

    return make


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, quick_recipe: Any) -> Run:
    """A trained and evaluated run (read only by agreement)."""
    from talim.stages.evaluate import evaluate
    from talim.stages.train import train

    run = train(quick_recipe(), tmp_path_factory.mktemp("runs") / "run")
    evaluate(run.folder, prompts=2, seconds=1.0)
    return run
