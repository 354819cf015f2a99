"""Tests of talim.design.default_rate."""

from __future__ import annotations

import pytest

from talim.backbones import registry
from talim.design.default_rate import default_learning_rate
from talim.design.expression import Design
from talim.design.musicgen_sites import MusicGenShape
from talim.planning.base_facts import base_model_facts

HOUR = 3600.0
NANO = MusicGenShape(256, 6, 4)


def rate(design: str, seconds: float = HOUR, shape: MusicGenShape = NANO) -> float:
    return default_learning_rate(Design.parse(design), shape.sites(), seconds)


def test_rates_are_those_that_were_tuned_in_the_miniature() -> None:
    for design in ("linear@all:2.7%", "conv@post:2.7%", "transformer@conditioner:0.5%", "lora@all:r8"):
        assert rate(design) == 0.003
    assert rate("full@all") == 0.0003
    assert rate("full@shallow") == 0.0003
    assert rate("full@post") == 0.001
    assert rate("conv@deep:2.7%+full@post") == 0.001  # the least of its parts
    assert rate("conv@deep:2.7%+full@shallow") == 0.0003


@pytest.mark.parametrize(
    ("minutes", "expected"), [(1000, 3e-3), (40, 3e-3), (20, 1.8e-3), (4, 5.3e-4), (1, 1.9e-4), (0.1, 1.9e-4)]
)
def test_less_music_takes_a_lower_rate(minutes: float, expected: float) -> None:
    assert rate("conv@all:2.7%", 60 * minutes) == pytest.approx(expected)


@pytest.mark.parametrize(("size", "published"), [("small", 8.4e-4), ("medium", 6.1e-4), ("large", 4.9e-4)])
def test_wider_bases_take_a_lower_rate_near_the_published_formula_for_lora(size: str, published: float) -> None:
    shape = registry.SHAPES[size]
    assert 5e-4 * (2000 / shape.hidden) ** 0.781 == pytest.approx(published, rel=0.01)
    assert rate("lora@all:r8", shape=shape) == pytest.approx(1.2 * published, rel=0.05)
    assert rate("full@all", shape=shape) == pytest.approx(rate("lora@all:r8", shape=shape) / 10, rel=0.05)


def test_a_unet_has_rates_of_its_own_whatever_the_amount_of_music() -> None:
    nano, released = (base_model_facts(name).shape.sites() for name in ("nano-mustango", "mustango"))
    for seconds in (60.0, HOUR):
        assert default_learning_rate(Design.parse("conv@all:2.5%"), nano, seconds) == 0.003
        assert default_learning_rate(Design.parse("full@all"), nano, seconds) == 0.0003
    # that of Mustango's own training was 4.5e-5
    assert default_learning_rate(Design.parse("full@all"), released, HOUR) == pytest.approx(4.5e-5, rel=0.15)
