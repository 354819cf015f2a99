"""Adapter kinds: parameter counts, initialisation, options and their errors, registration."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from talim.design import adapter_kinds, expression
from talim.design.adapter_kinds import KINDS, Kind, Linear, register
from talim.design.expression import Design
from talim.errors import UsageError

few = st.integers(1, 9)
OPTIONS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "linear": st.just({}),
    "conv": st.fixed_dictionaries(
        {}, optional={"kernel_size": few, "dilations": st.lists(few, max_size=4), "se_channels": few}
    ),
    "transformer": st.fixed_dictionaries({}, optional={"num_heads": few, "ffn_dim": st.integers(1, 99)}),
}


def test_options_table_covers_every_kind() -> None:
    assert set(OPTIONS) == set(KINDS)


@pytest.mark.parametrize("name", KINDS)
@given(features=st.integers(1, 300), width=st.integers(1, 300), data=st.data())
def test_parameters_of_equals_the_built_module(name: str, features: int, width: int, data: Any) -> None:
    kind, options = KINDS[name], data.draw(OPTIONS[name])
    if options.get("num_heads", 1) > width:
        with pytest.raises(UsageError, match=f"do not fit a width of {width}"):
            kind.parameters_of(features, width, **options)
        return
    with torch.device("meta"):
        built = kind(features, width, **options)
    assert kind.parameters_of(features, width, **options) == sum(w.numel() for w in built.parameters())


@pytest.mark.parametrize("name", KINDS)
def test_parameters_of_grows_strictly_with_width(name: str) -> None:
    """The search in `solve_width` relies on it."""
    costs = [KINDS[name].parameters_of(16, width) for width in range(1, 600)]
    assert costs == sorted(set(costs))


@pytest.mark.parametrize("name", KINDS)
@given(frames=st.integers(1, 9), causal=st.booleans(), seed=st.integers(0, 99))
def test_forward_after_reset_parameters_is_zero(name: str, frames: int, causal: bool, seed: int) -> None:
    block = KINDS[name](5, 4, causal=causal)
    block.reset_parameters(torch.Generator().manual_seed(seed))
    added = block(torch.randn(2, frames, 5))
    assert added.shape == (2, frames, 5)
    assert not added.any()


@pytest.mark.parametrize("name", KINDS)
def test_kind_with_unknown_option_raises_usage_error(name: str) -> None:
    with pytest.raises(UsageError, match="has no option depth, girth"):
        KINDS[name](8, 4, girth=1, depth=2)
    with pytest.raises(UsageError, match="has no option depth"):
        KINDS[name].parameters_of(8, 4, depth=2)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("conv", {"kernel_size": 0}),
        ("conv", {"dilations": (1, 0)}),
        ("conv", {"se_channels": 0}),
        ("transformer", {"ffn_dim": -1}),
        ("transformer", {"num_heads": 0}),
    ],
)
def test_kind_with_option_below_one_raises_usage_error(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="must be at least 1"):
        KINDS[name].parameters_of(8, 4, **options)


def test_default_options_depend_on_the_width() -> None:
    assert KINDS["conv"].default_options(64) == {
        "kernel_size": 5,
        "dilations": (1, 4),
        "se_channels": 8,
        "se_update_every": 8,
    }
    assert KINDS["transformer"].default_options(320) == {"num_heads": 5, "ffn_dim": 640}
    assert KINDS["transformer"].default_options(20) == {"num_heads": 1, "ffn_dim": 40}
    assert KINDS["conv"].default_options(64, dilations=[1, 2, 4])["dilations"] == (1, 2, 4)  # JSON has lists


@pytest.mark.parametrize("name", ["linear", "conv", "transformer", "lora", "dora", "ia3", "full"])
def test_register_taken_name_raises_usage_error(name: str) -> None:
    class Other(Linear):
        pass

    before = dict(KINDS)
    with pytest.raises(UsageError, match=f"{name!r} is already the name"):
        register(name, Other)
    assert before == KINDS


@pytest.mark.parametrize("name", ["", "my kind", "a@b", "a+b", "Conv", "7th", "a:b", "a.b"])
def test_register_name_outside_the_grammar_raises_usage_error(name: str) -> None:
    with pytest.raises(UsageError, match="cannot stand in a design"):
        register(name, Linear)


def test_register_new_kind_adds_it_to_the_grammar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter_kinds, "KINDS", dict(KINDS))
    monkeypatch.setattr(expression, "BOTTLENECK_KINDS", list(expression.BOTTLENECK_KINDS))

    class Plain(Kind):
        """Down and up only."""

        def bottleneck_forward(self, hidden: torch.Tensor, state: Any, mask: Any) -> torch.Tensor:
            return hidden

    with pytest.raises(UsageError, match="kind 'plain' is unknown"):
        Design.parse("plain@all:1k")
    register("plain", Plain)
    register("plain", Plain)  # a module that is imported twice
    assert Design.parse("plain@all:1k").parts[0].kind == "plain"
    assert "plain" in expression.grammar()
    assert adapter_kinds.KINDS["plain"] is Plain
