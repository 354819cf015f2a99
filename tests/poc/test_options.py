"""Wishes: three kinds at one size, bases that may be used, names of folders."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.fake_pipeline import short

from talim.errors import UsageError
from talim.poc import demo
from talim.poc.options import PocOptions, channels, check_base, folder_name, recipes_of


def test_unasked_three_kinds_of_one_size_at_one_place(tmp_path: Path) -> None:
    found = recipes_of(PocOptions(settings=(("training.steps", 77),)), tmp_path)
    assert list(found) == ["linear@all:2.7%", "conv@all:2.7%", "transformer@all:2.7%"]
    assert {recipe.training.steps for recipe in found.values()} == {77}
    twice = recipes_of(PocOptions(designs=("conv@all:3%", "conv@all:3.0%")), tmp_path)
    assert list(twice) == ["conv@all:3%"]
    with pytest.raises(UsageError, match="--use 'selling'"):
        PocOptions(use="selling")
    with pytest.raises(UsageError, match="no design"):
        PocOptions(designs=())


def test_folders_are_named_by_designs() -> None:
    names = ["conv@all:2.7%", "linear@all:8M+full@layers[4-5]", "lora@deep:r16"]
    assert [folder_name(name) for name in names] == [
        "conv-all-2.7",
        "linear-all-8M-full-layers-4-5",
        "lora-deep-r16",
    ]


def test_a_base_that_may_not_be_sold_is_refused_with_what_may(tiny_base: Path) -> None:
    for base in ("musicgen-small", "facebook/musicgen-large", str(tiny_base), "somebody/unheard-of"):
        with pytest.raises(UsageError, match=r"usable are nano-musicgen.*mustango"):
            check_base(short(base=base, use="commercial"))
        if base != "somebody/unheard-of":
            check_base(short(base=base))
    for base in ("nano-musicgen", "mustango"):
        check_base(short(base=base, use="commercial"))


def test_stereo_models_get_stereo_clips() -> None:
    assert channels("facebook/musicgen-stereo-small") == 2
    assert channels("musicgen-small") == channels("nano-musicgen") == channels("some/folder") == 1


def test_the_demonstrations_own_wishes_make_recipes(tmp_path: Path) -> None:
    found = recipes_of(demo.WISHES, tmp_path)
    assert len(found) == 3
    assert all(recipe.training.steps <= 300 for recipe in found.values())
