"""Hours become steps, by steps that were timed."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talim.errors import UsageError
from talim.recipe import Training
from talim.stages import pace
from talim.stages.pace import Pace, fit
from talim.stages.progress import Progress


def test_golden_fit() -> None:
    training = Training(evaluate_every=50, evaluate_clips=24, batch_size=8)
    fitted = fit(training, 1.0, Pace(step_seconds=1.0, before_seconds=600.0))
    assert fitted.steps == int(3000 * 0.85 / 1.02)  # a look is 24 / 8 / 3 = 1 step, every 50
    assert fitted.checkpoint_every == 50


@given(hours=st.floats(0.05, 100), step=st.floats(0.01, 60), batch=st.integers(1, 64))
def test_the_steps_fit_and_the_recipe_stays_valid(hours: float, step: float, batch: int) -> None:
    try:
        fitted = fit(Training(batch_size=batch), hours, Pace(step, 10.0))
    except UsageError:
        assert hours * 3600 < 60 + 3 * step * (1 + 32 / batch)
        return
    assert fitted.steps * step <= hours * 3600
    assert Training.model_validate(fitted.model_dump()) == fitted
    assert fitted.warmup_steps < fitted.steps
    assert fitted.checkpoint_every == 1 or fitted.checkpoint_every * step <= 300


def test_too_few_hours_say_how_many_are_needed() -> None:
    with pytest.raises(UsageError, match=r"--hours 0\.01 is too little: 0\.1[0-9] hours"):
        fit(Training(), 0.01, Pace(step_seconds=100.0, before_seconds=300.0))


def test_several_trainings_get_equal_steps_one_after_the_other() -> None:
    training = Training(evaluate_every=50, evaluate_clips=24, batch_size=8)
    paces = [Pace(1.0, 100.0), Pace(2.0, 50.0)]
    assert pace.steps_within(training, 3600, paces) == int(3450 * 0.85 / (3 * 1.02))
    assert pace.steps_within(training, 100, paces) == 0
    assert Pace(1.0, 100.0, 90.0).again == Pace(1.0, 10.0)


def test_a_pace_is_measured_on_the_real_clips(quick_recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def lasting(seconds: Callable[[int], float], work: Callable[..., Any]) -> Callable[..., Any]:
        calls = itertools.count()

        def worked(*arguments: Any, **named: Any) -> Any:
            nonlocal now
            now += seconds(next(calls))
            return work(*arguments, **named)

        return worked

    monkeypatch.setattr(pace, "time", SimpleNamespace(perf_counter=lambda: now))
    monkeypatch.setattr(pace, "attach", lasting(lambda _: 7.0, pace.attach))
    monkeypatch.setattr(pace.batches, "items", lasting(lambda _: 20.0, pace.batches.items))
    steps = (60.0, 2.0, 9.0, 3.0)  # the first one warms up, one was disturbed
    monkeypatch.setattr(
        pace.batches, "training_batch", lasting(steps.__getitem__, pace.batches.training_batch)
    )
    assert pace.measure(quick_recipe(), Progress()) == Pace(3.0, 47.0, 40.0)  # two splits are encoded
