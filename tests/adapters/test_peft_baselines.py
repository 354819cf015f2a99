"""PEFT's own methods from a design: ranks from a budget, exact targets, names of methods."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from peft import IA3Config, LoHaConfig, LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer

import talim.adapters as adapters
from talim.adapters import peft_baselines
from talim.backbones.musicgen.backbone import MusicGen
from talim.design.expression import Design
from talim.errors import UsageError

Fresh = Callable[..., MusicGen]


def part_config(base: MusicGen, design: str):
    part = Design.parse(design).parts[0]
    return peft_baselines.peft_part_config(part, base.sites(), 10_000, 0.25)


def test_peft_part_config_of_lora_hits_exactly_the_sites_matrices(fresh: Fresh) -> None:
    base = fresh()
    config = part_config(base, "lora@all:r3")
    assert isinstance(config, LoraConfig)
    wanted = {matrix.module for site in base.sites() for matrix in site.matrices}
    modules = [path for path, _ in base.model.named_modules()]
    assert {path for path in modules if re.fullmatch(config.target_modules, path)} == wanted
    assert (config.r, config.lora_dropout, config.use_dora) == (3, 0.25, False)


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_peft_part_config_scales_every_rank_alike(fresh: Fresh, kind: str) -> None:
    """alpha / r is 2 in every layer, whatever ranks a budget gives."""
    base = fresh(layers=3)
    model = adapters.attach(base.model, f"{kind}@all:3k", base.sites())
    config = model.peft_config["adapter"]
    ranks = {config.r, *config.rank_pattern.values()}
    assert config.use_dora == (kind == "dora")
    assert config.lora_alpha == 2 * config.r
    assert {key: 2 * rank for key, rank in config.rank_pattern.items()} == config.alpha_pattern
    assert min(ranks) >= 1
    layers = [layer for layer in model.modules() if isinstance(layer, LoraLayer)]
    assert {layer.scaling["adapter"] for layer in layers} == {2.0}


@pytest.mark.parametrize("kind", ["lora", "dora"])
@pytest.mark.parametrize("ratio", [0.5, 1, 4])
def test_attach_lora_with_another_alpha_per_rank(fresh: Fresh, kind: str, ratio: float) -> None:
    base = fresh(layers=3)
    options = {kind: {"alpha_per_rank": ratio}}
    model = adapters.attach(base.model, f"{kind}@all:3k", base.sites(), kind_options=options)
    layers = [layer for layer in model.modules() if isinstance(layer, LoraLayer)]
    assert {layer.scaling["adapter"] for layer in layers} == {ratio}


@pytest.mark.parametrize(
    ("design", "options", "message"),
    [
        ("lora@all:r2", {"lora": {"alpha": 2}}, "no option alpha; there is alpha_per_rank"),
        ("lora@all:r2", {"lora": {"alpha_per_rank": 0}}, "expected a number above 0"),
        ("ia3@all", {"lora": {"alpha_per_rank": 1}}, "kind_options.lora: ia3@all has no adapter of that kind"),
        ("ia3@all", {"ia3": {"alpha_per_rank": 1}}, "kind_options.ia3"),
    ],
)
def test_attach_lora_unknown_options_raise(fresh: Fresh, design: str, options: dict, message: str) -> None:
    base = fresh()
    with pytest.raises(UsageError, match=message):
        adapters.attach(base.model, design, base.sites(), kind_options=options)


def test_peft_part_config_of_ia3_scales_inputs_of_the_feed_forward_only(fresh: Fresh) -> None:
    base = fresh()
    config = part_config(base, "ia3@all")
    assert isinstance(config, IA3Config)
    modules = [path for path, _ in base.model.named_modules()]
    feedforward = {path for path in modules if re.fullmatch(str(config.feedforward_modules), path)}
    assert feedforward == {path for path in modules if path.endswith("fc2") and re.fullmatch(r"decoder.*", path)}
    assert feedforward <= {path for path in modules if re.fullmatch(str(config.target_modules), path)}
    get_peft_model(base.model, config)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (LoraConfig(), "lora"),
        (LoraConfig(use_dora=True), "dora"),
        (IA3Config(), "ia3"),
        (LoHaConfig(), "loha"),
        (adapters.AdapterConfig(kind="linear", width=1, target_modules="x"), "talim"),
    ],
)
def test_peft_type_name(config: object, name: str) -> None:
    assert peft_baselines.peft_type_name(config) == name
