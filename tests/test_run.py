"""Tests of talim.run: the stored recipe, the lock, completion and provenance."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest

from talim import atomic_io, run
from talim.errors import TalimError, UsageError
from talim.recipe import Recipe, dump
from talim.run import Run, resolve_recipe


def test_resolve_recipe_prefers_set_over_options_over_files(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("corpus: from-file\nseed: 1\ntraining: {steps: 30}\n")
    options = {"corpus": None, "base": None, "training.steps": 40, "seed": 2}
    recipe = resolve_recipe(tmp_path, [tmp_path / "r.yaml"], options, ["seed=3"])
    assert (recipe.corpus, recipe.training.steps, recipe.seed) == ("from-file", 40, 3)


def test_resolve_recipe_without_options_returns_the_stored_recipe(tmp_path: Path) -> None:
    stored = Recipe(corpus="c", seed=9)
    (tmp_path / "recipe.yaml").write_text(dump(stored))
    assert resolve_recipe(tmp_path, [], {"corpus": None, "seed": None}, []) == stored
    assert Run(tmp_path).recipe == stored


def test_run_recipe_in_empty_folder_raises_talim_error(tmp_path: Path) -> None:
    with pytest.raises(TalimError, match="no run is here"):
        _ = Run(tmp_path).recipe


def test_resolve_recipe_in_empty_folder_asks_for_a_corpus(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give --corpus"):
        resolve_recipe(tmp_path, [], {"corpus": None}, [])


def hold_lock(folder: str, held: object, release: object) -> None:
    with Run(folder).lock():
        held.set()  # type: ignore[attr-defined]
        release.wait(20)  # type: ignore[attr-defined]


def test_lock_refuses_a_second_process_until_the_first_is_killed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    held, release = context.Event(), context.Event()
    other = context.Process(target=hold_lock, args=(str(tmp_path), held, release))
    other.start()
    try:
        assert held.wait(20)
        with pytest.raises(TalimError, match="another talim process"), Run(tmp_path).lock():
            pass
    finally:
        other.kill()
        other.join()
    with Run(tmp_path).lock():
        pass


def test_finished_requires_both_cost_and_adapter(tmp_path: Path) -> None:
    folder = Run(tmp_path)
    atomic_io.write_json(folder.cost, {})
    assert not folder.finished
    folder.adapter.mkdir()
    assert folder.finished


def test_provenance_is_plain_json_with_versions() -> None:
    values = json.loads(json.dumps(run.provenance()))
    assert values["talim"]
    assert values["libraries"]["numpy"]
    assert values["time"].endswith("+00:00")
