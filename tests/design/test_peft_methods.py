"""Methods of the installed PEFT as kinds: which there are, their sizes, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner

from talim.design import budget, peft_methods
from talim.design.expression import Design
from talim.design.musicgen_sites import MusicGenShape, TargetLinear
from talim.design.site_selection import select_sites
from talim.errors import UsageError

SHAPE = MusicGenShape(32, 3, 2, vocabulary=32, text_width=24)
SITES = select_sites("all", SHAPE.sites())
MATRICES = budget.matrices_of(SITES)
COARSE = ("boft", "c3a", "oft", "psoft", "vblora", "randlora")  # whose size is a block, or grows in large steps


def solved(design: str) -> tuple[int, int]:
    """Size and parameters of a design."""
    part = Design.parse(design).parts[0]
    sizes = budget.solve_width(part, SITES, 100_000)
    return sizes[0], budget.part_parameters(part, SITES, sizes)


def test_every_tuner_of_peft_is_a_kind_or_refused_with_a_reason() -> None:
    tuners = {
        str(getattr(kind, "value", kind)).lower()
        for kind, tuner in PEFT_TYPE_TO_TUNER_MAPPING.items()
        if issubclass(tuner, BaseTuner)
    }
    known = {*peft_methods.method_names(), *peft_methods.UNSUITED, *peft_methods.OWN_KINDS, "talim"}
    assert tuners <= known
    assert not {*peft_methods.method_names()} & {*peft_methods.UNSUITED, *peft_methods.OWN_KINDS}
    assert {"rslora", "miss", "hira", "lokr", "loha", "oft", "boft", "vera", "shira"} <= set(
        peft_methods.method_names()
    )


@pytest.mark.parametrize("name", peft_methods.method_names())
def test_solve_width_comes_near_to_a_budget(name: str) -> None:
    if peft_methods.size_field(f"peft:{name}") is None:
        with pytest.raises(UsageError, match=rf"takes no size; write peft:{name}@all$"):
            solved(f"peft:{name}@all:4k")
        assert solved(f"peft:{name}@all")[1] > 0
        return
    size, parameters = solved(f"peft:{name}@all:4k")
    assert abs(parameters - 4000) <= (2000 if name in COARSE else 1700)
    # no neighbouring size is nearer
    step = peft_methods.STEPS.get(name, 1)
    for other in () if name == "randlora" else (size - step, size + step):  # its parameters fall in steps
        found = peft_methods._try_count(f"peft:{name}", other, MATRICES) if other > 0 else None
        assert found is None or abs(found - 4000) >= abs(parameters - 4000)
    assert solved(f"peft:{name}@all:r{size}") == (size, parameters)


def test_count_of_rslora_is_that_of_lora() -> None:
    size, parameters = solved("peft:rslora@all:r3")
    assert (size, parameters) == (3, sum(3 * (m.inputs + m.outputs) for m in MATRICES))
    assert solved("peft:shira@all:r3") == (3, parameters)


def test_scaling_keeps_the_ratio_of_pefts_defaults_and_is_by_the_root_of_the_rank_for_rslora() -> None:
    for size in (4, 32):
        loha: Any = peft_methods.make_config("peft:loha", size, MATRICES, ["x"])
        assert (loha.r, loha.alpha) == (size, size)  # 8 and 8 by default
        rslora: Any = peft_methods.make_config("peft:rslora", size, MATRICES, ["x"])
        assert (rslora.r, rslora.use_rslora, rslora.lora_alpha) == (size, True, 16)


def test_count_of_a_full_size_model_needs_no_memory_and_little_time() -> None:
    large = budget.matrices_of(select_sites("all", MusicGenShape(2048, 48, 32).sites()))
    size = peft_methods.solve_size("peft:lokr", 82_500_000, large)
    assert abs(peft_methods.count("peft:lokr", size, large)[0] / 82_500_000 - 1) < 0.01


@pytest.mark.parametrize(
    ("design", "message"),
    [
        ("peft:lokrr@all:2%", r"peft:lokrr is no method of the.*did you mean peft:lokr\?"),
        ("peft:lokrr@all:2%", r"with a size .*there are boft \(its boft_block_size\).*without a size beft, road"),
        ("peft:lora@all:2%", r"write lora alone, which takes a rank or a budget: lora@all:r8, lora@all:2\.5%"),
        ("peft:ia3@all", "write ia3 alone, which takes no size: ia3@all"),
        ("peft:adalora@all:2%", "schedule"),
        ("peft:prompt_tuning@all:2%", "no method of the installed PEFT that changes linear layers"),
        ("peft:lokr@all", "needs a size; write peft:lokr@all:2.5% or, for r=8, peft:lokr@all:r8"),
        ("peft:oft@deep", "needs a size; write peft:oft@deep:2.5% or, for oft_block_size=8, peft:oft@deep:r8"),
        ("peft:road@all:2%", "peft:road takes no size; write peft:road@all"),
        ("peft:c3a@all:r5", "block size"),
        ("peft:vera@all:80%", r"cannot have about 80,000 parameters at these \d+ linear layers; the nearest is"),
        ("peft:lokr@all:3", "cannot have about 3 parameters"),
    ],
)
def test_what_cannot_be_built_is_refused(design: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        solved(design)


@pytest.mark.parametrize("text", ["peft:@all:2%", "peft:LoKr@all:2%", "peft:lo-kr@all:2%", "peft:lokr@all:width3"])
def test_parse_refuses_what_is_no_name(text: str) -> None:
    with pytest.raises(UsageError):
        Design.parse(text)


def test_parse_keeps_the_text_and_stands_alone() -> None:
    assert str(Design.parse("peft:lokr@deep:2.5%")) == "peft:lokr@deep:2.5%"
    assert Design.parse("peft:oft@all:r8").peft_kind == "peft:oft"
    with pytest.raises(UsageError, match="peft:lokr stands alone"):
        Design.parse("peft:lokr@all:2%+conv@all:2%")


def test_flops_of_rslora_are_those_of_two_products() -> None:
    matrix = TargetLinear("layer", 24, 48)
    assert peft_methods.flops("peft:rslora", 4, matrix, 10) == 2 * 10 * 4 * (24 + 48)


def test_the_reference_says_the_size_of_every_method() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "design-expressions.md"
    rows = page.read_text(encoding="utf-8").partition("| NAME |")[2].partition("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    told = {name: (size, field) for names, size, field in cells for name in re.findall(r"`(\w+)`", names)}
    assert {*told} == {*peft_methods.method_names()}
    for name, (size, setting) in told.items():
        field = peft_methods.size_field(f"peft:{name}")
        assert (size == "needed", setting.partition(",")[0].strip("`")) == (field is not None, field or "")
