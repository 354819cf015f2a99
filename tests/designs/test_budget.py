"""Budgets become widths: exact on every released size, nearest possible where steps are coarse."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talim.designs import budget as designs_budget
from talim.designs.expression import Design
from talim.designs.kinds import KINDS
from talim.designs.musicgen_sites import MusicGenShape, Site
from talim.errors import UsageError


def layers(width: int, count: int) -> tuple[Site, ...]:
    return tuple(
        site for site in MusicGenShape(width, count, 1, text_width=width).sites() if site.name != "post"
    )


def reached(kind: str, sites: tuple[Site, ...], widths: tuple[int, ...]) -> int:
    return designs_budget.total_parameters(designs_budget.parameter_cost(kind), sites, widths)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from([*KINDS, "lora", "dora"]),
    st.integers(1, 64),
    st.integers(1, 12),
    st.integers(1, 3_000_000),
)
def test_nothing_comes_nearer(kind: str, width: int, count: int, budget: int) -> None:
    part, sites = Design.parse(f"{kind}@all:{budget}").parts[0], layers(width, count)
    least = reached(kind, sites, (1,) * count)
    if budget < 0.99 * least:
        with pytest.raises(UsageError, match=f"{least:,}"):
            designs_budget.solve_width(part, sites, 1)
        return
    widths = designs_budget.solve_width(part, sites, 1)
    assert max(widths) - min(widths) <= 1
    assert min(widths) >= 1
    gap = abs(reached(kind, sites, widths) - budget)
    wider = sorted(range(count), key=lambda i: widths[i])
    for change in (1, -1):  # one site a step wider or narrower, the others as they are
        i = wider[0] if change == 1 else wider[-1]
        other = tuple(w + change if j == i else w for j, w in enumerate(widths))
        if min(other) >= 1:
            assert abs(reached(kind, sites, other) - budget) >= gap


def test_wider_layers_are_spread_over_the_depth() -> None:
    part = Design.parse(f"linear@all:{8 * (33 * 5 + 16) + 4 * 33}").parts[0]
    assert designs_budget.solve_width(part, layers(16, 8), 1) == (5, 6, 5, 6, 5, 6, 5, 6)


def test_native_widths_are_taken_as_they_are() -> None:
    assert designs_budget.solve_width(Design.parse("linear@all:width7").parts[0], layers(16, 3), 1) == (
        7,
        7,
        7,
    )
    assert designs_budget.solve_width(Design.parse("lora@all:r5").parts[0], layers(16, 2), 1) == (5, 5)


def test_sites_of_unequal_width() -> None:
    sites = (*layers(16, 2), *layers(64, 2))
    widths = designs_budget.solve_width(Design.parse("linear@all:20k").parts[0], sites, 1)
    assert abs(reached("linear", sites, widths) - 20_000) <= 200


def test_a_budget_below_the_least_explains_itself() -> None:
    sites = MusicGenShape(2048, 48, 32).sites()
    part = Design.parse("lora@all:2M").parts[0]
    chosen = tuple(site for site in sites if site.name.startswith("layers["))
    with pytest.raises(UsageError, match="2,555,904; give a larger size or fewer layers"):
        designs_budget.solve_width(part, chosen, 1)


def test_remarks_say_what_a_reader_must_know() -> None:
    sites = MusicGenShape(16, 1, 1, text_width=16).sites()[:1]
    part = Design.parse("linear@layers[0]:100k").parts[0]
    widths = designs_budget.solve_width(part, sites, 1)
    assert designs_budget.rounding_note(part, sites, widths, 100_000, 1) == "wider than the model"
    coarse = Design.parse("conv@layers[0]:160").parts[0]
    widths = designs_budget.solve_width(coarse, sites, 1)
    total = reached("conv", sites, widths)
    expected = f"nearest possible: {100 * (total - 160) / 160:+.1f}%"
    assert designs_budget.rounding_note(coarse, sites, widths, total, 1) == expected
    exact = Design.parse("linear@layers[0]:width4").parts[0]
    assert designs_budget.rounding_note(exact, sites, (4,), 148, 1) == ""


def test_ia3_scales_keys_values_and_the_feed_forward() -> None:
    sites = MusicGenShape(16, 1, 1).sites()
    by_name = {site.name: site for site in sites}
    assert designs_budget.fixed_cost("ia3", by_name["layers[0]"]) == 4 * 16 + 64
    assert designs_budget.fixed_cost("ia3", by_name["post"]) == 4 * 2048
    assert designs_budget.fixed_cost("ia3", by_name["conditioner"]) == 16
