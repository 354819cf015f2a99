"""Plots of a study: their values, and what is left out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fixtures.simulated_study import SMALL, study

from research.validation.simulated_studies import SimulatedEffect, grid
from talim.experiments.goals import SelectionCriteria
from talim.reporting import study_plots
from talim.reporting.study_summary import study_summary

DESIGNS = (*grid(("linear", "conv"), ("post", "all"), (0.53, 2.7)), "conv@all:4.7%", "lora@all:2.7%", "full@all")
PLAN = replace(SMALL, designs=DESIGNS, effects=[SimulatedEffect("loss_reduction", {"kind": "conv"}, 0.4)])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The values of one base."""
    return study_summary(study(tmp_path_factory.mktemp("s"), PLAN), SelectionCriteria())["bases"][0]


def test_heat_map_has_each_kind_at_each_site(base: dict[str, Any]) -> None:
    found = study_plots.heat_map(base["tables"][0])
    assert found is not None
    assert found["percent"] == pytest.approx(2.7)
    assert found["sites"] == ["all", "post"]
    rows = dict(found["rows"])
    assert set(rows) == {"linear", "conv", "lora"}
    assert rows["lora"][1] is None
    parts = [cell[1] for cells in rows.values() for cell in cells if cell]
    assert (min(parts), max(parts)) == (0.0, 100.0)
    assert max(cell[1] for cell in rows["conv"] if cell) == 100.0


def test_size_curves_are_of_the_site_with_most_designs(base: dict[str, Any]) -> None:
    assert study_plots.main_site(base) == "all"
    panels = study_plots.size_curves(base)
    assert len(panels) == 2
    assert "conv: " in panels[0]
    assert " at 4.7 %" in panels[0]
    assert "full@all" in panels[0]


def test_pareto_plots_and_table_number_the_same_designs(base: dict[str, Any]) -> None:
    table = study_plots.pareto_table(base)
    assert [row["marker"] for row in table] == [str(n + 1) for n in range(len(table))]
    assert all(row["design"].startswith(("conv", "linear")) for row in table)
    plots = study_plots.pareto_plots(base)
    assert len(plots) == 4
    assert all(f"Of {len(DESIGNS)}" in plot or f"{len(DESIGNS)} designs" in plot for plot in plots)


def test_cost_bars_are_percent_of_the_most_expensive(base: dict[str, Any]) -> None:
    bars = study_plots.cost_bars(base)
    assert list(bars) == ["Training time", "Peak memory"]
    assert max(part for _, _, part in bars["Peak memory"]) == 100.0
    assert "full@all" in {design for design, _, _ in bars["Peak memory"]}


def test_effect_plots_name_both_levels(base: dict[str, Any]) -> None:
    assert "conv − linear" in study_plots.effect_plots(base)["broad"]
    [(name, plots)] = study_plots.interaction_plots(base)
    assert name == "hindustani minus makam"
    assert set(plots) == {"broad", "narrow"}


def test_plots_without_measures_are_empty(base: dict[str, Any]) -> None:
    bare = {**base, "overall": [], "questions": [], "tables": [{**base["tables"][0], "designs": []}]}
    assert study_plots.pareto_plots(bare) == study_plots.size_curves(bare) == study_plots.interaction_plots(bare) == []
    assert study_plots.effect_plots(bare) == study_plots.cost_bars(bare) == {}
    assert study_plots.heat_map(bare["tables"][0]) is None
