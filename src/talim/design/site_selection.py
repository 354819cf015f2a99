"""Site names of a design -> the sites of a model; which layers a design leaves frozen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from talim.design.expression import SITE_NAMES, STORED_SITE, Design, is_peft, layer_range
from talim.design.musicgen_sites import MusicGenShape, Site
from talim.errors import UsageError
from talim.html.formatting import format_counted

THIRDS = {"shallow": 0, "middle": 1, "deep": 2}
ALL_SITE_PARTS = ("layers", "down", "mid", "up")  # the parts of a model that `all` means


def changes_inside(kind: str) -> bool:
    """Whether a kind changes the inside of a site's modules, not only the output."""
    return kind == "full" or is_peft(kind)


def select_sites(name: str, sites: Sequence[Site]) -> tuple[Site, ...]:
    """The sites of a name, in order of depth; UsageError if the model has none.

    Thirds divide a decoder's layers, or a U-Net's resolutions: "shallow" the finest, "deep" the coarsest.
    """
    if name == STORED_SITE:
        raise UsageError(
            f"site {name} stands for the modules of a stored adapter: it goes with talim train --init-from alone"
        )
    layers = [site for site in sites if site.part == "layers"]
    bounds = layer_range(name)
    if name == "all":
        selected = [site for site in sites if site.part in ALL_SITE_PARTS]
    elif name in THIRDS and layers:
        selected = _third(layers, name)
    elif name in THIRDS:
        selected = [site for site in sites if _resolution_third(site) == name]
    elif bounds is not None:
        selected = layers[bounds[0] : bounds[1] + 1] if bounds[1] < len(layers) else []
    else:
        selected = [site for site in sites if name in (site.part, site.name)]
    if not selected:
        names = dict.fromkeys(site.part for site in sites if site not in layers)
        numbers = [f"{format_counted(len(layers), 'layer')}, 0 to {len(layers) - 1}"] if layers else []
        raise UsageError(f"site {name} is not in this model; it has {', '.join([*names, *numbers])}")
    return tuple(selected)


def valid_site_names(sites: Sequence[Site]) -> tuple[str, ...]:
    """The site names that exist in a model with these sites; the thirds of a very small one may be empty."""
    parts = {site.part for site in sites}
    return tuple(name for name in SITE_NAMES if name in parts or name == "all" or name in THIRDS)


def _third(layers: Sequence[Site], name: str) -> Sequence[Site]:
    first, end = (round(len(layers) * part / 3) for part in (THIRDS[name], THIRDS[name] + 1))
    if first == end:
        raise UsageError(
            f"site {name}: with {format_counted(len(layers), 'layer')} there are no thirds; name them as layers[0]"
        )
    return layers[first:end]


def _resolution_third(site: Site) -> str | None:
    if site.level is None:
        return None
    return "shallow" if site.level < 1 / 3 else "middle" if site.level < 2 / 3 else "deep"


def model_sites(model: Any) -> tuple[Site, ...]:
    """The sites of a Backbone, a transformers MusicGen, or any model with a `sites` method."""
    return tuple(model.sites()) if hasattr(model, "sites") else _shape(model).sites()


def base_parameters(model: Any) -> int:
    """Parameters of the decoder or U-Net without adapters, to which percentages in designs refer."""
    if isinstance(count := getattr(model, "own_parameters", None), int):
        return count
    return int(model.num_parameters) if hasattr(model, "sites") else _shape(model).decoder_parameters


def _shape(model: Any) -> MusicGenShape:
    if getattr(getattr(model, "config", None), "model_type", None) not in ("musicgen", "musicgen_melody"):
        raise UsageError(
            f"a {type(model).__name__} arrived; expected a transformers MusicgenForConditionalGeneration or "
            "MusicgenMelodyForConditionalGeneration "
            "(for other models give kind, width and target_modules to talim.adapters.AdapterConfig)"
        )
    return MusicGenShape.of(model.config)


def first_trained_layer(kind: str, site: Site, layers: int) -> int:
    """Index of the first decoder layer whose activations depend on what a kind trains at a site."""
    layer = layer_range(site.name)
    if layer is not None:
        return layer[0] + (0 if changes_inside(kind) else 1)
    return 0 if site.name == "conditioner" else layers


def num_frozen_layers(design: Design, sites: Sequence[Site]) -> int:
    """Number of first layers whose output for a clip does not change while the design is trained.

    0 where every layer depends on the adapter (`conditioner`), in a U-Net, whose input noise differs in every step, and
    where the sites are those of a stored adapter. An adapter may sit on the output of the last of these layers.
    """
    layers = num_layers(sites)
    if not layers or design.is_stored:
        return 0
    return min(
        first_trained_layer(part.kind, site, layers) for part in design.parts for site in select_sites(part.site, sites)
    )


def num_layers(sites: Sequence[Site]) -> int:
    """Number of decoder layers; 0 for a U-Net."""
    return sum(site.part == "layers" for site in sites)
