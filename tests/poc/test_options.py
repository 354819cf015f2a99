"""PoC options: default designs, licence check of the base, folder names."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from fixtures.fake_pipeline import short_options
from stand_in_hub.server import StandInHub

from talim.errors import UsageError
from talim.poc import demo
from talim.poc.options import PocOptions, build_recipes, channels_of, check_base, folder_name, hours_option, poc_command
from talim.recipe import parse_setting


def test_build_recipes_default_is_three_kinds_of_one_size(tmp_path: Path) -> None:
    found = build_recipes(PocOptions(settings=(("training.steps", 77),)), tmp_path)
    assert list(found) == ["linear@all:2.7%", "conv@all:2.7%", "transformer@all:2.7%"]
    assert {recipe.training.steps for recipe in found.values()} == {77}
    twice = build_recipes(PocOptions(designs=("conv@all:3%", "conv@all:3.0%")), tmp_path)
    assert list(twice) == ["conv@all:3%"]
    with pytest.raises(UsageError, match="--use 'selling'"):
        PocOptions(license_use="selling")
    with pytest.raises(UsageError, match="no design"):
        PocOptions(designs=())


def test_folder_name_of_designs() -> None:
    names = ["conv@all:2.7%", "linear@all:8M+full@layers[4-5]", "lora@deep:r16"]
    assert [folder_name(name) for name in names] == ["conv-all-2.7", "linear-all-8M-full-layers-4-5", "lora-deep-r16"]


def test_check_base_noncommercial_base_raises_with_alternatives(
    tiny_base: Path, stand_in_hub: StandInHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in_hub.publish("somebody/forbids", tiny_base)  # its card says cc-by-nc-4.0
    monkeypatch.setattr("talim.backbones.resolve.check_reachable", lambda source: None)
    for base in ("musicgen-small", "facebook/musicgen-large", str(tiny_base), "somebody/forbids"):
        with pytest.raises(UsageError, match=r"usable are nano-musicgen.*mustango"):
            check_base(short_options(base=base, license_use="commercial"))
        check_base(short_options(base=base))
    for base in ("nano-musicgen", "mustango"):
        check_base(short_options(base=base, license_use="commercial"))


def test_channels_of_stereo_and_mono_models() -> None:
    assert channels_of("facebook/musicgen-stereo-small") == 2
    assert channels_of("musicgen-small") == channels_of("nano-musicgen") == channels_of("some/folder") == 1


def test_build_recipes_of_the_demo_are_short(tmp_path: Path) -> None:
    found = build_recipes(demo.DEMO_OPTIONS, tmp_path)
    assert len(found) == 3
    assert all(recipe.training.steps <= 300 for recipe in found.values())


def test_poc_command_says_numbers_as_a_person_types_them_and_exactly(tmp_path: Path) -> None:
    settings = (("training.learning_rate", 1e-05), ("training.steps", 40))
    options = PocOptions(hours=None, price_per_hour=0.1234567891, settings=settings)
    words = shlex.split(poc_command(tmp_path, tmp_path / "out", options))
    assert words[words.index("--price-per-hour") + 1] == "0.1234567891"
    typed = [parse_setting(words[place + 1]) for place, word in enumerate(words) if word == "--set"]
    again = build_recipes(PocOptions(settings=tuple(typed)), tmp_path)
    assert again == build_recipes(PocOptions(settings=settings), tmp_path)
    words = shlex.split(poc_command(tmp_path, tmp_path / "out", PocOptions(hours=1 / 3)))
    assert float(words[words.index("--hours") + 1]) == 1 / 3


@pytest.mark.parametrize(
    ("hours", "text"), [(119.3, "--hours 120 ("), (0.0451, "--hours 0.046 ("), (2.0, "--hours 2 (")]
)
def test_hours_option_is_rounded_up_and_without_an_exponent(hours: float, text: str) -> None:
    assert hours_option(hours * 3600)["en"].startswith(text)
