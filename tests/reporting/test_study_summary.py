"""Values of a study's report: paired cost ratios."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fixtures.simulated_study import SMALL, study, write_with_controls

from talim.evaluation.intervals import NOT_NEGATIVE, UNBOUNDED, two_way_effect
from talim.experiments.comparison import NO_DIFFERENCE
from talim.experiments.goals import SelectionCriteria
from talim.experiments.results import TrialCost, read_study
from talim.reporting import study_summary
from talim.reporting.study_summary import cost_ratios

PLAN = replace(SMALL, designs=("linear@all:0.53%", "conv@all:2.7%", "full@all"))


def test_cost_ratios_are_paired_by_seed(tmp_path: Path) -> None:
    tables = study(tmp_path, PLAN).tables
    found = cost_ratios(tables, "full@all", "conv@all:2.7%")
    assert found["memory"]["ratio"] == pytest.approx(found["memory"]["low"])  # simulated memory has no noise
    assert found["seconds"]["ratio"] > 3
    assert cost_ratios(tables, "full@all", "no-such@design") == {}


def test_cost_ratios_are_of_trials_on_one_machine(tmp_path: Path) -> None:
    tables = study(tmp_path, PLAN).tables
    elsewhere = TrialCost(device="CPU, 2 cores", processor="another")
    moved = [
        replace(table, trials=[
            t.model_copy(update={"cost": elsewhere}) if t.design == "full@all" and t.seed == 0 else t
            for t in table.trials
        ])
        for table in tables
    ]  # fmt: skip
    of_seeds = [
        replace(table, trials=[t for t in table.trials if t.design != "full@all" or t.seed]) for table in tables
    ]
    found = cost_ratios(moved, "full@all", "conv@all:2.7%")
    assert found == cost_ratios(of_seeds, "full@all", "conv@all:2.7%")
    assert found != cost_ratios(tables, "full@all", "conv@all:2.7%")


def test_intervals_of_losses_and_scores_end_at_what_they_can_be() -> None:
    facts = {
        "silent_fraction": {"floor": 0.0, "ceiling": 1.0},
        "kernel_distance_pitch": {"floor": 3.0, "ceiling": None},  # what the base's codec leaves is no bound
        "cycle_strength": {"floor": -1.0, "ceiling": 1.0},
    }
    tables: Any = [SimpleNamespace(trials=[SimpleNamespace(scores={}), SimpleNamespace(scores=facts)])]
    assert study_summary._bounds("base_loss", tables) == NOT_NEGATIVE
    assert study_summary._bounds("loss_reduction", tables) == UNBOUNDED
    assert study_summary._bounds("score.silent_fraction", tables) == (0.0, 1.0)
    assert study_summary._bounds("score.kernel_distance_pitch", tables) == NOT_NEGATIVE
    assert study_summary._bounds("score.cycle_strength", tables) == (-1.0, 1.0)
    row = study_summary._effect(two_way_effect(np.array([[0.1, 0.8]])), (0.0, 1.0))
    assert (row["low"], row["high"]) == (0.0, 1.0)


def test_factor_effects_rest_on_controls_of_the_trials_that_they_compare(tmp_path: Path) -> None:
    found = read_study(write_with_controls(tmp_path, SMALL))
    straight = [(step, 3.0 - step / 100) for step in range(0, 101, 10)]
    trials = [
        each.model_copy(update={"curve": straight}) if each.factors["kind"] == "transformer" else each
        for each in found.trials
    ]
    changed = replace(found, tables=[replace(table, trials=[t for t in trials if t.corpus == table.corpus])
                                     for table in found.tables])  # fmt: skip
    base = study_summary.study_summary(changed, SelectionCriteria())["bases"][0]
    questions = {(each["label"], each["measure"]): each for each in base["questions"]}
    touched = questions["transformer over conv", "loss_reduction"]
    assert (touched["answer"], touched["not_passed"]) == ("not testable here", ["curve"])
    assert "give training.steps twice as many" in touched["reason"]
    alone = questions["conv over linear", "loss_reduction"]
    assert (alone["answer"], alone["not_passed"], alone["reason"]) == (NO_DIFFERENCE, [], "")


@pytest.mark.parametrize(
    ("designs", "groups"),
    [
        (["abc", "abc"], [[0, 1]]),
        (["ab", "abcd", "abcd"], [[0, 1, 2]]),  # two in common
        (["axy", "abcd", "axy", "abc"], [[1, 3], [0, 2]]),  # as of solo and ensemble, one of them not finished
        (["abcdef", "abxyz", "abcdef", "abxyz"], [[0, 2], [1, 3]]),  # two in common, but four would be left out
        (["a", "b"], [[0], [1]]),
        (["a"], [[0]]),
    ],
)
def test_tables_are_summarized_with_those_that_have_half_of_their_designs(designs: list, groups: list) -> None:
    tables: list[Any] = [SimpleNamespace(designs=list(each), number=n) for n, each in enumerate(designs)]
    found = study_summary.comparable_tables(tables)
    assert [[each.number for each in group] for group in found] == groups  # type: ignore[attr-defined]
