"""The sites that a design's words mean, and those of a model that comes without a backbone around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from talim.designs.expression import RANKED_KINDS, SITE_NAMES, Design, layer_range
from talim.designs.musicgen_sites import MusicGenShape, Site
from talim.errors import UsageError

THIRDS = {"shallow": 0, "middle": 1, "deep": 2}

ALL_SITE_PARTS = ("layers", "down", "mid", "up")  # the parts of a model that `all` means


def select_sites(word: str, sites: Sequence[Site]) -> tuple[Site, ...]:
    """The sites that a design's word means, in order of depth; UsageError where the model has none such.

    Thirds are of a decoder's layers, or of a U-Net's resolutions: "shallow" the finest, "deep" the coarsest.
    """
    layers = [site for site in sites if site.part == "layers"]
    bounds = layer_range(word)
    if word == "all":
        found = [site for site in sites if site.part in ALL_SITE_PARTS]
    elif word in THIRDS:
        found = (
            _third(layers, word) if layers else [site for site in sites if _resolution_third(site) == word]
        )
    elif bounds is not None:
        found = layers[bounds[0] : bounds[1] + 1] if bounds[1] < len(layers) else []
    else:
        found = [site for site in sites if word in (site.part, site.name)]
    if not found:
        words = dict.fromkeys(site.part for site in sites if site not in layers)
        numbers = [f"{len(layers)} layers, 0 to {len(layers) - 1}"] if layers else []
        raise UsageError(f"site {word} is not in this model; it has {', '.join([*words, *numbers])}")
    return tuple(found)


def valid_site_names(sites: Sequence[Site]) -> tuple[str, ...]:
    """The words for sites that mean something in a model like this; a small one may have no thirds."""
    parts = {site.part for site in sites}
    return tuple(word for word in SITE_NAMES if word in parts or word == "all" or word in THIRDS)


def _third(layers: Sequence[Site], word: str) -> Sequence[Site]:
    first, end = (round(len(layers) * part / 3) for part in (THIRDS[word], THIRDS[word] + 1))
    if first == end:
        raise UsageError(f"site {word}: {len(layers)} layers have no thirds; name them as layers[0]")
    return layers[first:end]


def _resolution_third(site: Site) -> str | None:
    """The third of a U-Net's resolutions that a site lies in."""
    if site.level is None:
        return None
    return "shallow" if site.level < 1 / 3 else "middle" if site.level < 2 / 3 else "deep"


def model_sites(model: Any) -> tuple[Site, ...]:
    """The sites of a Backbone, of a plain transformers MusicGen, or of any model that names its own."""
    return tuple(model.sites()) if hasattr(model, "sites") else _shape(model).sites()


def base_parameters(model: Any) -> int:
    """Parameters of the decoder with its heads, adapters left out: what a share is a share of."""
    if isinstance(own := getattr(model, "own_parameters", None), int):
        return own
    return int(model.num_parameters) if hasattr(model, "sites") else _shape(model).decoder_parameters


def _shape(model: Any) -> MusicGenShape:
    if getattr(getattr(model, "config", None), "model_type", None) != "musicgen":
        raise UsageError(
            f"a {type(model).__name__} arrived; expected a transformers MusicgenForConditionalGeneration "
            "(for other models give kind, width and target_modules to talim.adapters.AdapterConfig)"
        )
    return MusicGenShape.of(model.config)


IN_MODULE_KINDS = (
    *RANKED_KINDS,
    "ia3",
    "full",
)  # kinds that change what is inside a site, not what leaves it


def first_trained_layer(kind: str, site: Site, layers: int) -> int:
    """Index of the first of a decoder's layers that comes after what a kind trains at a site, or holds it."""
    layer = layer_range(site.name)
    if layer is not None:  # what sits inside a layer needs that layer's too
        return layer[0] + (0 if kind in IN_MODULE_KINDS else 1)
    return 0 if site.name == "conditioner" else layers


def num_frozen_layers(design: Design, sites: Sequence[Site]) -> int:
    """How many layers give the same for a clip however the design is trained; an adapter acts on the last one's output.

    0 where every layer hears the adapter (`conditioner`), and in a U-Net: its input is drawn anew at each step.
    """
    layers = num_layers(sites)
    if not layers:
        return 0
    found = (
        first_trained_layer(part.kind, at, layers)
        for part in design.parts
        for at in select_sites(part.site, sites)
    )
    return min(found)


def num_layers(sites: Sequence[Site]) -> int:
    """How many layers a decoder has; 0 for a model that is none."""
    return sum(site.part == "layers" for site in sites)
