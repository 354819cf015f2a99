"""Values of a study's report: paired cost ratios."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fixtures.simulated_study import SMALL, study

from talim.evaluation.intervals import NOT_NEGATIVE, UNBOUNDED, two_way_effect
from talim.reporting import study_summary
from talim.reporting.study_summary import cost_ratios

PLAN = replace(SMALL, designs=("linear@all:0.53%", "conv@all:2.7%", "full@all"))


def test_cost_ratios_are_paired_by_seed(tmp_path: Path) -> None:
    tables = study(tmp_path, PLAN).tables
    found = cost_ratios(tables, "full@all", "conv@all:2.7%")
    assert found["memory"]["ratio"] == pytest.approx(found["memory"]["low"])  # simulated memory has no noise
    assert found["seconds"]["ratio"] > 3
    assert cost_ratios(tables, "full@all", "no-such@design") == {}


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


@pytest.mark.parametrize(
    ("designs", "groups"),
    [
        (["abc", "abc"], [[0, 1]]),
        (["ab", "abcd", "abcd"], [[0, 1, 2]]),  # two in common
        (["axy", "abcd", "axy", "abc"], [[1, 3], [0, 2]]),  # as of solo and ensemble, one of them not finished
        (["a", "b"], [[0], [1]]),
        (["a"], [[0]]),
    ],
)
def test_tables_are_summarized_with_those_that_have_two_of_their_designs(designs: list, groups: list) -> None:
    tables: list[Any] = [SimpleNamespace(designs=list(each), number=n) for n, each in enumerate(designs)]
    found = study_summary.comparable_tables(tables)
    assert [[each.number for each in group] for group in found] == groups  # type: ignore[attr-defined]
