"""Values of a study's report: paired cost ratios."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fixtures.simulated_study import SMALL, study

from talim.reporting.study_summary import cost_ratios

PLAN = replace(SMALL, designs=("linear@all:0.53%", "conv@all:2.7%", "full@all"))


def test_cost_ratios_are_paired_by_seed(tmp_path: Path) -> None:
    tables = study(tmp_path, PLAN).tables
    found = cost_ratios(tables, "full@all", "conv@all:2.7%")
    assert found["memory"]["ratio"] == pytest.approx(found["memory"]["low"])  # simulated memory has no noise
    assert found["seconds"]["ratio"] > 3
    assert cost_ratios(tables, "full@all", "no-such@design") == {}
