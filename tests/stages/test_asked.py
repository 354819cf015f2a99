"""Options, files and --set, in that order; nothing at all means the run that is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from talim.errors import UsageError
from talim.recipe import Recipe, dump
from talim.stages.asked import recipe_for


def test_options_win_over_files_and_set_wins_over_options(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("corpus: filed\nseed: 1\ntraining: {steps: 30}\n")
    given = {"corpus": None, "base": None, "training.steps": 40, "seed": 2}
    recipe = recipe_for(tmp_path, [tmp_path / "r.yaml"], given, ["seed=3"])
    assert (recipe.corpus, recipe.training.steps, recipe.seed) == ("filed", 40, 3)


def test_a_bare_folder_goes_on_with_its_own_recipe(tmp_path: Path) -> None:
    stored = Recipe(corpus="c", seed=9)
    (tmp_path / "recipe.yaml").write_text(dump(stored))
    assert recipe_for(tmp_path, [], {"corpus": None, "seed": None}, []) == stored


def test_an_empty_folder_asks_for_a_corpus(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give --corpus"):
        recipe_for(tmp_path, [], {"corpus": None}, [])
