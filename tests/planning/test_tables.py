"""Tests of talim.planning.tables: the tables fit the terminal, and nothing is cut off."""

from __future__ import annotations

import pytest

from talim.planning.design_costs import design_costs
from talim.planning.tables import format_si, render_designs


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


@pytest.mark.parametrize("columns", [60, 80, 99, 100, 240])
@pytest.mark.parametrize(("base", "budget"), [("musicgen-large", "2M"), ("nano-musicgen", "40M")])
def test_render_designs_fits_the_terminal(
    base: str, budget: str, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    found = design_costs(base, [budget])
    text = render_designs(found)
    assert max(len(line) for line in text.splitlines()) <= min(max(columns, 80), 100)
    for row in found["designs"]:
        name = row["design"].partition(":")[0]
        lines = [line for line in text.splitlines() if line.startswith(f"{name} ")]
        assert len(lines) == 1
        if row["parameters"] is not None:
            assert f" {row['parameters']:,} " in lines[0]
    words = text.split()
    wider = sum("wider than the model" in row["note"] for row in found["designs"])
    assert words.count("wider") == words.count("model") == wider
    assert ("percent" in words) == (columns >= 100)


def test_render_designs_groups_rows_by_budget() -> None:
    lines = render_designs(design_costs("musicgen-small", ["2M", "2.5%"])).splitlines()
    first, second = lines.index("2M"), lines.index("2.5% of the base")
    assert lines[first + 1].startswith("linear@conditioner ")
    assert lines[second - 1] == ""
    assert second - first == 5 * 6 + 2
    assert lines[second + 5 * 6 + 1] == ""  # kinds without a size come last
    assert [line.split("@")[0] for line in lines[second + 5 * 6 + 2 :]] == ["ia3"] * 6 + ["full"] * 6


def test_render_designs_explains_impossible_designs_below_the_table() -> None:
    text = render_designs(design_costs("musicgen-large", ["2M"]))
    assert "lora@all" in text
    assert "impossible, see below" in text
    assert "- lora@all:2M is a budget of 2,000,000 parameters, but lora needs at least" in text
    assert "Impossible" not in render_designs(design_costs("musicgen-large", ["40M"]))


def test_render_designs_puts_parts_of_a_combination_on_lines_of_their_own() -> None:
    found = design_costs("nano-musicgen", designs=["conv@shallow:2%+full@layers[4-5]", "linear@all:width8"])
    lines = render_designs(found).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("conv@"))
    assert lines[at].split()[0] == "conv@shallow:2%+"
    assert lines[at + 1].split()[0] == "full@layers[4-5]"


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 "), (918, "918 "), (999.6, "1 k"), (85_300_000, "85.3 M"), (7.254e9, "7.25 G"), (2e13, "20 T")],
)
def test_format_si_has_three_digits_and_a_prefix(number: float, text: str) -> None:
    assert format_si(number) == text
