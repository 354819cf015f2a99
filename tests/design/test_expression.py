"""Design expressions: parsing, printing, error messages, and Design as a pydantic field."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter

from talim.design.expression import (
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
def test_str_of_parsed_expression_is_canonical(text: str, canonical: str) -> None:
    assert str(Design.parse(text)) == canonical
    assert Design.parse(canonical) == Design.parse(text)


@pytest.mark.parametrize("kind", kind_names())
@pytest.mark.parametrize("site", [*SITE_NAMES, "layers[7]", "layers[0-5]"])
def test_parse_every_kind_at_every_site_gives_its_part(kind: str, site: str) -> None:
    size = "" if kind in UNSIZED_KINDS else ":20M"
    part = Design.parse(f"{kind}@{site}{size}").parts[0]
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
bottleneck_parts = st.builds(
    Part, st.sampled_from(["linear", "conv", "transformer"]), sites, budgets | natives.map(lambda n: Size("width", n))
)
full_parts = st.builds(Part, st.just("full"), sites, st.none())
ranked_parts = st.builds(Part, st.sampled_from(RANKED_KINDS), sites, budgets | natives.map(lambda n: Size("r", n)))
ia3_parts = st.builds(Part, st.just("ia3"), sites, st.none())
designs = st.one_of(
    st.lists(bottleneck_parts | full_parts, min_size=1, max_size=4), (ranked_parts | ia3_parts).map(lambda part: [part])
).map(lambda parts: Design(tuple(parts)))


@given(designs)
def test_parse_of_printed_design_gives_the_same_design(design: Design) -> None:
    assert Design.parse(str(design)) == design


@given(ranked_parts | ia3_parts, bottleneck_parts | full_parts, st.booleans())
def test_parse_peft_kind_with_ansecond_part_raises_usage_error(peft_part: Part, second: Part, first: bool) -> None:
    parts = (peft_part, second) if first else (second, peft_part)
    with pytest.raises(UsageError, match=f"{peft_part.kind} stands alone"):
        Design.parse(str(Design(parts)))


@given(st.text(alphabet="linearfuco@all:post+[]-0123456789.%Mkrwidth ", max_size=30))
def test_parse_any_text_gives_a_design_or_a_one_line_error(text: str) -> None:
    try:
        design = Design.parse(text)
    except UsageError as error:
        message = str(error)
    else:
        message = ""
        assert Design.parse(str(design)) == design
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("linear", "not KIND@SITE:SIZE"),
        ("linear@all", "linear needs a size, such as linear@all:2.5% or linear@all:width8"),
        ("conv@shallow", "conv needs a size, such as conv@shallow:2.5% or conv@shallow:width8"),
        ("lora@all", "lora needs a size, such as lora@all:2.5% or lora@all:r8"),
        ("linear@all:", "not KIND@SITE:SIZE"),
        ("full@all:", "not KIND@SITE:SIZE"),
        ("@all:1k", "not KIND@SITE:SIZE"),
        ("linear@all:1k+", "not KIND@SITE:SIZE"),
        ("+linear@all:1k", "not KIND@SITE:SIZE"),
        ("linaer@all:1k", "did you mean 'linear'"),
        ("transfomer@deep:1k", "did you mean 'transformer'"),
        ("Lora@all:1k", "did you mean 'lora'"),
        ("quantum@all:1k", "kind 'quantum' is unknown, and a kind of your own has to be registered first, in Python"),
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
        ("linear@all:0", "is less than 1"),
        ("linear@all:0.0001k", "is less than 1"),
        ("linear@all:width0", "is less than 1"),
        ("lora@all:r0", "is less than 1"),
    ],
)
def test_parse_malformed_expression_names_the_mistake_and_shows_the_grammar(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        Design.parse(text)
    assert str(caught.value).endswith(grammar())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("linear@layers[5-2]:1k", r"write layers\[2-5\]"),
        ("linear@all:0%", "give more than 0%"),
        ("linear@all:101%", "give more than 0%"),
        ("full@all:2M", "full takes no size; write full@all"),
        ("ia3@deep:r8", "ia3 takes no size; write ia3@deep"),
        ("linear@all:r8", "linear is sized by width8, not r8"),
        ("lora@all:width8", "lora is sized by r8, not width8"),
        ("lora@all:r8+linear@all:1k", "lora stands alone"),
        ("linear@all:1k+ia3@all", "ia3 stands alone"),
        ("lora@shallow:r8+lora@deep:r4", "lora stands alone"),
    ],
)
def test_parse_invalid_combination_suggests_the_correction(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Design.parse(text)


def test_grammar_names_every_kind_site_and_size() -> None:
    for word in (*kind_names(), *SITE_NAMES, "layers[0-5]", "2.5%", "width64", "r16"):
        assert word in grammar()


@pytest.mark.parametrize("kind", kind_names())
def test_peft_kind_is_none_for_talims_own_kinds(kind: str) -> None:
    design = Design.parse(f"{kind}@all" + ("" if kind in UNSIZED_KINDS else ":1k"))
    assert design.peft_kind == (kind if kind in PEFT_KINDS else None)


def test_layer_range_of_site_names() -> None:
    assert layer_range("layers[3]") == (3, 3)
    assert layer_range("layers[0-11]") == (0, 11)
    assert [layer_range(word) for word in SITE_NAMES] == [None] * len(SITE_NAMES)


def test_size_parameters_is_none_for_widths_and_ranks() -> None:
    assert Design.parse("linear@all:2.5%").parts[0].size.parameters(8_000_000) == 200_000
    assert Design.parse("conv@deep:40M").parts[0].size.parameters(1) == 40_000_000
    assert Design.parse("linear@all:width8").parts[0].size.parameters(1) is None
    assert Design.parse("lora@all:r8").parts[0].size.parameters(1) is None


def test_parse_of_a_design_returns_it_unchanged() -> None:
    design = Design.parse("conv@shallow:20M")
    assert Design.parse(design) is design


def test_design_as_pydantic_field_is_parsed_and_serialised_in_canonical_form() -> None:
    class Model(BaseModel):
        design: Design

    model = Model.model_validate({"design": "linear@ all:2500k"})
    assert model.design == Design.parse("linear@all:2.5M")
    assert model.model_dump() == model.model_dump(mode="json") == {"design": "linear@all:2.5M"}
    assert Model.model_json_schema()["properties"]["design"]["type"] == "string"


@pytest.mark.parametrize("value", ["linaer@all:1k", 3, None])
def test_design_as_pydantic_field_with_invalid_value_raises_usage_error(value: object) -> None:
    with pytest.raises(UsageError, match="KIND@SITE:SIZE"):
        TypeAdapter(Design).validate_python(value)


def test_parse_accepts_every_design_in_the_documentation() -> None:
    root = Path(__file__).parents[2]
    pages = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    texts = [text for page in pages for text in re.findall(r"`([a-z]+@[^`\s]+:[^`\s]+)`", page.read_text("utf-8"))]
    assert len(texts) > 20
    for text in texts:
        if not text.startswith("echo"):  # the custom kind of the guide
            Design.parse(text)


@pytest.mark.parametrize("size", ["2.5", "0.5", "40.25"])
def test_size_without_unit_and_not_whole_offers_the_units(size: str) -> None:
    with pytest.raises(UsageError, match=rf"write {re.escape(size)}% for a share of the base, {re.escape(size)}k or"):
        Design.parse(f"linear@all:{size}")
