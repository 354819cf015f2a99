"""How deep a design sits: how much of a decoder lies below everything that it trains, and so never changes."""

from __future__ import annotations

from collections.abc import Sequence

from talim.designs.expression import RANKED_KINDS, Design, layer_range
from talim.designs.places import select
from talim.designs.sites import Site

INSIDE = (*RANKED_KINDS, "ia3", "full")  # kinds that change what is inside a site, not what leaves it


def first_layer_above(kind: str, site: Site, layers: int) -> int:
    """Index of the first of a decoder's layers that comes after what a kind trains at a site, or holds it."""
    layer = layer_range(site.name)
    if layer is not None:  # what sits inside a layer needs that layer's too
        return layer[0] + (0 if kind in INSIDE else 1)
    return 0 if site.name == "conditioner" else layers


def layers_below(design: Design, sites: Sequence[Site]) -> int:
    """How many layers give the same for a clip however the design is trained; an adapter acts on the last one's output.

    0 where every layer hears the adapter (`conditioner`), and in a U-Net: its input is drawn anew at each step.
    """
    layers = layers_of(sites)
    if not layers:
        return 0
    found = (
        first_layer_above(part.kind, at, layers) for part in design.parts for at in select(part.site, sites)
    )
    return min(found)


def layers_of(sites: Sequence[Site]) -> int:
    """How many layers a decoder has; 0 for a model that is none."""
    return sum(site.part == "layers" for site in sites)
