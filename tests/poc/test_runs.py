"""Runs of a proof of concept: a failure leaves the others, the time budget shortens those that are left and says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fixtures.fake_pipeline import CollectedProgress, by_kind, fake_runs, short_options

from talim.corpus.manifest import Corpus
from talim.errors import TalimError
from talim.poc.options import build_recipes
from talim.poc.runs import PocContext, run_all
from talim.poc.state import StageCache
from talim.recipe import Recipe
from talim.time_log import TimeLog

PLAN = {
    "timings": {f"{kind}@all:2.7%": {"step_seconds": 1.0, "startup_seconds": 1.0} for kind in ("linear", "conv")},
    "evaluation_seconds": 5.0,
}


def context_of(folder: Path, corpus: Path, **changes: Any) -> tuple[PocContext, dict[str, Recipe]]:
    options = short_options(designs=("linear@all:2.7%", "conv@all:2.7%"), **changes)
    recipes = {
        design: recipe.model_copy(update={"corpus": str(corpus)})
        for design, recipe in build_recipes(options, folder).items()
    }
    cache, log = StageCache(folder / "stage_cache.json"), TimeLog(folder / "time_log.json", "all")
    return PocContext(folder, options, Corpus.load(corpus), CollectedProgress(), cache, log), recipes


def test_run_all_without_a_budget_follows_the_plan(
    tmp_path: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes = fake_runs(monkeypatch, by_kind)
    context, recipes = context_of(tmp_path, corpus_folder)
    runs, failures, notes = run_all(context, recipes, PLAN)
    assert list(runs) == list(recipes)
    assert (failures, notes) == ({}, [])
    run_all(context, recipes, PLAN)
    assert len(fakes.trained) == 2  # finished work is skipped
    assert fakes.metrics_caches == [tmp_path / "metrics_cache"] * 2  # the same music is measured once


def test_run_all_says_of_a_training_that_it_changed_nothing(
    tmp_path: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_runs(monkeypatch, by_kind)
    monkeypatch.setattr("talim.poc.runs.sentences.unchanged_sentence", lambda result: f"{result.steps_done} in vain")
    context, recipes = context_of(tmp_path, corpus_folder)
    runs, _, _ = run_all(context, recipes, PLAN)
    for run in runs.values():
        said = f"{run.folder}: {run.recipe.training.steps} in vain"
        assert said in context.progress.messages  # type: ignore[attr-defined]


def test_run_all_out_of_time_shortens_and_says_so(
    tmp_path: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_runs(monkeypatch, by_kind)
    context, recipes = context_of(tmp_path, corpus_folder, hours=0.02)  # 72 s for two runs of 300 steps
    runs, _, notes = run_all(context, recipes, PLAN)
    steps = {design: run.recipe.training.steps for design, run in runs.items()}
    first, second = steps.values()
    assert 0 < second <= first < 300
    assert len(notes) == 2
    assert notes[0].startswith(f"linear@all:2.7% was trained in {steps['linear@all:2.7%']} of 300 steps")
    assert notes[0] in context.progress.messages  # type: ignore[attr-defined]
    again, _, _ = run_all(context, recipes, PLAN)  # a run that was begun keeps its steps
    assert {design: run.recipe.training.steps for design, run in again.items()} == steps


def test_run_all_failure_leaves_the_others(
    tmp_path: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loss_reduction(recipe: Recipe) -> float:
        if recipe.design.parts[0].kind in broken:
            raise TalimError("no memory")
        return 0.5

    fake_runs(monkeypatch, loss_reduction)
    context, recipes = context_of(tmp_path, corpus_folder)
    broken = {"conv"}
    runs, failures, _ = run_all(context, recipes, PLAN)
    assert list(runs) == ["linear@all:2.7%"]
    assert failures == {"conv@all:2.7%": "no memory"}
    broken = {"conv", "linear"}
    with pytest.raises(TalimError, match="no memory"):
        run_all(context_of(tmp_path / "all", corpus_folder)[0], recipes, PLAN)


class Killed(BaseException):
    """Ends an evaluation as SIGKILL does: what was saved before is all that there is."""
