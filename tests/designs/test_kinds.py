"""Kinds count themselves without being built, teach mistakes, and others may join them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from talim.designs import expression, kinds
from talim.designs.expression import Design
from talim.designs.kinds import KINDS, Kind, Linear, register
from talim.errors import UsageError

few = st.integers(1, 9)
SETTINGS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "linear": st.just({}),
    "conv": st.fixed_dictionaries(
        {}, optional={"kernel": few, "dilations": st.lists(few, max_size=4), "squeezed": few}
    ),
    "transformer": st.fixed_dictionaries({}, optional={"heads": few, "feed_forward": st.integers(1, 99)}),
}


def test_every_kind_has_a_row() -> None:
    assert set(SETTINGS) == set(KINDS)


@pytest.mark.parametrize("word", KINDS)
@given(features=st.integers(1, 300), width=st.integers(1, 300), data=st.data())
def test_the_count_is_what_is_built(word: str, features: int, width: int, data: Any) -> None:
    kind, settings = KINDS[word], data.draw(SETTINGS[word])
    if settings.get("heads", 1) > width:
        with pytest.raises(UsageError, match=f"do not fit a width of {width}"):
            kind.parameters_of(features, width, **settings)
        return
    with torch.device("meta"):
        built = kind(features, width, **settings)
    assert kind.parameters_of(features, width, **settings) == sum(w.numel() for w in built.parameters())


@pytest.mark.parametrize("word", KINDS)
def test_more_width_costs_more(word: str) -> None:
    """What the search for a budget relies on."""
    costs = [KINDS[word].parameters_of(16, width) for width in range(1, 600)]
    assert costs == sorted(set(costs))


@pytest.mark.parametrize("word", KINDS)
@given(frames=st.integers(1, 9), causal=st.booleans(), seed=st.integers(0, 99))
def test_nothing_is_added_before_training(word: str, frames: int, causal: bool, seed: int) -> None:
    block = KINDS[word](5, 4, causal=causal)
    block.reset_parameters(torch.Generator().manual_seed(seed))
    added = block(torch.randn(2, frames, 5))
    assert added.shape == (2, frames, 5)
    assert not added.any()


@pytest.mark.parametrize("word", KINDS)
def test_unknown_settings_are_refused(word: str) -> None:
    with pytest.raises(UsageError, match="has no setting depth, girth"):
        KINDS[word](8, 4, girth=1, depth=2)
    with pytest.raises(UsageError, match="has no setting depth"):
        KINDS[word].parameters_of(8, 4, depth=2)


@pytest.mark.parametrize(
    ("word", "settings"),
    [
        ("conv", {"kernel": 0}),
        ("conv", {"dilations": (1, 0)}),
        ("conv", {"squeezed": 0}),
        ("transformer", {"feed_forward": -1}),
        ("transformer", {"heads": 0}),
    ],
)
def test_settings_below_one_are_refused(word: str, settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="must be at least 1"):
        KINDS[word].parameters_of(8, 4, **settings)


def test_settings_follow_the_width() -> None:
    assert KINDS["conv"].default_options(64) == {"kernel": 5, "dilations": (1, 4), "squeezed": 8, "hold": 8}
    assert KINDS["transformer"].default_options(320) == {"heads": 5, "feed_forward": 640}
    assert KINDS["transformer"].default_options(20) == {"heads": 1, "feed_forward": 40}
    assert KINDS["conv"].default_options(64, dilations=[1, 2, 4])["dilations"] == (1, 2, 4)  # as JSON has it


@pytest.mark.parametrize("word", ["linear", "conv", "transformer", "lora", "dora", "ia3", "full"])
def test_taken_words_are_refused(word: str) -> None:
    class Other(Linear):
        pass

    before = dict(KINDS)
    with pytest.raises(UsageError, match=f"{word!r} is already the name"):
        register(word, Other)
    assert before == KINDS


@pytest.mark.parametrize("word", ["", "my kind", "a@b", "a+b", "Conv", "7th", "a:b", "a.b"])
def test_words_that_nobody_could_type_are_refused(word: str) -> None:
    with pytest.raises(UsageError, match="cannot stand in an expression"):
        register(word, Linear)


def test_a_registered_kind_is_in_the_grammar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "KINDS", dict(KINDS))
    monkeypatch.setattr(expression, "BOTTLENECK_KINDS", list(expression.BOTTLENECK_KINDS))

    class Plain(Kind):
        """Down and up, nothing between."""

        def inside(self, hidden: torch.Tensor, memory: Any, mask: Any) -> torch.Tensor:
            return hidden

    with pytest.raises(UsageError, match="kind 'plain' is unknown"):
        Design.parse("plain@all:1k")
    register("plain", Plain)
    register("plain", Plain)  # a module that is imported twice
    assert Design.parse("plain@all:1k").parts[0].kind == "plain"
    assert "plain" in expression.grammar()
    assert kinds.KINDS["plain"] is Plain
