"""UNetShape against real models: sites, linear layers, parameter counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fixtures import released_mustango
from golden_mustango.structure import RELEASED_UNET
from torch import nn
from transformers import T5Config

from talim.backbones.mustango.model import ModelDims, MustangoModel
from talim.backbones.mustango.unet import MusicTransformer
from talim.backbones.mustango.unet_config import UNetConfig
from talim.design.unet_sites import UNetShape


def meta_model(config: dict[str, Any]) -> MustangoModel:
    """On the meta device, with embeddings as wide as the U-Net's context."""
    width = config["cross_attention_dim"]
    text = T5Config(vocab_size=50, d_model=width, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    with torch.device("meta"):
        return MustangoModel(UNetConfig.of(config), text, ModelDims(width, width, width, width, width))


@pytest.mark.parametrize("config", [released_mustango.UNET, RELEASED_UNET], ids=["small", "released"])
def test_sites_name_existing_modules_and_their_sizes(config: dict[str, Any]) -> None:
    model = meta_model(config)
    sites = UNetShape.of(model.unet.config).sites()
    for site in sites:
        module = model.get_submodule(site.module)
        if site.name != "conditioner":
            assert isinstance(module, MusicTransformer)
            assert module.in_channels == site.width
        for matrix in site.matrices:
            linear = model.get_submodule(matrix.module)
            assert isinstance(linear, nn.Linear)
            assert (linear.in_features, linear.out_features) == (matrix.inputs, matrix.outputs)
        for path, count in site.full_modules:
            assert sum(weight.numel() for weight in model.get_submodule(path).parameters()) == count
    attention_linears = {
        name for name, part in model.named_modules() if isinstance(part, nn.Linear) and "attentions" in name
    }
    assert {matrix.module for site in sites[1:] for matrix in site.matrices} == attention_linears


def test_sites_of_the_released_unet_are_sixteen_in_signal_order() -> None:
    shape = UNetShape.of(UNetConfig.of(RELEASED_UNET))
    conditioner, *sites = shape.sites()
    assert conditioner.name == "conditioner"
    assert [site.name for site in sites] == (
        [f"down[{block}.{layer}]" for block in range(3) for layer in range(2)]
        + ["mid"]
        + [f"up[{block}.{layer}]" for block in (1, 2, 3) for layer in range(3)]
    )
    depths = [site.depth for site in sites]
    assert depths == sorted(depths)
    assert (depths[0], depths[-1]) == (0.0, 1.0)
    levels = {site.name: round(3 * site.level) for site in sites if site.level is not None}
    assert (levels["down[0.1]"], levels["mid"], levels["up[1.0]"], levels["up[3.2]"]) == (0, 3, 2, 0)
    assert not any(site.causal for site in sites)


def test_site_module_is_the_last_of_its_three_attentions() -> None:
    torch.manual_seed(0)
    model = released_mustango.model().eval()
    unet = model.unet
    calls: list[str] = []
    for name, part in unet.named_modules():
        if isinstance(part, MusicTransformer):
            part.register_forward_hook(lambda _m, _i, _o, name=name: calls.append(f"unet.{name}"))
    unet(torch.randn(1, 8, 4, 4), torch.tensor([5]), *(torch.randn(1, n, released_mustango.WIDTH) for n in (3, 50, 20)))
    ends = [site.module for site in UNetShape.of(unet.config).sites()[1:]]
    assert calls[2::3] == ends
    assert len(calls) == 3 * len(ends)
