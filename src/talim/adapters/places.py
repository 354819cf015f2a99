"""Where adapters sit: the sites a design's words mean, and those of a model without a backbone around it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from talim.adapters.expression import layer_range
from talim.errors import UsageError


class SiteLike(Protocol):
    """The output of one module, [B, T, width]."""

    @property
    def name(self) -> str: ...
    @property
    def module(self) -> str: ...
    @property
    def width(self) -> int: ...
    @property
    def depth(self) -> float: ...
    @property
    def causal(self) -> bool: ...


@dataclass(frozen=True)
class Place:
    """A site found on a plain transformers model."""

    name: str
    module: str
    width: int
    depth: float
    causal: bool


def select(word: str, sites: Iterable[SiteLike]) -> tuple[SiteLike, ...]:
    """The layers that a design's site means; UsageError where the model has no such layers."""
    layers = [site for site in sites if site.name.startswith("layers[")]
    if word == "all":
        return tuple(layers)
    bounds = layer_range(word)
    if bounds is None or bounds[1] >= len(layers):
        raise UsageError(
            f"site {word} is not in this model; it has {len(layers)} layers, 0 to {len(layers) - 1}"
        )
    return tuple(layers[bounds[0] : bounds[1] + 1])


def sites_of(model: Any) -> tuple[SiteLike, ...]:
    """The sites of a Backbone, or of a plain transformers MusicGen."""
    if hasattr(model, "sites"):
        return tuple(model.sites())
    decoder = musicgen_decoder(model)
    last, width = decoder.num_hidden_layers - 1, decoder.hidden_size
    path = "decoder.model.decoder.layers"
    return tuple(Place(f"layers[{i}]", f"{path}.{i}", width, i / max(last, 1), True) for i in range(last + 1))


def base_parameters(model: Any) -> int:
    """Parameters of the decoder with its heads, adapters left out: what a share is a share of."""
    if hasattr(model, "sites"):
        return int(model.parameters)
    musicgen_decoder(model)
    named = model.decoder.named_parameters()
    return sum(weight.numel() for name, weight in named if ".talim_" not in name)


def musicgen_decoder(model: Any) -> Any:
    """The decoder's configuration; UsageError for any other model."""
    if getattr(getattr(model, "config", None), "model_type", None) != "musicgen":
        raise UsageError(
            f"a {type(model).__name__} arrived; expected a transformers MusicgenForConditionalGeneration"
        )
    return model.config.decoder
