"""Design expressions: what can be typed, and what is said to what cannot."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talim.designs.expression import (
    PEFT_KINDS,
    RANKED_KINDS,
    SITE_NAMES,
    UNSIZED_KINDS,
    Design,
    Part,
    Size,
    grammar,
    kind_names,
    layer_range,
    parse,
)
from talim.errors import UsageError


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("linear@all:2.5%", "linear@all:2.5%"),
        ("conv@shallow:40M", "conv@shallow:40M"),
        ("transformer@middle:40.0M", "transformer@middle:40M"),
        ("linear@all:250000", "linear@all:250k"),
        ("linear@deep:1234567", "linear@deep:1.234567M"),
        ("linear@post:999", "linear@post:999"),
        ("conv@conditioner:1.50%", "conv@conditioner:1.5%"),
        ("linear@layers[2-5]:width64", "linear@layers[2-5]:width64"),
        ("linear@layers[3-3]:1k", "linear@layers[3]:1k"),
        ("lora@all:r16", "lora@all:r16"),
        ("dora@layers[0-11]:20M", "dora@layers[0-11]:20M"),
        ("ia3@all", "ia3@all"),
        ("full@layers[46-47]", "full@layers[46-47]"),
        (" linear@all:1k + full@layers[0] ", "linear@all:1k+full@layers[0]"),
        ("conv@shallow:20M+transformer@deep:20M", "conv@shallow:20M+transformer@deep:20M"),
        ("conv @ shallow : 20M", "conv@shallow:20M"),
        ("linear@all:8M+full@layers[46-47]", "linear@all:8M+full@layers[46-47]"),
        ("linear@all:1k+linear@all:2k", "linear@all:1k+linear@all:2k"),
    ],
)
def test_canonical_form(text: str, canonical: str) -> None:
    assert str(parse(text)) == canonical
    assert parse(canonical) == parse(text)


@pytest.mark.parametrize("kind", kind_names())
@pytest.mark.parametrize("site", [*SITE_NAMES, "layers[7]", "layers[0-5]"])
def test_every_kind_at_every_site(kind: str, site: str) -> None:
    size = "" if kind in UNSIZED_KINDS else ":20M"
    part = parse(f"{kind}@{site}{size}").parts[0]
    assert (part.kind, part.site, part.size is None) == (kind, site, not size)
    assert f"{part}" == f"{kind}@{site}{size}"


budgets = st.one_of(
    st.builds(Size, st.just("parameters"), st.integers(1, 10**10)),
    st.builds(Size, st.just("percent"), st.integers(1, 100_000).map(lambda n: n / 1000)),
)
natives = st.integers(1, 9999)
sites = st.one_of(
    st.sampled_from(SITE_NAMES),
    st.integers(0, 60).map(lambda i: f"layers[{i}]"),
    st.integers(0, 60).map(lambda i: f"layers[{i}-{i + 7}]"),
)
own = st.builds(
    Part,
    st.sampled_from(["linear", "conv", "transformer"]),
    sites,
    budgets | natives.map(lambda n: Size("width", n)),
)
trained = st.builds(Part, st.just("full"), sites, st.none())
ranked = st.builds(Part, st.sampled_from(RANKED_KINDS), sites, budgets | natives.map(lambda n: Size("r", n)))
scaled = st.builds(Part, st.just("ia3"), sites, st.none())
designs = st.one_of(
    st.lists(own | trained, min_size=1, max_size=4), (ranked | scaled).map(lambda part: [part])
).map(lambda parts: Design(tuple(parts)))


@given(designs)
def test_printing_and_reading_are_inverse(made: Design) -> None:
    assert parse(str(made)) == made


@given(ranked | scaled, own | trained, st.booleans())
def test_what_peft_makes_stands_alone(theirs: Part, other: Part, first: bool) -> None:
    parts = (theirs, other) if first else (other, theirs)
    with pytest.raises(UsageError, match=f"{theirs.kind} stands alone"):
        parse(str(Design(parts)))


@given(st.text(alphabet="linearfuco@all:post+[]-0123456789.%Mkrwidth ", max_size=30))
def test_any_text_is_a_design_or_one_line_of_advice(text: str) -> None:
    try:
        design = parse(text)
    except UsageError as error:
        said = str(error)
    else:
        said = ""
        assert parse(str(design)) == design
    assert "\n" not in said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("linear", "not KIND@SITE:SIZE"),
        ("linear@all", "not KIND@SITE:SIZE"),
        ("conv@shallow", "not KIND@SITE:SIZE"),
        ("lora@all", "not KIND@SITE:SIZE"),
        ("linear@all:", "not KIND@SITE:SIZE"),
        ("full@all:", "not KIND@SITE:SIZE"),
        ("@all:1k", "not KIND@SITE:SIZE"),
        ("linear@all:1k+", "not KIND@SITE:SIZE"),
        ("+linear@all:1k", "not KIND@SITE:SIZE"),
        ("linaer@all:1k", "did you mean 'linear'"),
        ("transfomer@deep:1k", "did you mean 'transformer'"),
        ("Lora@all:1k", "did you mean 'lora'"),
        ("quantum@all:1k", "kind 'quantum' is unknown"),
        ("linear@al:1k", "did you mean 'all'"),
        ("conv@shalow:1k", "did you mean 'shallow'"),
        ("linear@nowhere:1k", "site 'nowhere' is unknown"),
        ("full@nowhere", "site 'nowhere' is unknown"),
        ("linear@layers[-1]:1k", "site"),
        ("linear@layers[1-2-3]:1k", "site"),
        ("linear@layers:1k", "site"),
        ("linear@all:1G", "size '1G' cannot be read"),
        ("linear@all:-5k", "cannot be read"),
        ("linear@all:1k%", "cannot be read"),
        ("linear@all:width", "cannot be read"),
        ("linear@all:0", "nothing at all"),
        ("linear@all:0.1", "nothing at all"),
        ("linear@all:width0", "nothing at all"),
        ("lora@all:r0", "nothing at all"),
    ],
)
def test_mistakes_are_taught(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        parse(text)
    assert str(caught.value).endswith(grammar())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("linear@layers[5-2]:1k", r"write layers\[2-5\]"),
        ("linear@all:0%", "give 0% < share <= 100%"),
        ("linear@all:101%", "give 0% < share <= 100%"),
        ("full@all:2M", "full has the size it has; write full@all"),
        ("ia3@deep:r8", "ia3 has the size it has; write ia3@deep"),
        ("linear@all:r8", "linear is sized by width8, not r8"),
        ("lora@all:width8", "lora is sized by r8, not width8"),
        ("lora@all:r8+linear@all:1k", "lora stands alone"),
        ("linear@all:1k+ia3@all", "ia3 stands alone"),
        ("lora@shallow:r8+lora@deep:r4", "lora stands alone"),
    ],
)
def test_what_is_meant_is_said(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse(text)


def test_the_grammar_names_everything() -> None:
    for word in (*kind_names(), *SITE_NAMES, "layers[0-5]", "2.5%", "width64", "r16"):
        assert word in grammar()


@pytest.mark.parametrize("kind", kind_names())
def test_whose_method_it_is(kind: str) -> None:
    design = parse(f"{kind}@all" + ("" if kind in UNSIZED_KINDS else ":1k"))
    assert design.peft_kind == (kind if kind in PEFT_KINDS else None)


def test_layer_ranges() -> None:
    assert layer_range("layers[3]") == (3, 3)
    assert layer_range("layers[0-11]") == (0, 11)
    assert [layer_range(word) for word in SITE_NAMES] == [None] * len(SITE_NAMES)


def test_budgets() -> None:
    assert parse("linear@all:2.5%").parts[0].size.parameters(8_000_000) == 200_000
    assert parse("conv@deep:40M").parts[0].size.parameters(1) == 40_000_000
    assert parse("linear@all:width8").parts[0].size.parameters(1) is None
    assert parse("lora@all:r8").parts[0].size.parameters(1) is None
