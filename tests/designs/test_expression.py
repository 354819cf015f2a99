"""Design expressions: what can be typed, and what is said to what cannot."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talim.designs.expression import Design, Part, Size, layer_range, parse
from talim.errors import UsageError


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("linear@all:2.5%", "linear@all:2.5%"),
        ("linear@all:40M", "linear@all:40M"),
        ("linear@all:40.0M", "linear@all:40M"),
        ("linear@all:250000", "linear@all:250k"),
        ("linear@all:1234567", "linear@all:1.234567M"),
        ("linear@all:999", "linear@all:999"),
        ("linear@layers[2-5]:width64", "linear@layers[2-5]:width64"),
        ("linear@layers[3-3]:1k", "linear@layers[3]:1k"),
        (" linear@all:1k + linear@layers[0]:2k ", "linear@all:1k+linear@layers[0]:2k"),
    ],
)
def test_canonical_form(text: str, canonical: str) -> None:
    assert str(parse(text)) == canonical
    assert parse(canonical) == parse(text)


sizes = st.one_of(
    st.builds(Size, st.just("parameters"), st.integers(1, 10**10)),
    st.builds(Size, st.just("percent"), st.integers(1, 100_000).map(lambda n: n / 1000)),
    st.builds(Size, st.just("width"), st.integers(1, 9999)),
)
sites = st.one_of(st.just("all"), st.integers(0, 60).map(lambda i: f"layers[{i}-{i + 7}]"))
parts = st.builds(Part, st.just("linear"), sites, sizes)


@given(st.lists(parts, min_size=1, max_size=4))
def test_printing_and_reading_are_inverse(made: list[Part]) -> None:
    assert parse(str(Design(tuple(made)))) == Design(tuple(made))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("linear", "not KIND@SITE:SIZE"),
        ("linear@all", "not KIND@SITE:SIZE"),
        ("@all:1k", "not KIND@SITE:SIZE"),
        ("linear@all:1k+", "not KIND@SITE:SIZE"),
        ("linaer@all:1k", "did you mean 'linear'"),
        ("quantum@all:1k", "kind 'quantum' is unknown"),
        ("linear@al:1k", "did you mean 'all'"),
        ("linear@nowhere:1k", "site 'nowhere' is unknown"),
        ("linear@layers[5-2]:1k", r"write layers\[2-5\]"),
        ("linear@layers[-1]:1k", "site"),
        ("linear@all:1G", "size '1G' cannot be read"),
        ("linear@all:-5k", "cannot be read"),
        ("linear@all:0", "nothing at all"),
        ("linear@all:width0", "nothing at all"),
        ("linear@all:0%", "out of range"),
        ("linear@all:101%", "out of range"),
    ],
)
def test_mistakes_are_taught(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        parse(text)
    assert "a design is KIND@SITE:SIZE" in str(caught.value) or "range" in words or "write" in words
    assert "\n" not in str(caught.value)


def test_layer_ranges() -> None:
    assert layer_range("layers[3]") == (3, 3)
    assert layer_range("layers[0-11]") == (0, 11)
    assert layer_range("all") is None


def test_budgets() -> None:
    assert parse("linear@all:2.5%").parts[0].size.parameters(8_000_000) == 200_000
    assert parse("linear@all:40M").parts[0].size.parameters(1) == 40_000_000
    assert parse("linear@all:width8").parts[0].size.parameters(1) is None
