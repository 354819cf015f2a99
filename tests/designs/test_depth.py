"""How many layers lie below a design: golden values of MusicGen-small, any range, any mixture, no U-Net."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talim.designs.depth import layers_below
from talim.designs.expression import parse
from talim.designs.sites import MusicGenShape, Site

SMALL = MusicGenShape(hidden=1024, layers=24, heads=16).sites()


@pytest.mark.parametrize(
    ("design", "layers"),
    [
        ("conv@post:2M", 24),
        ("full@post", 24),
        ("lora@post:r8", 24),
        ("conv@deep:8M", 17),  # it acts on what leaves layer 16, so that layer too is frozen
        ("lora@deep:r8", 16),  # inside layer 16
        ("full@deep", 16),
        ("linear@middle:2M", 9),
        ("ia3@middle", 8),
        ("transformer@all:40M", 1),
        ("lora@shallow:r4", 0),
        ("conv@conditioner:1M", 0),
        ("conv@deep:2M+full@layers[20-21]", 17),
        ("conv@deep:2M+full@layers[16]", 16),
        ("conv@post:2M+linear@conditioner:100k", 0),
        ("conv@post:2M+linear@layers[5]:1M", 6),
    ],
)
def test_golden_depths_of_small(design: str, layers: int) -> None:
    assert layers_below(parse(design), SMALL) == layers


@given(data=st.data(), layers=st.integers(1, 48))
def test_a_mixture_lies_as_deep_as_its_lowest_part(data: st.DataObject, layers: int) -> None:
    sites = MusicGenShape(hidden=64, layers=layers, heads=4).sites()
    firsts, parts = [], []
    for kind in data.draw(st.lists(st.sampled_from(["conv", "full"]), min_size=1, max_size=4)):
        first = data.draw(st.integers(0, layers - 1))
        last = data.draw(st.integers(first, layers - 1))
        firsts.append(first + (kind == "conv"))
        parts.append(f"{kind}@layers[{first}-{last}]" + (":width4" if kind == "conv" else ""))
    assert layers_below(parse("+".join(parts)), sites) == min(firsts)


def test_nothing_stays_the_same_in_a_unet() -> None:
    sites = tuple(Site(f"{part}[0]", f"{part}.0", 8, 0.5, False, level=0.0) for part in ("down", "mid", "up"))
    assert layers_below(parse("conv@up:width4"), sites) == 0
