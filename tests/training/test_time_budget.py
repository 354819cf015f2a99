"""Tests of talim.training.time_budget: steps that fit into hours, from timed steps."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talim.recipe import Training
from talim.training import time_budget
from talim.training.time_budget import StepTiming


@given(hours=st.floats(0.05, 100), step=st.floats(0.01, 60), batch=st.integers(1, 64))
def test_with_steps_for_budget_fits_and_gives_a_valid_training(hours: float, step: float, batch: int) -> None:
    training, timing = Training(batch_size=batch), StepTiming(step, 10.0)
    steps = time_budget.steps_for_budget(training, hours * 3600, [timing])
    if not steps:
        assert hours * 3600 < 60 + 3 * step * (1 + 32 / batch)
        return
    fitted = time_budget.with_steps(training, steps, timing)
    assert fitted.steps * step <= hours * 3600
    assert Training.model_validate(fitted.model_dump()) == fitted
    assert fitted.warmup_steps < fitted.steps
    assert fitted.checkpoint_every == 1 or fitted.checkpoint_every * step <= 300


def test_steps_for_budget_divides_the_time_between_trainings() -> None:
    training = Training(eval_every=50, eval_clips=24, batch_size=8)
    timings = [StepTiming(1.0, 100.0), StepTiming(2.0, 50.0)]
    assert time_budget.steps_for_budget(training, 3600, timings) == int(3450 * 0.85 / (3 * 1.02))
    assert time_budget.steps_for_budget(training, 100, timings) == 0
    assert StepTiming(1.0, 100.0, 90.0).for_next_run == StepTiming(1.0, 10.0)


def test_measure_step_timing_separates_loading_encoding_and_steps(
    quick_recipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def lasting(seconds: Callable[[int], float], function: Callable[..., Any]) -> Callable[..., Any]:
        calls = itertools.count()

        def timed(*arguments: Any, **named: Any) -> Any:
            nonlocal now
            now += seconds(next(calls))
            return function(*arguments, **named)

        return timed

    monkeypatch.setattr(time_budget, "time", SimpleNamespace(perf_counter=lambda: now))
    monkeypatch.setattr(time_budget, "attach_recipe_design", lasting(lambda _: 7.0, time_budget.attach_recipe_design))
    monkeypatch.setattr(time_budget.batches, "encode_clips", lasting(lambda _: 20.0, time_budget.batches.encode_clips))
    steps = (60.0, 2.0, 9.0, 3.0)  # the first one warms up, one was disturbed
    monkeypatch.setattr(
        time_budget.batches, "training_batch", lasting(steps.__getitem__, time_budget.batches.training_batch)
    )
    told: list[tuple[str, int, int]] = []
    progress: Any = SimpleNamespace(log=lambda text: None, step=lambda *what: told.append(what))
    recipe = quick_recipe()
    assert time_budget.measure_step_timing(recipe, progress) == StepTiming(3.0, 47.0, 40.0)  # two splits are encoded
    assert told[-5:] == [(f"timing steps of {recipe.design}", done, 4) for done in range(5)]
