"""A study's drawings: what they are drawn from, and what they leave out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fixtures.simulated_study import SMALL, study

from research.validation.simulated_studies import SimulatedEffect, grid
from talim.experiments.goals import SelectionCriteria
from talim.reporting import study_plots as drawings
from talim.reporting.study_summary import study_summary

DESIGNS = (
    *grid(("linear", "conv"), ("post", "all"), (0.53, 2.7)),
    "conv@all:4.7%",
    "lora@all:2.7%",
    "full@all",
)
PLAN = replace(SMALL, designs=DESIGNS, effects=[SimulatedEffect("fall", {"kind": "conv"}, 0.4)])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One base's plain values."""
    return study_summary(study(tmp_path_factory.mktemp("s"), PLAN), SelectionCriteria())["bases"][0]


def test_the_map_holds_each_kind_at_each_site(base: dict[str, Any]) -> None:
    found = drawings.heat_map(base["tables"][0])
    assert found is not None
    assert found["share"] == pytest.approx(2.7)
    assert found["sites"] == ["all", "post"]
    rows = dict(found["rows"])
    assert set(rows) == {"linear", "conv", "lora"}
    assert rows["lora"][1] is None
    parts = [cell[1] for cells in rows.values() for cell in cells if cell]
    assert (min(parts), max(parts)) == (0.0, 100.0)
    assert max(cell[1] for cell in rows["conv"] if cell) == 100.0


def test_curves_stand_at_the_site_with_most_designs(base: dict[str, Any]) -> None:
    assert drawings.main_site(base) == "all"
    panels = drawings.size_curves(base)
    assert len(panels) == 2
    assert "conv: " in panels[0]
    assert " at 4.7 %" in panels[0]
    assert "full@all" in panels[0]


def test_frontiers_number_the_same_designs_as_their_table(base: dict[str, Any]) -> None:
    table = drawings.frontier_table(base)
    assert [row["mark"] for row in table] == [str(n + 1) for n in range(len(table))]
    assert all(row["design"].startswith(("conv", "linear")) for row in table)
    plots = drawings.frontiers(base)
    assert len(plots) == 4
    assert all(f"Of {len(DESIGNS)}" in plot or f"{len(DESIGNS)} designs" in plot for plot in plots)


def test_bars_are_per_cent_of_the_dearest(base: dict[str, Any]) -> None:
    bars = drawings.cost_bars(base)
    assert list(bars) == ["Time of training", "Peak memory"]
    assert max(part for _, _, part in bars["Peak memory"]) == 100.0
    assert "full@all" in {design for design, _, _ in bars["Peak memory"]}


def test_intervals_name_both_sides(base: dict[str, Any]) -> None:
    assert "conv − linear" in drawings.effect_plots(base)["broad"]
    [(name, plots)] = drawings.interaction_plots(base)
    assert name == "hindustani minus makam"
    assert set(plots) == {"broad", "narrow"}


def test_nothing_measured_is_not_drawn(base: dict[str, Any]) -> None:
    bare = {**base, "overall": [], "questions": [], "tables": [{**base["tables"][0], "designs": []}]}
    assert drawings.frontiers(bare) == drawings.size_curves(bare) == drawings.interaction_plots(bare) == []
    assert drawings.effect_plots(bare) == drawings.cost_bars(bare) == {}
    assert drawings.heat_map(bare["tables"][0]) is None
