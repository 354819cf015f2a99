"""The time budget: what is left for training, shorter runs on a machine that became slower, contradicting settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fixtures.fake_pipeline import short_options

from talim.atomic_io import write_json, write_text
from talim.errors import UsageError
from talim.poc import budget
from talim.poc.cost_stage import changed_settings
from talim.poc.options import PocOptions, build_recipes, check_budget, hours_option
from talim.recipe import dump
from talim.run import Run
from talim.training.time_budget import StepTiming, steps_for_budget

DESIGNS = ("linear@all:2.7%", "conv@all:2.7%", "transformer@all:2.7%")
TIMING = {"step_seconds": 1.0, "startup_seconds": 10.0}


def recipes_of(tmp_path: Path, steps: int = 100) -> list[Any]:
    options = short_options(settings=(("training.steps", steps), ("training.warmup_steps", 1)))
    return list(build_recipes(options, tmp_path).values())


def finished_run(folder: Path, wall_seconds: float, steps: int, evaluation: float) -> Run:
    write_json(folder / "cost.json", {"wall_seconds": wall_seconds, "steps": steps})
    write_json(Run(folder).evaluation_time, {"seconds": evaluation})
    return Run(folder)


def test_seconds_for_training_fill_the_budget(tmp_path: Path) -> None:
    training, timings = recipes_of(tmp_path)[0].training, [StepTiming(1.0, 10.0)] * 3
    seconds = budget.seconds_for_training(3600, timings, 3 * 60)
    whole = training.model_copy(update={"steps": steps_for_budget(training, seconds, timings)})
    taken = sum(budget.run_seconds(whole, timing, 60) for timing in timings)
    assert 0.95 * 3600 < taken <= 3600
    assert steps_for_budget(training, budget.seconds_for_training(100, timings, 180), timings) == 0


def test_shortened_keeps_the_plan_while_it_fits(tmp_path: Path) -> None:
    recipes, plan = recipes_of(tmp_path), {"timings": dict.fromkeys(DESIGNS, TIMING), "evaluation_seconds": 20.0}
    assert budget.shortened(recipes, plan, {}, 1000) is recipes[0]
    assert budget.shortened(recipes, {}, {}, 1) is recipes[0]  # nothing was timed


def test_shortened_follows_the_measured_speed_and_evaluations(tmp_path: Path) -> None:
    recipes, plan = recipes_of(tmp_path), {"timings": dict.fromkeys(DESIGNS, TIMING), "evaluation_seconds": 20.0}
    finished = {DESIGNS[0]: finished_run(tmp_path / "a", 200.0, 100, 50.0)}  # twice the time, longer evaluations
    left = 300.0
    recipe = budget.shortened(recipes[1:], plan, finished, left)
    per_run = budget.run_seconds(recipe.training, StepTiming(2.0, 20.0), 50.0)
    assert 0 < recipe.training.steps < 100
    assert 0.85 * left < 2 * per_run < 1.1 * left
    assert budget.shortened(recipes[2:], plan, finished, 1.0).training.steps == 1


def test_training_seconds_are_the_share_of_what_is_left(tmp_path: Path) -> None:
    recipes, plan = recipes_of(tmp_path), {"timings": dict.fromkeys(DESIGNS, TIMING), "evaluation_seconds": 20.0}
    assert budget.training_seconds(recipes, plan, {}, 900.0) == pytest.approx(300.0 - 20.0)
    assert budget.training_seconds(recipes[2:], plan, {}, 900.0) == pytest.approx(900.0 - 20.0)
    assert budget.training_seconds(recipes, plan, {}, 10.0) == 0.0
    assert budget.training_seconds(recipes, {}, {}, 900.0) is None  # nothing was timed


def test_no_run_gets_more_steps_than_one_whose_time_was_over(tmp_path: Path) -> None:
    recipes, plan = recipes_of(tmp_path), {"timings": dict.fromkeys(DESIGNS, TIMING), "evaluation_seconds": 1.0}
    stopped = Run(tmp_path / "stopped")
    write_text(stopped.recipe_file, dump(recipes[0]))
    write_json(stopped.cost, {"wall_seconds": 37.0, "steps": 37, "stopped_for_time": True})
    assert budget.steps_allowed(stopped) == 37
    assert budget.shortened(recipes[1:], plan, {DESIGNS[0]: stopped}, 1e6).training.steps == 37
    write_json(stopped.cost, {"wall_seconds": 37.0, "steps": 37, "stopped_early": True})  # by its validation loss
    assert budget.steps_allowed(stopped) == 100


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hours": 1.0, "settings": (("training.steps", 30),)}, r"--hours 1 and --set training\.steps contradict"),
        ({"settings": (("design", "conv@all:3%"),)}, "give --design"),
        ({"settings": (("base", "musicgen-small"),)}, "give --base"),
        ({"settings": (("corpus", "x"),)}, "prepared from FOLDER"),
        ({"settings": (("seed", 3),)}, "give --seed"),
        ({"settings": (("training.train_fraction", 0.5),)}, "--no-learning-curve"),
        ({"price_per_hour": -1.0}, "--price-per-hour"),
    ],
)
def test_options_that_would_be_overruled_raise(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PocOptions(**changes)


def test_changed_settings_are_said() -> None:
    options = PocOptions(hours=1.0, settings=(("training.eval_every", 500), ("training.batch_size", 4)))
    (line,) = changed_settings(options, {"eval_every": 30, "batch_size": 4})
    assert line == "--set training.eval_every=500: 30 is used instead, because of the number of steps"


def test_estimate_text_tells_the_whole() -> None:
    whole = "3 trainings and 2 for the learning curve with evaluation and the page: about 1 h 5 min"
    parts = "40 min of them in training steps and 20 min in evaluation (12 min generating)"
    rest = f"while the machine is as free as now, {parts}"
    assert budget.estimate_text(3900, (2400, 1200, 720), 3, 2) == f"{whole} {rest}"
    assert budget.estimate_text(3900, (2400, 1200, 720), 3, 2, left_seconds=4200) == (
        f"{whole} of the 1 h 10 min that are left {rest}"
    )


def test_closing_seconds_count_the_plan_of_a_larger_base_where_there_is_one() -> None:
    page = budget.closing_seconds(PocOptions(base="musicgen-small"))
    assert 0 < page == budget.closing_seconds(PocOptions(larger_base=False)) < budget.closing_seconds(PocOptions())


def test_time_spent_is_all_of_it_and_its_parts(tmp_path: Path) -> None:
    runs = [Run(tmp_path / name) for name in ("a", "b")]
    for run in runs:
        write_json(run.cost, {"wall_seconds": 60.0})
        write_json(run.evaluation_time, {"seconds": 30.0})
    parts = {"designs": 2, "preparing": 5.0, "training": 120.0, "evaluating": 60.0}
    assert budget.time_spent(1300.0, 5.0, runs) == {"seconds": 1300.0, **parts}  # what was done twice is in the whole
    assert budget.time_spent(0.0, 5.0, runs) == {"seconds": 185.0, **parts}  # of runs from elsewhere
    write_json(runs[0].cost, {"wall_seconds": 76.52538650000497})
    assert f"{budget.time_spent(0.0, 5.0, runs[:1])['training']:.0f}" == "77"  # as a page shows that training


@pytest.mark.parametrize("seconds", [12.0, 36.0, 61.3, 3599.0, 3600.0, 41_234.5])
def test_hours_option_rounds_up_to_two_digits(seconds: float) -> None:
    hours = float(hours_option(seconds)["en"].split()[1])
    assert seconds / 3600 <= hours + 1e-9 < 1.1 * seconds / 3600 + 1e-9


def test_check_budget_refuses_at_once_what_no_machine_can_do() -> None:
    with pytest.raises(UsageError, match=r"--hours 0\.005 is 18 s; .* 3 designs .* give --hours (\S+) ") as refused:
        check_budget(PocOptions(hours=0.005), 20)
    assert "takes at least 41 s " in str(refused.value)
    assert "(30 s of that evaluation, which generates and scores music, and 1 s training)" in str(refused.value)
    least = float(str(refused.value).partition("give --hours ")[2].split()[0])
    check_budget(PocOptions(hours=least), 20)  # what it names is accepted
    check_budget(PocOptions(), 20)  # no budget
    check_budget(PocOptions(hours=0.01, designs=("linear@all:2%",)), 20)
    with pytest.raises(UsageError) as alone:
        check_budget(PocOptions(hours=0.001, designs=("linear@all:2%",)), 20)
    assert "fewer designs" not in str(alone.value)


def test_least_seconds_is_enough_and_hardly_more() -> None:
    for needed in (0.5, 10.0, 1234.0):
        found = budget.least_seconds(lambda left, needed=needed: left >= needed, -50.0)
        assert needed <= found <= 1.05 * needed + 1.0
