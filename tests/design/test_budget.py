"""Solving a parameter budget for widths: the nearest total, evenly spread; remarks and errors."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talim.design import budget as designs_budget
from talim.design.adapter_kinds import KINDS
from talim.design.expression import Design
from talim.design.musicgen_sites import MusicGenShape, Site
from talim.errors import UsageError


def layers(width: int, count: int) -> tuple[Site, ...]:
    return tuple(site for site in MusicGenShape(width, count, 1, text_width=width).sites() if site.name != "post")


def total_of(kind: str, sites: tuple[Site, ...], widths: tuple[int, ...]) -> int:
    return designs_budget.total_parameters(designs_budget.parameter_cost(kind), sites, widths)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from([*KINDS, "lora", "dora"]), st.integers(1, 64), st.integers(1, 12), st.integers(1, 3_000_000))
def test_solve_width_any_budget_gives_the_nearest_total(kind: str, width: int, count: int, budget: int) -> None:
    part, sites = Design.parse(f"{kind}@all:{budget}").parts[0], layers(width, count)
    minimum = total_of(kind, sites, (1,) * count)
    if budget < 0.99 * minimum:
        with pytest.raises(UsageError, match=f"{minimum:,}"):
            designs_budget.solve_width(part, sites, 1)
        return
    widths = designs_budget.solve_width(part, sites, 1)
    assert max(widths) - min(widths) <= 1
    assert min(widths) >= 1
    distance = abs(total_of(kind, sites, widths) - budget)
    wider = sorted(range(count), key=lambda i: widths[i])
    for change in (1, -1):  # one site wider or narrower by 1
        i = wider[0] if change == 1 else wider[-1]
        changed = tuple(w + change if j == i else w for j, w in enumerate(widths))
        if min(changed) >= 1:
            assert abs(total_of(kind, sites, changed) - budget) >= distance


def test_solve_width_uneven_budget_spreads_wider_layers_over_the_depth() -> None:
    part = Design.parse(f"linear@all:{8 * (33 * 5 + 16) + 4 * 33}").parts[0]
    assert designs_budget.solve_width(part, layers(16, 8), 1) == (5, 6, 5, 6, 5, 6, 5, 6)


def test_solve_width_native_size_gives_it_at_every_site() -> None:
    assert designs_budget.solve_width(Design.parse("linear@all:width7").parts[0], layers(16, 3), 1) == (7, 7, 7)
    assert designs_budget.solve_width(Design.parse("lora@all:r5").parts[0], layers(16, 2), 1) == (5, 5)


def test_solve_width_sites_of_unequal_width_meets_the_budget() -> None:
    sites = (*layers(16, 2), *layers(64, 2))
    widths = designs_budget.solve_width(Design.parse("linear@all:20k").parts[0], sites, 1)
    assert abs(total_of("linear", sites, widths) - 20_000) <= 200


def test_solve_width_budget_below_the_minimum_raises_usage_error() -> None:
    sites = MusicGenShape(2048, 48, 32).sites()
    part = Design.parse("lora@all:2M").parts[0]
    layer_sites = tuple(site for site in sites if site.name.startswith("layers["))
    with pytest.raises(UsageError, match="at least 2,555,904 at these 48 sites; give a larger size or fewer layers"):
        designs_budget.solve_width(part, layer_sites, 1)


def test_rounding_note_names_missed_budgets_and_too_wide_bottlenecks() -> None:
    sites = MusicGenShape(16, 1, 1, text_width=16).sites()[:1]
    part = Design.parse("linear@layers[0]:100k").parts[0]
    widths = designs_budget.solve_width(part, sites, 1)
    assert designs_budget.rounding_note(part, sites, widths, 100_000, 1) == "wider than the layer"
    coarse = Design.parse("conv@layers[0]:160").parts[0]
    widths = designs_budget.solve_width(coarse, sites, 1)
    total = total_of("conv", sites, widths)
    expected = f"nearest possible: {100 * (total - 160) / 160:+.1f}%"
    assert designs_budget.rounding_note(coarse, sites, widths, total, 1) == expected
    exact = Design.parse("linear@layers[0]:width4").parts[0]
    assert designs_budget.rounding_note(exact, sites, (4,), 148, 1) == ""


def test_fixed_cost_of_ia3_counts_keys_values_and_feed_forward() -> None:
    sites = MusicGenShape(16, 1, 1).sites()
    by_name = {site.name: site for site in sites}
    assert designs_budget.fixed_cost("ia3", by_name["layers[0]"]) == 4 * 16 + 64
    assert designs_budget.fixed_cost("ia3", by_name["post"]) == 4 * 2048
    assert designs_budget.fixed_cost("ia3", by_name["conditioner"]) == 16
