"""Tests of talim.training.time_budget: steps that fit into hours, from timed steps."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talim.errors import UsageError
from talim.progress import Progress
from talim.recipe import Training
from talim.training import time_budget
from talim.training.time_budget import StepTiming, fit_steps_to_hours


def test_fit_steps_to_hours_known_case() -> None:
    training = Training(eval_every=50, eval_clips=24, batch_size=8)
    fitted = fit_steps_to_hours(training, 1.0, StepTiming(step_seconds=1.0, startup_seconds=600.0))
    assert fitted.steps == int(3000 * 0.85 / 1.02)  # an evaluation costs 24 / 8 / 3 = 1 step, every 50 steps
    assert fitted.checkpoint_every == 50


@given(hours=st.floats(0.05, 100), step=st.floats(0.01, 60), batch=st.integers(1, 64))
def test_fit_steps_to_hours_fits_and_gives_a_valid_training(hours: float, step: float, batch: int) -> None:
    try:
        fitted = fit_steps_to_hours(Training(batch_size=batch), hours, StepTiming(step, 10.0))
    except UsageError:
        assert hours * 3600 < 60 + 3 * step * (1 + 32 / batch)
        return
    assert fitted.steps * step <= hours * 3600
    assert Training.model_validate(fitted.model_dump()) == fitted
    assert fitted.warmup_steps < fitted.steps
    assert fitted.checkpoint_every == 1 or fitted.checkpoint_every * step <= 300


def test_fit_steps_to_hours_with_too_few_hours_says_how_many_are_needed() -> None:
    with pytest.raises(UsageError, match=r"--hours 0\.01 is too little: the first step ends after 0\.1[0-9] hours"):
        fit_steps_to_hours(Training(), 0.01, StepTiming(step_seconds=100.0, startup_seconds=300.0))


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
    assert time_budget.measure_step_timing(quick_recipe(), Progress()) == StepTiming(
        3.0, 47.0, 40.0
    )  # two splits are encoded
