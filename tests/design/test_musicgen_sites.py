"""MusicGenShape against real models: sites, linear layers, parameter counts."""

from __future__ import annotations

from typing import Any

import pytest
from fixtures.meta_transformers import on_meta
from torch import nn

from talim.backbones import registry
from talim.backbones.registry import MODELS
from talim.design.expression import layer_range
from talim.design.musicgen_sites import MusicGenShape, Site

SHAPES = {
    "small": MODELS["musicgen-small"].shape,
    "stereo large": MODELS["musicgen-stereo-large"].shape,
    "text as wide as music": MusicGenShape(48, 3, 4, text_width=48),
    "odd feed-forward": MusicGenShape(32, 2, 4, codebooks=3, vocabulary=70, text_width=20, ffn=40),
}


@pytest.fixture(params=SHAPES, ids=lambda name: name.replace(" ", "-"))
def pair(request: pytest.FixtureRequest) -> tuple[MusicGenShape, Any]:
    """A shape, and a real model of it on the meta device."""
    shape = SHAPES[request.param]
    assert shape is not None
    return shape, on_meta(shape)


def linears(module: nn.Module, path: str) -> dict[str, tuple[int, int]]:
    """Every linear layer in a module, by its path in the whole model."""
    modules = {f"{path}.{name}" if name else path: inner for name, inner in module.named_modules()}
    return {n: (m.in_features, m.out_features) for n, m in modules.items() if isinstance(m, nn.Linear)}


def expected_linears(site: Site, model: Any) -> dict[str, tuple[int, int]]:
    if site.name == "post":
        return linears(model.decoder.lm_heads, "decoder.lm_heads")
    return linears(model.get_submodule(site.module), site.module)


def test_site_matrices_are_the_models_linear_layers(pair: tuple[MusicGenShape, Any]) -> None:
    shape, model = pair
    for site in shape.sites():
        listed = {matrix.module: (matrix.inputs, matrix.outputs) for matrix in site.matrices}
        assert listed == expected_linears(site, model)
        assert len(listed) == len(site.matrices)


def test_full_modules_count_every_weight(pair: tuple[MusicGenShape, Any]) -> None:
    shape, model = pair
    for site in shape.sites():
        assert {path for path, _ in site.full_modules} == (
            {site.module} if site.name != "post" else {m.module for m in site.matrices}
        )
        for path, count in site.full_modules:
            assert count == sum(weight.numel() for weight in model.get_submodule(path).parameters())


def test_decoder_parameters_equals_the_built_model(pair: tuple[MusicGenShape, Any]) -> None:
    shape, model = pair
    assert shape.decoder_parameters == sum(weight.numel() for weight in model.decoder.parameters())
    assert MusicGenShape.of(model.config).sites() == shape.sites()


def test_sites_have_order_depth_and_width_of_the_layers(pair: tuple[MusicGenShape, Any]) -> None:
    shape, model = pair
    sites = shape.sites()
    layers = [site for site in sites if layer_range(site.name)]
    assert [site.name for site in layers] == [f"layers[{i}]" for i in range(shape.layers)]
    assert [site.module for site in layers] == [
        name for name, module in model.named_modules() if type(module).__name__ == "MusicgenDecoderLayer"
    ]
    assert {site.width for site in sites} == {shape.hidden}
    assert [site.depth for site in layers] == sorted(site.depth for site in layers)
    assert (layers[0].depth, layers[-1].depth) == (0.0, 1.0)
    assert sites[-1].name == "post"
    assert sites[-1].module == layers[-1].module  # behind the last layer, before the norm
    assert all(site.causal for site in sites if site.name != "conditioner")


def test_sites_have_a_conditioner_only_if_text_and_decoder_differ_in_width(pair: tuple[MusicGenShape, Any]) -> None:
    shape, model = pair
    named = {site.name: site for site in shape.sites()}
    assert ("conditioner" in named) == hasattr(model, "enc_to_dec_proj") == (shape.text_width != shape.hidden)
    if "conditioner" in named:
        assert not named["conditioner"].causal
        assert named["conditioner"].depth == 0.0


def test_on_text_marks_the_matrices_with_text_input(pair: tuple[MusicGenShape, Any]) -> None:
    shape, _ = pair
    text_inputs = {m.module for site in shape.sites() for m in site.matrices if m.on_text}
    assert {path.split(".", 4)[-1] for path in text_inputs} <= {
        *(f"{i}.encoder_attn.{x}_proj" for i in range(shape.layers) for x in "kv"),
        "enc_to_dec_proj",
    }
    assert len(text_inputs) == 2 * shape.layers + (shape.text_width != shape.hidden)


def test_sites_of_released_models_include_conditioner_and_post() -> None:
    shapes = [model.shape for model in registry.MODELS.values()]
    released = [shape for shape in shapes if isinstance(shape, MusicGenShape)]
    assert len(released) == 10
    for shape in released:
        assert len(shape.sites()) == shape.layers + 2
