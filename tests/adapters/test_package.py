"""What every adapter design must do, over all kinds and sites: see fixtures/adapter_designs.py; a new kind is a row there.

Decoding step by step is in test_streaming.py, over the same sites; training in test_contract_training.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures import adapter_designs
from fixtures.adapter_designs import base_facts, logits, stir
from peft.tuners.tuners_utils import BaseTunerLayer

import talim.adapters as adapters
from talim.adapters.config import AdapterConfig
from talim.backbones.musicgen.backbone import MusicGen

Fresh = Callable[..., MusicGen]


@pytest.fixture(params=adapter_designs.ROWS, ids=" ".join)
def row(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A family of bases and a design: every kind at every site, and mixtures."""
    return request.param


@pytest.fixture
def anywhere(row: tuple[str, str]) -> str:
    """The row's design."""
    return row[1]


@pytest.fixture
def another(request: pytest.FixtureRequest, fresh: Fresh, fresh_unet: Callable[[], Any]) -> Callable[[], Any]:
    """Makes untouched bases of the row's family, or MusicGens."""
    in_a_unet = "row" in request.fixturenames and request.getfixturevalue("row")[0] == "mustango"
    return fresh_unet if in_a_unet else lambda: fresh(layers=adapter_designs.LAYERS)


@pytest.fixture
def base(another: Callable[[], Any]) -> Any:
    return another()


@pytest.fixture(params=adapter_designs.BY_KIND)
def kind(request: pytest.FixtureRequest) -> str:
    """A row of BY_KIND, where the site does not matter."""
    return request.param


def same(one: torch.Tensor, other: torch.Tensor) -> None:
    """Equal up to the last bits: a U-Net's sums depend on where its tensors lie in memory."""
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-5)


def test_the_table_is_complete() -> None:
    adapter_designs.check_complete()


def test_identity_at_the_start(base: Any, anywhere: str) -> None:
    before = logits(base)
    adapters.attach(base.model, anywhere, base.sites())
    torch.testing.assert_close(logits(base), before, atol=1e-5, rtol=0)


def test_parameters_are_exact(base: Any, anywhere: str) -> None:
    expected = adapter_designs.counted(base, anywhere)
    model = adapters.attach(base.model, anywhere, base.sites())
    assert sum(weight.numel() for weight in adapters.trainable_parameters(model)) == expected
    config = model.peft_config["adapter"]
    if isinstance(config, AdapterConfig):
        assert config.parameters() == expected


def test_gradients_are_where_they_belong(base: Any, anywhere: str) -> None:
    """Every weight of the adapter has one, no other has, and nothing below the first site is in the graph."""
    base.enable_training()
    model = adapters.attach(base.model, anywhere, base.sites(), dropout=0.0)
    stir(model)
    in_graph: list[bool] = []
    first, before = adapter_designs.first_block(base)
    first.register_forward_hook(lambda _m, _a, out: in_graph.append(_hidden(out).requires_grad))
    base.loss(adapter_designs.batch_for(base)).mean.backward()
    reached = {name for name, weight in base.model.named_parameters() if weight.grad is not None}
    assert reached == {name for name, weight in base.model.named_parameters() if weight.requires_grad}
    untaught = [n for n, w in base.model.named_parameters() if w.grad is not None and not w.grad.any()]
    assert untaught == []
    expected = adapter_designs.modules_of(base, anywhere)
    assert {next(m for m in expected if name.startswith(f"{m}.")) for name in reached} == expected
    sites = {site.name for _, found in adapter_designs.sites_by_part(base, anywhere) for site in found}
    assert in_graph == [bool(sites & before)]


def _hidden(output: Any) -> torch.Tensor:
    return output[0] if isinstance(output, tuple) else output


def test_save_and_load_under_another_name(
    another: Callable[[], Any], base: Any, anywhere: str, tmp_path: Path
) -> None:
    plain = logits(base)
    model = adapters.attach(base.model, anywhere, base.sites(), name="first")
    stir(model)
    adapters.save(model, tmp_path / "adapter", "first", base=base_facts(base))
    taught = logits(base)
    assert (taught - plain).abs().max() > 0.1
    other = another()
    loaded = adapters.load(other, tmp_path / "adapter", name="second")
    same(logits(other), taught)
    assert adapters.trainable_parameters(loaded) == []


def test_disabled_is_the_base(base: Any, anywhere: str) -> None:
    plain = logits(base)
    model = adapters.attach(base.model, anywhere, base.sites())
    stir(model)
    taught = logits(base)
    with adapters.disabled(model):
        torch.testing.assert_close(logits(base), plain, atol=1e-5, rtol=0)
    same(logits(base), taught)
    model.requires_grad_(False)
    with adapters.disabled(model):
        pass
    assert adapters.trainable_parameters(model) == []  # a frozen adapter stays frozen


def test_unload_gives_the_base_back(base: Any, anywhere: str) -> None:
    plain = logits(base)
    model = adapters.attach(base.model, anywhere, base.sites())
    stir(model)
    model.unload()
    assert not any(isinstance(module, BaseTunerLayer) for module in base.model.modules())
    same(logits(base), plain)
    adapters.attach(base.model, anywhere, base.sites())  # and it can be taught anew
    torch.testing.assert_close(logits(base), plain, atol=1e-5, rtol=0)


def test_two_adapters_in_one_model(fresh: Fresh, kind: str, tmp_path: Path) -> None:
    outputs, design = {}, adapter_designs.BY_KIND[kind]
    for seed, name in enumerate(("raga", "makam")):
        base = fresh()
        model = adapters.attach(base.model, design, base.sites(), name=name, seed=seed)
        stir(model, seed)
        outputs[name] = logits(base)
        adapters.save(model, tmp_path / name, name, base=base_facts(base))
    base = fresh()
    adapters.load(base, tmp_path / "raga", name="raga")
    model = adapters.load(base, tmp_path / "makam", name="makam")
    same(logits(base), outputs["makam"])
    adapters.set_adapter_scales(model, {"raga": 1.0})
    same(logits(base), outputs["raga"])
    adapters.set_adapter_scales(model, {"raga": 1.0, "makam": 1.0})
    both = logits(base)
    assert not torch.allclose(both, outputs["raga"], atol=1e-2)
    assert not torch.allclose(both, outputs["makam"], atol=1e-2)
    adapters.save(model, tmp_path / "copy", "raga", base=base_facts(base))
    other = fresh()
    adapters.load(other, tmp_path / "copy")
    same(logits(other), outputs["raga"])


def test_delete_leaves_the_other(base: Any, kind: str) -> None:
    design = adapter_designs.BY_KIND[kind]
    model = adapters.attach(base.model, design, base.sites(), name="raga")
    stir(model)
    taught = logits(base)
    adapters.attach(base.model, design, base.sites(), name="makam", seed=1)
    stir(model, seed=1)
    assert not torch.allclose(logits(base), taught, atol=1e-2)
    with pytest.warns(UserWarning, match="was active"):
        model.delete_adapter("makam")
    assert list(model.peft_config) == ["raga"]
    assert not any("makam" in name for name, _ in model.named_parameters())
    model.set_adapter("raga")
    same(logits(base), taught)


def test_strength(base: Any, kind: str) -> None:
    plain = logits(base)
    model = adapters.attach(base.model, adapter_designs.BY_KIND[kind], base.sites())
    stir(model)
    taught = logits(base)
    if refusal := adapter_designs.REFUSED["strength"].get(kind):
        with pytest.raises(refusal[0], match=refusal[1]):
            adapters.set_adapter_scales(model, {"adapter": 0.5})
        return
    adapters.set_adapter_scales(model, {"adapter": 0.5})
    half = logits(base)
    assert min((half - plain).abs().max(), (half - taught).abs().max()) > 0.02
    adapters.set_adapter_scales(model, {"adapter": 0.0})
    torch.testing.assert_close(logits(base), plain, atol=1e-5, rtol=0)
    adapters.set_adapter_scales(model, {"adapter": 1.0})
    same(logits(base), taught)


def test_merging(base: Any, kind: str) -> None:
    model = adapters.attach(base.model, adapter_designs.BY_KIND[kind], base.sites())
    stir(model)
    taught = logits(base)
    if refusal := adapter_designs.REFUSED["merge"].get(kind):
        with pytest.raises(refusal[0], match=refusal[1]):
            model.merge_and_unload()
        same(logits(base), taught)
        return
    model.merge_and_unload()
    assert not any(isinstance(module, BaseTunerLayer) for module in base.model.modules())
    torch.testing.assert_close(logits(base), taught, atol=1e-4, rtol=0)
