"""Budgets become widths: exact on every released size, nearest possible where steps are coarse."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from talim.adapters import tuner
from talim.designs import sizing
from talim.designs.expression import parse
from talim.designs.kinds import KINDS, Linear
from talim.designs.places import Place
from talim.errors import UsageError

RELEASED = {
    "small": (1024, 24, 419_584_000),
    "medium": (1536, 48, 1_837_556_736),
    "large": (2048, 48, 3_255_382_016),
}


def layers(width: int, count: int) -> tuple[Place, ...]:
    return tuple(Place(f"layers[{i}]", f"a.{i}", width, i / max(count - 1, 1), True) for i in range(count))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", ["2M", "8M", "20M", "40M", "70M", "2.5%"])
@pytest.mark.parametrize("base", RELEASED)
def test_budgets_on_released_sizes(kind: str, size: str, base: str) -> None:
    width, count, parameters = RELEASED[base]
    design = parse(f"{kind}@all:{size}")
    config = tuner.plan(design, layers(width, count), parameters)
    wanted = design.parts[0].size.parameters(parameters)
    assert wanted is not None
    assert abs(config.parameters() - wanted) <= 0.01 * wanted
    widths = [block["width"] for block in config.blocks]
    assert max(widths) - min(widths) <= KINDS[kind].width_step
    with torch.device("meta"):
        built = [config.build(block) for block in config.blocks]
    assert sum(w.numel() for block in built for w in block.parameters()) == config.parameters()


@given(st.integers(1, 64), st.integers(1, 12), st.integers(1, 5_000_000))
def test_nothing_comes_nearer(width: int, count: int, budget: int) -> None:
    part, sites = parse(f"linear@all:{budget}").parts[0], layers(width, count)
    one, least = 2 * width + 1, count * Linear.parameters_of(width, 1)
    if budget < 0.99 * least:
        with pytest.raises(UsageError, match=f"{least:,}"):
            sizing.solve(part, sites, 1)
        return
    widths = sizing.solve(part, sites, 1)
    total = sum(Linear.parameters_of(width, w) for w in widths)
    assert abs(total - budget) <= max(one / 2, least - budget)
    assert max(widths) - min(widths) <= 1
    assert min(widths) >= 1


def test_wider_layers_are_spread_over_the_depth() -> None:
    part = parse(f"linear@all:{8 * (33 * 5 + 16) + 4 * 33}").parts[0]
    assert sizing.solve(part, layers(16, 8), 1) == (5, 6, 5, 6, 5, 6, 5, 6)


def test_native_widths_are_taken_as_they_are() -> None:
    assert sizing.solve(parse("linear@all:width7").parts[0], layers(16, 3), 1) == (7, 7, 7)


def test_sites_of_unequal_width() -> None:
    sites = (*layers(16, 2), *layers(64, 2))
    widths = sizing.solve(parse("linear@all:20k").parts[0], sites, 1)
    total = sum(Linear.parameters_of(s.width, w) for s, w in zip(sites, widths, strict=True))
    assert abs(total - 20_000) <= 200


def test_parts_are_sized_one_by_one() -> None:
    config = tuner.plan(parse("linear@layers[0-1]:1k+linear@layers[1-3]:4k"), layers(16, 4), 1)
    assert [block["module"] for block in config.blocks] == ["a.0", "a.1", "a.1", "a.2", "a.3"]
    assert len(config.blocks_at("a.1")) == 2
    assert abs(config.parameters() - 5000) <= 60


def test_layers_that_are_not_there() -> None:
    with pytest.raises(UsageError, match="it has 4 layers, 0 to 3"):
        tuner.plan(parse("linear@layers[2-4]:1k"), layers(16, 4), 1)
