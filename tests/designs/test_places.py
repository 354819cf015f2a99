"""What a site's word means, and that a shape's numbers are those of the real model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from talim.backbones.musicgen import MusicGen
from talim.designs.places import base_parameters, select, sites_of
from talim.designs.sites import MusicGenShape
from talim.errors import UsageError


def names(word: str, layers: int) -> list[str]:
    return [site.name for site in select(word, MusicGenShape(8, layers, 1).sites())]


@given(st.integers(3, 60))
def test_thirds_are_all_layers_once_and_alike(layers: int) -> None:
    thirds = [names(word, layers) for word in ("shallow", "middle", "deep")]
    assert (
        [name for third in thirds for name in third]
        == names("all", layers)
        == [f"layers[{i}]" for i in range(layers)]
    )
    sizes = [len(third) for third in thirds]
    assert max(sizes) - min(sizes) <= 1


def test_ranges_and_words() -> None:
    assert names("layers[2-4]", 6) == ["layers[2]", "layers[3]", "layers[4]"]
    assert names("layers[5]", 6) == ["layers[5]"]
    assert names("post", 6) == ["post"]
    with pytest.raises(UsageError, match="6 layers, 0 to 5"):
        names("layers[2-6]", 6)
    with pytest.raises(UsageError, match="have no thirds"):
        names("middle", 2)


def test_no_projection_no_conditioner() -> None:
    sites = MusicGenShape(8, 3, 1, text_width=8).sites()
    with pytest.raises(UsageError, match="conditioner is not in this model; it has post, 3 layers, 0 to 2"):
        select("conditioner", sites)


def test_other_models_are_told_what_to_do() -> None:
    with pytest.raises(UsageError, match="AdapterConfig"):
        sites_of(nn.Linear(2, 2))


def test_paths_shapes_and_counts_are_the_models(tiny_model: MusicGen) -> None:
    model = tiny_model.model
    modules = dict(model.named_modules())
    sites = sites_of(model)
    assert sites == tiny_model.sites()
    assert base_parameters(model) == sum(w.numel() for w in model.decoder.parameters())
    assert sites[0].name == "conditioner"
    for site in sites:
        assert site.module in modules
        inside = {m.module for m in site.matrices}
        if site.name.startswith("layers["):
            linears = [n for n, m in modules[site.module].named_modules() if isinstance(m, nn.Linear)]
            assert inside == {f"{site.module}.{name}" for name in linears}
        for matrix in site.matrices:
            found = modules[matrix.module]
            assert (found.in_features, found.out_features) == (matrix.inputs, matrix.outputs)
        for path, parameters in site.whole:
            assert sum(w.numel() for w in modules[path].parameters()) == parameters
    assert sites[-1].module == sites[-2].module  # post acts behind the last layer
    heads = {matrix.module for matrix in sites[-1].matrices}
    assert heads == {f"decoder.lm_heads.{k}" for k in range(len(model.decoder.lm_heads))}
