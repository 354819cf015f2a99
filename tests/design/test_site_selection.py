"""Site names of designs, frozen layers, and the sites of a loaded model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from talim.backbones.musicgen.backbone import MusicGen
from talim.design.expression import Design
from talim.design.musicgen_sites import MusicGenShape, Site
from talim.design.site_selection import base_parameters, model_sites, num_frozen_layers, select_sites
from talim.errors import UsageError

SMALL = MusicGenShape(hidden=1024, layers=24, heads=16).sites()


@pytest.mark.parametrize(
    ("design", "layers"),
    [
        ("conv@post:2M", 24),
        ("full@post", 24),
        ("lora@post:r8", 24),
        ("conv@deep:8M", 17),  # changes the output of layer 16, so that layer is frozen, too
        ("lora@deep:r8", 16),  # site_linears layer 16
        ("full@deep", 16),
        ("linear@middle:2M", 9),
        ("ia3@middle", 8),
        ("transformer@all:40M", 1),
        ("lora@shallow:r4", 0),
        ("conv@conditioner:1M", 0),
        ("conv@deep:2M+full@layers[20-21]", 17),
        ("conv@deep:2M+full@layers[16]", 16),
        ("conv@post:2M+linear@conditioner:100k", 0),
        ("conv@post:2M+linear@layers[5]:1M", 6),
    ],
)
def test_num_frozen_layers_of_designs_on_musicgen_small(design: str, layers: int) -> None:
    assert num_frozen_layers(Design.parse(design), SMALL) == layers


@given(data=st.data(), layers=st.integers(1, 48))
def test_num_frozen_layers_of_several_parts_is_their_minimum(data: st.DataObject, layers: int) -> None:
    sites = MusicGenShape(hidden=64, layers=layers, heads=4).sites()
    firsts, parts = [], []
    for kind in data.draw(st.lists(st.sampled_from(["conv", "full"]), min_size=1, max_size=4)):
        first = data.draw(st.integers(0, layers - 1))
        last = data.draw(st.integers(first, layers - 1))
        firsts.append(first + (kind == "conv"))
        parts.append(f"{kind}@layers[{first}-{last}]" + (":width4" if kind == "conv" else ""))
    assert num_frozen_layers(Design.parse("+".join(parts)), sites) == min(firsts)


def test_num_frozen_layers_in_a_unet_is_zero() -> None:
    sites = tuple(Site(f"{part}[0]", f"{part}.0", 8, 0.5, False, level=0.0) for part in ("down", "mid", "up"))
    assert num_frozen_layers(Design.parse("conv@up:width4"), sites) == 0


def names(name: str, layers: int) -> list[str]:
    return [site.name for site in select_sites(name, MusicGenShape(8, layers, 1).sites())]


@given(st.integers(3, 60))
def test_select_sites_thirds_partition_the_layers_evenly(layers: int) -> None:
    thirds = [names(third, layers) for third in ("shallow", "middle", "deep")]
    assert (
        [name for third in thirds for name in third] == names("all", layers) == [f"layers[{i}]" for i in range(layers)]
    )
    sizes = [len(third) for third in thirds]
    assert max(sizes) - min(sizes) <= 1


def test_select_sites_ranges_names_and_their_errors() -> None:
    assert names("layers[2-4]", 6) == ["layers[2]", "layers[3]", "layers[4]"]
    assert names("layers[5]", 6) == ["layers[5]"]
    assert names("post", 6) == ["post"]
    with pytest.raises(UsageError, match="6 layers, 0 to 5"):
        names("layers[2-6]", 6)
    with pytest.raises(UsageError, match="there are no thirds"):
        names("middle", 2)


def test_select_sites_missing_conditioner_raises_usage_error() -> None:
    sites = MusicGenShape(8, 3, 1, text_width=8).sites()
    with pytest.raises(UsageError, match="conditioner is not in this model; it has post, 3 layers, 0 to 2"):
        select_sites("conditioner", sites)


def test_model_sites_of_an_unsupported_model_raises_usage_error() -> None:
    with pytest.raises(UsageError, match="AdapterConfig"):
        model_sites(nn.Linear(2, 2))


def test_model_sites_match_the_modules_of_a_loaded_model(tiny_model: MusicGen) -> None:
    model = tiny_model.model
    modules = dict(model.named_modules())
    sites = model_sites(model)
    assert sites == tiny_model.sites()
    assert base_parameters(model) == sum(w.numel() for w in model.decoder.parameters())
    assert sites[0].name == "conditioner"
    for site in sites:
        assert site.module in modules
        site_linears = {m.module for m in site.matrices}
        if site.name.startswith("layers["):
            linears = [n for n, m in modules[site.module].named_modules() if isinstance(m, nn.Linear)]
            assert site_linears == {f"{site.module}.{name}" for name in linears}
        for matrix in site.matrices:
            linear = modules[matrix.module]
            assert (linear.in_features, linear.out_features) == (matrix.inputs, matrix.outputs)
        for path, parameters in site.full_modules:
            assert sum(w.numel() for w in modules[path].parameters()) == parameters
    assert sites[-1].module == sites[-2].module  # post is the output of the last layer
    heads = {matrix.module for matrix in sites[-1].matrices}
    assert heads == {f"decoder.lm_heads.{k}" for k in range(len(model.decoder.lm_heads))}
