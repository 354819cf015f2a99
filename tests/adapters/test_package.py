"""Contract of every adapter design, over all kinds and sites of fixtures/adapter_designs.py.

Cached decoding over the same sites is in test_forward_context.py; training in test_package_training.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures import adapter_designs
from fixtures.adapter_designs import base_facts, logits, randomize_adapter
from peft.tuners.tuners_utils import BaseTunerLayer

import talim.adapters as adapters
from talim.adapters.config import AdapterConfig
from talim.backbones.musicgen.backbone import MusicGen

Fresh = Callable[..., MusicGen]


@pytest.fixture(params=adapter_designs.ROWS)
def row(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A family of bases and a design: every kind at every site, and combinations."""
    return request.param


@pytest.fixture
def design(row: tuple[str, str]) -> str:
    """The row's design."""
    return row[1]


@pytest.fixture
def new_base(request: pytest.FixtureRequest, fresh: Fresh, fresh_unet: Callable[[], Any]) -> Callable[[], Any]:
    """Factory of unmodified bases of the row's family, or MusicGens."""
    family = request.getfixturevalue("row")[0] if "row" in request.fixturenames else "musicgen"
    melody = family == "musicgen_melody"
    return fresh_unet if family == "mustango" else lambda: fresh(layers=adapter_designs.LAYERS, melody=melody)


@pytest.fixture
def base(new_base: Callable[[], Any]) -> Any:
    return new_base()


@pytest.fixture(params=adapter_designs.BY_KIND)
def kind(request: pytest.FixtureRequest) -> str:
    """A key of BY_KIND, where the site does not matter."""
    return request.param


def assert_near(actual: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal up to the last bits: a U-Net's sums depend on memory alignment."""
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-5)


def test_designs_table_covers_every_kind() -> None:
    adapter_designs.check_complete()


def test_attach_untrained_adapter_is_the_identity(base: Any, design: str) -> None:
    before = logits(base)
    adapters.attach(base.model, design, base.sites())
    torch.testing.assert_close(logits(base), before, atol=1e-5, rtol=0)


def test_attach_adds_exactly_the_counted_parameters(base: Any, design: str) -> None:
    expected = adapter_designs.counted(base, design)
    model = adapters.attach(base.model, design, base.sites())
    assert sum(weight.numel() for weight in adapters.trainable_parameters(model)) == expected
    config = model.peft_config["adapter"]
    if isinstance(config, AdapterConfig):
        assert config.parameters() == expected


def test_backward_reaches_exactly_the_adapter_weights(base: Any, design: str) -> None:
    """Every adapter weight has a gradient, no other has, and nothing below the first site is in the graph."""
    base.enable_training()
    model = adapters.attach(base.model, design, base.sites(), dropout=0.0)
    randomize_adapter(model)
    in_graph: list[bool] = []
    first, before = adapter_designs.first_block(base)
    first.register_forward_hook(lambda _m, _a, out: in_graph.append(_hidden(out).requires_grad))
    base.loss(adapter_designs.batch_for(base)).mean.backward()
    with_gradient = {name for name, weight in base.model.named_parameters() if weight.grad is not None}
    assert with_gradient == {name for name, weight in base.model.named_parameters() if weight.requires_grad}
    zero_gradients = [n for n, w in base.model.named_parameters() if w.grad is not None and not w.grad.any()]
    assert zero_gradients == []
    expected = adapter_designs.modules_of(base, design)
    assert {next(m for m in expected if name.startswith(f"{m}.")) for name in with_gradient} == expected
    sites = {site.name for _, part_sites in adapter_designs.sites_by_part(base, design) for site in part_sites}
    assert in_graph == [bool(sites & before)]


def _hidden(output: Any) -> torch.Tensor:
    return output[0] if isinstance(output, tuple) else output


def test_load_saved_adapter_under_another_name_gives_the_same_output(
    new_base: Callable[[], Any], base: Any, design: str, tmp_path: Path
) -> None:
    plain = logits(base)
    model = adapters.attach(base.model, design, base.sites(), name="first")
    randomize_adapter(model)
    adapters.save(model, tmp_path / "adapter", "first", base=base_facts(base))
    adapted = logits(base)
    assert (adapted - plain).abs().max() > 0.1
    reloaded = new_base()
    loaded = adapters.load(reloaded, tmp_path / "adapter", name="second")
    assert_near(logits(reloaded), adapted)
    assert adapters.trainable_parameters(loaded) == []


def test_disabled_gives_the_base_and_keeps_gradient_flags(base: Any, design: str) -> None:
    plain = logits(base)
    model = adapters.attach(base.model, design, base.sites())
    randomize_adapter(model)
    adapted = logits(base)
    with adapters.disabled(model):
        torch.testing.assert_close(logits(base), plain, atol=1e-5, rtol=0)
    assert_near(logits(base), adapted)
    model.requires_grad_(False)
    with adapters.disabled(model):
        pass
    assert adapters.trainable_parameters(model) == []  # a frozen adapter stays frozen


def test_unload_restores_the_base(base: Any, design: str) -> None:
    plain = logits(base)
    model = adapters.attach(base.model, design, base.sites())
    randomize_adapter(model)
    model.unload()
    assert not any(isinstance(module, BaseTunerLayer) for module in base.model.modules())
    assert_near(logits(base), plain)
    adapters.attach(base.model, design, base.sites())  # an adapter can be added again
    torch.testing.assert_close(logits(base), plain, atol=1e-5, rtol=0)


def test_two_adapters_in_one_model_are_selected_and_combined(fresh: Fresh, kind: str, tmp_path: Path) -> None:
    outputs, design = {}, adapter_designs.BY_KIND[kind]
    for seed, name in enumerate(("raga", "makam")):
        base = fresh()
        model = adapters.attach(base.model, design, base.sites(), name=name, seed=seed)
        randomize_adapter(model, seed)
        outputs[name] = logits(base)
        adapters.save(model, tmp_path / name, name, base=base_facts(base))
    base = fresh()
    adapters.load(base, tmp_path / "raga", name="raga")
    model = adapters.load(base, tmp_path / "makam", name="makam")
    assert_near(logits(base), outputs["makam"])
    adapters.set_adapter_scales(model, {"raga": 1.0})
    assert_near(logits(base), outputs["raga"])
    adapters.set_adapter_scales(model, {"raga": 1.0, "makam": 1.0})
    both = logits(base)
    assert not torch.allclose(both, outputs["raga"], atol=1e-2)
    assert not torch.allclose(both, outputs["makam"], atol=1e-2)
    adapters.save(model, tmp_path / "copy", "raga", base=base_facts(base))
    reloaded = fresh()
    adapters.load(reloaded, tmp_path / "copy")
    assert_near(logits(reloaded), outputs["raga"])


def test_delete_adapter_keeps_the_other(base: Any, kind: str) -> None:
    design = adapter_designs.BY_KIND[kind]
    model = adapters.attach(base.model, design, base.sites(), name="raga")
    randomize_adapter(model)
    adapted = logits(base)
    adapters.attach(base.model, design, base.sites(), name="makam", seed=1)
    randomize_adapter(model, seed=1)
    assert not torch.allclose(logits(base), adapted, atol=1e-2)
    with pytest.warns(UserWarning, match="was active"):
        model.delete_adapter("makam")
    assert list(model.peft_config) == ["raga"]
    assert not any("makam" in name for name, _ in model.named_parameters())
    model.set_adapter("raga")
    assert_near(logits(base), adapted)


def test_set_adapter_scales_interpolates_or_is_refused(base: Any, kind: str) -> None:
    plain = logits(base)
    model = adapters.attach(base.model, adapter_designs.BY_KIND[kind], base.sites())
    randomize_adapter(model)
    adapted = logits(base)
    if expected_error := adapter_designs.REFUSED["scale"].get(kind):
        with pytest.raises(expected_error[0], match=expected_error[1]):
            adapters.set_adapter_scales(model, {"adapter": 0.5})
        return
    adapters.set_adapter_scales(model, {"adapter": 0.5})
    half = logits(base)
    assert min((half - plain).abs().max(), (half - adapted).abs().max()) > 0.02
    adapters.set_adapter_scales(model, {"adapter": 0.0})
    torch.testing.assert_close(logits(base), plain, atol=1e-5, rtol=0)
    adapters.set_adapter_scales(model, {"adapter": 1.0})
    assert_near(logits(base), adapted)


def test_merge_and_unload_keeps_the_output_or_is_refused(base: Any, kind: str) -> None:
    model = adapters.attach(base.model, adapter_designs.BY_KIND[kind], base.sites())
    randomize_adapter(model)
    adapted = logits(base)
    if expected_error := adapter_designs.REFUSED["merge"].get(kind):
        with pytest.raises(expected_error[0], match=expected_error[1]):
            model.merge_and_unload()
        assert_near(logits(base), adapted)
        return
    model.merge_and_unload()
    assert not any(isinstance(module, BaseTunerLayer) for module in base.model.modules())
    torch.testing.assert_close(logits(base), adapted, atol=1e-4, rtol=0)
