"""Contract of `peft:NAME`: every method of the installed PEFT attaches, trains, is stored, loaded and switched off."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures import adapter_designs
from fixtures.adapter_designs import base_facts, logits

import talim.adapters as adapters
from talim.adapters import injection
from talim.backbones.musicgen.backbone import MusicGen
from talim.design import budget, peft_methods
from talim.design.expression import Design
from talim.design.site_selection import select_sites
from talim.errors import UsageError

QUICK = ("lokr", "oft", "vera")
NOT_EXACTLY_THE_BASE = {"unilora": 0.1, "vblora": 0.1}  # at the start: their weights are products of small random ones
SCALABLE = ("loha", "lokr", "rslora", "shira")


def design_of(name: str) -> str:
    return f"peft:{name}@all" + ("" if peft_methods.size_field(f"peft:{name}") is None else ":1500")


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in peft_methods.method_names()]
)
def test_contract(fresh: Callable[..., MusicGen], name: str, tmp_path: Path) -> None:
    base, design = fresh(), design_of(name)
    plain = logits(base)
    part = Design.parse(design).parts[0]
    sites = select_sites(part.site, base.sites())
    expected = budget.part_parameters(part, sites, budget.solve_width(part, sites, base.num_parameters))
    model = adapters.attach(base.model, design, base.sites(), dropout=0.0)
    weights = adapters.trainable_parameters(model)
    assert sum(weight.numel() for weight in weights) == expected
    torch.testing.assert_close(logits(base), plain, atol=NOT_EXACTLY_THE_BASE.get(name, 1e-4), rtol=0)

    base.enable_training()
    adapter_designs.randomize_adapter(model)
    base.loss(adapter_designs.batch_for(base)).mean.backward()
    assert all(weight.grad is not None for weight in weights)
    with_gradient = {key for key, weight in base.model.named_parameters() if weight.grad is not None}
    assert with_gradient == {key for key, weight in base.model.named_parameters() if weight.requires_grad}
    adapted = logits(base)
    assert (adapted - plain).abs().max() > 0.1

    adapters.save(model, tmp_path / "a", base=base_facts(base))
    reloaded = fresh()
    loaded = adapters.load(reloaded, tmp_path / "a", name="second")
    torch.testing.assert_close(logits(reloaded), adapted, atol=1e-4, rtol=1e-5)
    assert adapters.read_info(tmp_path / "a")["design"] == str(Design.parse(design))
    with injection.disabled(loaded):
        torch.testing.assert_close(logits(reloaded), plain, atol=1e-4, rtol=1e-5)
    adapters.set_adapter_scales(loaded, {"second": 0.0})
    torch.testing.assert_close(logits(reloaded), plain, atol=1e-4, rtol=1e-5)
    if name in SCALABLE:
        adapters.set_adapter_scales(loaded, {"second": 0.5})
        assert 0 < (logits(reloaded) - plain).norm() < (adapted - plain).norm()
    else:
        with pytest.raises(UsageError, match=rf"a {name} adapter supports no scale but 1"):
            adapters.set_adapter_scales(loaded, {"second": 0.5})
    adapters.set_adapter_scales(loaded, {"second": 1.0})
    injection.cast_adapters(loaded, reloaded.dtype)
    assert reloaded.generate_tokens(["a"], 0.3, seed=0).shape == (1, reloaded.codebooks, 15)


@pytest.mark.slow
@pytest.mark.parametrize("name", peft_methods.method_names())
def test_contract_on_a_base_in_bf16(fresh: Callable[..., MusicGen], name: str) -> None:
    base: Any = copy.deepcopy(fresh("bf16"))
    base.enable_training()
    model = adapters.attach(base.model, design_of(name), base.sites(), dropout=0.0)
    adapter_designs.randomize_adapter(model)
    loss = base.loss(adapter_designs.batch_for(base)).mean
    loss.backward()
    assert loss.isfinite()
    assert all(
        weight.grad is not None and weight.grad.isfinite().all() for weight in adapters.trainable_parameters(model)
    )
    injection.cast_adapters(model, base.dtype)
    base.generate_tokens(["a"], 0.3, seed=0)
