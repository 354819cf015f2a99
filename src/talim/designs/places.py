"""The sites that a design's words mean, and those of a model that comes without a backbone around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from talim.designs.expression import layer_range
from talim.designs.sites import MusicGenShape, Site
from talim.errors import UsageError

THIRDS = {"shallow": 0, "middle": 1, "deep": 2}


def select(word: str, sites: Sequence[Site]) -> tuple[Site, ...]:
    """The sites that a design's word means; UsageError where the model has none such."""
    layers = [site for site in sites if layer_range(site.name)]
    if word == "all":
        return tuple(layers)
    if word in THIRDS:
        third = THIRDS[word]
        first, end = (round(len(layers) * part / 3) for part in (third, third + 1))
        if first == end:
            raise UsageError(f"site {word}: {len(layers)} layers have no thirds; name them as layers[0]")
        return tuple(layers[first:end])
    bounds = layer_range(word)
    if bounds is not None:
        if bounds[1] >= len(layers):
            raise UsageError(
                f"site {word} is not in this model; it has {len(layers)} layers, 0 to {len(layers) - 1}"
            )
        return tuple(layers[bounds[0] : bounds[1] + 1])
    found = tuple(site for site in sites if site.name == word)
    if not found:
        raise UsageError(
            f"site {word} is not in this model; it has {', '.join(s.name for s in sites if s not in layers)} "
            f"and {len(layers)} layers"
        )
    return found


def sites_of(model: Any) -> tuple[Site, ...]:
    """The sites of a Backbone, or of a plain transformers MusicGen."""
    return tuple(model.sites()) if hasattr(model, "sites") else _shape(model).sites()


def base_parameters(model: Any) -> int:
    """Parameters of the decoder with its heads, adapters left out: what a share is a share of."""
    return int(model.parameters) if hasattr(model, "sites") else _shape(model).decoder_parameters


def _shape(model: Any) -> MusicGenShape:
    if getattr(getattr(model, "config", None), "model_type", None) != "musicgen":
        raise UsageError(
            f"a {type(model).__name__} arrived; expected a transformers MusicgenForConditionalGeneration "
            "(for other models give kind, width and target_modules to talim.adapters.AdapterConfig)"
        )
    return MusicGenShape.of(model.config)
