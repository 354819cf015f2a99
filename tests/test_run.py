"""The run folder: writes are whole or absent, torn logs are read, refusals name the path in one line."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest

from talim import atomic_io, run
from talim.errors import TalimError, UsageError
from talim.recipe import Recipe, dump
from talim.run import Run, resolve_recipe


def test_options_win_over_files_and_set_wins_over_options(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("corpus: filed\nseed: 1\ntraining: {steps: 30}\n")
    given = {"corpus": None, "base": None, "training.steps": 40, "seed": 2}
    recipe = resolve_recipe(tmp_path, [tmp_path / "r.yaml"], given, ["seed=3"])
    assert (recipe.corpus, recipe.training.steps, recipe.seed) == ("filed", 40, 3)


def test_a_bare_folder_goes_on_with_its_own_recipe(tmp_path: Path) -> None:
    stored = Recipe(corpus="c", seed=9)
    (tmp_path / "recipe.yaml").write_text(dump(stored))
    assert resolve_recipe(tmp_path, [], {"corpus": None, "seed": None}, []) == stored


def test_an_empty_folder_asks_for_a_corpus(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give --corpus"):
        resolve_recipe(tmp_path, [], {"corpus": None}, [])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def hold(folder: str, held: object, release: object) -> None:
    with Run(folder).lock():
        held.set()  # type: ignore[attr-defined]
        release.wait(20)  # type: ignore[attr-defined]


def test_a_second_process_is_refused_and_a_killed_one_frees_the_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    held, release = context.Event(), context.Event()
    other = context.Process(target=hold, args=(str(tmp_path), held, release))
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


def test_finished_needs_both_cost_and_adapter(tmp_path: Path) -> None:
    made = Run(tmp_path)
    atomic_io.write_json(made.cost, {})
    assert not made.finished
    made.adapter.mkdir()
    assert made.finished


def test_provenance_is_plain_json_and_knows_the_versions() -> None:
    told = json.loads(json.dumps(run.provenance()))
    assert told["talim"]
    assert told["libraries"]["numpy"]
    assert told["time"].endswith("+00:00")
